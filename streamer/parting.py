"""How every WebSocket conversation goes on and ends: bounded waits, a close code and a reason in words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from streamer.connection import Connection
from streamer.hub import Mailbox, Message

MAX_REASON_BYTES = 120  # what fits into a close frame

log = logging.getLogger("asr_stream")


class Farewell(NamedTuple):
    """How a conversation ended: a close code, a reason in words, and one word to count it by."""

    code: int
    reason: str
    how: str


class Silent(Exception):
    """A client that should have sent something has not."""


async def receive(connection: Connection, idle_seconds: float, mute_seconds: float) -> str | bytes:
    """The client's next message; ConnectionClosed.

    Silent when it sends nothing at all for `idle_seconds`, not even an answer to a ping, or no message for
    `mute_seconds`.
    """
    await asyncio.sleep(0)  # recv does not wait while there are messages, and others want their turn
    now = asyncio.get_running_loop().time
    began = now()
    while True:
        idle_at, mute_at = max(began, connection.heard_at) + idle_seconds, began + mute_seconds
        try:
            async with asyncio.timeout_at(min(idle_at, mute_at)):
                return await connection.recv()
        except TimeoutError:
            if now() >= mute_at:
                raise Silent(f"no message was sent for {mute_seconds:g} seconds") from None
            if now() >= max(began, connection.heard_at) + idle_seconds:
                raise Silent(f"nothing was sent for {idle_seconds:g} seconds, not even an answer to a ping") from None


async def send(connection: ServerConnection, data: str | bytes, patience_seconds: float) -> None:
    """Send a text message; TimeoutError when the client accepts nothing for so long, ConnectionClosed."""
    async with asyncio.timeout(patience_seconds):
        await connection.send(data, text=True)


async def relay(
    connection: ServerConnection,
    mailbox: Mailbox,
    patience_seconds: float,
    sent: Callable[[Message], None] = lambda message: None,
) -> None:
    """Send until the mailbox ends, and tell of each message that it was sent; TimeoutError, ConnectionClosed."""
    async for message in mailbox:
        await send(connection, message.data, patience_seconds)
        sent(message)


async def until_closed(
    connection: ServerConnection, conversation: Awaitable[Farewell], patience_seconds: float
) -> Farewell:
    """Wait for the end of a conversation, then close the connection with its code and reason, which are returned."""
    try:
        farewell = await conversation
    except ConnectionClosed as error:
        close = error.rcvd if error.rcvd_then_sent else error.sent  # who began
        code, reason = (close.code, close.reason) if close else (CloseCode.ABNORMAL_CLOSURE, "")
        return Farewell(code, reason, _LEAVING.get(code, "left"))
    except TimeoutError:
        reason = f"nothing was read for {patience_seconds:g} seconds"
        farewell = Farewell(CloseCode.TRY_AGAIN_LATER, reason, "unread")
    except Exception:  # whatever it is, the other connections go on
        log.exception("a conversation has failed")
        farewell = Farewell(CloseCode.INTERNAL_ERROR, "the server has made a mistake", "failed")
    discarding = asyncio.create_task(_discard(connection))
    try:
        async with asyncio.timeout(patience_seconds):  # the close frame waits behind what a slow client has not read
            await connection.close(farewell.code, farewell.reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
    except TimeoutError:
        connection.transport.abort()
    finally:
        await cancel(discarding)
    return farewell


async def _discard(connection: ServerConnection) -> None:
    """Read what a client still sends, or its close frame would wait behind it and the last words could be lost."""
    async for _ in connection:
        pass


_LEAVING: dict[int, str] = {
    CloseCode.ABNORMAL_CLOSURE: "vanished",
    CloseCode.PROTOCOL_ERROR: "malformed",
    CloseCode.INVALID_DATA: "malformed",
    CloseCode.MESSAGE_TOO_BIG: "too_large",
}


async def cancel(*tasks: asyncio.Task[None] | asyncio.Task[Farewell]) -> None:
    """Cancel tasks and wait until they have ended, whatever they raise."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
