"""Many streams, one model: a worker thread runs the ready chunks of several in one step, the most urgent first."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np

from streamer.events import Event
from streamer.model import AcousticModel
from streamer.recognizer import Floats, Recognizer
from streamer.tally import Tally
from streamer.turns import Outcome, Turn, take_turns

BATCH = 32  # chunks in a step: more are hardly faster, and a chunk that comes meanwhile waits longer
GATHER_SECONDS = 0.02  # a chunk waits at most for others to share its step, where as many are to be expected
QUEUE_SECONDS = 1.0  # of audio that may wait in a stream
AHEAD_SECONDS = 10.0  # a stream that was served so far ahead of real time is as urgent as one further ahead

Tell = Callable[[Event], None]


class RecogniserError(Exception):
    """The recogniser of a stream has failed, which is a bug; its cause is the exception that it raised."""


class Stream:
    """One recogniser of a scheduler, for one task of the event loop, where `tell` hears its events.

    `arrived` is when the last sample of the latest chunk was here, `lag_seconds` how long its events took from then,
    `largest_lag_seconds` the most that they took for any chunk that did not wait for the stream's end, `ending` is
    whether that was asked for, `due` is the scheduler's.
    """

    def __init__(self, scheduler: Scheduler, recognizer: Recognizer, tell: Tell) -> None:
        self.recognizer = recognizer
        self.arrived = self.lag_seconds = self.largest_lag_seconds = 0.0
        self.ending = False
        self.due = 0.0  # when its next chunk would be due if it were live
        self._scheduler = scheduler
        self._tell = tell
        self._capacity = round(QUEUE_SECONDS * recognizer.spec.features.sample_rate)
        self._queue: deque[tuple[float, Floats]] = deque()  # with the time at which they came
        self._queued = 0
        self._missing = recognizer.missing
        self._running = self._closed = self._whole = False
        self._error: RecogniserError | None = None
        self._turned = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether it can have a turn."""
        return not self._running and not self._closed and (self.ending or self._queued >= self._missing)

    async def push(self, samples: Floats) -> None:
        """Take samples as the recogniser does, any number; waits while QUEUE_SECONDS of them have not been decoded."""
        for at in range(0, len(samples), self._capacity):
            await self._until(lambda: self._queued < self._capacity or not self._busy)
            piece = samples[at : at + self._capacity]
            self._queue.append((self._scheduler.clock(), piece))
            self._queued += len(piece)
            self._scheduler.consider(self)

    async def caught_up(self) -> None:
        """Wait until all has been decoded that can be."""
        await self._until(lambda: not self._busy)

    async def finish(self) -> None:
        """End the stream, or its unbroken part: decode what is left and close the open segment; then it may go on."""
        self.ending = True
        self._scheduler.consider(self)
        await self._until(lambda: not self.ending)

    def close(self) -> None:
        """Nothing more is wanted; what has not been decoded is dropped."""
        self._closed = True
        self._queue.clear()
        self._scheduler.forget(self)

    def begin_turn(self) -> Turn:
        """Hand over what the next chunk needs and no more, so that `lag_seconds` is that of this chunk."""
        self._running, self._whole = True, self._queued >= self._missing
        pieces, needed = [np.zeros(0, np.float32)], min(self._missing, self._queued)
        self._queued -= needed
        while needed:
            self.arrived, piece = self._queue.popleft()
            if len(piece) > needed:
                self._queue.appendleft((self.arrived, piece[needed:]))
            pieces.append(piece[:needed])
            needed -= len(pieces[-1])
        return Turn(self.recognizer, np.concatenate(pieces), self.ending and not self._queued)

    def end_turn(self, outcome: Outcome) -> None:
        """Tell the events; the next turn may come."""
        self._running = False
        self._missing = self.recognizer.missing
        if outcome.over:
            self.ending = False
        self.lag_seconds = self._scheduler.clock() - self.arrived
        if self._whole:
            self.largest_lag_seconds = max(self.largest_lag_seconds, self.lag_seconds)
        if not self._closed:
            for event in outcome.events:
                self._tell(event)
        self._scheduler.consider(self)
        self._turned.set()

    def fail(self, error: Exception) -> None:
        """It has no more turns; what waits for it raises a RecogniserError instead."""
        self._error = RecogniserError(f"the recogniser has failed ({error})")
        self._error.__cause__ = error
        self._turned.set()

    @property
    def _busy(self) -> bool:
        return self._running or self.ready

    async def _until(self, condition: Callable[[], bool]) -> None:
        while self._error is None and not condition():
            self._turned.clear()
            await self._turned.wait()
        if self._error is not None:
            raise self._error


