"""An evaluation as one HTML file that needs nothing else: where a model errs, how often, and how it sounds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from streamer import features
from streamer.model import AcousticModel
from train import charts, page, spectrogram, varied
from train.align import Rated, compare, grouped, rate, rates
from train.augment import parse
from train.cache import read_audio
from train.confidence import Judged, calibration_error, reliability
from train.config import load_config
from train.data import Clip
from train.plots import hear

SPEAKERS = 20
SPEAKER_WORDS = 20  # of fewer a rate is chance
WORDS = 15
WORST = 20
PICTURES = 2
LENGTHS = (0, 2, 4, 6, 8, 12, 16, 24)  # seconds


def write(
    path: Path,
    heard: Sequence[tuple[Clip, str]],
    model: AcousticModel,
    run: Path | None = None,
    judged: Sequence[Judged] = (),
) -> None:
    """The report of an evaluation: clips with what `model` heard, and the folder of the run that trained it.

    judged: the confidence of every word that was heard, and whether it is right.
    """
    log = charts.read_log(run) if run else []
    rated = [rate(clip, text) for clip, text in heard]
    wer, cer = rates(rated)
    spec, hours = model.spec, sum(r.seconds for r in rated) / 3600
    about = f"{spec.kind} model of {len(spec.vocab)} tokens, heard through the path that is served"
    body = [
        page.cards(
            (f"{wer:.1f} %", "of words wrong (WER)"),
            (f"{cer:.1f} %", "of characters wrong (CER)"),
            (f"{len(rated):,}", "clips"),
            (f"{hours:.2f} h" if hours >= 1 else f"{60 * hours:.1f} min", "of audio"),
        ),
        _corpora(rated),
        _words(rated),
        _confidence(judged),
        _worst(rated, model),
    ]
    if log:
        heard_so_far = f"Validations over {log[-1]['audio_hours']:,.0f} hours of audio heard."
        body.append(page.section("Training", heard_so_far, page.columns(*charts.curves(log))))
    if run:
        body.append(_augmentation(run, rated, model))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.document(f"What {spec.name} heard", about, body), encoding="utf-8")


def _corpora(rated: Sequence[Rated]) -> str:
    head = ("clips", "words", "WER %", "CER %")
    corpora = [_row(name, some) for name, some in sorted(grouped(rated, lambda r: r.clip.corpus).items())]
    left = page.table("", ("corpus", *head), [*corpora, _row("all", rated)], total=True) + _lengths(rated)
    speakers = [_row(name, some) for name, some in grouped(rated, _speaker).items()]
    told = sorted((row for row in speakers if row[2] >= SPEAKER_WORDS), key=lambda row: (-row[-1], row[0]))
    caption = f"Highest CER of {len(told)} speakers with {SPEAKER_WORDS} words or more"
    right = page.table(caption, ("speaker", *head), told[:SPEAKERS]) if len(told) > 1 else ""
    about = "WER: words taken for others, missed or added, over the words spoken. CER: the same of characters."
    return page.section("Where it errs", about, page.columns(left, right))


def _row(name: str, some: Sequence[Rated]) -> tuple[str, int, int, float, float]:
    return (name, len(some), sum(r.words for r in some), *rates(some))


def _speaker(r: Rated) -> str:
    speaker, corpus = r.clip.speaker, r.clip.corpus
    return speaker if not speaker or corpus in speaker else f"{speaker}, {corpus}"


def _lengths(rated: Sequence[Rated]) -> str:
    shown = []
    for low, high in zip(LENGTHS, (*LENGTHS[1:], None), strict=True):
        if some := [r for r in rated if low <= r.seconds < (high or math.inf)]:
            shown.append((f"{low}–{high}" if high else f"{low} +", rates(some)[1], f"{len(some):,}"))
    return charts.bars("CER by length of the clip", "seconds, and below how many clips", "%", shown)


def _words(rated: Sequence[Rated]) -> str:
    wrong = Counter(pair for r in rated for pair in r.pairs if pair[0] != pair[1])
    kinds: dict[str, list[tuple[str | int, ...]]] = {"taken": [], "missed": [], "added": []}
    for (expected, text), count in sorted(wrong.items(), key=lambda item: (-item[1], str(item[0]))):
        if expected is None:
            kinds["added"].append((str(text), count))
        elif text is None:
            kinds["missed"].append((expected, count))
        else:
            kinds["taken"].append((expected, text, count))
    return page.section(
        "Words",
        "The most frequent errors, by an alignment with the fewest edits.",
        page.columns(
            page.table("Taken for others", ("spoken", "heard", "times"), kinds["taken"][:WORDS]),
            page.table("Missed", ("spoken", "times"), kinds["missed"][:WORDS]),
            page.table("Added", ("heard", "times"), kinds["added"][:WORDS]),
        ),
    )


def _confidence(judged: Sequence[Judged]) -> str:
    """A reliability diagram (DeGroot and Fienberg 1983)."""
    if not judged:
        return ""
    bins = reliability(judged)
    rows = [(f"{100 * b.confidence:.0f} %", b.count, 100 * b.right) for b in bins]
    about = (
        f"How often words are right that were told with some confidence; expected calibration error "
        f"{100 * calibration_error(judged):.1f} %. On the diagonal confidence is what it says."
    )
    points = [(100 * b.confidence, 100 * b.right, f"{b.count:,} words") for b in bins]
    diagram = charts.diagonal("Words that are right, %", "mean confidence of the words, %", points)
    return page.section("Confidence", about, page.columns(diagram, page.table("", ("told", "words", "right %"), rows)))


def _worst(rated: Sequence[Rated], model: AcousticModel) -> str:
    order = sorted((r for r in rated if r.letters), key=lambda r: (-r.letters / max(len(r.clip.text), 1), -r.letters))
    shown = []
    for n, r in enumerate(order[:WORST]):
        wer, cer = rates([r])
        about = [
            r.clip.corpus,
            r.clip.speaker,
            r.clip.path.name,
            f"{r.seconds:.1f} s",
            f"WER {wer:.0f} %, CER {cer:.0f} %",
        ]
        shown.append(
            page.compared(" · ".join(filter(None, about)), r.pairs, _picture(r, model) if n < PICTURES else None)
        )
    about = (
        "By CER. Marked: words taken for others, missed and added. Over the spectrograms errors are red, "
        "with the word that was spoken in brackets."
    )
    return page.section("Worst clips", about, *shown) if shown else ""


def _augmentation(run: Path, rated: Sequence[Rated], model: AcousticModel) -> str:
    """What the run that trained the model did to its clips, shown on one of those heard here."""
    if not (run / "config.json").is_file() or not rated:
        return ""
    config, spec = load_config(run / "config.json"), model.spec.features
    how = parse(config.augment)
    if how is None or spec.kind != "log_mel":
        return ""
    r = sorted(rated, key=lambda r: r.seconds)[len(rated) // 2]
    x = features.compute(read_audio(r.clip.path, spec.sample_rate), spec)
    about = (
        f"{r.clip.path.name}, and what each part of {config.augment!r} alone can make of it (seed {config.seed}); "
        "in training they come together, at random, and the volume changes too."
    )
    png = varied.picture(x, how, spec, config.seed)
    return page.section("Augmentation", about, page.image(png, "Spectrograms of the clip under each part"))


def _picture(r: Rated, model: AcousticModel) -> bytes:
    heard = hear(model, read_audio(r.clip.path, model.spec.features.sample_rate))
    frames = features.compute(heard.samples, model.spec.features)
    return spectrogram.picture(frames, model.spec.features, compare(r.clip.text, heard.words, heard.seconds))
