"""A recording as a live stream, without waiting for it: a clock of audio positions and measured computing time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from streamer import engine
from streamer.events import Event, Final, Partial
from streamer.model import AcousticModel
from streamer.recognizer import Floats
from train.align import align
from train.plots import Watched

BLOCK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Told:
    """An event, the second of the stream at which it was told, and the output frames that were decoded by then."""

    event: Event
    at: float
    frames: int


@dataclass(frozen=True, slots=True)
class Listened:
    """All that was told of a stream; log_probs: float32 [frames, vocab]."""

    told: tuple[Told, ...]
    log_probs: Floats

    @property
    def finals(self) -> list[Told]:
        """The finals alone."""
        return [told for told in self.told if isinstance(told.event, Final)]

    @property
    def words(self) -> list[str]:
        """The words of all finals."""
        return [word for told in self.finals for word in told.event.text.split()]


def listen(model: AcousticModel, samples: Floats) -> Listened:
    """Push samples in blocks of 20 ms, each when its last sample would have been spoken, and note when events come.

    What the network and the decoder take is measured; a block that arrives meanwhile waits, as it would live.
    """
    spec = model.spec
    rate = spec.features.sample_rate
    watched = Watched(model.decoder, len(spec.vocab))
    recognizer = model.recognizer(decoder=watched)
    size, now, told = round(BLOCK_SECONDS * rate), 0.0, list[Told]()

    def note(events: Iterable[Event]) -> float:
        started = time.perf_counter()
        for event in events:
            told.append(Told(event, now + time.perf_counter() - started, sum(map(len, watched.given))))
        return now + time.perf_counter() - started

    for at in range(0, len(samples), size):
        now = max(now, min(at + size, len(samples)) / rate)
        now = note(engine.feed(model, recognizer, samples[at : at + size]))
    now = note(engine.finish(model, recognizer))
    return Listened(tuple(told), np.concatenate(watched.given)[: -(-len(samples) // spec.step_samples)])


@dataclass(frozen=True, slots=True)
class Appearance:
    """A word of a final, and the seconds at which it first appeared and from which on it stayed."""

    text: str
    first: float
    stayed: float


def appearances(told: Iterable[Told]) -> list[Appearance]:
    """When each word of the finals appeared in the events of its segment, aligned with the final by fewest edits."""
    found: list[Appearance] = []
    open_segment: list[Told] = []
    for one in told:
        if not isinstance(one.event, Partial | Final):
            continue
        open_segment.append(one)
        if isinstance(one.event, Final):
            found += _appearances(open_segment, one.event)
            open_segment = []
    return found


def _appearances(told: Iterable[Told], final: Final) -> list[Appearance]:
    first: dict[int, float] = {}
    stayed: dict[int, float] = {}
    for one in told:
        assert isinstance(one.event, Partial | Final)
        last = one.event is final
        begun = [word.text for word in final.words if last or word.start < one.event.end]  # no later one can be meant
        pairs = align(begun, one.event.text.split())
        shown = [word == text for word, text in pairs if word is not None]
        for n, there in enumerate(shown):
            if there:
                first.setdefault(n, one.at)
                stayed.setdefault(n, one.at)
            else:
                stayed.pop(n, None)
    return [Appearance(word, first[n], stayed[n]) for n, word in enumerate(final.text.split())]
