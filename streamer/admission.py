"""How many sessions this machine can keep up with, by what they have cost so far; more than that are refused."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHARE = 0.9  # of a core's time that sessions may fill, so that those that run keep their latency
HALF_LIFE_SECONDS = 30.0  # after which a measurement counts half,
HALF_LIFE_AUDIO_SECONDS = 300.0  # or after so much audio, if that comes sooner
IDLE_SECONDS = 1.0  # without a step, after which what was done meanwhile was not done for sessions


class Admission:
    """Counts sessions and measures what they cost: a process has one core, for the model and all else that it does.

    `closed` refuses everyone. The number of places is what a core can keep up with, but at least 1 and at most
    `max_sessions`; one network address gets at most `per_address` of them. `cpu` tells the seconds of CPU time that the
    process has used.
    """

    def __init__(
        self,
        max_sessions: int = 500,
        per_address: int = 100,
        cpu: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_sessions, self.per_address = max_sessions, per_address
        self._cpu, self._clock = cpu, clock
        self._used, self._at = 0.0, -math.inf  # CPU time and time of the last step
        self.closed = False
        self._spent = self._stepped = self._heard = 0.0
        self._addresses: Counter[str] = Counter()

    @property
    def sessions(self) -> int:
        """How many there are now."""
        return self._addresses.total()

    @property
    def cost(self) -> float | None:
        """Seconds of work for a second of audio, on average of late; None before anything was measured."""
        return max(self._spent, self._stepped) / self._heard if self._heard else None

    @property
    def places(self) -> int:
        """How many sessions there may be at a time."""
        if not self.cost:
            return self.max_sessions
        return min(self.max_sessions, max(1, int(SHARE / self.cost)))

    def ran(self, seconds: float, audio_seconds: float) -> None:
        """A step of the model took some seconds, for some seconds of audio; all that came before it belongs to it."""
        used, now = self._cpu(), self._clock()
        since = now - self._at
        spent = used - self._used if since < IDLE_SECONDS else seconds
        self._used, self._at = used, now
        if audio_seconds > 0:
            kept = 0.5 ** max(min(since, IDLE_SECONDS) / HALF_LIFE_SECONDS, audio_seconds / HALF_LIFE_AUDIO_SECONDS)
            self._spent = self._spent * kept + spent
            self._stepped = self._stepped * kept + seconds  # more than CPU time where others use the core too
            self._heard = self._heard * kept + audio_seconds

    def unready(self) -> str | None:
        """Why no session may begin now, in one sentence, or None when one may."""
        if self.closed:
            return "The server is shutting down: try again later."
        if self.sessions >= self.places:
            return f"The places for sessions are all taken ({self.places}): try again later."
        return None

    def refusal(self, address: str) -> str | None:
        """Why a session from this address may not begin now, in one sentence, or None when it may."""
        if unready := self.unready():
            return unready
        if self._addresses[address] >= self.per_address:
            return f"{address} has as many sessions as it may have ({self.per_address}): close one of them first."
        return None

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Take a place while the block runs."""
        self._addresses[address] += 1
        try:
            yield
        finally:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
