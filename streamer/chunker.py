"""What the model needs next: samples of any cut in, windows of features of one fixed size out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer import features
from streamer.ring import Ring
from streamer.spec import ModelSpec

Floats = NDArray[np.float32]


class Chunker:
    """Re-blocks a stream to fixed chunks before any arithmetic, so that the cut of its input cannot matter.

    Chunk k of a windowed model spans feature frames [k * chunk - left, (k + 1) * chunk + right) counted from `origin`,
    the sample where the model's state was last new; a streaming model's chunks have no context, the network remembers.
    Before the origin and after the end of a stream there is silence.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        shift, contexts = spec.features.frame_shift, 0
        if spec.kind == "windowed":
            contexts = spec.left_context + spec.right_context
        self.window_frames = spec.chunk_frames + contexts
        self._window_samples = (self.window_frames - 1) * shift + spec.features.frame_length
        # An endpoint begins anew where was decoded, which is behind what a network that looks ahead has heard.
        self._behind = 0 if spec.kind == "windowed" else spec.right_context * shift
        self._ring = Ring(self._window_samples + self._behind + 2 * spec.features.sample_rate)
        self._silence = np.zeros(self._window_samples, np.float32)
        self.origin = 0
        self.chunk = 0

    @property
    def end(self) -> int:
        """Samples pushed so far."""
        return self._ring.written

    @property
    def room(self) -> int:
        """How many samples may be pushed before the next take."""
        return self._ring.capacity - (self.end - max(0, self._start() - self._behind))

    @property
    def missing(self) -> int:
        """How many more samples the next window needs."""
        return max(0, self._start() + self._window_samples - self.end)

    def _start(self) -> int:
        """First sample of the next window; before the origin there is silence."""
        left = self.spec.left_context if self.spec.kind == "windowed" else 0
        return self.origin + (self.chunk * self.spec.chunk_frames - left) * self.spec.features.frame_shift

    def push(self, samples: Floats) -> None:
        """Take the next samples of the stream, at most `room`."""
        if len(samples) > self.room:
            raise ValueError(f"{len(samples)} samples pushed with room for {self.room}")
        self._ring.write(samples)

    def take(self, final: bool = False) -> Floats | None:
        """Features of the next window, float32 [window_frames, width], or None until its samples are there.

        final: the stream ends here, so what the window lacks is silence.
        """
        start = self._start()
        stop = start + self._window_samples
        if stop > self.end and not final:
            return None
        begin = max(start, self.origin)
        heard = self._ring.read(min(begin, self.end), min(stop, self.end))
        before = self._silence[: begin - start]
        window = np.concatenate([before, heard, self._silence[: self._window_samples - len(before) - len(heard)]])
        self.chunk += 1
        return features.compute(window, self.spec.features)

    def restart(self, origin: int) -> None:
        """Begin anew at sample `origin`, which must still be in the ring: the model's state is new there."""
        self.origin, self.chunk = origin, 0
