"""The server's side of a WebSocket: when it last heard its client, and bounds on what a client may pile up."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request

MAX_FRAGMENTS = 1000  # of a message: even empty ones would fill the memory
MAX_UNREAD_BYTES = 1 << 20  # of answers to pings: nothing else is sent without waiting for the reader


class Connection(ServerConnection):
    """`heard_at` is when anything came from the client, in the event loop's time; `address` is the client's,
    `reached_at` the one and the port it came to."""

    heard_at = 0.0
    address = ""
    reached_at = ("", 0)
    _fragments = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.address = transport.get_extra_info("peername")[0]  # over TLS it is forgotten when the connection is lost
        self.reached_at = transport.get_extra_info("sockname")[:2]
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.transport.abort()

    def process_event(self, event: Request | Frame) -> None:  # type: ignore[override]  # websockets' Event is wider
        super().process_event(event)
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._fragments = 0 if event.fin else self._fragments + 1
            if self._fragments > MAX_FRAGMENTS:
                self.protocol.fail(CloseCode.MESSAGE_TOO_BIG, f"a message of more than {MAX_FRAGMENTS} fragments")
                self.send_data()


def tracked(alive: set[Connection]) -> type[Connection]:
    """A connection class whose open connections are in `alive`, also those that have not sent a request yet."""

    class Tracked(Connection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            alive.add(self)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            alive.discard(self)
            super().connection_lost(exc)

    return Tracked
