from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_model import babble
from virtual_clock import VirtualClock
from waiting import PATIENCE_SECONDS, asynchronous, until

from streamer import engine
from streamer.events import Event, Final, Gap
from streamer.model import AcousticModel, load
from streamer.recognizer import Recognizer
from streamer.scheduler import GATHER_SECONDS, RecogniserError, Scheduler, Stream
from streamer.tally import Tally

SECOND = 16000
CHUNK = 2800  # what the tiny streaming model needs first
VOICES = [babble(SECOND * 3, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def tiny(streaming: Any) -> AcousticModel:
    return load(streaming)


def recogniser(model: AcousticModel) -> Recognizer:
    return model.recognizer()


def alone(model: AcousticModel, samples: np.ndarray) -> list[Event]:
    recognizer = recogniser(model)
    return [*engine.feed(model, recognizer, samples), *engine.finish(model, recognizer)]


class Gated:
    """A model whose steps wait to be let through, one permit each; `sizes` are those of the batches it was given."""

    def __init__(self, model: AcousticModel) -> None:
        self.spec, self.initial_state, self.decoder = model.spec, model.initial_state, model.decoder
        self.sizes: list[int] = []
        self.gate = threading.Semaphore(0)
        self._model = model

    def step(self, windows: Sequence[Any], states: Sequence[Any]) -> Any:
        self.sizes.append(len(windows))
        assert self.gate.acquire(timeout=PATIENCE_SECONDS)
        return self._model.step(windows, states)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30_000)), max_size=12),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_streams_say_what_they_say_alone_however_they_are_interleaved(
    model: AcousticModel, blocks: list[tuple[int, int]], batch: int, voices: int
) -> None:
    samples = VOICES[:voices]

    async def story() -> list[list[Event]]:
        events: list[list[Event]] = [[] for _ in samples]
        rest = list(samples)
        async with Scheduler(model, batch=batch) as scheduler:
            streams = [scheduler.open(recogniser(model), events[voice].append) for voice in range(voices)]
            for voice, size in blocks:
                if voice < voices:
                    await streams[voice].push(rest[voice][:size])
                    rest[voice] = rest[voice][size:]

            async def end(stream: Stream, samples: np.ndarray) -> None:
                await stream.push(samples)
                await stream.finish()

            await asyncio.gather(*(end(stream, samples) for stream, samples in zip(streams, rest, strict=True)))
        return events

    together = asyncio.run(story())
    assert together == [alone(model, voice) for voice in samples]
    assert any(isinstance(event, Final) for event in together[0])


@asynchronous
async def test_chunks_that_are_ready_at_once_share_a_step_up_to_a_bound(tiny: AcousticModel) -> None:
    model = Gated(tiny)
    async with Scheduler(model, batch=3) as scheduler:  # type: ignore[arg-type]
        streams = [scheduler.open(recogniser(tiny), lambda event: None) for _ in range(5)]
        for stream in streams:
            await stream.push(VOICES[0][:CHUNK])
        model.gate.release(2)
        for stream in streams:
            await stream.caught_up()
    assert model.sizes == [3, 2]


class InlineClock(VirtualClock):
    """Virtual time in which the work of other threads takes none."""

    def run_in_executor(self, executor: Any, func: Any, *arguments: Any) -> Any:
        done = self.create_future()
        done.set_result(func(*arguments))
        return done


async def speak(scheduler: Scheduler, late_seconds: float, lags: list[float]) -> None:
    """Three seconds of a live stream that begins so late; adds the lag of each of its chunks."""
    spec = scheduler.model.spec
    chunk = spec.chunk_frames * spec.features.frame_shift
    stream = scheduler.open(recogniser(scheduler.model), lambda event: None)
    await asyncio.sleep(late_seconds)
    for at in range(0, 3 * SECOND, chunk):
        await stream.push(VOICES[0][at : at + chunk])
        await asyncio.sleep(chunk / SECOND)
        lags.append(stream.lag_seconds)


@pytest.mark.parametrize("voices", [1, 4, 40])
def test_few_live_streams_never_wait_for_each_other_and_many_share_steps(tiny: AcousticModel, voices: int) -> None:
    sizes: list[int] = []
    lags: list[float] = []
    chunk_seconds = tiny.spec.chunk_frames * tiny.spec.features.frame_shift / SECOND

    class Noting(Tally):
        def ran(self, seconds: float, audio_seconds: float, batch: int) -> None:
            sizes.append(batch)

    async def story() -> None:
        clock = asyncio.get_running_loop().time
        async with Scheduler(tiny, clock=clock, tally=Noting()) as scheduler:
            beginnings = [chunk_seconds * voice / voices for voice in range(voices)]
            await asyncio.gather(*(speak(scheduler, late, lags) for late in beginnings))

    with asyncio.Runner(loop_factory=InlineClock) as runner:
        runner.run(story())
    expected = max(1, int(voices * GATHER_SECONDS / chunk_seconds))
    assert sizes[-2] == expected
    assert max(lags) <= (GATHER_SECONDS + 1e-9 if expected > 1 else 0)


