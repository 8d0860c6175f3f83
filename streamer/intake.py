"""What all sources have in common: their errors, their gaps, and how samples of any kind become blocks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.ring import Floats

log = logging.getLogger("asr_stream")


class SourceError(Exception):
    """Audio cannot be had; the message is one sentence that names the thing and says what to do."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Audio that is missing before the next block: samples at the model's rate, 0 when their number is unknown."""

    samples: int
    reason: str


class Intake:
    """Makes blocks of what a source delivers: mono, finite, within [-1, 1], at the model's rate.

    What comes out, joined, does not depend on how the input was cut.
    """

    def __init__(self, name: str, rate: int, sample_rate: int) -> None:
        self._name = name
        self._rates = (rate, sample_rate)
        self._resampler = self._new_resampler()
        self._warned_about: set[str] = set()

    def push(self, samples: Floats) -> list[Floats]:
        """The next block, if there is one; samples are [n] or [n, channels] and may be overwritten afterwards."""
        if not np.isfinite(samples).all():
            self._warn_once("%s: samples that are not numbers are replaced by silence")
            samples = np.where(np.isfinite(samples), samples, np.float32(0))
        if samples.ndim == 2:
            samples = samples.mean(axis=1, dtype=np.float32)
        if len(samples) and np.abs(samples).max() > 1:
            self._warn_once("%s: samples beyond -1 and 1 are clipped; if it sounds distorted, lower its volume")
        return self._resample(np.clip(samples, -1, 1), last=False)

    def flush(self) -> list[Floats]:
        """The block that the resampler still holds, if any; the next push begins a new stretch of audio."""
        tail = self._resample(np.zeros(0, np.float32), last=True)
        self._resampler = self._new_resampler()
        return tail

    def _new_resampler(self) -> Any:
        rate, sample_rate = self._rates
        if rate == sample_rate:
            return None
        import soxr

        return soxr.ResampleStream(rate, sample_rate, 1, "float32")

    def _resample(self, samples: Floats, last: bool) -> list[Floats]:
        if self._resampler is not None:
            # A resampled square wave of full scale overshoots, so clip again.
            samples = self._resampler.resample_chunk(samples, last).clip(-1, 1)
        return [samples] if len(samples) else []

    def _warn_once(self, message: str) -> None:
        if message not in self._warned_about:
            self._warned_about.add(message)
            log.warning(message, self._name)
