"""The server: plain HTTP (website.py), captions and sessions over WebSockets on one port; see docs/protocol.md."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET, socket
from ssl import SSLContext

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from streamer.access import Access, authority, choose_subprotocol
from streamer.captions import send_captions
from streamer.connection import Connection, tracked
from streamer.handover import Door
from streamer.hub import Hub
from streamer.journal import current_session
from streamer.parting import until_closed
from streamer.recognize import recognize
from streamer.sessions import Sessions
from streamer.tally import Tally
from streamer.vosk import speak_vosk
from streamer.website import Site, answer, load_site

MAX_INCOMING_BYTES = 4096
MAX_AUDIO_BYTES = 1 << 20  # of a message
MAX_INCOMING_FRAMES = 4  # that have been received and not been heard; after that TCP holds up the sender
BUFFER_BYTES = 1 << 16  # per client, in the kernel and again in user space: what is in there is no longer conflated
HANDSHAKE_SECONDS = 10.0  # within which a client has to say what it wants
SHUTDOWN_SECONDS = 0.4  # once for the last words, once for closing

log = logging.getLogger("asr_stream")

ORDERLY = ("done", "left", "shutdown")  # ways for a conversation to end that need not be told

Talk = Callable[[ServerConnection], Awaitable[None]]


class ServerError(Exception):
    """The server cannot listen where it was told to; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; `url` has no trailing slash and can be opened on this machine."""

    host: str
    port: int
    tls: bool = False

    @property
    def url(self) -> str:
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{'https' if self.tls else 'http'}://{authority(name, self.port, self.tls)}"


def announce(address: Address, token: bool, sessions: bool = False) -> None:
    """Tell the user where the server is."""
    log.info("captions at %s%s", address.url, " (add ?token= and the token)" if token else "")
    if sessions:
        log.info("clients may speak at %s/recognize", address.url.replace("http", "ws", 1))


@asynccontextmanager
async def serve(
    hub: Hub,
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    sessions: Sessions | None = None,
    door: Door | None = None,
    allowed_origins: Iterable[str] = (),
    token: str | None = None,
    tls: SSLContext | None = None,
    tally: Tally | None = None,
    max_clients: int = 200,
    patience_seconds: float = 30.0,
    handshake_seconds: float = HANDSHAKE_SECONDS,
) -> AsyncIterator[Address]:
    """Serve the hub until the block is left; port 0 takes any free port; ServerError when it cannot listen.

    With `sessions`, clients may send audio. With a `door`, connections come from there and not from host and port.
    `allowed_origins` ("https://captions.example.org") may use the server besides itself, under that host name too; who
    has to know the `token` and what is counted in the `tally`, see access.py and tally.py. A client that accepts no
    byte for `patience_seconds` is dropped, and one that has not said what it wants after `handshake_seconds`. Close the
    hub before leaving the block and clients still get what is in their mailboxes; leaving takes less than a second,
    and the grace of the sessions if there are any.
    """
    access = Access(host, frozenset(origin.lower().rstrip("/") for origin in allowed_origins), token, tls)
    tally = tally or (sessions.tally if sessions else Tally())
    site = load_site(hub, access, max_clients, sessions.admission if sessions else None, tally)
    alive: set[Connection] = set()
    talk = functools.partial(_talk, site=site, sessions=sessions, patience_seconds=patience_seconds)
    server = await _listen(site, port, door, alive, talk, sessions, handshake_seconds)
    try:
        yield Address(host, server.sockets[0].getsockname()[1], tls is not None)
    finally:
        await _shut_down(server, alive, hub, sessions)


async def _listen(
    site: Site,
    port: int,
    door: Door | None,
    alive: set[Connection],
    talk: Talk,
    sessions: Sessions | None,
    handshake_seconds: float,
) -> Server:
    host, tls = site.access.host, site.access.tls
    try:
        if not host:  # which asyncio takes to mean every network
            raise UnicodeError
        server = await listen(
            talk,
            None if door else host,
            None if door else port,
            sock=door,
            ssl=tls,
            ssl_handshake_timeout=handshake_seconds if tls else None,
            open_timeout=handshake_seconds,
            process_request=functools.partial(_open_door, site=site, sessions=sessions),
            select_subprotocol=choose_subprotocol,
            create_connection=tracked(alive),
            compression=None,  # captions are small, a compressor for each client is not
            max_size=MAX_INCOMING_BYTES,
            max_queue=MAX_INCOMING_FRAMES,
            write_limit=(BUFFER_BYTES, 0),  # 0: a close frame that counts as written is written
            close_timeout=2 * SHUTDOWN_SECONDS,
            server_header=None,
        )
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServerError(advice(error, host, port)) from error
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


def _open_door(
    connection: ServerConnection, request: Request, site: Site, sessions: Sessions | None
) -> Response | None:
    assert isinstance(connection, Connection)
    response = answer(site, connection, request)
    if response is None and sessions is not None and request.path.partition("?")[0] != "/captions":
        connection.protocol.max_message_size = MAX_AUDIO_BYTES
        # Pongs would wait behind audio that waits to be decoded, so who is late with one is not parted with for it;
        # who says nothing at all is.
        connection.ping_interval, connection.ping_timeout = sessions.limits.idle_seconds / 3, None
    return response


async def _shut_down(server: Server, alive: Collection[Connection], hub: Hub, sessions: Sessions | None) -> None:
    if sessions is not None:
        await sessions.drain()
    if hub.closed and server.handler_tasks:  # they end by themselves, once the last words are sent
        await asyncio.wait(server.handler_tasks, timeout=SHUTDOWN_SECONDS)
    server.close(code=CloseCode.GOING_AWAY, reason="the server is shutting down")
    closed = asyncio.ensure_future(server.wait_closed())
    await asyncio.wait([closed], timeout=SHUTDOWN_SECONDS)
    for connection in tuple(alive):  # silent, or with a full buffer: closing politely would wait for them
        connection.transport.abort()
    if hasattr(server.server, "abort_clients"):  # from Python 3.13 on, which waits for unfinished TLS handshakes too
        server.server.abort_clients()
    await asyncio.wait([closed], timeout=SHUTDOWN_SECONDS)


async def _talk(connection: ServerConnection, site: Site, sessions: Sessions | None, patience_seconds: float) -> None:
    """One client, by the path it asked for."""
    assert isinstance(connection, Connection)
    path = connection.request.path.partition("?")[0] if connection.request else ""
    if sessions is None or path == "/captions":
        conversation, patience = send_captions(connection, site.hub, patience_seconds), patience_seconds
    else:
        speak = recognize if path == "/recognize" else speak_vosk
        conversation, patience = speak(connection, sessions), sessions.limits.patience_seconds
    farewell = await until_closed(connection, conversation, patience)
    site.tally.endings[farewell.how] += 1
    facts = {"address": connection.address, "how": farewell.how, "code": farewell.code, "reason": farewell.reason}
    level = logging.DEBUG if farewell.how in ORDERLY else logging.INFO
    log.log(level, "%s closed: %s", current_session.get() or "captions", farewell.how, extra=facts)
