"""The recogniser of one stream: samples go in, it says which chunk it wants run, log-probs go in, events come out.

It does no I/O, knows no clock and no model, so one loop can serve a single stream and an engine can batch many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer import endpoint
from streamer.chunker import Chunker
from streamer.ctc import WordSpan, greedy
from streamer.endpoint import Decoded, Endpointing
from streamer.events import Event, Final, Gap, Partial, Word
from streamer.spec import ModelSpec

Floats = NDArray[np.float32]
State = Mapping[str, Floats]


class Decoder(Protocol):
    """What turns log_probs into words; what it has decoded so far is a value that `step` replaces."""

    @property
    def start(self) -> Decoded: ...
    def step(self, decoded: Any, log_probs: Floats) -> Decoded: ...
    def words(self, decoded: Any, ended: bool = False) -> tuple[WordSpan, ...]: ...
    def settled(self, decoded: Any) -> int: ...
    def within_word(self, decoded: Any) -> bool: ...


@dataclass(frozen=True, slots=True)
class Request:
    """A chunk to run: features float32 [window_frames, width], and the model's state before it."""

    features: Floats
    state: State


class Recognizer:
    """The one mutable object of a stream; everything it holds is a value that a step replaces.

    Use: `push` samples, then while `take()` gives a Request run it and hand the answer to `advance`.
    `flush` ends the stream: the remaining Requests are padded with silence and the last one closes the segment.
    """

    def __init__(
        self, spec: ModelSpec, initial: State, limits: Endpointing | None = None, decoder: Decoder | None = None
    ) -> None:
        self.spec = spec
        self._decoder: Decoder = decoder or greedy(spec)
        self.limits = limits or Endpointing()
        self._initial, self._state = initial, initial
        self._chunker = Chunker(spec)
        self._hypothesis = self._decoder.start
        self._segment = 0
        self._segment_frame = 0  # output frames from the origin to the segment's start
        self._shown = ""
        self._lost = 0  # samples missing so far: positions in events are positions pushed plus this
        self._ending = False

    @property
    def position(self) -> int:
        """Absolute position of the stream: samples pushed and samples lost."""
        return self._chunker.end + self._lost

    @property
    def room(self) -> int:
        """How many samples may be pushed before the next take."""
        return self._chunker.room

    @property
    def missing(self) -> int:
        """How many more samples the next take needs, 0 when it has them."""
        return self._chunker.missing

    def push(self, samples: Floats) -> None:
        """Take the next samples: float32 mono in [-1, 1] at the model's rate, at most `room`."""
        self._chunker.push(samples)

    def flush(self) -> None:
        """The stream ends here, or is interrupted: `take` until it gives None, then the segment is closed."""
        self._ending = True

    def take(self) -> Request | None:
        """The next chunk to run, or None when more samples are needed."""
        if self._ending and self._covered():
            return None
        window = self._chunker.take(final=self._ending)
        return None if window is None else Request(window, self._state)

    def advance(self, log_probs: Floats, state: State) -> list[Event]:
        """Take the model's answer to the last Request: float32 [chunk_steps, vocab] and the state after it."""
        self._state = state
        hypothesis = self._decoder.step(self._hypothesis, self._new(log_probs))
        self._hypothesis = hypothesis
        step_seconds = self.spec.step_samples / self.spec.features.sample_rate
        rule = endpoint.fires(hypothesis, step_seconds, self.limits)
        if rule is None or (
            rule == "length" and self._decoder.within_word(hypothesis) and hypothesis.frame < 2 * self._longest()
        ):
            return self._partial()
        events = self._close()
        if rule == "silence":  # else someone may go on: the network keeps what it knows of the voice and the room
            self._restart(self._segment_start())
        return events

    def finish(self) -> list[Event]:
        """After `flush` and the last `advance`: close the open segment and begin anew, state and all."""
        events = self._close()
        self._restart(self._chunker.end)
        self._ending = False
        return events

    def gap(self, samples: int, reason: str) -> list[Event]:
        """`samples` were lost at the current position; call after `flush` and `finish`."""
        start = self.position
        self._lost += samples
        return [Gap(start, start + samples, reason)]

    def _new(self, log_probs: Floats) -> Floats:
        """Those log_probs that describe audio after the origin: a streaming network's first ones are its delay."""
        if self.spec.kind == "windowed":
            return log_probs
        delay = self.spec.right_context // self.spec.subsampling
        before = (self._chunker.chunk - 1) * self.spec.chunk_steps
        return log_probs[max(0, delay - before) :]

    def _covered(self) -> bool:
        """Whether every sample pushed has been decoded."""
        decoded = self._segment_frame + self._hypothesis.frame
        return self._chunker.origin + decoded * self.spec.step_samples >= self._chunker.end

    def _absolute(self, frame: int) -> int:
        """The stream's sample position of an output frame of the open segment."""
        within = (self._segment_frame + frame) * self.spec.step_samples
        return min(self._chunker.origin + within, self._chunker.end) + self._lost

    def _segment_start(self) -> int:
        return self._chunker.origin + self._segment_frame * self.spec.step_samples

    def _longest(self) -> float:
        """Output frames after which a segment is cut, at the next space if there is one before twice as many."""
        return self.limits.length_seconds * self.spec.features.sample_rate / self.spec.step_samples

    def _partial(self) -> list[Event]:
        spans = self._decoder.words(self._hypothesis)
        text = " ".join(span.text for span in spans)
        if text == self._shown:
            return []
        self._shown = text
        if not spans:
            return [self._nothing()]
        stable = " ".join(span.text for span in spans[: self._decoder.settled(self._hypothesis)])
        start, end = self._absolute(spans[0].start), self._absolute(spans[-1].end)
        return [Partial(self._segment, start, end, text, len(stable))]

    def _nothing(self) -> Partial:
        """What takes back words that were shown and that nobody said after all."""
        here = self._absolute(self._hypothesis.frame)
        return Partial(self._segment, here, here, "", 0)

    def _close(self) -> list[Event]:
        """End the segment; the next one begins at the next output frame."""
        spans = self._decoder.words(self._hypothesis, ended=True)
        taken_back = [self._nothing()] if self._shown and not spans else []
        spoken = tuple(Word(s.text, self._absolute(s.start), self._absolute(s.end), s.confidence) for s in spans)
        self._segment_frame += self._hypothesis.frame
        self._hypothesis, self._shown = self._decoder.start, ""
        if not spoken:
            return [*taken_back]
        self._segment += 1
        text = " ".join(word.text for word in spoken)
        return [Final(self._segment - 1, spoken[0].start, spoken[-1].end, text, spoken)]

    def _restart(self, origin: int) -> None:
        """Acoustic state and frame counting begin anew at sample `origin`."""
        self._state = self._initial
        self._segment_frame = 0
        self._chunker.restart(min(origin, self._chunker.end))
