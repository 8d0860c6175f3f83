"""Live captions in a terminal: `python clients/terminal.py [ADDRESS]`; needs only the `websockets` package.

On a terminal the open line is rewritten in place, its unstable end dimmed. Piped, finals are printed one a line. Notes
about the connection, the stream and missing audio go to stderr. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

DIM, PLAIN, ERASE_LINE = "\x1b[2m", "\x1b[0m", "\r\x1b[K"


class Screen:
    """Shows each caption once, although the server repeats the latest ones after a reconnection."""

    def __init__(self) -> None:
        self.rewrites = sys.stdout.isatty()
        self.stream = ""
        self.latest: dict[tuple[str, str], float] = {}

    def show(self, message: dict[str, Any]) -> None:
        """Write what a message says; types this client does not know are left out."""
        match message.get("type"):
            case "hello":
                self.stream = message["stream"]
                if self.is_new("hello", 0):
                    self.note(f"listening to {message['source']} ({message['language']})")
            case "partial" if self.rewrites:
                self.write(ERASE_LINE + fit(printable(message["text"]), message["stable"]))
            case "final" if self.is_new("final", message["segment"]):
                self.write((ERASE_LINE if self.rewrites else "") + printable(message["text"]) + "\n")
            case "gap" if self.is_new("gap", message["start"]):
                self.note(f"{message['end'] - message['start']:.1f} s of audio missing: {message['reason']}")

    def is_new(self, kind: str, position: float) -> bool:
        """Whether this was not shown yet: within a stream, segments count up and gaps follow each other."""
        key = (self.stream, kind)
        if position <= self.latest.get(key, -1):
            return False
        self.latest[key] = position
        return True

    def note(self, text: str) -> None:
        """Write a remark that is not a caption."""
        if self.rewrites:
            self.write(ERASE_LINE)
        print(f"[{printable(text)}]", file=sys.stderr, flush=True)

    def write(self, text: str) -> None:
        """Write to stdout at once."""
        sys.stdout.write(text)
        sys.stdout.flush()


def printable(text: str) -> str:
    """The text without control characters, which could play tricks on a terminal."""
    return "".join(character for character in text if character.isprintable())


def fit(text: str, stable: int) -> str:
    """As much of the end of a partial as one terminal line holds, what may still change dimmed."""
    hidden = max(0, len(text) - shutil.get_terminal_size().columns + 1)
    return text[hidden:stable] + DIM + text[max(hidden, stable) :] + PLAIN


def captions_url(address: str) -> str:
    """The WebSocket URL meant by an address, which may lack scheme and path or be that of the caption page."""
    parts = urlsplit(address if "://" in address else f"ws://{address}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname or parts.port == 0:  # a port that is no number: ValueError
        raise ValueError
    return urlunsplit((scheme, parts.netloc, parts.path if parts.path.strip("/") else "/captions", parts.query, ""))


def explain(error: Exception) -> str:
    """What went wrong with a connection, in words."""
    if isinstance(error, InvalidStatus):
        body = printable((error.response.body or b"").decode(errors="replace")).strip().rstrip(".")
        return body or f"the server answered {error.response.status_code} {error.response.reason_phrase}"
    if isinstance(error, InvalidHandshake):
        return "what answers there is no caption server"
    return getattr(error, "strerror", None) or str(error) or "no answer in time"


def follow(url: str, screen: Screen) -> None:
    """Show captions for ever, reconnecting with ever longer waits; an error only when there never was a connection."""
    wait_seconds, connected = 0.5, False
    while True:
        try:
            with connect(url, proxy=None, close_timeout=1) as connection:
                wait_seconds, connected = 0.5, True
                for data in connection:
                    screen.show(json.loads(data))
            reason = connection.close_reason or "the server closed the connection"
        except ConnectionClosed as error:
            reason = error.rcvd.reason if error.rcvd and error.rcvd.reason else "the connection was lost"
        except BrokenPipeError:
            raise
        except (OSError, InvalidHandshake) as error:
            if not connected:
                raise
            reason = explain(error)
        screen.note(f"{reason}; trying again")
        time.sleep(wait_seconds)
        wait_seconds = min(10.0, wait_seconds * 1.7)


def main() -> int:
    """Parse the command line and show captions; the exit code."""
    parser = argparse.ArgumentParser(description="Show live captions from an asr-stream server.")
    parser.add_argument("address", nargs="?", default="ws://127.0.0.1:8765", help="default: %(default)s")
    address = parser.parse_args().address
    try:
        url = captions_url(address)
    except ValueError:
        print(f"{address!r} is not an address: write it like ws://127.0.0.1:8765", file=sys.stderr)
        return 2
    try:
        follow(url, Screen())
    except KeyboardInterrupt:
        if sys.stdout.isatty():
            print()
    except BrokenPipeError:  # whoever read the captions has gone; Python would complain about it once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, InvalidHandshake) as error:
        hint = "; is asr-stream running there?" if isinstance(error, OSError) else "."
        print(f"No captions from {url}: {explain(error)}{hint}", file=sys.stderr)
        return 1
    except (ValueError, LookupError, TypeError, AttributeError):
        print(f"No captions from {url}: what it sends are not captions.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
