"""The last N samples of a stream, addressed by absolute sample position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Overrun(Exception):
    """Samples were asked for that are already overwritten; `oldest` is the first position still there."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"audio before sample {oldest} has been overwritten")
        self.oldest = oldest


class Ring:
    """A fixed buffer that one thread writes and one other may read, without a lock.

    `written` is published after the samples are in place, and a reader checks after copying that the writer has not
    lapped it meanwhile, so a torn read is reported as an Overrun instead of returned.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.written = 0
        self._writing = 0
        self._samples = np.zeros(capacity, np.float32)

    def write(self, samples: Floats) -> None:
        """Append samples (float32, shape [n]); the oldest are overwritten when there is no room."""
        end = self.written + len(samples)
        self._writing = end
        kept = samples[-self.capacity :]
        at = (end - len(kept)) % self.capacity
        head = min(len(kept), self.capacity - at)
        self._samples[at : at + head] = kept[:head]
        self._samples[: len(kept) - head] = kept[head:]
        self.written = end

    def read(self, start: int, end: int) -> Floats:
        """A copy of samples [start, end); Overrun when they are gone, ValueError when they are not there yet."""
        if not 0 <= start <= end <= self.written:
            raise ValueError(f"samples {start} to {end} of {self.written} were asked for")
        at = start % self.capacity
        head = min(end - start, self.capacity - at)
        if end - start <= self.capacity:
            samples = np.concatenate([self._samples[at : at + head], self._samples[: end - start - head]])
        oldest = self._writing - self.capacity
        if start < oldest:
            raise Overrun(oldest)
        return samples
