"""Captions of a WAV file from an asr-stream server: `python clients/recognize.py FILE [--url URL]`; needs `websockets`.

The server is one that was started with `--serve`. Finals are printed one a line.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import wave
from collections.abc import Iterator

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

BLOCK_FRAMES = 8000


def read(path: str) -> tuple[int, Iterator[bytes]]:
    """The sample rate of a WAV file and its samples in blocks; ValueError unless they are mono and of 16 bits."""
    file = wave.open(path, "rb")  # noqa: SIM115  # read until the program ends
    if (file.getnchannels(), file.getsampwidth()) != (1, 2):
        raise ValueError(f"{path} is not mono with 16 bits: convert it with `ffmpeg -i {path} -ac 1 mono.wav`")
    return file.getframerate(), iter(lambda: file.readframes(BLOCK_FRAMES), b"")


def send(session: ClientConnection, rate: int, blocks: Iterator[bytes]) -> None:
    """Send a file; when the server closes early, whoever receives is told why."""
    try:
        session.send(json.dumps({"type": "config", "sample_rate": rate, "partials": False}))
        for block in blocks:
            session.send(block)
        session.send(json.dumps({"type": "end"}))
    except ConnectionClosed:
        pass


def recognize(url: str, path: str) -> Iterator[str]:
    """The text of each final as it comes; RuntimeError when the server ends the session before its time."""
    rate, blocks = read(path)
    with connect(url, proxy=None) as session:
        threading.Thread(target=send, args=(session, rate, blocks), daemon=True).start()
        for message in map(json.loads, session):
            if message["type"] == "final":
                yield message["text"]
        if session.close_code != 1000:
            raise RuntimeError(session.close_reason or "the connection was lost")


def main() -> int:
    """Parse the command line and print captions; the exit code."""
    parser = argparse.ArgumentParser(description="Captions of a WAV file from an asr-stream server.")
    parser.add_argument("file")
    parser.add_argument("--url", default="ws://127.0.0.1:8765/recognize", help="default: %(default)s")
    options = parser.parse_args()
    try:
        for text in recognize(options.url, options.file):
            print(text, flush=True)
    except InvalidStatus as refused:
        print((refused.response.body or b"the server refused the session").decode().strip(), file=sys.stderr)
    except (OSError, EOFError, ValueError, RuntimeError, wave.Error, InvalidHandshake, InvalidURI) as error:
        print(f"No captions: {error}", file=sys.stderr)
    except ConnectionClosed as error:
        print(f"No captions: {error.rcvd.reason if error.rcvd else 'the connection was lost'}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
