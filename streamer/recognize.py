"""The WebSocket /recognize: a client's audio in, the events of docs/protocol.md out."""

from __future__ import annotations

import asyncio
import json

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode

from streamer.hub import Hub
from streamer.parting import Farewell, Silent, cancel, receive, relay, send
from streamer.session_config import ConfigError, load_config, load_message
from streamer.sessions import Full, Session, Sessions


async def recognize(connection: ServerConnection, sessions: Sessions) -> Farewell:
    """One session, from its hello to why it ended."""
    limits, hub = sessions.limits, Hub()
    hub.publish(sessions.hello())
    try:
        with hub.subscribe() as mailbox, sessions.enter(connection.remote_address[0], hub.publish) as session:
            relaying = asyncio.create_task(relay(connection, mailbox, limits.patience_seconds))
            hearing = session.listen(_hear(connection, session, limits.idle_seconds))
            code, reason = CloseCode.NORMAL_CLOSURE, ""
            try:
                await asyncio.wait({relaying, hearing}, return_when=asyncio.FIRST_COMPLETED)
                if not relaying.done():
                    code, reason = _why(hearing)
                    await session.finish()
                    hub.close()
                await relaying
                if mailbox.overflowed:
                    return CloseCode.TRY_AGAIN_LATER, f"more than {mailbox.limit} messages behind"
                if code == CloseCode.POLICY_VIOLATION:
                    error = json.dumps({"type": "error", "message": reason}, ensure_ascii=False)
                    await send(connection, error, limits.patience_seconds)
            finally:
                await cancel(relaying, hearing)
    except Full as refusal:
        return CloseCode.TRY_AGAIN_LATER, str(refusal)
    return code, reason


async def _hear(connection: ServerConnection, session: Session, idle_seconds: float) -> None:
    """Listen until the client says that its audio has ended; ConfigError, Silent, ConnectionClosed."""
    while True:
        message = await receive(connection, idle_seconds)
        if isinstance(message, bytes):
            await session.hear(message)
        elif _ends(session, message):
            return


def _ends(session: Session, text: str) -> bool:
    """Whether a text message ends the audio; a configuration is settled here."""
    message = load_message(text)
    match message.get("type"):
        case "end":
            return True
        case "config" if session.begun:
            raise ConfigError("the config comes too late: send it once, before the first audio")
        case "config":
            session.begin(load_config(message))
            return False
    raise ConfigError('the text message has no known type: send {"type":"config",...} or {"type":"end"}')


def _why(hearing: asyncio.Task[None]) -> Farewell:
    """Why nobody listens any more; ConnectionClosed when the client has left."""
    if hearing.cancelled():
        return CloseCode.GOING_AWAY, "the server is shutting down"
    try:
        hearing.result()
    except (ConfigError, Silent) as error:
        return CloseCode.POLICY_VIOLATION, str(error)
    return CloseCode.NORMAL_CLOSURE, ""