@pytest.mark.parametrize("left", [100, CHUNK], ids=["a part of a chunk is left", "a chunk waits for others"])
def test_a_stream_that_ends_waits_for_nobody_and_before_and_after_it_steps_are_gathered(
    tiny: AcousticModel, left: int
) -> None:
    steps: list[tuple[float, int]] = []  # when, and of how many
    ends: list[tuple[float, float]] = []  # when it was asked for, and reached
    chunk_seconds = tiny.spec.chunk_frames * tiny.spec.features.frame_shift / SECOND
    voices = 40  # of which five come within the time that a chunk waits

    class Noting(Tally):
        def ran(self, seconds: float, audio_seconds: float, batch: int) -> None:
            steps.append((asyncio.get_running_loop().time(), batch))

    async def story() -> None:
        clock = asyncio.get_running_loop().time

        async def end(late_seconds: float) -> None:
            await asyncio.sleep(late_seconds)
            stream = scheduler.open(recogniser(tiny), lambda event: None)
            await stream.push(VOICES[1][:left])
            asked = clock()
            await stream.finish()
            ends.append((asked, clock()))

        async with Scheduler(tiny, clock=clock, tally=Noting()) as scheduler:
            beginnings = [chunk_seconds * voice / voices for voice in range(voices)]
            endings = [2 + GATHER_SECONDS * part / 5 + 0.001 for part in range(5)]
            live = [speak(scheduler, late, []) for late in beginnings]
            await asyncio.gather(*live, *map(end, endings))

    with asyncio.Runner(loop_factory=InlineClock) as runner:
        runner.run(story())
    assert [reached - asked for asked, reached in ends] == [0] * 5
    assert {size for when, size in steps if 1 < when < 2} == {5}
    assert {size for when, size in steps if 2.1 < when < 2.9} == {5}


@asynchronous
async def test_a_stream_that_comes_faster_than_it_is_spoken_waits_for_the_live_ones(tiny: AcousticModel) -> None:
    model = Gated(tiny)
    async with Scheduler(model, batch=1, clock=lambda: 0.0) as scheduler:  # type: ignore[arg-type]
        hurried = [scheduler.open(recogniser(tiny), lambda event: None) for _ in range(3)]
        pushes = [asyncio.create_task(stream.push(VOICES[0])) for stream in hurried]
        model.gate.release(7)  # each of them is served ahead of time
        await until(lambda: len(model.sizes) == 8)
        live = scheduler.open(recogniser(tiny), lambda event: None)
        await live.push(VOICES[1][:CHUNK])
        model.gate.release(2)  # the step that has begun, and the next
        await live.caught_up()
        assert len(model.sizes) <= 10
        for push in pushes:
            push.cancel()
        model.gate.release(100)


@asynchronous
async def test_a_sender_waits_while_a_second_of_its_audio_is_not_decoded(tiny: AcousticModel) -> None:
    model = Gated(tiny)
    async with Scheduler(model) as scheduler:  # type: ignore[arg-type]
        stream = scheduler.open(recogniser(tiny), lambda event: None)
        push = asyncio.create_task(stream.push(np.concatenate([VOICES[0]] * 20)))
        await until(lambda: model.sizes)
        assert stream._queued <= 2 * SECOND
        assert not push.done()
        model.gate.release(10_000)
        await push


@asynchronous
async def test_a_stream_that_is_closed_holds_up_nobody_and_is_told_nothing(tiny: AcousticModel) -> None:
    model = Gated(tiny)
    told: list[Event] = []
    async with Scheduler(model) as scheduler:  # type: ignore[arg-type]
        gone, other = scheduler.open(recogniser(tiny), told.append), scheduler.open(recogniser(tiny), told.append)
        push = asyncio.create_task(gone.push(VOICES[0]))
        await until(lambda: model.sizes)
        push.cancel()
        gone.close()
        model.gate.release(1000)
        await other.push(VOICES[1])
        await other.finish()
    assert told == alone(tiny, VOICES[1])


@asynchronous
async def test_a_stream_goes_on_after_a_gap(tiny: AcousticModel) -> None:
    told: list[Event] = []
    async with Scheduler(tiny) as scheduler:
        stream = scheduler.open(recogniser(tiny), told.append)
        await stream.push(VOICES[0])
        await stream.finish()
        told += stream.recognizer.gap(5000, "lost")
        await stream.push(VOICES[1])
        await stream.finish()
    at = told.index(Gap(3 * SECOND, 3 * SECOND + 5000, "lost"))
    assert told[:at] == alone(tiny, VOICES[0])
    assert [e.text for e in told[at:] if isinstance(e, Final)] == [
        e.text for e in alone(tiny, VOICES[1]) if isinstance(e, Final)
    ]


