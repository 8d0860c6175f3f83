"""The WebSocket /captions: everything the hub publishes, to a client that only listens."""

from __future__ import annotations

import asyncio
import json

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode

from streamer.hub import Hub, Mailbox
from streamer.parting import Farewell, cancel, relay, send


async def send_captions(connection: ServerConnection, hub: Hub, patience_seconds: float) -> Farewell:
    """One client: a relay from its mailbox, and an ear without which shutdown would wait for the next caption."""
    with hub.subscribe() as mailbox:
        tasks = {
            asyncio.create_task(_tell(connection, mailbox, patience_seconds)),
            asyncio.create_task(_hear(connection, patience_seconds)),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(*tasks)
    return done.pop().result()


async def _tell(connection: ServerConnection, mailbox: Mailbox, patience_seconds: float) -> Farewell:
    """Send until the mailbox ends."""
    await relay(connection, mailbox, patience_seconds)
    if mailbox.overflowed:
        return Farewell(CloseCode.TRY_AGAIN_LATER, f"more than {mailbox.limit} messages behind", "behind")
    return Farewell(CloseCode.GOING_AWAY, "the captions have ended", "done")


async def _hear(connection: ServerConnection, patience_seconds: float) -> Farewell:
    """Wait for the client to leave (ConnectionClosed) or to say something."""
    await connection.recv(decode=False)
    reason = "this address sends captions and takes no messages"
    await send(connection, json.dumps({"type": "error", "message": reason}), patience_seconds)
    return Farewell(CloseCode.POLICY_VIOLATION, reason, "message")
