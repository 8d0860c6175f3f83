"""The caption page as a microphone, in a real browser that hears a file; screenshots go to artifacts/."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import CHROMIUM, Page, browser
from test_hub import HELLO, final, hub_of
from test_page import ARTIFACTS, DRAFT, LINES, LIVE, NOTES, width_to_spare
from waiting import asynchronous, until

from streamer.admission import Admission
from streamer.hub import Hub
from streamer.model import MODELS, AcousticModel, find, find_lm, load
from streamer.scheduler import Scheduler
from streamer.server import Address, serve
from streamer.sessions import Sessions

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

HEARS = "--use-fake-device-for-media-stream", "--use-file-for-fake-audio-capture="
ALLOWS = "--use-fake-ui-for-media-stream"
BUTTON = "document.getElementById('speak')"
OPEN = f"(document.getElementById('draft').hidden ? '' : {DRAFT})"
SOURCE = "document.getElementById('source').textContent"


@pytest.fixture(scope="module")
def english() -> AcousticModel:
    path = find(None)
    return load(path, find_lm(None, path))


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Options of a browser whose microphone hears the bundled sample."""
    path = tmp_path_factory.mktemp("microphone") / "sample.wav"
    samples, rate = soundfile.read(MODELS / "sample.opus", dtype="int16")
    soundfile.write(path, np.pad(samples, (rate, 0)), rate)  # what is said before the page listens is not heard
    return HEARS[0], f"{HEARS[1]}{path}"


@asynccontextmanager
async def serving(
    model: AcousticModel, hub: Hub | None = None, token: str | None = None
) -> AsyncIterator[tuple[Address, Sessions]]:
    admission = Admission()
    async with Scheduler(model, admission.ran) as scheduler:
        sessions = Sessions(scheduler, admission)
        async with serve(hub or Hub(), port=0, sessions=sessions, token=token) as address:
            yield address, sessions


async def speak(page: Page) -> None:
    await page.click("#speak")
    await page.until(f"{BUTTON}.textContent === 'Stop'")


@asynchronous
async def test_what_a_visitor_says_appears_on_the_page(english: AcousticModel, hearing: tuple[str, str]) -> None:
    hub = hub_of(HELLO, final(0, "what the server hears"))
    async with serving(english, hub) as (address, sessions), browser(*hearing, ALLOWS) as page:
        await page.open(f"{address.url}/")
        await page.until(f"{LIVE} && {LINES}.length === 1 && !{BUTTON}.hidden")
        await page.screenshot(ARTIFACTS / "page-speak.png")
        await speak(page)
        await page.until(f"{LINES}.length > 1 && {OPEN}.includes(' ')")
        assert "welcome" in (await page.value(LINES))[1]
        assert await page.value(NOTES) == ["your microphone"]
        assert await page.value(SOURCE) == "your microphone · en"
        await page.screenshot(ARTIFACTS / "page-speaking.png")
        await page.look(360, 640, touch=True, dark=True)
        assert await width_to_spare(page) >= 0
        await page.screenshot(ARTIFACTS / "page-speaking-phone.png")
        lines = len(await page.value(LINES))
        await page.click("#speak")
        await page.until(f"{BUTTON}.textContent === 'Speak' && {LIVE}")
        await until(lambda: sessions.admission.sessions == 0)
        said = await page.value(LINES)
        assert len(said) > lines  # the open segment was finished
        hub.publish(final(1, "and goes on"))
        await page.until(f"{LINES}.at(-1) === 'and goes on'")
        assert await page.value(LINES) == [*said, "and goes on"]
        assert await page.value(NOTES) == ["your microphone", "microphone"]
        await speak(page)  # again
        await until(lambda: sessions.admission.sessions == 1)
        assert page.errors == []


