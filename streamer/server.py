"""The server: plain HTTP (website.py) and the WebSocket /captions on one port; see docs/protocol.md."""

from __future__ import annotations

import asyncio
import errno
import functools
import json
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import SO_SNDBUF, SOL_SOCKET

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from streamer.hub import Hub, Mailbox
from streamer.website import Site, answer, authority, load_site

MAX_INCOMING_BYTES = 4096
BUFFER_BYTES = 1 << 16  # per client, in the kernel and again in user space: what is in there is no longer conflated
SHUTDOWN_SECONDS = 0.4  # once for the last words, once for closing


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
    allowed_origins: Iterable[str] = (),
    max_clients: int = 200,
    patience_seconds: float = 30.0,
) -> AsyncIterator[Address]:
    """Serve the hub until the block is left; port 0 takes any free port; ServerError when it cannot listen.

    `allowed_origins` ("https://captions.example.org") may use the server besides itself, under that host name too. A
    client that accepts no byte for `patience_seconds` is dropped. Close the hub before leaving the block and clients
    still get what is in their mailboxes; leaving takes less than a second in any case.
    """
    site = load_site(hub, host, allowed_origins, max_clients)
    alive: set[ServerConnection] = set()
    server = await _listen(site, port, alive, patience_seconds)
    try:
        yield Address(host, server.sockets[0].getsockname()[1])
    finally:
        await _shut_down(server, alive, hub)


async def _listen(site: Site, port: int, alive: set[ServerConnection], patience_seconds: float) -> Server:
    try:
        if not site.host:  # which asyncio takes to mean every network
            raise UnicodeError
        server = await listen(
            functools.partial(_send_captions, hub=site.hub, patience_seconds=patience_seconds),
            site.host,
            port,
            process_request=functools.partial(answer, site),
            create_connection=_tracked(alive),
            compression=None,  # captions are small, a compressor for each client is not
            max_size=MAX_INCOMING_BYTES,
            write_limit=(BUFFER_BYTES, 0),  # 0: a close frame that counts as written is written
            close_timeout=2 * SHUTDOWN_SECONDS,
            server_header=None,
        )
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServerError(_advice(error, site.host, port)) from error
    for sock in server.sockets:  # inherited by accepted connections
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES)
    return server


def _advice(error: Exception, host: str, port: int) -> str:
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


async def _shut_down(server: Server, alive: Collection[ServerConnection], hub: Hub) -> None:
    if hub.closed and server.handler_tasks:  # they end by themselves, once the last words are sent
        await asyncio.wait(server.handler_tasks, timeout=SHUTDOWN_SECONDS)
    server.close(code=CloseCode.GOING_AWAY, reason="the server is shutting down")
    closed = asyncio.ensure_future(server.wait_closed())
    await asyncio.wait([closed], timeout=SHUTDOWN_SECONDS)
    for connection in tuple(alive):  # silent, or with a full buffer: closing politely would wait for them
        connection.transport.abort()
    await closed


async def _send_captions(connection: ServerConnection, hub: Hub, patience_seconds: float) -> None:
    """One client: a relay from its mailbox, and an ear without which shutdown would wait for the next caption."""
    with hub.subscribe() as mailbox:
        tasks = {
            asyncio.create_task(_relay(connection, mailbox, patience_seconds)),
            asyncio.create_task(_hear(connection, patience_seconds)),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    try:
        code, reason = done.pop().result()
    except ConnectionClosed:
        return
    except TimeoutError:
        code, reason = CloseCode.TRY_AGAIN_LATER, f"nothing was read for {patience_seconds:g} seconds"
    try:
        async with asyncio.timeout(patience_seconds):  # the close frame waits behind what a slow client has not read
            await connection.close(code, reason)
    except TimeoutError:
        connection.transport.abort()


async def _relay(connection: ServerConnection, mailbox: Mailbox, patience_seconds: float) -> tuple[CloseCode, str]:
    """Send until the mailbox ends; the close code and reason."""
    async for message in mailbox:
        async with asyncio.timeout(patience_seconds):
            await connection.send(message.data, text=True)
    if mailbox.overflowed:
        return CloseCode.TRY_AGAIN_LATER, f"more than {mailbox.limit} messages behind"
    return CloseCode.GOING_AWAY, "the captions have ended"


async def _hear(connection: ServerConnection, patience_seconds: float) -> tuple[CloseCode, str]:
    """Wait for the client to leave (ConnectionClosed) or to say something; the close code and reason."""
    await connection.recv(decode=False)
    reason = "this address sends captions and takes no messages"
    async with asyncio.timeout(patience_seconds):
        await connection.send(json.dumps({"type": "error", "message": reason}))
    return CloseCode.POLICY_VIOLATION, reason
