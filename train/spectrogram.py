"""A spectrogram with words at their times over it, for the pictures of plots, reports and TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamer import features
from streamer.recognizer import Floats
from streamer.spec import FeatureSpec
from train.data import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES_PER_SECOND = 1.4
WIDEST = 100.0  # inches of a picture
LETTER = 0.085  # inches of a letter of a word over the spectrogram
LEVELS = 4  # words that would cover each other stand on so many lines
PITCHES = (250, 500, 1000, 2000, 4000, 8000)  # Hz
STYLE = {"text.parse_math": False, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
BOX = {"boxstyle": "round,pad=0.25", "edgecolor": "#8a8f9a", "linewidth": 0.5, "alpha": 0.85}
GREY = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#7d828c")


@dataclass(frozen=True, slots=True)
class Label:
    """A word at its time in seconds; `wrong` ones stand out."""

    text: str
    start: float
    end: float
    wrong: bool = False


def picture_kind(out: Path) -> str:
    """The format that the name of a picture asks for; DataError when matplotlib does not write it."""
    from matplotlib.figure import Figure

    kind = out.suffix.lower().lstrip(".")
    if kind not in Figure().canvas.get_supported_filetypes():
        raise DataError(f"a picture cannot be written as {out.name}: give --out a name that ends in .png")
    return kind


def spectrogram(axes: Axes, frames: Floats, spec: FeatureSpec) -> None:
    """Features, float32 [frames, width], over seconds and Hz."""
    shift, rate = spec.frame_shift / spec.sample_rate, spec.sample_rate
    start = (spec.frame_length - spec.frame_shift) / 2 / rate  # a frame stands for the middle of its samples
    low, high = np.percentile(frames, (8, 99.7)) if len(frames) else (0.0, 1.0)
    extent = (start, start + shift * max(len(frames), 1), -0.5, spec.width - 0.5)
    picture = frames.T if len(frames) else np.zeros((spec.width, 1))
    axes.imshow(picture, origin="lower", aspect="auto", cmap="magma", extent=extent, vmin=low, vmax=high)
    centres = _centres(spec)
    ticks = [hz for hz in PITCHES if centres[0] <= hz <= centres[-1]]
    axes.set_yticks(np.interp(ticks, centres, np.arange(spec.width)), [f"{hz:,}" for hz in ticks], fontsize=8)
    axes.set_ylabel("Hz")


def _centres(spec: FeatureSpec) -> Floats:
    """The frequency in Hz that each value of a frame stands for, shape [width]."""
    if spec.kind == "log_mel":
        return features.mel_centres(spec)[1:-1].astype(np.float32)
    return np.fft.rfftfreq(spec.fft_size, 1 / spec.sample_rate).astype(np.float32)


def labels(axes: Axes, words: Sequence[Label], inches: float) -> None:
    """Words over their times at the top of a spectrogram that is drawn `inches` wide for each second."""
    taken = [-1.0] * LEVELS  # until when
    for word in words:
        middle, half = (word.start + word.end) / 2, LETTER * (len(word.text) + 1) / inches / 2
        level = next((n for n in range(LEVELS) if taken[n] <= middle - half), taken.index(min(taken)))
        taken[level] = middle + half
        height = 0.94 - 0.09 * level
        box = BOX | {"facecolor": "#c8323c" if word.wrong else "#14161b"}
        where = {"transform": axes.get_xaxis_transform(), "clip_on": True}
        axes.plot([word.start, word.end], [height - 0.045] * 2, color="white", linewidth=1.5, **where)
        axes.text(middle, height, word.text, color="white", ha="center", va="center", bbox=box, **where)


def picture(frames: Floats, spec: FeatureSpec, words: Sequence[Label]) -> bytes:
    """A spectrogram with words over it as a PNG that fits dark and light pages; frames: float32 [frames, width]."""
    import matplotlib
    from matplotlib.figure import Figure

    seconds = max(len(frames) * spec.frame_shift / spec.sample_rate, 0.1)
    with matplotlib.rc_context(STYLE | GREY):
        width = min(max(6.0, INCHES_PER_SECOND * seconds + 0.6), WIDEST)
        figure = Figure((width, 2.7), layout="constrained")
        axes = figure.subplots()
        spectrogram(axes, frames, spec)
        labels(axes, words, (width - 0.6) / seconds)
        axes.set_xlabel("seconds")
        axes.set_xlim(0, seconds)
        return render(figure, "png", transparent=True)


def render(figure: Figure, kind: str = "png", transparent: bool = False) -> bytes:
    """The figure as a file of a kind that matplotlib writes."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=110, transparent=transparent)
    return file.getvalue()
