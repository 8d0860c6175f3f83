"""`--publish`: what the hub publishes goes to a stream of a Redis server too; see docs/protocol.md."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamer.broker import Stream, TakenOver, Topic, stay_connected
from streamer.events import Event, to_json
from streamer.hub import Hub, Mailbox
from streamer.outbox import Entry, Outbox
from streamer.parting import cancel

HEARTBEAT_SECONDS = 5.0  # after which a silent publisher asks whether the broker is still there
FLUSH_SECONDS = 2.0  # that the end waits for the broker

log = logging.getLogger("asr_stream")


class Publisher:
    """One run's events on their way to the broker, whatever happens to that."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.outbox = Outbox()
        self._news = asyncio.Event()
        self._ended = False
        self._run = 0

    async def collect(self, mailbox: Mailbox) -> None:
        """Take what the hub publishes, at once, whatever the broker does."""
        async for message in mailbox:
            lost = self.outbox.lost
            self.outbox.put(message.event)
            if self.outbox.lost and not lost:
                log.warning("the broker has been away for too long: its readers will miss captions, and be told so")
            self._news.set()
        self._ended = True
        self._news.set()

    async def deliver(self) -> None:
        """Give the broker everything, and again what it forgets, until the hub has closed."""
        await stay_connected(self.topic, self._talk)

    async def _talk(self, stream: Stream) -> None:
        try:
            await self._resume(stream)
            while True:
                self._news.clear()
                while entry := self.outbox.next():
                    await stream.append(self._run, entry.number, _fields(entry))
                    self.outbox.has(entry.number)
                if self._ended:
                    return
                await self._wait(stream)
        except TakenOver:
            log.error(
                "another asr-stream publishes to %s under the same name, so this one stops: "
                "give each a name of its own, as in redis://HOST:PORT/0#NAME",
                self.topic.place,
            )

    async def _resume(self, stream: Stream) -> None:
        """Find out what the broker has of this run, which comes after all others; TakenOver when it does not."""
        run, number = await stream.newest()
        if not self._run:
            self._run = max(time.time_ns() // 1_000_000, run + 1)
        if run > self._run:
            raise TakenOver
        self.outbox.has(number if run == self._run else 0)

    async def _wait(self, stream: Stream) -> None:
        """Wait for news, or long enough to ask whether the broker is still there."""
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._news.wait()
        except TimeoutError:
            await stream.ping()


@asynccontextmanager
async def publishing(hub: Hub, topic: Topic) -> AsyncIterator[None]:
    """Publish what the hub publishes while the block runs; close the hub before leaving it."""
    publisher = Publisher(topic)
    with hub.subscribe() as mailbox:
        collecting = asyncio.create_task(publisher.collect(mailbox))
        delivering = asyncio.create_task(publisher.deliver())
        try:
            yield
        finally:
            mailbox.close()
            await asyncio.wait([delivering], timeout=FLUSH_SECONDS)
            if publisher.outbox.waiting:
                log.warning("%d captions did not reach the broker at %s", publisher.outbox.waiting, topic.place)
            await cancel(collecting, delivering)


def _fields(entry: Entry) -> dict[str, str]:
    rate = entry.hello.sample_rate
    events: dict[str, Event] = {"hello": entry.hello, "event": entry.event}
    return {name: json.dumps(to_json(event, rate), ensure_ascii=False) for name, event in events.items()}
