"""`asr-stream relay`: captions that another machine publishes, from a Redis server to any number of viewers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

from streamer.broker import Stream, Topic, check, stay_connected
from streamer.events import Hello, from_json
from streamer.handover import Door
from streamer.hub import Hub
from streamer.parting import cancel
from streamer.server import announce, serve
from streamer.stopping import stop_on_signals
from streamer.tally import Tally

SPARE_DESCRIPTORS = 100  # besides those of viewers
SHUTDOWN_SECONDS = 2.0

log = logging.getLogger("asr_stream")


@dataclass(frozen=True, slots=True)
class Reach:
    """Where viewers find a relay, who may come, and how many."""

    host: str
    port: int
    allowed_origins: tuple[str, ...]
    max_viewers: int
    door: Door | None = None
    token: str | None = None
    tls: SSLContext | None = None


class Subscription:
    """A topic's entries as events of a hub, each once, however often the broker is lost or forgets and is told again.

    `caught_up` is set when what was published before has been read.
    """

    def __init__(self, topic: Topic, hub: Hub) -> None:
        self.caught_up = asyncio.Event()
        self._topic, self._hub = topic, hub
        self._hello: Hello | None = None
        self._seen: dict[int, int] = {}  # of each run of a publisher, the number of the last entry

    async def follow(self) -> None:
        """Read for ever."""
        await stay_connected(self._topic, self._read)

    async def _read(self, stream: Stream) -> None:
        position, behind = (0, 0), True  # from the beginning: the broker may have forgotten what was seen here
        while True:
            entries = await stream.read(position, wait=not behind)
            for position, fields in entries:
                run, number = position
                if number > self._seen.get(run, -1):
                    self._seen[run] = number
                    self.tell(fields)
            if not entries:
                behind = False
                self.caught_up.set()

    def tell(self, fields: dict[bytes, bytes]) -> None:
        """Publish the event of an entry; what is none is left out, and the log says so."""
        try:
            hello = from_json(json.loads(fields[b"hello"]))
            if not isinstance(hello, Hello):
                raise ValueError
            event = from_json(json.loads(fields[b"event"]), hello.sample_rate)
            if hello != self._hello:
                self._hub.publish(hello)
                self._hello = hello
            if not isinstance(event, Hello):
                self._hub.publish(event)
        except (KeyError, ValueError, OverflowError, RecursionError):
            log.warning("an entry of %s at the broker is no caption: it is left out", self._topic.key)


async def run_relay(topic: Topic, reach: Reach) -> None:
    """Serve a topic's captions until a signal asks to stop; BrokerError when the broker is not there at first."""
    stop = asyncio.Event()
    stop_on_signals(stop, SHUTDOWN_SECONDS)
    _allow_descriptors(reach.max_viewers + SPARE_DESCRIPTORS)
    await check(topic)
    tally = Tally()
    hub = Hub(dropped=tally.drop_partial)
    subscription = Subscription(topic, hub)
    following = asyncio.create_task(subscription.follow())
    stopping = asyncio.create_task(stop.wait())
    try:
        await _first(stopping, following, asyncio.ensure_future(subscription.caught_up.wait()))
        serving = serve(
            hub,
            reach.host,
            reach.port,
            door=reach.door,
            allowed_origins=reach.allowed_origins,
            token=reach.token,
            tls=reach.tls,
            tally=tally,
            max_clients=reach.max_viewers,
        )
        async with serving as address:
            if reach.door is None or reach.door.announces:
                announce(address, reach.token is not None)
            await _first(stopping, following)
            hub.close()
    finally:
        await cancel(following)


async def _first(*waiting: asyncio.Future[Any]) -> None:
    """Wait until one of them has ended; what it raises."""
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for future in done:
        future.result()


def _allow_descriptors(count: int) -> None:
    """Let this process have so many files and connections open, as far as the system permits."""
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
