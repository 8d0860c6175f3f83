"""What a web page from elsewhere, or a name that was made to point here, can do in a real browser: nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Page, browser
from test_access import TOKEN
from test_hub import HELLO, final, hub_of
from test_page import LINES, LIVE
from waiting import asynchronous

from streamer.access import load_tls
from streamer.admission import Admission
from streamer.hub import Hub
from streamer.model import load
from streamer.scheduler import Scheduler
from streamer.server import Address, serve
from streamer.sessions import Sessions

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

REBOUND = "--host-resolver-rules=MAP *.example 127.0.0.1"


@asynccontextmanager
async def elsewhere() -> AsyncIterator[int]:
    """The port of a web site that has nothing to do with us."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"<title>elsewhere</title>"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as site:
        yield site.sockets[0].getsockname()[1]


@asynccontextmanager
async def listening(streaming: Path, **options: Any) -> AsyncIterator[Address]:
    """A server with captions and sessions."""
    async with Scheduler(load(streaming)) as scheduler:
        sessions = Sessions(scheduler, Admission())
        async with serve(hub_of(HELLO, final(0, "secret")), port=0, sessions=sessions, **options) as address:
            yield address


async def socket(page: Page, url: str) -> str:
    """What becomes of a WebSocket that the page opens."""
    return str(
        await page.value(
            f"""new Promise((tell) => {{
              const socket = new WebSocket({json.dumps(url)});
              socket.onopen = () => tell("open");
              socket.onerror = () => tell("refused");
            }})"""
        )
    )


async def fetched(page: Page, url: str) -> str:
    """What the page can read at a URL."""
    read = f"fetch({json.dumps(url)}).then((answer) => answer.text(), () => 'nothing')"
    return str(await page.value(read))


@asynchronous
async def test_a_page_from_elsewhere_can_open_no_socket_and_read_nothing(streaming: Path) -> None:
    async with elsewhere() as port, listening(streaming) as address, browser(REBOUND) as page:
        await page.open(f"http://evil.example:{port}/")
        for path in ("/captions", "/recognize", "/"):
            assert await socket(page, f"ws://127.0.0.1:{address.port}{path}") == "refused", path
        for path in ("/healthz", "/metrics", "/"):
            assert await fetched(page, f"{address.url}{path}") == "nothing", path
        await page.open(f"http://127.0.0.1:{port}/")  # the same machine, but another site
        assert await socket(page, f"ws://127.0.0.1:{address.port}/captions") == "refused"


@asynchronous
async def test_the_same_page_may_when_its_origin_is_allowed(streaming: Path) -> None:
    async with elsewhere() as port, browser(REBOUND) as page:
        origin = f"http://friend.example:{port}"
        async with listening(streaming, allowed_origins=[origin]) as address:
            await page.open(f"{origin}/")
            for path in ("/captions", "/recognize"):
                assert await socket(page, f"ws://127.0.0.1:{address.port}{path}") == "open", path


@asynchronous
async def test_a_name_that_is_made_to_point_here_opens_nothing(streaming: Path) -> None:
    async with listening(streaming) as address, browser(REBOUND) as page:
        own = f"rebound.example:{address.port}"
        await page.open(f"http://{own}/")
        refused = "Open this server by its own address, or allow the origin you open it by."
        assert (await page.value("document.body.innerText")).strip() == refused
        for path in ("/healthz", "/metrics", "/"):
            assert (await fetched(page, path)).strip() == refused
        for path in ("/captions", "/recognize"):
            assert await socket(page, f"ws://{own}{path}") == "refused", path


@asynchronous
async def test_the_page_takes_the_token_of_its_address_along() -> None:
    hub = hub_of(HELLO, final(0, "for those who know"))
    async with serve(hub, port=0, token=TOKEN) as address, browser() as page:
        await page.open(f"{address.url}/")
        assert "wants its token" in await page.value("document.body.innerText")
        await page.open(f"{address.url}/?token={TOKEN}")
        await page.until(f"{LIVE} && {LINES}.includes('for those who know')")
        assert await fetched(page, "/healthz") == '{"status": "ok"}'
        await page.open(f"{address.url}/overlay?token={TOKEN}&size=40")
        await page.until("document.body.innerText.includes('for those who know')")


@asynchronous
async def test_the_page_is_live_over_tls_too(certificate: tuple[Path, Path]) -> None:
    hub = Hub()
    hub.publish(HELLO)
    async with (
        serve(hub, port=0, tls=load_tls(*certificate)) as address,
        browser("--ignore-certificate-errors") as page,
    ):
        await page.open(f"{address.url}/")
        await page.until(LIVE)