class Scheduler:
    """Owns the model's one worker thread; use it as a context manager, within one event loop.

    A step begins when as many streams are ready as are to be expected within GATHER_SECONDS, or after that time, or
    when one is ready that is ending: few streams never wait for each other, many share steps, which makes each of them
    cheaper, and last words come at once. Streams are served in the order in which their chunks are due: those of a live
    stream when they are here, those of a stream that comes faster at the pace of speech, so that it waits for all live
    ones. `ran` is told after every step how many seconds it took and how many seconds of audio it was.
    """

    def __init__(
        self,
        model: AcousticModel,
        ran: Callable[[float, float], None] = lambda seconds, audio_seconds: None,
        batch: int = BATCH,
        clock: Callable[[], float] = time.perf_counter,
        tally: Tally | None = None,
    ) -> None:
        spec = model.spec
        self.model, self.batch, self.clock = model, batch, clock
        self.tally = tally or Tally()
        self._ran = ran
        self._chunk_seconds = spec.chunk_frames * spec.features.frame_shift / spec.features.sample_rate
        self._ready: set[Stream] = set()
        self._work = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._speaking: set[Stream] = set()  # streams that had a turn in this period
        self._period_end = 0.0
        self._enough = 1  # ready streams for a step
        self._worker = ThreadPoolExecutor(1, "recogniser")

    def open(self, recognizer: Recognizer, tell: Tell) -> Stream:
        """A stream for a recogniser of this model, which nothing else may touch while the stream is busy."""
        return Stream(self, recognizer, tell)

    def consider(self, stream: Stream) -> None:
        """Put a stream in line if it is ready."""
        if stream.ready and stream not in self._ready:
            now = self.clock()
            stream.due = min(max(now, stream.due + self._chunk_seconds), now + AHEAD_SECONDS)
            self._ready.add(stream)
        self._call()

    def forget(self, stream: Stream) -> None:
        """Take a stream out of the line."""
        self._ready.discard(stream)

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])
        self._worker.shutdown(wait=False)

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            streams = heapq.nsmallest(self.batch, self._ready, key=lambda stream: stream.due)
            self._ready.difference_update(streams)
            if streams:
                await self._step(streams)
                self._call()

    def _call(self) -> None:
        """Have a step run: at once when enough streams are ready or one of them is ending, or else soon."""
        if len(self._ready) >= self._enough or any(stream.ending for stream in self._ready):
            self._work.set()
        elif self._ready and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._work.set)

    def _count(self, streams: Sequence[Stream]) -> None:
        """Learn from how many streams have turns how many are to be expected."""
        now = asyncio.get_running_loop().time()
        if now >= self._period_end:
            self._enough = min(self.batch, max(1, int(len(self._speaking) * GATHER_SECONDS / self._chunk_seconds)))
            self._period_end = now + 3 * self._chunk_seconds
            self._speaking.clear()
        self._speaking.update(streams)

    async def _step(self, streams: Sequence[Stream]) -> None:
        self._count(streams)
        turns = [stream.begin_turn() for stream in streams]
        loop = asyncio.get_running_loop()
        outcomes, seconds = await loop.run_in_executor(self._worker, self._timed, turns)
        chunks = sum(isinstance(outcome, Outcome) and not outcome.over for outcome in outcomes)
        self._ran(seconds, self._chunk_seconds * chunks)
        self.tally.ran(seconds, self._chunk_seconds * chunks, len(turns))
        for stream, outcome in zip(streams, outcomes, strict=True):
            self._end_turn(stream, outcome)

    def _end_turn(self, stream: Stream, outcome: Outcome | Exception) -> None:
        """Tell what came of it; a stream that fails, or whose listener does, hurts no other."""
        if isinstance(outcome, Outcome):
            try:
                stream.end_turn(outcome)
            except Exception as error:
                outcome = error
            else:
                if not outcome.over:  # which waited for the client to end it, not for a turn
                    self.tally.lag.observe(stream.lag_seconds)
        if isinstance(outcome, Exception):
            stream.fail(outcome)

    def _timed(self, turns: Sequence[Turn]) -> tuple[list[Outcome | Exception], float]:
        began = self.clock()
        outcomes = take_turns(self.model, turns)
        return outcomes, self.clock() - began
