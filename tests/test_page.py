"""The caption page and the overlay in a real browser, fed by the real hub and server; screenshots go to artifacts/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, browser
from test_hub import GAP, HELLO, OTHER, final, hub_of, partial
from waiting import asynchronous

from streamer.events import Partial
from streamer.hub import Hub
from streamer.server import Address, serve

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

ARTIFACTS = Path(__file__).parent.parent / "artifacts"
LIVE = "document.getElementById('connection').textContent === 'Live'"
LINES = "[...document.querySelectorAll('#log .line .words')].map((words) => words.textContent)"
NOTES = "[...document.querySelectorAll('#log .note')].map((note) => note.textContent)"
DRAFT = "document.querySelector('#draft .words').innerText"
SAYINGS = (
    "good evening and welcome to the museum of natural history",
    "tonight we will look at how birds learned to fly and why some of them gave it up again",
    "the first thing to know is that feathers are older than flight",
    "they kept small animals warm long before anything left the ground",
)


def story(segments: int = len(SAYINGS)) -> Hub:
    """A hub that has said a few things and is in the middle of another."""
    finals = [final(at, SAYINGS[at % len(SAYINGS)]) for at in range(segments)]
    hub = hub_of(HELLO, *finals, limit=5000, replay=segments + 1)
    hub.publish(GAP)
    hub.publish(Partial(segments, 40000, 60000, "what happened next is still a matter of deb", 29))
    return hub


async def open_captions(page: Page, address: Address, dark: bool = False) -> None:
    await page.open(f"{address.url}/", dark=dark)
    await page.until(LIVE)


async def lightness(page: Page, selector: str) -> float:
    """How light an element's text is, from 0 (black) to 255."""
    colour = await page.value(f"getComputedStyle(document.querySelector('{selector}')).color")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


async def width_to_spare(page: Page) -> int:
    return int(await page.value("innerWidth - document.documentElement.scrollWidth"))


@asynchronous
async def test_the_page_shows_finals_settled_and_the_unstable_tail_fainter() -> None:
    async with serve(story(), port=0) as address, browser() as page:
        await open_captions(page, address, dark=True)
        await page.until(f"{LINES}.length === 4 && {DRAFT}.endsWith('deb')")
        assert await page.value(LINES) == list(SAYINGS)
        parts = "[...document.querySelectorAll('#draft .words span')].map((part) => part.textContent)"
        assert await page.value(parts) == ["what happened next is still a", " matter of deb"]
        assert await page.value(NOTES) == ["1.0 s of audio missing: overload"]
        paper = 17
        assert paper + 80 < await lightness(page, ".tail") < await lightness(page, "#draft .stable") - 80
        await page.screenshot(ARTIFACTS / "page-dark.png")
        await page.look(1100, 720, dark=False)
        assert await lightness(page, "#draft .stable") + 80 < await lightness(page, ".tail") < 250 - 80
        await page.screenshot(ARTIFACTS / "page-light.png")
        await page.look(390, 844, touch=True)
        assert await width_to_spare(page) >= 0
        await page.screenshot(ARTIFACTS / "page-phone.png")
        assert page.errors == []  # nothing was blocked by the security policy either


@asynchronous
async def test_a_partial_is_replaced_and_its_final_takes_its_place() -> None:
    hub = hub_of(HELLO)
    async with serve(hub, port=0) as address, browser() as page:
        await open_captions(page, address)
        for text in ("good", "good eve", "good evening"):
            hub.publish(partial(0, text))
            await page.until(f"{DRAFT} === '{text}'")
        hub.publish(Partial(1, 0, 8000, "𝄞 is one character", 4))
        await page.until("document.querySelector('#draft .stable').textContent === '𝄞 is'")
        hub.publish(final(1, "good evening all"))
        await page.until(f"{LINES}.length && document.getElementById('draft').hidden")
        assert await page.value(LINES) == ["good evening all"]


@asynchronous
async def test_only_finals_are_announced_to_screen_readers() -> None:
    async with serve(story(), port=0) as address, browser() as page:
        await open_captions(page, address)
        await page.until(f"{LINES}.length === 4 && {DRAFT}")
        announced = "[...document.querySelectorAll('[aria-live=polite]')].map((region) => region.textContent).join()"
        assert SAYINGS[0] in await page.value(announced)
        assert "matter" not in await page.value(announced)


