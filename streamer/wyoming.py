"""Home Assistant's voice protocol, Wyoming, on a TCP port of its own; see docs/protocol.md."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace

from streamer.access import is_loopback
from streamer.events import Event
from streamer.journal import current_session
from streamer.parting import Silent
from streamer.scheduler import RecogniserError
from streamer.server import ServerError
from streamer.session_config import ConfigError
from streamer.sessions import RECOGNISER_FAILED, Full, Session, Sessions
from streamer.wyoming_line import Line
from streamer.wyoming_protocol import Message, Transcript, info, load_audio, load_words

MAX_IDLE_CONNECTIONS = 100  # besides those that have a session,
MAX_IDLE_PER_ADDRESS = 50  # and of them from one network address
MAX_TRANSCRIPT_CHARACTERS = 1_000_000  # a day's talk

log = logging.getLogger("asr_stream")


@contextlib.asynccontextmanager
async def serve_wyoming(host: str, port: int, sessions: Sessions) -> AsyncIterator[str]:
    """Serve until the block is left, which gives the address; port 0 takes any free port. ServerError when it cannot.

    Drain the sessions before leaving the block; what is left of its connections is then cut.
    """
    connections: dict[asyncio.Task[None], Line] = {}

    def welcome(reader: StreamReader, writer: StreamWriter) -> None:
        line = Line(reader, writer, sessions.limits)
        if reason := _crowded(line.address, connections.values()):
            sessions.tally.endings["full"] += 1
            line.turn_away(reason)
            return
        task = asyncio.create_task(_converse(line, sessions))
        connections[task] = line
        task.add_done_callback(connections.pop)

    try:
        server = await asyncio.start_server(welcome, host, port)
    except (OSError, UnicodeError) as error:
        raise ServerError(f"cannot listen at {_place(host, port)} ({error}): give another --wyoming") from None
    place = _place(host, server.sockets[0].getsockname()[1])
    if not is_loopback(host):
        log.warning("%s is open to other machines: whoever reaches it may send audio, and read on the way", place)
    try:
        yield place
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def _place(host: str, port: int) -> str:
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _crowded(address: str, lines: Iterable[Line]) -> str | None:
    """Why no connection from this address may begin now, in one sentence, or None when one may.

    Those that have a session are bounded by what admits sessions.
    """
    idle = [line.address for line in lines if not line.in_session]
    if len(idle) >= MAX_IDLE_CONNECTIONS:
        return f"The places for connections without a session are all taken ({MAX_IDLE_CONNECTIONS}): try again later."
    if idle.count(address) >= MAX_IDLE_PER_ADDRESS:
        most = f"as many connections without a session as it may have ({MAX_IDLE_PER_ADDRESS})"
        return f"{address} has {most}: close one of them first."
    return None


async def _converse(line: Line, sessions: Sessions) -> None:
    """One connection from its beginning to its end."""
    how = "shutdown"
    try:
        try:
            await _speak(line, sessions)
        except RecogniserError:
            how = RECOGNISER_FAILED.how
            await line.refuse(RECOGNISER_FAILED.reason)
        except (ConfigError, Silent, Full) as reason:
            how = _ENDINGS[type(reason)]
            await line.refuse(str(reason))
        await line.close()
    except TimeoutError:
        how = "unread"
    except OSError:
        how = "left"
    except Exception:
        how = "failed"
        log.exception("a conversation with a client of the Wyoming protocol has failed")
    finally:
        line.abort()  # what is not closed yet
        sessions.tally.endings[how] += 1


_ENDINGS = {ConfigError: "message", Silent: "silent", Full: "full"}


async def _speak(line: Line, sessions: Sessions) -> None:
    """Answer any number of requests, one after the other; ConfigError, Silent, Full, OSError."""
    words: tuple[str, ...] = ()
    while not sessions.admission.closed:
        message = await line.receive()
        if message.type == "transcribe":
            words = load_words(message.data, sessions.spec.language)
        elif message.type in ("audio-start", "audio-chunk", "audio-stop"):
            await _transcribe(line, sessions, words, message)
            current_session.set("")
            words = ()
        else:
            await _answer(line, sessions, message)


async def _answer(line: Line, sessions: Sessions, message: Message) -> None:
    """What has nothing to do with audio; unknown messages get no answer, as the protocol demands."""
    if message.type == "describe":
        await line.send("info", **info(sessions.spec))
    elif message.type == "ping":
        text = message.data.get("text")
        await line.send("pong", text=text if isinstance(text, str) else None)


async def _transcribe(line: Line, sessions: Sessions, words: tuple[str, ...], first: Message) -> None:
    """One session, from its first audio message to its transcript, which it gets however its audio ends."""
    transcript, news, told = Transcript(), asyncio.Event(), list[tuple[Event, float | None]]()

    def tell(event: Event) -> None:
        transcript.tell(event)
        told.append((event, session.arrived))
        news.set()

    async def say() -> None:
        settled = told[:]
        told.clear()
        if chunk := transcript.take():
            await line.send("transcript-chunk", text=chunk)
            for event, arrived in settled:
                session.sent(event, arrived)

    language = sessions.spec.language
    with sessions.enter(line.address, tell, "wyoming") as session:
        relaying = asyncio.create_task(_relay(line, language, transcript, news, say))
        hearing = session.listen(_hear(line, sessions, session, words, first))
        line.in_session = True
        try:
            await asyncio.wait({relaying, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if relaying.done():
                relaying.result()
            gone = not hearing.cancelled() and isinstance(hearing.exception(), OSError)
            if not gone:
                await session.finish()
                await say()
                await line.send("transcript", text=transcript.text, language=language)
                await line.send("transcript-stop")
            if not hearing.cancelled():  # or the server is being stopped
                hearing.result()
        finally:
            line.in_session = False
            for task in (relaying, hearing):
                task.cancel()
            await asyncio.gather(relaying, hearing, return_exceptions=True)


async def _relay(
    line: Line, language: str, transcript: Transcript, news: asyncio.Event, say: Callable[[], Awaitable[None]]
) -> None:
    """Send words as soon as they are settled, until cancelled; ConfigError, OSError."""
    await line.send("transcript-start", language=language)
    while True:
        await news.wait()
        news.clear()
        if transcript.characters > MAX_TRANSCRIPT_CHARACTERS:
            raise ConfigError("the transcript has become too long: send audio-stop now and then")
        await say()


async def _hear(line: Line, sessions: Sessions, session: Session, words: tuple[str, ...], message: Message) -> None:
    """Listen until the client says that its audio has ended; ConfigError, Silent, OSError."""
    begun = None
    while message.type != "audio-stop":
        if message.type in ("audio-start", "audio-chunk"):
            config = load_audio(message.data)
            if begun is None:
                session.begin(replace(config, hotwords=sessions.spelled(words)))
                begun = config
            if config != begun:
                raise ConfigError("the audio's rate, width or channels have changed: send audio-stop before that")
            await session.hear(message.payload)
        elif message.type == "transcribe":
            load_words(message.data, sessions.spec.language)  # its words come too late, its language may still be wrong
        else:
            await _answer(line, sessions, message)
        message = await line.receive()
