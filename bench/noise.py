"""Sound in which nobody speaks: recordings of noise, one after the other, and what is heard in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.garbage import SOUNDS
from bench.live import listen
from streamer.model import AcousticModel
from streamer.recognizer import Floats
from train.cache import read_audio
from train.data import DataError
from train.progress import Progress

SURE = 0.5


def read_noise(folder: Path, rate: int) -> Floats:
    """All recordings of a folder one after the other, float32 [samples] at `rate`; DataError when there are none."""
    found = []
    for path in sorted(folder.iterdir() if folder.is_dir() else [folder]):
        try:
            found.append(read_audio(path, rate))
        except (OSError, RuntimeError):
            continue
    if not sum(map(len, found)):
        raise DataError(f"no recording in {folder} can be read: give --noise a folder of sound files")
    return np.concatenate(found)


def false_alarms(model: AcousticModel, noise: Floats | None, minutes: float) -> str:
    """A table of what is heard in so many minutes of noise, again and again from its start, and of silence.

    And in a minute each of sounds that resemble speech, and of another language.
    """
    rate = model.spec.features.sample_rate
    samples = round(60 * minutes * rate)
    kinds = {f"{minutes:g} min of silence": np.zeros(samples, np.float32)}
    if noise is not None:
        kinds[f"{minutes:g} min of noise"] = np.resize(noise, samples)
    kinds |= {f"1 min of {name}": make(60 * rate, rate) for name, make in SOUNDS.items()}
    lines = [f"| no English is spoken | finals | words | of them with {SURE} confidence or more |", "|---|---|---|---|"]
    with Progress("without speech", len(kinds)) as progress:
        for name, sound in kinds.items():
            words = [final.event.words for final in listen(model, sound).finals]
            sure = sum(word.confidence >= SURE for spoken in words for word in spoken)
            lines.append(f"| {name} | {len(words)} | {sum(map(len, words))} | {sure} |")
            progress.step()
    return "\n".join(lines)
