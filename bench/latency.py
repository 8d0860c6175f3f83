"""When words appear and segments end, on clips that are fed as live audio; one command.

    python -m bench.latency CORPUS [--clips 50] [--noise FOLDER] [--out latency.png]

The clock is simulated: audio arrives in blocks of 20 ms at the pace it was spoken, computing takes what it takes on
this machine, nobody waits. The corpora do not say when words end: their ends are those of the likeliest way to spell
the reference with the acoustic model itself. How far that is off for last words, whose end can be heard, is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from bench.live import Listened, appearances, listen
from bench.noise import false_alarms, read_noise
from bench.options import open_model, options
from streamer.model import AcousticModel
from streamer.recognizer import Floats
from train import recordings
from train.align import align
from train.command import EXISTING, FILE, POSITIVE, Command, need
from train.data import Clip
from train.forced import Placed, place
from train.spectrogram import STYLE, picture_kind, render

SILENCE_SECONDS = 3
QUIET_DB = 30  # blocks so far below the loudest of a clip are not speech


@dataclass
class Measured:
    """Seconds of every kind, one for each word or clip, and counts."""

    first: list[float] = field(default_factory=list)
    stayed: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    endpoint: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)  # the end of the last word by the model after that of the sound
    never: int = 0
    cuts: int = 0
    inside: int = 0
    unplaced: int = 0
    words: int = 0


def measure(model: AcousticModel, clips: Iterable[tuple[Clip, Floats]]) -> Measured:
    """Every clip twice: ended by its last sample, and followed by silence."""
    found, rate = Measured(), model.spec.features.sample_rate
    for clip, samples in clips:
        heard = listen(model, samples)
        end = len(samples) / rate
        if heard.finals and heard.finals[-1].at >= end:
            found.final.append(heard.finals[-1].at - end)
        placed = place(clip.text, heard.log_probs, model.spec)
        if placed is None:
            found.unplaced += 1
        else:
            found.late.append(placed[-1].end * model.spec.step_samples / rate - speech_end(samples, rate))
            _words(found, heard, placed, model.spec.step_samples / rate)
        _endpoint(found, model, samples)
    return found


def _words(found: Measured, heard: Listened, placed: Sequence[Placed], step_seconds: float) -> None:
    """Emission latencies of the words that are right, and cuts between segments that lie inside a word."""
    found.words += len(placed)
    words, spoken = iter(appearances(heard.told)), iter(placed)
    for expected, text in align([word.text for word in placed], heard.words):
        shown, word = next(words) if text else None, next(spoken) if expected else None
        if shown and word and expected == text:
            found.first.append(shown.first - word.end * step_seconds)
            found.stayed.append(shown.stayed - word.end * step_seconds)
    cuts = [final.frames for final in heard.finals[:-1]]
    found.cuts += len(cuts)
    found.inside += sum(any(word.start < cut < word.end for word in placed) for cut in cuts)


def _endpoint(found: Measured, model: AcousticModel, samples: Floats) -> None:
    """The delay of the last final after the end of speech, when silence follows."""
    rate = model.spec.features.sample_rate
    silence = np.zeros(SILENCE_SECONDS * rate, np.float32)
    finals = listen(model, np.concatenate([samples, silence])).finals
    if not finals:
        return
    if finals[-1].at >= len(samples) / rate + SILENCE_SECONDS:
        found.never += 1  # the end of the stream made it final, no endpoint
    else:
        found.endpoint.append(finals[-1].at - speech_end(samples, rate))


def speech_end(samples: Floats, rate: int) -> float:
    """The second at which the last block of 20 ms ends that is not much quieter than the loudest."""
    size = rate // 50
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    power = (blocks.astype(np.float64) ** 2).mean(axis=1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-QUIET_DB / 10))
    return float((loud[-1] + 1) * size / rate) if len(loud) else 0.0


def table(found: Measured, clips: int) -> str:
    """The figures as Markdown."""
    rows = [
        ("word end to first appearance", found.first),
        ("word end to the appearance that stays", found.stayed),
        ("last sample of a clip to its final (computing)", found.final),
        (f"end of speech to its final, {SILENCE_SECONDS} s of silence follow", found.endpoint),
    ]
    lines = [f"| {clips} clips | median ms | 95th percentile ms | of |", "|---|---|---|---|"]
    for name, seconds in rows:
        middle, high = (f"{1000 * np.percentile(seconds, q):.0f}" if seconds else "–" for q in (50, 95))
        lines.append(f"| {name} | {middle} | {high} | {len(seconds)} |")
    right = f"{len(found.first)} of {found.words} words are right and count"
    cut = f"{found.inside} of {found.cuts} endpoints within clips lie inside a word"
    told = [right, cut, f"{found.never} clips had no endpoint in {SILENCE_SECONDS} s of silence"]
    if found.late:
        late = f"{1000 * np.median(found.late):+.0f} ms (median) after the sound fell {QUIET_DB} dB below its loudest"
        told.append(f"word ends are the acoustic model's own: the last word of a clip ends {late}")
    if found.unplaced:
        told.append(f"{found.unplaced} clips cannot be spelled by the model in their length and have no word times")
    return "\n".join([*lines, "", *(f"- {one}" for one in told)])


def draw(found: Measured, out: Path) -> None:
    """Histograms of the seconds until words appear and segments end."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure((8, 3.2), layout="constrained")
        words, ends = figure.subplots(1, 2)
        for name, seconds in (("first appearance", found.first), ("that stays", found.stayed)):
            words.hist(1000 * np.array(seconds), bins=40, histtype="step", label=name)
        words.set_xlabel("ms after the end of a word")
        words.legend(frameon=False)
        ends.hist(1000 * np.array(found.endpoint), bins=40, color="#3a6ea5")
        ends.set_xlabel("ms from the end of speech to the final")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(render(figure, picture_kind(out)))


@click.command(cls=Command)
@options
@click.option("--noise", type=EXISTING, help="Sound without speech: a recording or a folder of them.")
@click.option("--minutes", type=POSITIVE, default=10.0, show_default=True, help="So much of noise, and of silence.")
@click.option("--out", type=FILE, help="A picture of the delays: .png, .svg or .pdf.")
def main(
    corpora: tuple[Path, ...],
    name: str | None,
    lm: str | None,
    split: str,
    clips: int | None,
    seed: int,
    noise: Path | None,
    minutes: float,
    out: Path | None,
) -> None:
    """Measure when words appear and segments end on CORPORA, and what is heard where nobody speaks."""
    if out:
        need("train", "matplotlib")
        picture_kind(out)  # a mistake is told before the work
    model = open_model(name, lm)
    rate = model.spec.features.sample_rate
    sound = read_noise(noise, rate) if noise else None
    chosen = recordings.choose(corpora, split, clips, seed)
    found = measure(model, recordings.read(chosen, rate, "clips"))
    click.echo(table(found, len(chosen)))
    if out:
        draw(found, out)
    click.echo("\n" + false_alarms(model, sound, minutes))


if __name__ == "__main__":
    main()
