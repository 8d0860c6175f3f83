"""How much a language model should weigh beside an acoustic model: found on clips that neither has seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from streamer.beam import BeamSearch
from streamer.ctc import Calibration, WordSpan
from streamer.lm import LanguageModel, LanguageSpec
from streamer.model import AcousticModel, ModelError, load, load_lm
from streamer.recognizer import Floats
from train import recordings
from train.calibrate import fit
from train.confidence import judge
from train.data import DataError
from train.lm import read_arrays, write_lm
from train.plots import hear
from train.text import error_rate

GRID = {
    "weight": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2),
    "word_bonus": (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0),
    "unknown_penalty": (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0),
}


def tune(model: Path, lm: Path, corpora: Sequence[Path], split: str) -> tuple[LanguageSpec, float, float]:
    """Write the best weights by WER into the language model's file; returns them, the WER before, and with them.

    One number after the other is moved to a better neighbour in GRID until none is better; then the confidences of
    the words that are decoded so are calibrated.
    """
    try:
        acoustic, language = load(model), load_lm(lm)
    except ModelError as error:
        raise DataError(str(error)) from None
    read = recordings.read(recordings.choose(corpora, split), acoustic.spec.features.sample_rate, "log-probabilities")
    heard = [(clip.text, hear(acoustic, samples).log_probs) for clip, samples in read]
    known: dict[tuple[float, ...], float] = {}

    def wer(spec: LanguageSpec) -> float:
        weights = tuple(getattr(spec, name) for name in GRID)
        if weights not in known:
            known[weights] = _wer(_decode(_search(acoustic, language, spec), heard))
            print(*(f"{name} {weight}" for name, weight in zip(GRID, weights, strict=True)), end="", flush=True)
            print(f"  WER {100 * known[weights]:.2f} %", flush=True)
        return known[weights]

    best, before, gained = language.spec, wer(language.spec), True
    while gained:
        start = best
        for name, values in GRID.items():
            best = min((best, *_neighbours(best, name, values)), key=wer)
        gained = best != start
    best = _calibrated(best, acoustic, language, heard)
    write_lm(lm, best, read_arrays(lm))
    return best, before, wer(best)


def _neighbours(spec: LanguageSpec, name: str, values: Sequence[float]) -> list[LanguageSpec]:
    here = getattr(spec, name)
    lower, higher = [v for v in values if v < here][-1:], [v for v in values if v > here][:1]
    return [dataclasses.replace(spec, **{name: value}) for value in lower + higher]


def _search(acoustic: AcousticModel, language: LanguageModel, spec: LanguageSpec) -> BeamSearch:
    return BeamSearch(acoustic.spec.vocab, acoustic.spec.blank, language.with_spec(spec))


def _decode(search: BeamSearch, heard: Sequence[tuple[str, Floats]]) -> Iterator[tuple[str, tuple[WordSpan, ...]]]:
    for text, log_probs in heard:
        yield text, search.words(search.step(search.start, log_probs), ended=True)


def _wer(decoded: Iterable[tuple[str, tuple[WordSpan, ...]]]) -> float:
    return error_rate((text.split(), [word.text for word in words]) for text, words in decoded)


def _calibrated(
    best: LanguageSpec, acoustic: AcousticModel, language: LanguageModel, heard: Sequence[tuple[str, Floats]]
) -> LanguageSpec:
    """The weights with confidences that fit them."""
    raw = dataclasses.replace(best, confidence_slope=1.0, confidence_offset=0.0)
    judged = [one for text, words in _decode(_search(acoustic, language, raw), heard) for one in judge(text, words)]
    found, before, after = fit(judged, Calibration(best.confidence_slope, best.confidence_offset))
    told = f"confidence slope {found.slope}, offset {found.offset}"
    print(f"{told}; expected calibration error {before:.3f} before, {after:.3f} now", flush=True)
    return dataclasses.replace(best, confidence_slope=found.slope, confidence_offset=found.offset)
