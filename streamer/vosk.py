"""vosk-server's WebSocket protocol on every path that nothing else owns, for the clients that speak it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from websockets.frames import CloseCode

from streamer.connection import Connection
from streamer.events import Event
from streamer.parting import Farewell, Silent, cancel, receive, send
from streamer.scheduler import RecogniserError
from streamer.session_config import Config, ConfigError
from streamer.sessions import RECOGNISER_FAILED, Full, Session, Sessions, refused
from streamer.vosk_protocol import Dialogue, VoskConfig


async def speak_vosk(connection: Connection, sessions: Sessions) -> Farewell:
    """One client, from its connection, on which it hears nothing, to why it ended."""
    dialogue = Dialogue(VoskConfig(sessions.limits.vosk_rate), sessions.sample_rate)
    told: list[tuple[Event, float | None]] = []

    def tell(event: Event) -> None:
        dialogue.tell(event)
        told.append((event, session.arrived))

    async def reply(text: str) -> None:
        await send(connection, text, sessions.limits.patience_seconds)
        for event, arrived in told:
            session.sent(event, arrived)
        told.clear()

    try:
        with sessions.enter(connection.address, tell, "vosk") as session:
            answering = session.listen(_answer(connection, sessions, session, dialogue, reply))
            try:
                await asyncio.wait([answering])
                if not answering.cancelled():
                    answering.result()
                    return Farewell(CloseCode.NORMAL_CLOSURE, "", "done")
                await session.finish()
                await reply(dialogue.last())
                return Farewell(CloseCode.GOING_AWAY, "the server is shutting down", "shutdown")
            finally:
                await cancel(answering)
    except Full as refusal:
        return Farewell(CloseCode.TRY_AGAIN_LATER, str(refusal), "full")
    except (ConfigError, Silent) as error:
        return refused(error)
    except RecogniserError:
        return RECOGNISER_FAILED


async def _answer(
    connection: Connection,
    sessions: Sessions,
    session: Session,
    dialogue: Dialogue,
    reply: Callable[[str], Awaitable[None]],
) -> None:
    """Answer each message until the client says that its audio has ended; ConfigError, Silent, ConnectionClosed."""
    limits = sessions.limits
    while True:
        message = await receive(connection, limits.idle_seconds, limits.mute_seconds)
        if isinstance(message, bytes):
            if not session.begun:
                config = dialogue.config
                hotwords = sessions.spelled(config.phrases)
                session.begin(Config(config.sample_rate, hotwords=hotwords))
            await session.hear(message)
            await session.caught_up()
            await reply(dialogue.reply())
            continue
        kind = dialogue.read(message, session.begun)
        if kind != "config":
            await session.finish()
            await reply(dialogue.last())
        if kind == "eof":
            return
