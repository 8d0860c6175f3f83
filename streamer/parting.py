"""How every WebSocket conversation goes on and ends: bounded waits, a close code and a reason in words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from streamer.hub import Mailbox

MAX_REASON_BYTES = 120  # what fits into a close frame

Farewell = tuple[CloseCode, str]


class Silent(Exception):
    """A client that should have sent something has not."""


async def receive(connection: ServerConnection, idle_seconds: float) -> str | bytes:
    """The client's next message; Silent when none comes for so long, ConnectionClosed."""
    await asyncio.sleep(0)  # recv does not wait while there are messages, and others want their turn
    try:
        async with asyncio.timeout(idle_seconds):
            return await connection.recv()
    except TimeoutError:
        raise Silent(f"nothing was sent for {idle_seconds:g} seconds") from None


async def send(connection: ServerConnection, data: str | bytes, patience_seconds: float) -> None:
    """Send a text message; TimeoutError when the client accepts nothing for so long, ConnectionClosed."""
    async with asyncio.timeout(patience_seconds):
        await connection.send(data, text=True)


async def relay(connection: ServerConnection, mailbox: Mailbox, patience_seconds: float) -> None:
    """Send until the mailbox ends; TimeoutError, ConnectionClosed."""
    async for message in mailbox:
        await send(connection, message.data, patience_seconds)


async def until_closed(
    connection: ServerConnection, conversation: Awaitable[Farewell], patience_seconds: float
) -> None:
    """Wait for the end of a conversation, then close the connection with its code and reason."""
    try:
        code, reason = await conversation
    except ConnectionClosed:
        return
    except TimeoutError:
        code, reason = CloseCode.TRY_AGAIN_LATER, f"nothing was read for {patience_seconds:g} seconds"
    try:
        async with asyncio.timeout(patience_seconds):  # the close frame waits behind what a slow client has not read
            await connection.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
    except TimeoutError:
        connection.transport.abort()


async def cancel(*tasks: asyncio.Task[None] | asyncio.Task[Farewell]) -> None:
    """Cancel tasks and wait until they have ended, whatever they raise."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
