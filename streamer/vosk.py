"""vosk-server's WebSocket protocol on every path that nothing else owns, for the clients that speak it."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode

from streamer.parting import Farewell, Silent, cancel, receive, send
from streamer.session_config import Config, ConfigError
from streamer.sessions import Full, Session, Sessions
from streamer.vosk_protocol import Dialogue, VoskConfig


async def speak_vosk(connection: ServerConnection, sessions: Sessions) -> Farewell:
    """One client, from its connection, on which it hears nothing, to why it ended."""
    dialogue = Dialogue(VoskConfig(sessions.limits.vosk_rate), sessions.sample_rate)
    try:
        with sessions.enter(connection.remote_address[0], dialogue.tell) as session:
            answering = session.listen(_answer(connection, sessions, session, dialogue))
            try:
                await asyncio.wait([answering])
                if not answering.cancelled():
                    answering.result()
                    return CloseCode.NORMAL_CLOSURE, ""
                await session.finish()
                await send(connection, dialogue.last(), sessions.limits.patience_seconds)
                return CloseCode.GOING_AWAY, "the server is shutting down"
            finally:
                await cancel(answering)
    except Full as refusal:
        return CloseCode.TRY_AGAIN_LATER, str(refusal)
    except (ConfigError, Silent) as error:
        return CloseCode.POLICY_VIOLATION, str(error)


async def _answer(connection: ServerConnection, sessions: Sessions, session: Session, dialogue: Dialogue) -> None:
    """Answer each message until the client says that its audio has ended; ConfigError, Silent, ConnectionClosed."""
    patience = sessions.limits.patience_seconds
    while True:
        message = await receive(connection, sessions.limits.idle_seconds)
        if isinstance(message, bytes):
            if not session.begun:
                config = dialogue.config
                hotwords = sessions.spelled(config.phrases)
                session.begin(Config(config.sample_rate, hotwords=hotwords))
            await session.hear(message)
            await session.caught_up()
            await send(connection, dialogue.reply(), patience)
            continue
        kind = dialogue.read(message, session.begun)
        if kind != "config":
            await session.finish()
            await send(connection, dialogue.last(), patience)
        if kind == "eof":
            return