@asynchronous
async def test_the_page_offers_no_microphone_where_the_server_takes_no_audio() -> None:
    async with serve(hub_of(HELLO), port=0) as address, browser() as page:
        await page.open(f"{address.url}/")
        await page.until(LIVE)
        assert await page.value(f"{BUTTON}.hidden")


@asynchronous
async def test_a_microphone_that_cannot_be_had_is_a_sentence_on_the_page(streaming: Path) -> None:
    async with serving(load(streaming)) as (address, sessions), browser() as page:  # which has no microphone
        await page.open(f"{address.url}/")
        await page.until(LIVE)
        await page.click("#speak")
        await page.until(f"{NOTES}.length === 1 && !{BUTTON}.disabled")
        assert (await page.value(NOTES))[0] in (
            "There is no microphone: connect one.",
            "This page may not use the microphone: allow it in the browser's settings for this site.",
        )
        assert await page.value(f"{BUTTON}.textContent") == "Speak"
        assert await page.value(LIVE)
        assert sessions.admission.sessions == 0


@asynchronous
async def test_a_page_that_is_not_secure_says_what_to_do(streaming: Path) -> None:
    async with serving(load(streaming)) as (address, _), browser() as page:
        insecure = "Object.defineProperty(window, 'isSecureContext', { value: false })"
        await page.call("Page.enable")
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=insecure)
        await page.open(f"{address.url}/")
        await page.until(LIVE)
        await page.click("#speak")
        await page.until(f"{NOTES}.length === 1")
        assert "only to pages that come over https or from localhost" in (await page.value(NOTES))[0]
        await page.look(390, 844, touch=True)
        await page.screenshot(ARTIFACTS / "page-insecure.png")


@asynchronous
async def test_a_server_without_a_place_or_that_stops_is_a_sentence_on_the_page(
    streaming: Path, hearing: tuple[str, str]
) -> None:
    async with browser(*hearing, ALLOWS) as page:
        async with serving(load(streaming)) as (address, sessions):
            await page.open(f"{address.url}/")
            await page.until(LIVE)
            sessions.admission.max_sessions = 0
            await page.click("#speak")
            await page.until(f"{NOTES}.length === 1 && {BUTTON}.textContent === 'Speak'")
            assert "all its places are taken" in (await page.value(NOTES))[0]
            sessions.admission.max_sessions = 1
            await speak(page)
            await until(lambda: sessions.admission.sessions == 1)
        await page.until(f"{NOTES}.length === 2 && {BUTTON}.textContent === 'Speak'")
        assert (await page.value(NOTES))[1] == "the server is shutting down"


@asynchronous
async def test_a_page_that_brings_the_token_brings_it_to_every_connection(
    streaming: Path, hearing: tuple[str, str]
) -> None:
    token = "open-sesame"
    async with serving(load(streaming), token=token) as (address, sessions), browser(*hearing, ALLOWS) as page:
        await page.open(f"{address.url}/?token={token}")
        await page.until(LIVE)
        await speak(page)
        await until(lambda: sessions.admission.sessions == 1)
        await page.open(f"{address.url}/overlay?token={token}")
        await until(lambda: sessions.admission.sessions == 0)
        assert page.errors == []


@asynchronous
async def test_a_page_of_an_allowed_origin_may_import_the_module(streaming: Path) -> None:
    async with serve(hub_of(HELLO), port=0) as elsewhere, browser() as page:
        await page.call("Page.setBypassCSP", enabled=True)
        await page.open(f"{elsewhere.url}/overlay")
        listen = "import('%s/captions.js').then(({ listen }) => new Promise((tell) => listen(tell)))"
        hub = hub_of(HELLO, final(0, "heard from elsewhere"))
        async with serve(hub, port=0, allowed_origins=[elsewhere.url]) as address:
            assert (await page.value(listen % address.url))["type"] == "hello"
        async with serve(hub, port=0) as address:
            refused = await page.value(f"({listen % address.url}).catch((error) => error.message)")
            assert "Failed to fetch" in json.dumps(refused)