@pytest.mark.parametrize("part", ["push", "take", "advance", "finish"])
@asynchronous
async def test_an_error_ends_the_stream_of_its_recogniser_only(tiny: AcousticModel, part: str) -> None:
    told: list[Event] = []
    model = Gated(tiny)
    async with Scheduler(model) as scheduler:  # type: ignore[arg-type]
        broken, other = (scheduler.open(recogniser(tiny), tell) for tell in (lambda event: None, told.append))
        setattr(broken.recognizer, part, None)
        model.gate.release(1000)

        async def whole(stream: Stream) -> None:
            await stream.push(VOICES[1])
            await stream.finish()

        broke, went_on = await asyncio.gather(whole(broken), whole(other), return_exceptions=True)
    assert isinstance(broke, RecogniserError)
    assert isinstance(broke.__cause__, TypeError)
    assert went_on is None
    assert told == alone(tiny, VOICES[1])
    if part == "advance":
        assert model.sizes[0] == 2  # they were in the same step


@asynchronous
async def test_a_step_that_fails_is_tried_again_one_stream_at_a_time(tiny: AcousticModel) -> None:
    class Picky(Gated):
        def step(self, windows: Sequence[Any], states: Sequence[Any]) -> Any:
            if any(not np.isfinite(window).all() for window in windows):
                raise ValueError("not a number")
            return super().step(windows, states)

    told: list[Event] = []
    model = Picky(tiny)
    model.gate.release(1000)
    async with Scheduler(model) as scheduler:  # type: ignore[arg-type]
        broken, other = (scheduler.open(recogniser(tiny), tell) for tell in (lambda event: None, told.append))
        poison = asyncio.create_task(broken.push(np.full(SECOND * 3, np.nan, np.float32)))
        await other.push(VOICES[1])
        await other.finish()
        with pytest.raises(RecogniserError, match="not a number"):
            await poison
    assert told == alone(tiny, VOICES[1])


@asynchronous
async def test_who_cannot_be_told_an_event_loses_its_own_stream_only(tiny: AcousticModel) -> None:
    told: list[Event] = []
    async with Scheduler(tiny) as scheduler:
        deaf, other = (scheduler.open(recogniser(tiny), tell) for tell in (None, told.append))  # type: ignore[arg-type]
        with pytest.raises(RecogniserError):
            await deaf.push(VOICES[0])
        await other.push(VOICES[1])
        await other.finish()
    assert told == alone(tiny, VOICES[1])


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_a_clock_that_jumps_changes_nothing_that_is_said(tiny: AcousticModel, jumps: list[float]) -> None:
    told: list[Event] = []

    async def story() -> None:
        times = itertools.cycle(jumps)
        async with Scheduler(tiny, clock=lambda: next(times)) as scheduler:
            stream = scheduler.open(recogniser(tiny), told.append)
            await stream.push(VOICES[2])
            await stream.finish()

    asyncio.run(story())
    assert told == alone(tiny, VOICES[2])


@asynchronous
async def test_cost_and_lag_are_measured(tiny: AcousticModel) -> None:
    spent: list[tuple[float, float]] = []
    ticks = iter(range(1_000_000))
    async with Scheduler(tiny, lambda *cost: spent.append(cost), clock=lambda: float(next(ticks))) as scheduler:
        stream = scheduler.open(recogniser(tiny), lambda event: None)
        await stream.push(VOICES[0])
        await stream.finish()
    steps = [audio for _, audio in spent if audio]
    assert all(seconds >= 1 for seconds, _ in spent)  # more where the event loop looked at the clock meanwhile
    assert steps == [0.16] * len(steps)
    assert 3 <= sum(steps) < 3.5
    assert stream.lag_seconds > 0


@asynchronous
async def test_the_largest_lag_is_that_of_the_chunk_that_waited_longest_and_not_of_a_late_end(
    tiny: AcousticModel,
) -> None:
    model, now = Gated(tiny), 0.0
    async with Scheduler(model, clock=lambda: now) as scheduler:  # type: ignore[arg-type]
        stream = scheduler.open(recogniser(tiny), lambda event: None)
        lags = []
        for seconds in (0.5, 2.5, 1.0):
            await stream.push(VOICES[0][: stream.recognizer.missing])
            await until(lambda: len(model.sizes) > len(lags))
            now += seconds
            model.gate.release()
            await stream.caught_up()
            lags.append(stream.lag_seconds)
        assert (lags, stream.largest_lag_seconds) == ([0.5, 2.5, 1.0], 2.5)
        await stream.push(VOICES[0][:100])
        now += 60  # until the client says that it has ended
        model.gate.release(10)
        await stream.finish()
    assert stream.largest_lag_seconds == 2.5
