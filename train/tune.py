"""How much a language model should weigh beside an acoustic model: found on clips that neither has seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from streamer.beam import BeamSearch
from streamer.lm import LanguageSpec
from streamer.model import ModelError, load, load_lm
from streamer.recognizer import Floats
from train.cache import read_audio
from train.data import DataError, read_corpus
from train.evaluate import of_split
from train.lm import read_arrays, write_lm
from train.plots import hear
from train.progress import Progress
from train.text import error_rate

GRID = {
    "weight": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2),
    "word_bonus": (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0),
    "unknown_penalty": (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0),
}


def tune(model: Path, lm: Path, corpora: Sequence[Path], split: str) -> tuple[LanguageSpec, float, float]:
    """Write the best weights by WER into the language model's file; returns them, the WER before, and with them.

    One number after the other is moved to a better neighbour in GRID until none is better.
    """
    try:
        acoustic, language = load(model), load_lm(lm)
    except ModelError as error:
        raise DataError(str(error)) from None
    clips = [clip for root in corpora for clip in of_split(read_corpus(root), split)]
    if not clips:
        raise DataError(f"no clip of split {split!r} in {', '.join(map(str, corpora))}: choose another with --split")
    heard: list[tuple[str, Floats]] = []
    with Progress("log-probabilities", len(clips)) as progress:
        for clip in clips:
            progress.step()
            try:
                samples = read_audio(clip.path, acoustic.spec.features.sample_rate)
            except (OSError, RuntimeError):
                continue
            heard.append((clip.text, hear(acoustic, samples).log_probs))
    if not heard:
        raise DataError(f"none of the {len(clips)} clips can be read: see where the manifest says they are")
    known: dict[tuple[float, ...], float] = {}

    def wer(spec: LanguageSpec) -> float:
        weights = tuple(getattr(spec, name) for name in GRID)
        if weights not in known:
            known[weights] = _wer(BeamSearch(acoustic.spec.vocab, acoustic.spec.blank, language.with_spec(spec)), heard)
            print(*(f"{name} {weight}" for name, weight in zip(GRID, weights, strict=True)), end="", flush=True)
            print(f"  WER {100 * known[weights]:.2f} %", flush=True)
        return known[weights]

    best, before, gained = language.spec, wer(language.spec), True
    while gained:
        start = best
        for name, values in GRID.items():
            best = min((best, *_neighbours(best, name, values)), key=wer)
        gained = best != start
    write_lm(lm, best, read_arrays(lm))
    return best, before, wer(best)


def _neighbours(spec: LanguageSpec, name: str, values: Sequence[float]) -> list[LanguageSpec]:
    here = getattr(spec, name)
    lower, higher = [v for v in values if v < here][-1:], [v for v in values if v > here][:1]
    return [dataclasses.replace(spec, **{name: value}) for value in lower + higher]


def _wer(search: BeamSearch, heard: Sequence[tuple[str, Floats]]) -> float:
    pairs = []
    for text, log_probs in heard:
        words = search.words(search.step(search.start, log_probs), ended=True)
        pairs.append((text.split(), [word.text for word in words]))
    return error_rate(pairs)
