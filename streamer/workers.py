"""`--workers N`: processes that share a port. This one accepts, the worker with the fewest connections serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from streamer.handover import CLOSED, READY, VARIABLE, hand_over
from streamer.server import ServerError, advice, limit_buffers
from streamer.stopping import stop_on_signals

STEADY_SECONDS = 10.0  # a worker that lived longer than this is started again at once
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0

log = logging.getLogger("asr_stream")


class WorkerError(Exception):
    """The first worker could not begin; `explained` when it has said why itself."""

    def __init__(self, fate: str, explained: bool) -> None:
        super().__init__(f"the first worker {fate} before it had begun: run the command without --workers to see why")
        self.explained = explained


@dataclass(eq=False, slots=True)
class Worker:
    """A process, the way to it, and how many connections it has."""

    number: int
    process: asyncio.subprocess.Process
    channel: socket.socket
    connections: int = 0
    ready: bool = False
    ready_since: float | None = None

    def ready_seconds(self) -> float:
        """How long ago it began to serve; 0 when it never has."""
        return 0.0 if self.ready_since is None else asyncio.get_running_loop().time() - self.ready_since

    def fate(self) -> str:
        """How it ended, in words."""
        status = self.process.returncode or 0
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


@dataclass(frozen=True, slots=True)
class Crew:
    """All workers that are alive, and whether one of them has ever been ready, or all shall end."""

    alive: set[Worker]
    begun: asyncio.Event
    stop: asyncio.Event

    def by_load(self) -> list[Worker]:
        """The workers, the one that should get the next connection first."""
        return sorted(self.alive, key=lambda worker: (not worker.ready, worker.connections))


async def run_workers(count: int, host: str, port: int) -> None:
    """Run this command `count` times on one port until a signal asks to stop; ServerError, WorkerError.

    The first worker must come up before the others are started. One that dies is started again, after growing waits
    when it does not live long. On the signal all get SIGTERM, and this returns when they have ended.
    """
    crew = Crew(set(), asyncio.Event(), asyncio.Event())
    stop_on_signals(crew.stop)
    server = await _accept(crew, host, port)
    async with server:
        port = server.sockets[0].getsockname()[1]
        keeping = [asyncio.create_task(_keep(crew, 1, port))]
        beginning = asyncio.create_task(crew.begun.wait())
        await _either(crew.stop, keeping[0], beginning)
        beginning.cancel()
        if crew.begun.is_set():
            keeping += [asyncio.create_task(_keep(crew, number, port)) for number in range(2, count + 1)]
            await _either(crew.stop, asyncio.gather(*keeping))
        server.close()
        for worker in crew.alive:
            worker.process.terminate()
        await asyncio.gather(*keeping)


async def _accept(crew: Crew, host: str, port: int) -> asyncio.Server:
    """Listen, and hand every connection over as soon as it is there."""

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assign(crew.by_load(), transport.get_extra_info("socket").fileno())
            cast(asyncio.Transport, transport).abort()  # this process's copy of it

    try:
        if not host:  # which asyncio takes to mean every network
            raise UnicodeError
        server = await asyncio.get_running_loop().create_server(Accepted, host, port)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServerError(advice(error, host, port)) from error
    limit_buffers(server.sockets)
    return server


def assign(workers: Iterable[Worker], connection: int) -> None:
    """Give a connection to the first of the workers that takes it, else to nobody."""
    for worker in workers:
        try:
            hand_over(worker.channel, connection)
        except OSError:  # it has just died, or has not taken the last hundreds
            continue
        worker.connections += 1
        return


async def _keep(crew: Crew, number: int, port: int) -> None:
    """One worker after the other, until all shall end; WorkerError when the very first cannot begin."""
    short_lives = 0
    announces = number == 1
    while not crew.stop.is_set():
        try:
            worker = await _live(crew, number, port, announces)
            fate, steady = worker.fate(), worker.ready_seconds() > STEADY_SECONDS
            explained = worker.process.returncode == 1
        except OSError as error:  # there are no more processes or file descriptors to be had
            fate, steady = f"could not be started ({error.strerror})", False
            explained = False
        if crew.stop.is_set():
            return
        if not crew.begun.is_set():
            raise WorkerError(fate, explained)
        announces = False
        short_lives = 0 if steady else short_lives + 1
        seconds = wait_seconds(short_lives)
        again = f", {short_lives} times in a row" if short_lives > 1 else ""
        when = f"in {seconds:g} s" if seconds else "now"
        log.warning("worker %d %s%s: another one is started %s", number, fate, again, when)
        await _either(crew.stop, seconds=seconds)


async def _live(crew: Crew, number: int, port: int, announces: bool) -> Worker:
    """One worker from its start to its end."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        with theirs:
            descriptor = theirs.fileno()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *sys.orig_argv[1:],
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[descriptor],
                env=os.environ | {VARIABLE: f"{descriptor},{port},{announces:d}"},
            )
        worker = Worker(number, process, ours)
        crew.alive.add(worker)
        hearing = asyncio.create_task(_hear(worker, crew.begun))
        try:
            if crew.stop.is_set():
                process.terminate()
            await process.wait()
            return worker
        finally:
            crew.alive.discard(worker)
            hearing.cancel()
            await asyncio.wait([hearing])


async def _hear(worker: Worker, begun: asyncio.Event) -> None:
    """Follow what a worker says about itself until it says no more."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionResetError):  # it died with connections that it had not taken
        while said := await loop.sock_recv(worker.channel, 4096):
            worker.connections -= said.count(CLOSED)
            if READY in said:
                worker.ready, worker.ready_since = True, loop.time()
                log.log(logging.INFO if begun.is_set() else logging.DEBUG, "worker %d is ready", worker.number)
                begun.set()
    worker.ready = False


def wait_seconds(short_lives: int) -> float:
    """How long to wait after so many short lives in a row: twice as long each time, up to a bound."""
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (short_lives - 1)) if short_lives else 0.0


async def _either(event: asyncio.Event, *others: asyncio.Future[Any], seconds: float | None = None) -> None:
    """Wait until the event is set, one of the others has ended or the time is over."""
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait([waiting, *others], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
