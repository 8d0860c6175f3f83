"""What a broker has still to be given, and the latest that it was given, for it may forget."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from streamer.events import Event, Final, Gap, Hello, Partial

AWAY = "the broker was away"


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, the stream it belongs to, and a number by which the broker and its readers know it again."""

    number: int
    hello: Hello
    event: Event


class Outbox:
    """Hellos, finals and gaps in order, up to a bound; of partials the newest only.

    Numbers count up. A broker that says it has everything up to some number is given what comes after that; so nothing
    is lost or doubled whether it forgot all, a little, or just its answer. Where more than `limit` events wait the
    oldest become a Gap, and `lost` counts the finals among them.
    """

    def __init__(self, limit: int = 1000) -> None:
        self.limit = limit
        self.lost = 0
        self._kept: deque[Entry] = deque()
        self._hello: Hello | None = None
        self._partial: Partial | None = None
        self._numbers = self._given = 0

    @property
    def waiting(self) -> int:
        """How many finals the broker has not been given."""
        return sum(entry.number > self._given and isinstance(entry.event, Final) for entry in self._kept)

    def put(self, event: Event) -> None:
        """Add an event; the first is a Hello."""
        if isinstance(event, Partial):
            self._partial = event
            return
        if isinstance(event, Hello):
            self._hello, self._partial = event, None
        elif isinstance(event, Final) and self._partial and self._partial.segment <= event.segment:
            self._partial = None
        self._kept.append(self._numbered(event))
        if len(self._kept) > self.limit:
            self._make_room()

    def next(self) -> Entry | None:
        """What the broker is to be given next."""
        for entry in self._kept:
            if entry.number > self._given:
                return entry
        if self._partial is None:
            return None
        partial, self._partial = self._partial, None
        return self._numbered(partial)

    def has(self, number: int) -> None:
        """The broker has everything up to this number, and nothing after it."""
        self._given = number

    def _numbered(self, event: Event) -> Entry:
        if self._hello is None:
            raise ValueError(f"put a Hello before {event}: it names the stream")
        self._numbers += 1
        return Entry(self._numbers, self._hello, event)

    def _make_room(self) -> None:
        oldest = self._kept.popleft()
        if oldest.number <= self._given or isinstance(oldest.event, Hello):
            return
        self.lost += isinstance(oldest.event, Final)
        after = self._kept[0]
        if isinstance(after.event, Final | Gap) and oldest.hello == after.hello:
            self.lost += isinstance(after.event, Final)
            self._kept[0] = replace(after, event=Gap(oldest.event.start, after.event.end, AWAY))
