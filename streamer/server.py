"""The server: plain HTTP (website.py), captions and sessions over WebSockets on one port; see docs/protocol.md."""

from __future__ import annotations

import asyncio
import errno
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET, socket

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from streamer.captions import send_captions
from streamer.handover import Door
from streamer.hub import Hub
from streamer.parting import until_closed
from streamer.recognize import recognize
from streamer.sessions import Sessions
from streamer.vosk import speak_vosk
from streamer.website import Site, answer, authority, load_site

MAX_INCOMING_BYTES = 4096
MAX_AUDIO_BYTES = 1 << 20  # of a message
MAX_INCOMING_FRAMES = 4  # that have been received and not been heard; after that TCP holds up the sender
BUFFER_BYTES = 1 << 16  # per client, in the kernel and again in user space: what is in there is no longer conflated
SHUTDOWN_SECONDS = 0.4  # once for the last words, once for closing

Talk = Callable[[ServerConnection], Awaitable[None]]


class ServerError(Exception):
    """The server cannot listen where it was told to; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; `url` has no trailing slash and can be opened on this machine."""

    host: str
    port: int

    @property
    def url(self) -> str:
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{authority(name, self.port)}"


@asynccontextmanager
async def serve(
    hub: Hub,
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    sessions: Sessions | None = None,
    door: Door | None = None,
    allowed_origins: Iterable[str] = (),
    max_clients: int = 200,
    patience_seconds: float = 30.0,
) -> AsyncIterator[Address]:
    """Serve the hub until the block is left; port 0 takes any free port; ServerError when it cannot listen.

    With `sessions`, clients may send audio. With a `door`, connections come from there and not from host and port.
    `allowed_origins` ("https://captions.example.org") may use the server besides itself, under that host name too. A
    client that accepts no byte for `patience_seconds` is dropped. Close the hub before leaving the block and clients
    still get what is in their mailboxes; leaving takes less than a second, and the grace of sessions if there are any.
    """
    site = load_site(hub, host, allowed_origins, max_clients, sessions.admission if sessions else None)
    alive: set[ServerConnection] = set()
    server = await _listen(
        site, port, door, alive, functools.partial(_talk, hub=hub, sessions=sessions, patience_seconds=patience_seconds)
    )
    try:
        yield Address(host, server.sockets[0].getsockname()[1])
    finally:
        await _shut_down(server, alive, hub, sessions)


async def _listen(site: Site, port: int, door: Door | None, alive: set[ServerConnection], talk: Talk) -> Server:
    try:
        if not site.host:  # which asyncio takes to mean every network
            raise UnicodeError
        server = await listen(
            talk,
            None if door else site.host,
            None if door else port,
            sock=door,
            process_request=functools.partial(_open_door, site=site),
            create_connection=_tracked(alive),
            compression=None,  # captions are small, a compressor for each client is not
            max_size=MAX_INCOMING_BYTES,
            max_queue=MAX_INCOMING_FRAMES,
            write_limit=(BUFFER_BYTES, 0),  # 0: a close frame that counts as written is written
            close_timeout=2 * SHUTDOWN_SECONDS,
            server_header=None,
        )
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServerError(advice(error, site.host, port)) from error
    limit_buffers(server.sockets)
    return server


def limit_buffers(sockets: Iterable[socket]) -> None:
    """Bound what the kernel keeps for each connection that these sockets accept."""
    for sock in sockets:
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES)
        sock.setsockopt(SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES)


def advice(error: Exception, host: str, port: int) -> str:
    """Why a server cannot listen there, and what to do."""
    code = error.errno if isinstance(error, OSError) else None
    if isinstance(error, OverflowError):
        return f"there is no port {port}: choose one up to 65535 with --port, or --port 0 for any free one"
    if code == errno.EADDRINUSE:
        return f"port {port} is in use on {host}: choose another with --port, or --port 0 for any free one"
    if code == errno.EACCES:
        return f"port {port} is reserved for administrators: choose one above 1023 with --port"
    return f"{host!r} is no address of this machine: use --host 127.0.0.1, or --host 0.0.0.0 for all its networks"


def _tracked(alive: set[ServerConnection]) -> type[ServerConnection]:
    """A connection class whose open connections are in `alive`, also those that have not sent a request yet."""

    class Tracked(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            alive.add(self)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            alive.discard(self)
            super().connection_lost(exc)

    return Tracked


def _open_door(connection: ServerConnection, request: Request, site: Site) -> Response | None:
    response = answer(site, connection, request)
    if response is None and request.path.partition("?")[0] != "/captions":
        connection.protocol.max_message_size = MAX_AUDIO_BYTES
        connection.ping_interval = None  # its pongs would wait behind its audio; who says nothing is parted with anyway
    return response


async def _shut_down(server: Server, alive: Collection[ServerConnection], hub: Hub, sessions: Sessions | None) -> None:
    if sessions is not None:
        await sessions.drain()
    if hub.closed and server.handler_tasks:  # they end by themselves, once the last words are sent
        await asyncio.wait(server.handler_tasks, timeout=SHUTDOWN_SECONDS)
    server.close(code=CloseCode.GOING_AWAY, reason="the server is shutting down")
    closed = asyncio.ensure_future(server.wait_closed())
    await asyncio.wait([closed], timeout=SHUTDOWN_SECONDS)
    for connection in tuple(alive):  # silent, or with a full buffer: closing politely would wait for them
        connection.transport.abort()
    await closed


async def _talk(connection: ServerConnection, hub: Hub, sessions: Sessions | None, patience_seconds: float) -> None:
    """One client, by the path it asked for."""
    path = connection.request.path.partition("?")[0] if connection.request else ""
    if sessions is None or path == "/captions":
        return await until_closed(connection, send_captions(connection, hub, patience_seconds), patience_seconds)
    speak = recognize if path == "/recognize" else speak_vosk
    return await until_closed(connection, speak(connection, sessions), sessions.limits.patience_seconds)
