"""One TCP connection of the Wyoming protocol: messages in and out, with bounded waits."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from typing import Any

from streamer.parting import Silent
from streamer.sessions import Limits
from streamer.wyoming_protocol import Message, Parser

READ_BYTES = 1 << 16
LINGER_SECONDS = 1.0  # for a client to read why it is parted with


class Line:
    """A connection; OSError from all of it when the client has left or does not read.

    `address` is the client's, `in_session` whether it has a session now.
    """

    def __init__(self, reader: StreamReader, writer: StreamWriter, limits: Limits) -> None:
        self._reader, self._writer, self._limits = reader, writer, limits
        self._parser = Parser()
        self.in_session = False
        self.address = (writer.get_extra_info("peername") or ["someone"])[0]

    async def receive(self) -> Message:
        """The client's next message; ConfigError when it is none.

        Silent when it is not here, whole, within `idle_seconds`: bytes that come one by one do not count.
        """
        await asyncio.sleep(0)  # others want their turn, also while there are messages
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                while (message := self._parser.take()) is None:
                    data = await self._reader.read(READ_BYTES)
                    if not data:
                        raise ConnectionResetError
                    self._parser.push(data)
        except TimeoutError:
            raise Silent(f"no whole message was sent for {self._limits.idle_seconds:g} seconds") from None
        return message

    async def send(self, kind: str, **data: Any) -> None:
        """Send a message."""
        self._writer.write(Message(kind, data).dump())
        async with asyncio.timeout(self._limits.patience_seconds):
            await self._writer.drain()

    async def refuse(self, reason: str) -> None:
        """Say why there will be no more, and give the client the time to read it: closing at once could undo it."""
        await self.send("error", text=reason)
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._reader.read(READ_BYTES):
                    pass

    def turn_away(self, reason: str) -> None:
        """Say why, as far as the client can still hear it, and close."""
        self._writer.write(Message("error", {"text": reason}).dump())
        self._writer.close()

    async def close(self) -> None:
        """Send what has not been sent, and close."""
        self._writer.close()
        async with asyncio.timeout(self._limits.patience_seconds):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()
