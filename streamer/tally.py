"""What has happened since the start, as plain numbers: counted where it happens, shown by metrics.py."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

SECONDS = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32)


class Histogram:
    """How many values fell below each bound, beyond the bound before it, or in the last place beyond all."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; a bound belongs to what lies below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Tally:
    """The numbers of one server, for one thread. Times are in seconds.

    `lag` is how long chunks waited for their events, `latency` how long it took from the arrival of the audio that
    settled an event, by its type, until the event was sent to the client of a session.
    """

    def __init__(self) -> None:
        self.audio_seconds = self.work_seconds = self.gap_seconds = 0.0
        self.gaps = self.dropped_partials = 0
        self.sessions: Counter[str] = Counter()  # begun, by protocol
        self.refusals: Counter[str] = Counter()  # by reason
        self.endings: Counter[str] = Counter()  # of connections, by how it came
        self.batches, self.steps = Histogram(BATCH_SIZES), Histogram(STEP_SECONDS)
        self.lag = Histogram(SECONDS)
        self.latency = {"partial": Histogram(SECONDS), "final": Histogram(SECONDS)}

    def ran(self, seconds: float, audio_seconds: float, batch: int) -> None:
        """A step of the model took so long, for so much audio of so many streams."""
        self.work_seconds += seconds
        self.audio_seconds += audio_seconds
        self.batches.observe(batch)
        self.steps.observe(seconds)

    def drop_partial(self) -> None:
        """A slow client is not sent a partial, as there is news already."""
        self.dropped_partials += 1

    def lost(self, seconds: float) -> None:
        """So much audio was lost, once."""
        self.gaps += 1
        self.gap_seconds += seconds
