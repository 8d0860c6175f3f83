"""One run of the daemon: source → recogniser → hub → server and stdout, and its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamer.admission import Admission
from streamer.broker import Topic
from streamer.endpoint import Endpointing
from streamer.events import Event, Hello
from streamer.handover import Door
from streamer.hub import Hub
from streamer.intake import Lost
from streamer.model import AcousticModel
from streamer.output import Printer
from streamer.publish import FLUSH_SECONDS, publishing
from streamer.recognizer import Floats, Recognizer
from streamer.scheduler import Scheduler
from streamer.server import Address, serve
from streamer.sessions import Limits, Sessions
from streamer.stopping import stop_on_signals

PATIENCE_SECONDS = 2.0
MEASURE_SECONDS = 10.0

Blocks = AsyncGenerator[Floats | Lost, None]


@dataclass(frozen=True, slots=True)
class Source:
    """Where audio comes from: a name for the Hello, and a function that opens it at a sample rate."""

    name: str
    open: Callable[[int], Blocks]


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to serve captions, and with `admission` sessions too; port 0 takes any free one, a `door` needs none."""

    host: str
    port: int
    allowed_origins: tuple[str, ...] = ()
    admission: Admission | None = None
    limits: Limits = field(default_factory=Limits)
    door: Door | None = None


@dataclass(frozen=True, slots=True)
class Daemon:
    """What the parts of one run share. `live` sources cannot wait, so nothing that reads captions may hold them up."""

    scheduler: Scheduler
    printer: Printer
    live: bool
    endpointing: Endpointing
    hub: Hub = field(default_factory=Hub)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, *events: Event) -> None:
        """Give events to everyone; stdout gets them here only when the source can wait for its reader."""
        rate = self.scheduler.model.spec.features.sample_rate
        for event in events:
            self.hub.publish(event)
            if not self.live and not await asyncio.to_thread(self.printer.write, event, rate):
                self.stop.set()


async def run(
    model: AcousticModel,
    sources: Sequence[Source],
    printer: Printer,
    listen: Listen | None,
    live: bool,
    endpointing: Endpointing,
    topic: Topic | None = None,
) -> None:
    """Caption the sources one after the other until they end or a signal asks to stop; SourceError, ServerError.

    With a `topic` captions are published there too. With sessions it goes on until the signal. Whatever happens, open
    segments are finished, printed and sent before this returns or raises.
    """
    admission = listen.admission if listen else None
    async with contextlib.AsyncExitStack() as stack:
        scheduler = Scheduler(model, admission.ran) if admission else Scheduler(model)
        daemon = Daemon(await stack.enter_async_context(scheduler), printer, live, endpointing)
        patience = PATIENCE_SECONDS + (listen.limits.grace_seconds if listen and admission else 0)
        stop_on_signals(daemon.stop, patience + (FLUSH_SECONDS if topic else 0))
        if topic is not None:
            await stack.enter_async_context(publishing(daemon.hub, topic))
        if listen is not None:
            await stack.enter_async_context(_serving(daemon, listen))
        printing = asyncio.create_task(_print_live(daemon)) if live else None
        if printing is not None:
            printing.add_done_callback(lambda _: daemon.stop.set())
        try:
            for source in sources:
                if not daemon.stop.is_set():
                    await _caption(daemon, source)
            if admission is not None:
                await daemon.stop.wait()
        finally:
            daemon.hub.close()
            if printing is not None:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await printing
            printer.close()


@contextlib.asynccontextmanager
async def _serving(daemon: Daemon, listen: Listen) -> AsyncIterator[None]:
    sessions = Sessions(daemon.scheduler, listen.admission, listen.limits) if listen.admission else None
    origins, door = listen.allowed_origins, listen.door
    if sessions is not None:
        await _measure(daemon.scheduler)
    async with serve(
        daemon.hub, listen.host, listen.port, sessions=sessions, door=door, allowed_origins=origins
    ) as address:
        if door is None or door.announces:
            _announce(address, sessions is not None)
        yield


def _announce(address: Address, sessions: bool) -> None:
    print(f"captions at {address.url}", file=sys.stderr, flush=True)
    if sessions:
        print(f"clients may speak at {address.url.replace('http', 'ws', 1)}/recognize", file=sys.stderr, flush=True)


async def _measure(scheduler: Scheduler) -> None:
    """Recognise noise, so that from the first client on it is known what a second of audio costs."""
    model = scheduler.model
    rate = model.spec.features.sample_rate
    noise = np.random.default_rng(0).normal(0, 0.1, round(MEASURE_SECONDS * rate)).clip(-1, 1).astype(np.float32)
    stream = scheduler.open(Recognizer(model.spec, model.initial_state, decoder=model.decoder), lambda event: None)
    await stream.push(noise)
    await stream.finish()


async def _caption(daemon: Daemon, source: Source) -> None:
    """One source from its Hello to its last final."""
    model = daemon.scheduler.model
    spec, rate = model.spec, model.spec.features.sample_rate
    recognizer = Recognizer(spec, model.initial_state, daemon.endpointing, model.decoder)
    heard: list[Event] = []
    stream = daemon.scheduler.open(recognizer, heard.append)
    greeted = False
    try:
        async for item in _until(daemon.stop, source.open(rate)):
            if not greeted:  # not before its first audio: a source that cannot be opened says nothing
                await daemon.publish(Hello(spec.name, spec.language, rate, source.name, secrets.token_hex(4)))
                greeted = True
            if isinstance(item, Lost):
                await stream.finish()
                heard += recognizer.gap(item.samples, item.reason)
            else:
                await stream.push(item)
                await stream.caught_up()
            await daemon.publish(*_taken(heard))
    finally:
        if greeted:
            await stream.finish()
            await daemon.publish(*_taken(heard))


def _taken(events: list[Event]) -> list[Event]:
    """The events, which are no longer in the list."""
    taken = events[:]
    events.clear()
    return taken


async def _until(stop: asyncio.Event, blocks: Blocks) -> AsyncIterator[Floats | Lost]:
    """The blocks of a source until it ends or `stop` is set, whichever comes first."""
    stopping = asyncio.ensure_future(stop.wait())
    async with contextlib.aclosing(blocks):
        while not stop.is_set():
            block = asyncio.ensure_future(anext(blocks, None))
            await asyncio.wait({block, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not block.done():
                block.cancel()
                await asyncio.wait([block])
                break
            item = block.result()
            if item is None:
                break
            yield item
    stopping.cancel()


async def _print_live(daemon: Daemon) -> None:
    """Write events to stdout off the event loop, so that a reader who pauses holds up nobody else."""
    with daemon.hub.subscribe() as mailbox:
        async for message in mailbox:
            if not await asyncio.to_thread(daemon.printer.write, message.event, message.sample_rate):
                return
