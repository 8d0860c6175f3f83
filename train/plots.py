"""One picture of one recording as a model hears it: waveform, spectrogram with the words, token probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamer import engine, features
from streamer.events import Final
from streamer.model import AcousticModel, ModelError, find, find_lm, load
from streamer.recognizer import Decoder, Floats
from streamer.spec import ModelSpec
from train.cache import read_audio
from train.data import DataError
from train.spectrogram import INCHES_PER_SECOND, STYLE, Label, labels, picture_kind, render, spectrogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST = 0.1  # tokens that never reach this probability are left out
MOST_TOKENS = 60  # rows of the heat map


@dataclass(frozen=True, slots=True)
class Heard:
    """A recording as a model heard it; log_probs: float32 [frames, vocab], frame t from sample t * step_samples on."""

    samples: Floats
    log_probs: Floats
    words: tuple[Label, ...]
    spec: ModelSpec

    @property
    def seconds(self) -> float:
        """How long the recording lasts."""
        return len(self.samples) / self.spec.features.sample_rate


class Watched:
    """A decoder that keeps what it is given: the log_probs of each output frame, once and in order."""

    def __init__(self, decoder: Decoder, vocab: int) -> None:
        self._decoder, self.given = decoder, [np.zeros((0, vocab), np.float32)]

    def step(self, decoded: Any, log_probs: Floats) -> Any:
        self.given.append(log_probs)
        return self._decoder.step(decoded, log_probs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)


def hear(model: AcousticModel, samples: Floats) -> Heard:
    """What the served path makes of a recording: float32 [samples] at the model's rate."""
    spec = model.spec
    watched = Watched(model.decoder, len(spec.vocab))
    recognizer = model.recognizer(decoder=watched)
    events = [*engine.feed(model, recognizer, samples), *engine.finish(model, recognizer)]
    rate = spec.features.sample_rate
    spoken = [word for event in events if isinstance(event, Final) for word in event.words]
    words = tuple(Label(word.text, word.start / rate, word.end / rate) for word in spoken)
    frames = -(-len(samples) // spec.step_samples)
    return Heard(samples, np.concatenate(watched.given)[:frames], words, spec)


def plot(audio: Path, model: str | None, out: Path, start: float, seconds: float) -> str:
    """Draw a part of one recording into `out` and say which; DataError when something cannot be read or drawn."""
    try:
        path = find(model)
        acoustic = load(path, find_lm(None, path))
    except ModelError as error:
        raise DataError(str(error)) from None
    try:
        samples = read_audio(audio, acoustic.spec.features.sample_rate)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{audio} cannot be read as audio ({error}): give a sound file such as .wav or .flac") from None
    heard = hear(acoustic, samples)
    end = min(start + seconds, heard.seconds)
    if end - start < 0.05:
        raise DataError(f"{audio} lasts {heard.seconds:.2f} s: there is nothing to draw from second {start:g} on")
    figure = draw(heard, start, end, f"{audio.name}, heard by {acoustic.spec.name}")
    kind = picture_kind(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(render(figure, kind))
    return f"{out}: {start:.1f} to {end:.1f} s of {heard.seconds:.1f} s, {len(heard.words)} words heard in all"


def draw(heard: Heard, start: float, end: float, title: str) -> Figure:
    """Waveform, spectrogram with words and token probabilities from second `start` to `end`, one below the other."""
    import matplotlib
    from matplotlib.figure import Figure

    shown, probabilities = shown_tokens(heard, start, end)
    rows = 0.17 * len(shown) + 0.35
    with matplotlib.rc_context(STYLE):
        size = (max(7.0, INCHES_PER_SECOND * (end - start) + 1), 4.6 + rows)
        figure = Figure(size, layout="constrained")
        waves, mels, tokens = figure.subplots(3, sharex=True, height_ratios=(1, 2.4, rows))
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        _waveform(waves, heard)
        step = heard.spec.step_samples / heard.spec.features.sample_rate
        _heat_map(tokens, probabilities, [_name(heard.spec, token) for token in shown], step)
        tokens.set_xlabel("seconds")
        tokens.set_xlim(start, end)
        inches = (size[0] - 1) / (end - start)
        spectrogram(mels, features.compute(heard.samples, heard.spec.features), heard.spec.features)
        labels(mels, [word for word in heard.words if word.end > start and word.start < end], inches)
    return figure


def _waveform(axes: Axes, heard: Heard) -> None:
    """Lowest and highest sample of every 5 ms."""
    rate = heard.spec.features.sample_rate
    size = rate // 200
    blocks = heard.samples[: len(heard.samples) // size * size].reshape(-1, size)
    peak = max(float(np.abs(heard.samples).max()), 1e-3)
    at = (np.arange(len(blocks)) + 0.5) * size / rate
    axes.fill_between(at, blocks.min(axis=1), blocks.max(axis=1), color="#3a6ea5", linewidth=0.4)
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.set_ylabel("amplitude")


def shown_tokens(heard: Heard, start: float, end: float) -> tuple[list[int], Floats]:
    """Blank and the tokens that matter between two seconds, and their probabilities, float32 [frames, tokens]."""
    step = heard.spec.step_samples / heard.spec.features.sample_rate
    probabilities = np.exp(heard.log_probs)
    part = probabilities[int(start / step) : max(int(np.ceil(end / step)), int(start / step) + 1)]
    peaks = part.max(axis=0)
    tokens = [i for i in range(len(heard.spec.vocab)) if i != heard.spec.blank and peaks[i] >= LEAST]
    often = sorted(tokens, key=lambda i: -float(part[:, i].sum()))[:MOST_TOKENS]
    shown = [heard.spec.blank, *sorted(often)]
    return shown, probabilities[:, shown]


def _name(spec: ModelSpec, token: int) -> str:
    return "blank (dimmed)" if token == spec.blank else {" ": "space"}.get(spec.vocab[token], spec.vocab[token])


def _heat_map(axes: Axes, probabilities: Floats, names: Sequence[str], step: float) -> None:
    """One row for each token, the first of them, blank, in faint grey; `step` seconds for each frame."""
    from matplotlib import colormaps

    picture = colormaps["BuPu"](probabilities.T)
    picture[0] = colormaps["Greys"](0.3 * probabilities[:, 0])
    extent = (0, step * len(probabilities), len(names) - 0.5, -0.5)
    axes.hlines(np.arange(len(names)) + 0.5, 0, extent[1], color="#e4e7ec", linewidth=0.5)
    axes.imshow(picture, aspect="auto", interpolation="nearest", extent=extent)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.tick_params(axis="y", length=0)
    most = f", the {MOST_TOKENS} likeliest" if len(names) > MOST_TOKENS else ""
    axes.set_ylabel(f"tokens that reach {100 * LEAST:.0f} %{most}\nwhite 0, dark 1")
