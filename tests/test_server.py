from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from typing import Any

import pytest
from schema import checked
from test_hub import GAP, HELLO, OTHER, final, hub_of, partial
from waiting import asynchronous, stuck_client, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamer.events import to_json
from streamer.hub import Hub
from streamer.server import Address, ServerError, serve

LONG_TEXT = "word " * 400


def captions(address: Address, **options: Any) -> connect:
    return connect(address.url.replace("http", "ws") + "/captions", proxy=None, **options)


async def read(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [checked(json.loads(await client.recv())) for _ in range(count)]


async def ending(client: ClientConnection) -> tuple[int | None, str | None]:
    """The close code and reason, after everything else was read."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await client.recv()
    return client.close_code, client.close_reason


async def fetch(address: Address, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers (names in lower case) and body of a plain HTTP request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
    lines = [f"{name}: {value}" for name, value in ({"Host": f"127.0.0.1:{address.port}"} | headers).items()]
    writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    status, *fields = head.split("\r\n")
    return int(status.split()[1]), {k.lower(): v for k, v in (field.split(": ", 1) for field in fields)}, body


@asynchronous
async def test_a_client_first_hears_what_it_missed_and_then_everything_live() -> None:
    hub = hub_of(HELLO, final(0), partial(1, "now"))
    async with serve(hub, port=0) as address, captions(address) as client:
        hello, *missed = await read(client, 3)
        assert hello == to_json(HELLO, 8000) | {"stream": hello["stream"]}
        assert missed == [to_json(final(0), 8000), to_json(partial(1, "now"), 8000)]
        for event in (final(1), GAP, OTHER):
            hub.publish(event)
        *live, hello = await read(client, 3)
        assert live == [to_json(final(1), 8000), to_json(GAP, 8000)]
        assert hello["source"] == "second.wav"


@asynchronous
async def test_the_pages_are_served_with_a_policy_that_allows_nothing_from_elsewhere() -> None:
    async with serve(Hub(), port=0) as address:
        for path, title in (("/", "Live captions"), ("/overlay", "Caption overlay"), ("/?again", "Live captions")):
            status, headers, body = await fetch(address, path)
            assert status == 200
            assert f"<title>{title}</title>" in body
            assert headers["content-type"] == "text/html; charset=utf-8"
            assert headers["x-content-type-options"] == "nosniff"
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert re.search(rf"connect-src 'self' ws://127.0.0.1:{address.port} ", policy)


@asynchronous
async def test_scripts_are_served_to_the_pages_that_are_let_in() -> None:
    async with serve(Hub(), port=0, allowed_origins=["https://friend.example"]) as address:
        for path in ("/captions.js", "/microphone.js"):
            status, headers, body = await fetch(address, path)
            assert (status, headers["content-type"]) == (200, "text/javascript; charset=utf-8")
            assert body.startswith("// ")
            assert "access-control-allow-origin" not in headers
            status, headers, _ = await fetch(address, path, Origin="https://friend.example")
            assert (status, headers["access-control-allow-origin"]) == (200, "https://friend.example")
            status, headers, _ = await fetch(address, path, Origin="https://evil.example")
            assert (status, "access-control-allow-origin" in headers) == (403, False)
        assert (await fetch(address, "/index.html"))[0] == 404
    async with serve(Hub(), port=0, token="open-sesame") as address:
        assert [(await fetch(address, path))[0] for path in ("/captions.js", "/")] == [200, 401]


@asynchronous
async def test_the_health_check_counts_clients_and_names_the_stream() -> None:
    hub = Hub()
    async with serve(hub, port=0) as address:
        status, headers, body = await fetch(address, "/healthz")
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {"status": "ok", "clients": 0, "hello": None}
        hub.publish(HELLO)
        async with captions(address) as client:
            await client.recv()
            health = json.loads((await fetch(address, "/healthz"))[2])
            assert health["clients"] == 1
            assert health["hello"]["source"] == "microphone"


@asynchronous
async def test_unknown_paths_and_other_methods_are_refused() -> None:
    async with serve(Hub(), port=0) as address:
        assert (await fetch(address, "/../etc/passwd"))[0] == 404
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            status, headers, _ = await fetch(address, "/", method)
            assert (status, headers["allow"]) == (405, "GET")
        status, _, body = await fetch(address, "/", "HEAD")
        assert (status, body) == (405, "")
        assert (await fetch(address, "/captions"))[0] == 426


@asynchronous
async def test_a_foreign_host_is_refused_so_that_no_name_can_be_rebound_to_this_server() -> None:
    async with serve(Hub(), port=0) as address:
        for host in ("evil.example", f"evil.example:{address.port}", "localhost", "127.0.0.1:1", ""):
            status, _, body = await fetch(address, "/", Host=host)
            assert (status, body.count(".")) == (403, 1), host
        for name in ("localhost", "127.0.0.1", "LOCALHOST", "[::1]"):
            assert (await fetch(address, "/", Host=f"{name}:{address.port}"))[0] == 200, name
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://evil.example:{address.port}/captions", host="127.0.0.1", proxy=None)
        assert refused.value.response.status_code == 403


@asynchronous
async def test_a_request_without_or_with_two_hosts_is_refused() -> None:
    async with serve(Hub(), port=0) as address:
        own = f"127.0.0.1:{address.port}"
        for lines in ("", f"Host: {own}\r\nHost: evil.example\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
            writer.write(f"GET / HTTP/1.1\r\n{lines}\r\n".encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
            writer.close()


@asynchronous
async def test_a_web_page_from_elsewhere_may_not_read_the_captions() -> None:
    async with serve(hub_of(HELLO), port=0) as address:
        other_port = f"http://127.0.0.1:{address.port + 1}"
        for origin in ("https://evil.example", "null", other_port, f"https://127.0.0.1:{address.port}"):
            with pytest.raises(InvalidStatus) as refused:
                await captions(address, origin=origin)
            assert refused.value.response.status_code == 403
            assert (refused.value.response.body or b"").count(b".") == 1
        async with captions(address, origin=address.url) as client:
            assert await client.recv()


@asynchronous
async def test_an_allowed_origin_may_read_the_captions_and_be_the_host_of_a_proxy() -> None:
    async with serve(hub_of(HELLO), port=0, allowed_origins=["https://Captions.example.org/"]) as address:
        async with captions(address, origin="https://captions.example.org") as client:
            assert await client.recv()
        assert (await fetch(address, "/", Host="captions.example.org"))[0] == 200
        assert (await fetch(address, "/", Host="example.org"))[0] == 403


@asynchronous
async def test_a_server_for_all_networks_answers_under_the_address_it_was_reached_at() -> None:
    async with serve(Hub(), "0.0.0.0", 0) as address:
        assert address.url == f"http://127.0.0.1:{address.port}"
        reader, writer = await asyncio.open_connection("127.0.0.2", address.port)
        writer.write(f"GET / HTTP/1.1\r\nHost: 127.0.0.2:{address.port}\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert (await fetch(address, "/", Host=f"evil.example:{address.port}"))[0] == 403


@asynchronous
async def test_a_client_that_talks_is_told_that_nobody_listens() -> None:
    async with serve(Hub(), port=0) as address:
        for message in ("hello?", '{"type":"audio"}', b"\x00\x01"):
            async with captions(address) as client:
                await client.send(message)
                (error,) = await read(client, 1)
                assert error["type"] == "error"
                assert "takes no messages" in error["message"]
                assert await ending(client) == (1008, error["message"])


@asynchronous
async def test_an_oversized_message_ends_the_connection() -> None:
    hub = Hub()
    async with serve(hub, port=0) as address, captions(address) as client:
        await client.send("x" * 5000)
        code, reason = await ending(client)
        assert code == 1009
        assert reason
        await until(lambda: hub.subscribers == 0)


@asynchronous
async def test_there_are_places_for_a_bounded_number_of_clients() -> None:
    async with serve(hub_of(HELLO), port=0, max_clients=2) as address:
        async with captions(address), captions(address):
            with pytest.raises(InvalidStatus) as refused:
                await captions(address)
            assert refused.value.response.status_code == 503
        async with captions(address) as client:
            assert await client.recv()


@asynchronous
async def test_a_slow_client_is_closed_with_a_reason_and_delays_no_other() -> None:
    hub = hub_of(HELLO, limit=50)
    async with serve(hub, port=0) as address, captions(address) as fast:
        await fast.recv()
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", address.port))
        async with captions(address, sock=sock, max_queue=1) as slow:
            segment = 0
            while hub.subscribers == 2:  # the fast one hears every final while the slow one reads nothing
                hub.publish(final(segment, LONG_TEXT))
                (heard,) = await read(fast, 1)
                assert heard["segment"] == segment
                segment += 1
            assert segment > hub.limit
            assert await ending(slow) == (1013, "more than 50 messages behind")
        hub.publish(final(segment))
        assert (await read(fast, 1))[0]["segment"] == segment


@asynchronous
async def test_a_client_that_accepts_nothing_is_dropped() -> None:
    hub = hub_of(HELLO)
    async with serve(hub, port=0, patience_seconds=0.2) as address:
        sock = await stuck_client(address.port, "/captions")
        await until(lambda: hub.subscribers == 1)
        for segment in range(200):
            hub.publish(final(segment, LONG_TEXT))
        await until(lambda: hub.subscribers == 0)
        sock.close()


@asynchronous
async def test_a_client_that_disappears_is_forgotten() -> None:
    hub = hub_of(HELLO)
    async with serve(hub, port=0) as address, captions(address) as client:
        await client.recv()
        client.transport.abort()
        await until(lambda: hub.subscribers == 0)


@asynchronous
async def test_shutdown_tells_clients_and_waits_for_nobody() -> None:
    hub = hub_of(HELLO)
    async with serve(hub, port=0) as address:
        silent = await asyncio.open_connection("127.0.0.1", address.port)
        stuck = await stuck_client(address.port, "/captions")
        await until(lambda: hub.subscribers == 1)
        for segment in range(500):
            hub.publish(final(segment, LONG_TEXT))
        client = await captions(address)
        await client.recv()
        farewell = asyncio.create_task(ending(client))
        began = time.monotonic()
    assert time.monotonic() - began < 2  # well under a second on an idle machine
    assert await farewell == (1001, "the server is shutting down")
    silent[1].close()
    stuck.close()


@asynchronous
async def test_clients_get_the_last_words_when_the_hub_closes_before_the_server() -> None:
    hub = hub_of(HELLO)
    async with serve(hub, port=0) as address:
        client = await captions(address)
        hub.publish(final(0, "the last words"))
        hub.close()
    assert [message["type"] for message in await read(client, 2)] == ["hello", "final"]
    assert await ending(client) == (1001, "the captions have ended")


@asynchronous
async def test_a_port_in_use_is_refused_with_a_remedy() -> None:
    async with serve(Hub(), port=0) as address:
        remedy = f"port {address.port} is in use on 127.0.0.1: choose another with --port, or --port 0 for any free one"
        with pytest.raises(ServerError, match=f"^{remedy}$"):
            async with serve(Hub(), port=address.port):
                pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no such name", "", "a..b"])
def test_a_host_that_is_not_this_machine_is_refused_with_a_remedy(host: str) -> None:
    async def story() -> None:
        async with serve(Hub(), host, 0):
            pass

    with pytest.raises(ServerError, match=r"no address of this machine: use --host 127\.0\.0\.1"):
        asyncio.run(story())


@asynchronous
async def test_a_port_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ServerError, match="there is no port 70000"):
        async with serve(Hub(), port=70000):
            pass


@asynchronous
async def test_garbage_on_the_port_does_no_harm() -> None:
    async with serve(hub_of(HELLO), port=0) as address:
        for garbage in (b"\x16\x03\x01 tls?", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500, b"A" * 20000 + b"\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
            writer.write(garbage)
            writer.write_eof()
            await reader.read()
            writer.close()
        async with captions(address) as client:
            assert await client.recv()
