from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from test_hub import HELLO, final, hub_of
from test_server import captions, fetch, read
from waiting import asynchronous

from streamer.handover import CLOSED, READY, Door, hand_over
from streamer.server import Address, serve

pytestmark = pytest.mark.skipif(not hasattr(socket, "send_fds"), reason="this system hands no connections over")


@asynccontextmanager
async def entrance() -> AsyncIterator[tuple[socket.socket, socket.socket, Door]]:
    """A socket that accepts, the channel to hand over what it accepted, and the door at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        channel, theirs = socket.socketpair()
        with channel:
            channel.settimeout(30)
            listener.setblocking(False)
            yield listener, channel, Door(theirs.detach(), listener.getsockname()[1], announces=False)


async def let_in(listener: socket.socket, channel: socket.socket) -> None:
    """Accept one client and hand it over."""
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    with connection:
        hand_over(channel, connection.fileno())


@asynchronous
async def test_a_server_serves_connections_that_another_process_accepted_and_says_when_they_close() -> None:
    async with entrance() as (listener, channel, door), serve(hub_of(HELLO, final(0)), door=door) as address:
        assert channel.recv(1) == READY
        assert address == Address("127.0.0.1", listener.getsockname()[1])
        letting = asyncio.create_task(let_in(listener, channel))
        async with captions(address, origin=address.url) as client:
            assert [message["type"] for message in await read(client, 2)] == ["hello", "final"]
        assert await asyncio.to_thread(channel.recv, 1) == CLOSED
        await letting
        letting = asyncio.create_task(let_in(listener, channel))
        assert (await fetch(address, "/", Host="evil.example"))[0] == 403
        assert await asyncio.to_thread(channel.recv, 1) == CLOSED
        await letting


@asynchronous
async def test_connections_wait_for_a_server_that_is_still_starting() -> None:
    async with entrance() as (listener, channel, door):
        asking = asyncio.create_task(fetch(Address("127.0.0.1", listener.getsockname()[1]), "/healthz"))
        await let_in(listener, channel)
        async with serve(hub_of(HELLO), door=door):
            assert (await asking)[0] == 200


@asynchronous
async def test_a_client_that_has_gone_before_it_was_taken_does_no_harm() -> None:
    async with entrance() as (listener, channel, door):
        with socket.create_connection(listener.getsockname()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets
            await let_in(listener, channel)
        async with serve(hub_of(HELLO), door=door) as address:
            assert channel.recv(1) == READY
            assert await asyncio.to_thread(channel.recv, 1) == CLOSED
            letting = asyncio.create_task(let_in(listener, channel))
            assert (await fetch(address, "/healthz"))[0] == 200
            await letting


@asynchronous
async def test_when_whoever_accepts_dies_the_server_asks_to_stop(caplog: pytest.LogCaptureFixture) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    try:
        async with entrance() as (_, channel, door), serve(hub_of(HELLO), door=door):
            channel.close()  # with what it has not read in it
            await asked.wait()
            assert caplog.messages == []
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