@asynchronous
async def test_markup_in_captions_stays_text() -> None:
    nasty = "<img src=x onerror='document.title=1'><b>bold</b>"
    hub = hub_of(HELLO, final(0, nasty), partial(1, nasty))
    async with serve(hub, port=0) as address, browser() as page:
        await open_captions(page, address)
        await page.until(f"{LINES}.length === 1 && {DRAFT}")
        assert await page.value(LINES) == [nasty]
        assert await page.value(DRAFT) == nasty
        await page.open(f"{address.url}/overlay")
        await page.until("document.body.innerText.includes('<b>bold</b>')")


@asynchronous
async def test_the_page_reconnects_by_itself_and_shows_nothing_twice() -> None:
    hub = hub_of(HELLO, final(0, "before"), GAP)
    async with browser() as page:
        async with serve(hub, port=0) as address:
            await open_captions(page, address)
            await page.until(f"{LINES}.length === 1")
        await page.until("document.getElementById('connection').textContent === 'Reconnecting…'")
        hub.publish(final(1, "while away"))
        async with serve(hub, port=address.port):
            await page.until(f"{LIVE} && {LINES}.length > 1")
            hub.publish(final(2, "and after"))
            await page.until(f"{LINES}.includes('and after')")
            assert await page.value(LINES) == ["before", "while away", "and after"]
            assert len(await page.value(NOTES)) == 1
        restarted = hub_of(OTHER, final(0, "before"))  # another stream: the same words are news
        async with serve(restarted, port=address.port):
            await page.until(f"{LINES}.length > 3")
            assert (await page.value(LINES))[3:] == ["before"]
            assert (await page.value(NOTES))[1:] == ["second.wav"]


@asynchronous
async def test_it_follows_the_speaker_until_the_reader_scrolls_up() -> None:
    hub = story(40)
    at_end = "innerHeight + scrollY > document.documentElement.scrollHeight - 2"
    jump = "document.getElementById('jump')"
    async with serve(hub, port=0) as address, browser() as page:
        await open_captions(page, address)
        await page.until(f"{LINES}.length === 40 && {DRAFT}")
        assert await page.value(at_end)
        assert await page.value(f"{jump}.hidden")
        await page.value("scrollBy(0, -300)")
        await page.until(f"!{jump}.hidden")
        before = await page.value("scrollY")
        hub.publish(final(40, "news"))
        await page.until(f"{LINES}.length === 41")
        assert await page.value("scrollY") == before
        await page.value(f"{jump}.click()")
        assert await page.value(at_end)
        assert await page.value(f"{jump}.hidden")
        hub.publish(final(41, "more news"))
        await page.until(f"{LINES}.length === 42")
        assert await page.value(at_end)


@asynchronous
async def test_the_page_stays_bounded() -> None:
    hub = story(600)
    async with serve(hub, port=0) as address, browser() as page:
        await open_captions(page, address)
        await page.until(f"{DRAFT}")
        assert await page.value("document.getElementById('log').children.length") == 500


@asynchronous
async def test_the_text_size_can_be_changed_and_is_remembered() -> None:
    size = "parseFloat(getComputedStyle(document.querySelector('main')).fontSize)"
    async with serve(story(), port=0) as address, browser() as page:
        await open_captions(page, address)
        usual = await page.value(size)
        await page.value("document.getElementById('larger').click()")
        larger = await page.value(size)
        assert larger > usual
        await open_captions(page, address)
        await page.until(f"{size} === {larger}")
        for _ in range(20):
            await page.value("document.getElementById('larger').click()")
        await page.look(360, 640, touch=True)
        assert await page.value(size) <= 64
        assert await width_to_spare(page) >= 0


@asynchronous
async def test_the_overlay_shows_the_last_two_lines_on_nothing() -> None:
    hub = story()
    async with serve(hub, port=0) as address, browser() as page:
        await page.open(f"{address.url}/overlay?size=40&hold=1", width=1280)
        tail = "document.querySelector('p:last-child .tail')"
        await page.until(f"{tail}?.textContent === ' matter of deb'")
        assert await page.value("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
        box = await page.value("document.getElementById('box').getBoundingClientRect().toJSON()")
        assert box["height"] == 2 * 40 * 1.5
        assert box["bottom"] < 720
        last = await page.value("document.querySelector('p:last-child').getBoundingClientRect().toJSON()")
        assert last["bottom"] == box["bottom"]
        assert await lightness(page, "p:last-child .tail") < await lightness(page, "p:last-child .stable") - 40
        await page.call("Emulation.setDefaultBackgroundColorOverride", color={"r": 70, "g": 110, "b": 150, "a": 1})
        await page.screenshot(ARTIFACTS / "overlay.png")
        await page.until("!document.getElementById('box').classList.contains('speaking')")  # silence clears it
        hub.publish(final(4, "a new thought"))
        await page.until("document.getElementById('box').innerText.trim() === 'a new thought'")
        assert page.errors == []
