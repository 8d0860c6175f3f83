"""clients/recognize.py as a library: the same session with and without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from schema import checked
from test_sessions import VOICES, expected, serving
from waiting import asynchronous, until

from clients.recognize import Unheard, recognize, recognize_async
from streamer.admission import Admission
from streamer.model import AcousticModel, load


@pytest.fixture(scope="module")
def tiny(streaming: Any) -> AcousticModel:
    return load(streaming)


def blocks(voice: np.ndarray) -> Iterator[bytes]:
    data = voice.tobytes()
    yield from (data[at : at + 3200] for at in range(0, len(data), 3200))


async def as_they_come(voice: np.ndarray) -> AsyncIterator[bytes]:
    for block in blocks(voice):
        await asyncio.sleep(0)
        yield block


def finals(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [checked(message) for message in messages if message["type"] == "final"]


@asynchronous
async def test_both_ways_hear_the_same_finals(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _):
        url = f"{address.url.replace('http', 'ws')}/recognize"
        waited = asyncio.to_thread(lambda: list(recognize(blocks(VOICES[0]), url, sample_rate=8000)))
        awaited = [message async for message in recognize_async(as_they_come(VOICES[0]), url, sample_rate=8000)]
        assert awaited[0]["type"] == "hello"
        assert any(message["type"] == "partial" for message in awaited)
        assert finals(awaited) == finals(await waited) == expected(tiny, VOICES[0], 8000) != []


@asynchronous
async def test_who_stops_listening_leaves(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, sessions):
        url = f"{address.url.replace('http', 'ws')}/recognize"
        heard = recognize_async(as_they_come(np.tile(VOICES[0], 20)), url)
        assert (await anext(heard))["type"] == "hello"
        await heard.aclose()  # type: ignore[attr-defined]
        await until(lambda: sessions.admission.sessions == 0)


@asynchronous
async def test_audio_that_breaks_off_is_no_silent_end(tiny: AcousticModel) -> None:
    def broken() -> Iterator[bytes]:
        yield VOICES[0][:3200].tobytes()
        raise OSError("unplugged")

    async def broken_async() -> AsyncIterator[bytes]:
        for block in broken():
            yield block

    async with serving(tiny) as (address, _):
        url = f"{address.url.replace('http', 'ws')}/recognize"
        with pytest.raises(Unheard, match="the audio cannot be read: unplugged"):
            await asyncio.to_thread(lambda: list(recognize(broken(), url)))
        with pytest.raises(Unheard, match="the audio cannot be read: unplugged"):
            _ = [message async for message in recognize_async(broken_async(), url)]


@asynchronous
async def test_what_goes_wrong_is_told_in_the_words_of_the_server(tiny: AcousticModel) -> None:
    async with serving(tiny, Admission(per_address=1)) as (address, sessions):
        url = f"{address.url.replace('http', 'ws')}/recognize"
        with pytest.raises(Unheard, match="pause_seconds must be a number"):
            _ = [message async for message in recognize_async(as_they_come(VOICES[0]), url, pause_seconds=99)]
        with pytest.raises(Unheard, match="pause_seconds must be a number"):
            await asyncio.to_thread(lambda: list(recognize(blocks(VOICES[0]), url, pause_seconds=99)))
        await until(lambda: sessions.admission.sessions == 0)
        sessions.admission.closed = True
        with pytest.raises(Unheard, match="The server is shutting down: try again later"):
            await asyncio.to_thread(lambda: list(recognize(blocks(VOICES[0]), url)))
    with pytest.raises(Unheard, match=r"refused|Connect call failed"):
        _ = [message async for message in recognize_async(as_they_come(VOICES[0]), url)]
