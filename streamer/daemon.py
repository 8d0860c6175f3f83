"""One run of the daemon: source → recogniser → hub → server and stdout, and its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from ssl import SSLContext

import numpy as np

from streamer.admission import Admission
from streamer.broker import Topic
from streamer.endpoint import Endpointing
from streamer.events import Event, Gap, Hello
from streamer.handover import Door
from streamer.hub import Hub
from streamer.intake import Lost
from streamer.model import AcousticModel
from streamer.output import OutputError, Printer
from streamer.publish import FLUSH_SECONDS, publishing
from streamer.recognizer import Floats
from streamer.scheduler import Scheduler
from streamer.server import announce, serve
from streamer.sessions import Limits, Sessions
from streamer.stopping import stop_on_signals
from streamer.tally import Tally
from streamer.wyoming import serve_wyoming

log = logging.getLogger("asr_stream")

PATIENCE_SECONDS = 2.0
MEASURE_SECONDS = 2.0  # of noise in each stream of a full step

Blocks = AsyncGenerator[Floats | Lost, None]


@dataclass(frozen=True, slots=True)
class Source:
    """Where audio comes from: a name for the Hello, and a function that opens it at a sample rate."""

    name: str
    open: Callable[[int], Blocks]


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to serve captions, and with `admission` sessions too, `wyoming` ones there; port 0 takes any free one, a
    `door` needs none. `log_text` logs what the clients of sessions say."""

    host: str
    port: int
    allowed_origins: tuple[str, ...] = ()
    admission: Admission | None = None
    limits: Limits = field(default_factory=Limits)
    door: Door | None = None
    token: str | None = None
    tls: SSLContext | None = None
    log_text: bool = False
    wyoming: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Daemon:
    """What the parts of one run share. `live` sources cannot wait, so nothing that reads captions may hold them up; a
    run that `serves` others goes on when stdout is a file on a full disk."""

    scheduler: Scheduler
    printer: Printer
    live: bool
    serves: bool
    endpointing: Endpointing
    hub: Hub = field(default_factory=Hub)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, *events: Event) -> None:
        """Give events to everyone; stdout gets them here only when the source can wait for its reader."""
        rate = self.scheduler.model.spec.features.sample_rate
        for event in events:
            self.hub.publish(event)
            if isinstance(event, Gap):
                self.scheduler.tally.lost((event.end - event.start) / rate)
            if not self.live and not await self.print(event, rate):
                self.stop.set()

    async def print(self, event: Event, sample_rate: int) -> bool:
        """Write an event to stdout, off the event loop; False when its reader has gone."""
        was_broken = self.printer.broken
        try:
            reading = await asyncio.to_thread(self.printer.write, event, sample_rate)
        except OutputError as error:
            if not self.serves:
                raise
            if not was_broken:
                log.error("%s; clients go on hearing them", error)
            return True
        if was_broken and not self.printer.broken:
            log.warning("captions are written again")
        return reading


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
        await stack.enter_async_context(scheduler)
        serves = listen is not None and (live or admission is not None)
        daemon = Daemon(scheduler, printer, live, serves, endpointing, Hub(dropped=scheduler.tally.drop_partial))
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
    scheduler, sessions, wyoming = daemon.scheduler, None, None
    if listen.admission is not None:
        await _measure(scheduler)
        sessions = Sessions(scheduler, listen.admission, listen.limits, listen.log_text)
    async with contextlib.AsyncExitStack() as stack:
        if sessions is not None and listen.wyoming is not None:
            wyoming = await stack.enter_async_context(serve_wyoming(*listen.wyoming, sessions))
        serving = serve(
            daemon.hub,
            listen.host,
            listen.port,
            sessions=sessions,
            door=listen.door,
            allowed_origins=listen.allowed_origins,
            token=listen.token,
            tls=listen.tls,
            tally=scheduler.tally,
        )
        address = await stack.enter_async_context(serving)  # is left first, and drains the sessions
        if listen.door is None or listen.door.announces:
            announce(address, listen.token is not None, sessions is not None)
            if wyoming is not None:
                log.info("Wyoming clients may speak at %s", wyoming)
        yield


async def _measure(scheduler: Scheduler) -> None:
    """Recognise noise, so that from the first client on it is known what a second of audio costs in a full step."""
    model, tally = scheduler.model, scheduler.tally
    scheduler.tally = Tally()  # of nobody's audio
    rate = model.spec.features.sample_rate
    noise = np.random.default_rng(0).normal(0, 0.1, round(MEASURE_SECONDS * rate)).clip(-1, 1).astype(np.float32)

    async def speak() -> None:
        stream = scheduler.open(model.recognizer(), lambda event: None)
        await stream.push(noise)
        await stream.finish()
        stream.close()

    await asyncio.gather(*(speak() for _ in range(scheduler.batch)))
    scheduler.tally = tally


async def _caption(daemon: Daemon, source: Source) -> None:
    """One source from its Hello to its last final."""
    model = daemon.scheduler.model
    spec, rate = model.spec, model.spec.features.sample_rate
    recognizer = model.recognizer(daemon.endpointing)
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
            if not await daemon.print(message.event, message.sample_rate):
                return
