"""Clients that come and go: whether memory and open files grow with them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from websockets.asyncio.client import connect

from bench.servers import Server

PACKET_BYTES = 3200


async def connect_often(url: str, count: int) -> None:
    """Open a session, send a little audio and leave, so many times, twenty at a time."""
    turns = asyncio.Semaphore(20)

    async def once() -> None:
        async with turns, connect(url, compression=None) as socket:
            await socket.send(b"\0" * 640)

    async with asyncio.TaskGroup() as visits:
        for _ in range(count):
            visits.create_task(once())


def cycle(server: Server, count: int) -> str:
    """Whether memory and open files grow with clients that come and go."""
    asyncio.run(connect_often(server.url, 3000))  # until what is kept for reuse is there
    time.sleep(2)
    files = Path(f"/proc/{server.pid}/fd")
    before = server.memory_mb(), len(list(files.iterdir()))
    asyncio.run(connect_often(server.url, count))
    time.sleep(2)  # the last ones are still leaving
    after = server.memory_mb(), len(list(files.iterdir()))
    return f"{count} clients came and went: {before[0]:.0f} → {after[0]:.0f} MB, {before[1]} → {after[1]} open files"


async def speak_in_turn(server: Server, clips: Sequence[bytes], numbers: Iterator[int], tell: int) -> None:
    """One session after the other, each a clip as fast as it is taken; memory is told after every `tell` of all."""
    for number in numbers:
        async with connect(server.url, compression=None, ping_interval=None, open_timeout=60) as socket:
            clip = clips[number % len(clips)]
            for at in range(0, len(clip), PACKET_BYTES):
                await socket.send(clip[at : at + PACKET_BYTES])
            await socket.send('{"type": "end"}')
            async for _ in socket:
                pass
        if (number + 1) % tell == 0:
            print(f"{number + 1} sessions: {server.memory_mb():.1f} MB", file=sys.stderr, flush=True)


def rush(server: Server, count: int, clients: int, folder: Path) -> str:
    """Memory over so many sessions, of so many clients at a time."""
    clips = [path.read_bytes() for path in sorted(folder.glob("*.raw"))]
    numbers = iter(range(count))

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as speaking:
            for _ in range(clients):
                speaking.create_task(speak_in_turn(server, clips, numbers, max(1, count // 10)))

    began = time.monotonic()
    asyncio.run(all_of_them())
    return f"{count} sessions of {clients} clients in {time.monotonic() - began:.0f} s: {server.memory_mb():.1f} MB"
