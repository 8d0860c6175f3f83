"""The WebSocket /recognize: a client's audio in, the events of docs/protocol.md out."""

from __future__ import annotations

import asyncio
import functools
import json

from websockets.frames import CloseCode

from streamer.connection import Connection
from streamer.hub import Hub, Message
from streamer.parting import Farewell, Silent, cancel, receive, relay, send
from streamer.scheduler import RecogniserError
from streamer.session_config import ConfigError, load_config, load_message
from streamer.sessions import RECOGNISER_FAILED, Full, Limits, Session, Sessions, refused


async def recognize(connection: Connection, sessions: Sessions) -> Farewell:
    """One session, from its hello to why it ended."""
    limits, hub = sessions.limits, Hub(dropped=sessions.tally.drop_partial)
    try:
        with (
            hub.subscribe() as mailbox,
            sessions.enter(connection.address, lambda event: hub.publish(event, session.arrived)) as session,
        ):
            hub.publish(sessions.hello(session.name))
            sent = functools.partial(_sent, session)
            relaying = asyncio.create_task(relay(connection, mailbox, limits.patience_seconds, sent))
            hearing = session.listen(_hear(connection, session, limits))
            farewell = Farewell(CloseCode.NORMAL_CLOSURE, "", "done")
            try:
                await asyncio.wait({relaying, hearing}, return_when=asyncio.FIRST_COMPLETED)
                if not relaying.done():
                    farewell = _why(hearing)
                    await session.finish()
                    hub.close()
                await relaying
                if mailbox.overflowed:
                    return Farewell(CloseCode.TRY_AGAIN_LATER, f"more than {mailbox.limit} messages behind", "behind")
                if farewell.code == CloseCode.POLICY_VIOLATION:
                    error = json.dumps({"type": "error", "message": farewell.reason}, ensure_ascii=False)
                    await send(connection, error, limits.patience_seconds)
            finally:
                await cancel(relaying, hearing)
    except Full as refusal:
        return Farewell(CloseCode.TRY_AGAIN_LATER, str(refusal), "full")
    except RecogniserError:
        return RECOGNISER_FAILED
    return farewell


def _sent(session: Session, message: Message) -> None:
    session.sent(message.event, message.arrived)


async def _hear(connection: Connection, session: Session, limits: Limits) -> None:
    """Listen until the client says that its audio has ended; ConfigError, Silent, ConnectionClosed."""
    while True:
        message = await receive(connection, limits.idle_seconds, limits.mute_seconds)
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
        return Farewell(CloseCode.GOING_AWAY, "the server is shutting down", "shutdown")
    try:
        hearing.result()
    except (ConfigError, Silent) as error:
        return refused(error)
    return Farewell(CloseCode.NORMAL_CLOSURE, "", "done")
