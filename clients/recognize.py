"""Captions of audio from an asr-stream server that was started with `--serve`; needs `websockets`.

In a shell: `python clients/recognize.py FILE.wav [--url URL]`, which prints finals one a line. In a program:

    for message in recognize(blocks_of_bytes, sample_rate=44100, hotwords=["kitchen"]): ...
    async for message in recognize_async(async_blocks_of_bytes, sample_rate=44100): ...

Messages and options are those of docs/protocol.md, which knows nothing of files: blocks may come while someone speaks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import threading
import wave
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

URL = "ws://127.0.0.1:8765/recognize"
END = json.dumps({"type": "end"})
BLOCK_FRAMES = 8000


class Unheard(Exception):
    """The server did not hear everything; the message says why."""


def recognize(blocks: Iterable[bytes], url: str = URL, **config: Any) -> Iterator[dict[str, Any]]:
    """The messages of a session that hears these blocks, as they come; Unheard."""
    with _in_words(), connect(url, proxy=None) as session:
        session.send(json.dumps({"type": "config"} | config))
        threading.Thread(target=_send, args=(session, blocks), daemon=True).start()
        yield from map(json.loads, session)
        _check(session)


def _send(session: ClientConnection, blocks: Iterable[bytes]) -> None:
    try:
        for block in blocks:
            session.send(block)
        session.send(END)
    except ConnectionClosed:
        pass  # whoever receives is told why
    except Exception as error:
        session.close(*_because(error))


async def recognize_async(blocks: AsyncIterable[bytes], url: str = URL, **config: Any) -> AsyncIterator[dict[str, Any]]:
    """The messages of a session that hears these blocks, as they come; Unheard."""
    with _in_words():
        async with connect_async(url, proxy=None) as session:
            await session.send(json.dumps({"type": "config"} | config))
            sending = asyncio.create_task(_send_async(session, blocks))
            try:
                async for message in session:
                    yield json.loads(message)
                _check(session)
            finally:
                sending.cancel()


async def _send_async(session: AsyncConnection, blocks: AsyncIterable[bytes]) -> None:
    try:
        async for block in blocks:
            await session.send(block)
        await session.send(END)
    except ConnectionClosed:
        pass
    except Exception as error:
        await session.close(*_because(error))


def _because(error: Exception) -> tuple[int, str]:
    return 4000, f"the audio cannot be read: {error}".encode()[:120].decode(errors="ignore")  # a close frame is small


def _check(session: ClientConnection | AsyncConnection) -> None:
    if session.close_code != 1000:
        raise Unheard(session.close_reason or "the connection was lost")


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except InvalidStatus as refused:
        raise Unheard((refused.response.body or b"the server refused the session").decode().strip()) from None
    except ConnectionClosed as error:
        raise Unheard(error.rcvd.reason if error.rcvd else "the connection was lost") from None
    except (OSError, InvalidHandshake, InvalidURI) as error:
        raise Unheard(str(error)) from None


def read(path: str) -> tuple[int, Iterator[bytes]]:
    """The sample rate of a WAV file and its samples in blocks; ValueError unless they are mono and of 16 bits."""
    file = wave.open(path, "rb")  # noqa: SIM115  # read until the program ends
    if (file.getnchannels(), file.getsampwidth()) != (1, 2):
        raise ValueError(f"{path} is not mono with 16 bits: convert it with `ffmpeg -i {path} -ac 1 mono.wav`")
    return file.getframerate(), iter(lambda: file.readframes(BLOCK_FRAMES), b"")


def main() -> int:
    """Parse the command line and print captions; the exit code."""
    parser = argparse.ArgumentParser(description="Captions of a WAV file from an asr-stream server.")
    parser.add_argument("file")
    parser.add_argument("--url", default=URL, help="default: %(default)s")
    options = parser.parse_args()
    try:
        rate, blocks = read(options.file)
        for message in recognize(blocks, options.url, sample_rate=rate, partials=False):
            if message["type"] == "final":
                print(message["text"], flush=True)
    except (OSError, EOFError, ValueError, wave.Error, Unheard) as error:
        print(f"No captions: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
