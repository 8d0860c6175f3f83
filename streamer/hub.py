"""Fan-out that never waits for a slow client: partials are conflated, finals are kept up to a bound."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self

from streamer.events import Event, Final, Hello, Partial, to_json


@dataclass(frozen=True, slots=True)
class Message:
    """An event and its JSON (UTF-8), encoded once for all clients; `sample_rate` gives its positions their seconds.

    `arrived` is when the audio had come from which it was known, in the scheduler's time."""

    event: Event
    sample_rate: int
    data: bytes
    arrived: float | None = None


class Mailbox:
    """What one subscriber has still to read: every final, gap and hello in order, and the newest partial.

    `closed` is set when the hub closes (the rest can still be read), and when the subscriber leaves or falls more than
    `limit` messages behind (the rest is thrown away: it is better told so, by `overflowed`, than served old captions).
    """

    def __init__(
        self,
        limit: int,
        forget: Callable[[Mailbox], None] = lambda mailbox: None,
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self.limit = limit
        self.overflowed = False
        self.closed = asyncio.Event()
        self._forget, self._dropped = forget, dropped
        self._queue: deque[Message] = deque()
        self._partial: Message | None = None
        self._news = asyncio.Event()

    def put(self, message: Message) -> None:
        """Add a message without waiting; only one segment is open at a time, hence one place for its partial."""
        if self.closed.is_set():
            return
        self._news.set()
        before = self._partial
        if isinstance(message.event, Partial):
            self._partial = message
        else:
            self._partial = _still_open(before, message.event)
            self._add(message)
        if before is not None and before is not self._partial:
            self._dropped()

    def _add(self, message: Message) -> None:
        self._queue.append(message)
        if len(self._queue) > self.limit:
            self.overflowed = True
            self.unsubscribe()

    async def get(self) -> Message | None:
        """The next message, or None when there will be no more."""
        while not (self._queue or self._partial or self.closed.is_set()):
            self._news.clear()
            await self._news.wait()
        if self._queue:
            return self._queue.popleft()
        message, self._partial = self._partial, None
        return message

    def close(self) -> None:
        """Accept no more; what is already here can still be read."""
        self.closed.set()
        self._news.set()
        self._forget(self)

    def unsubscribe(self) -> None:
        """Accept no more, and throw away what has not been read."""
        self._queue.clear()
        self._partial = None
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.unsubscribe()

    async def __aiter__(self) -> AsyncIterator[Message]:
        while message := await self.get():
            yield message


class Hub:
    """Gives every event to every subscriber; a late joiner first hears the stream, its last finals, what is open.

    For one event loop, and its thread only. `limit` bounds each mailbox, `replay` (at most half of it) the finals and
    gaps a late joiner hears; `dropped` is called for every partial that a client is not sent. The JSON of a Hello gets
    a random `stream` name, by which a client that reconnects knows what it has heard already.
    """

    def __init__(self, limit: int = 1000, replay: int = 20, dropped: Callable[[], None] = lambda: None) -> None:
        self.limit = limit
        self._dropped = dropped
        self.hello: Message | None = None
        self.closed = False
        # Each with its hello, so that older streams are replayed as such; at worst they alternate and fill a mailbox.
        self._recent: deque[tuple[Message, Message]] = deque(maxlen=min(replay, (limit - 1) // 2))
        self._partial: Message | None = None
        self._mailboxes: set[Mailbox] = set()

    @property
    def subscribers(self) -> int:
        """How many mailboxes are open."""
        return len(self._mailboxes)

    def publish(self, event: Event, arrived: float | None = None) -> None:
        """Put an event into every mailbox, never waiting; the first is a Hello (else ValueError), none after close."""
        if self.closed:
            return
        message = self._encode(event, arrived)
        if isinstance(event, Hello) or self.hello is None:
            self.hello, self._partial = message, None
        elif isinstance(event, Partial):
            self._partial = message
        else:
            self._partial = _still_open(self._partial, event)
            self._recent.append((self.hello, message))
        for mailbox in tuple(self._mailboxes):
            mailbox.put(message)

    def subscribe(self) -> Mailbox:
        """A mailbox that already holds the replay; leaving its `with` block or its `unsubscribe()` ends it."""
        mailbox = Mailbox(self.limit, self._mailboxes.discard, self._dropped)
        told = None
        for hello, message in [*self._recent, (self.hello, self._partial)]:
            if hello and hello is not told:
                mailbox.put(hello)
                told = hello
            if message:
                mailbox.put(message)
        if self.closed:
            mailbox.close()
        else:
            self._mailboxes.add(mailbox)
        return mailbox

    def close(self) -> None:
        """End every mailbox once it has been read."""
        self.closed = True
        for mailbox in tuple(self._mailboxes):
            mailbox.close()

    def _encode(self, event: Event, arrived: float | None) -> Message:
        if isinstance(event, Hello):
            rate, extra = event.sample_rate, {"stream": event.stream or secrets.token_hex(4)}
        elif self.hello:
            rate, extra = self.hello.sample_rate, {}
        else:
            raise ValueError(f"publish a Hello before {event}: it gives the sample rate")
        content = to_json(event, rate) | extra
        return Message(event, rate, json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), arrived)


def _still_open(partial: Message | None, event: Event) -> Message | None:
    """The partial, unless this event ends its segment or its stream."""
    if isinstance(event, Hello) or partial is None or not isinstance(partial.event, Partial):
        return None
    if isinstance(event, Final) and partial.event.segment <= event.segment:
        return None
    return partial
