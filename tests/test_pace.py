from __future__ import annotations

import asyncio
import math
from typing import Any

import virtual_clock
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import load
from streamer.pace import BURST_SECONDS, Pace
from streamer.scheduler import Scheduler
from streamer.session_config import Config
from streamer.sessions import Session

blocks = st.lists(st.floats(0.001, 3), min_size=1, max_size=50)


@given(blocks, st.floats(1, 100))
def test_who_sends_as_fast_as_possible_is_held_to_the_speed_beyond_the_first_burst(
    blocks: list[float], speed: float
) -> None:
    pace, now = Pace(speed), 1000.0
    for seconds in blocks:
        now += pace.wait_seconds(seconds, now)
    assert math.isclose(now - 1000, max(0.0, sum(blocks) - BURST_SECONDS) / speed, abs_tol=1e-6)


@given(blocks, st.floats(1, 100))
def test_who_speaks_live_never_waits(blocks: list[float], speed: float) -> None:
    pace, now = Pace(speed), 0.0
    for seconds in blocks:
        now += seconds
        assert pace.wait_seconds(seconds, now) == 0


@given(blocks)
def test_without_a_speed_nobody_waits(blocks: list[float]) -> None:
    pace = Pace()
    assert all(pace.wait_seconds(seconds, 0.0) == 0 for seconds in blocks)


def test_a_session_takes_audio_at_its_speed_and_no_faster(streaming: Any) -> None:
    class Eager:
        """A stream that never makes anybody wait."""

        heard = 0

        async def push(self, samples: Any) -> None:
            self.heard += len(samples)

    async def story() -> float:
        scheduler = Scheduler(load(streaming))
        session = Session(scheduler, lambda event: None, max_speed=2, log_text=False)
        session.begin(Config(sample_rate=8000))
        session._stream = eager = Eager()  # type: ignore[assignment]
        began = asyncio.get_running_loop().time()
        for _ in range(60):
            await session.hear(bytes(16000))
        assert session.audio_seconds == 60
        assert eager.heard > 59 * 16000
        return asyncio.get_running_loop().time() - began

    assert virtual_clock.run(story()) == (60 - BURST_SECONDS) / 2
