"""How fast a client's audio is taken: in times real time, with some that may come at once."""

from __future__ import annotations

import math

BURST_SECONDS = 5.0  # of audio that are taken without waiting, as after a pause of the network


class Pace:
    """What is taken now is due at `speed` times real time; who sends faster waits. No speed means no waiting."""

    def __init__(self, speed: float = math.inf) -> None:
        self._speed = speed
        self._due = -math.inf  # when all that was taken would have come at this speed

    def wait_seconds(self, audio_seconds: float, now: float) -> float:
        """Take so much audio; how long to wait before more is taken."""
        self._due = max(self._due, now) + audio_seconds / self._speed
        return max(0.0, self._due - now - BURST_SECONDS / self._speed)
