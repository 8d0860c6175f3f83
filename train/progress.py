"""Progress of long work: a bar with speed and time left on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Counts steps towards a total and tells a person about it on stderr; use as a context manager."""

    def __init__(self, title: str, total: int, out: TextIO | None = None) -> None:
        self.title, self.total, self.out = title, total, out or sys.stderr
        self.done, self.started = 0, time.monotonic()
        self.every = 0.2 if self.out.isatty() else 30.0
        self.shown = self.started

    def step(self, note: str = "", count: int = 1) -> None:
        """`count` more are done; `note` is shown behind the figures."""
        self.done += count
        now = time.monotonic()
        if now - self.shown >= self.every:
            self.shown = now
            self._show(now, note)

    def _show(self, now: float, note: str) -> None:
        spent = max(now - self.started, 1e-9)
        speed = self.done / spent
        left = (self.total - self.done) / max(speed, 1e-9)
        line = f"{self.title}: {self.done}/{self.total}, {speed:.1f}/s, {_clock(left)} left  {note}".rstrip()
        if self.out.isatty():
            filled = round(20 * self.done / max(self.total, 1))
            self.out.write(f"\r\x1b[K[{'=' * filled:20s}] {line}")
        else:
            self.out.write(line + "\n")
        self.out.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        spent = time.monotonic() - self.started
        start = "\r\x1b[K" if self.out.isatty() else ""
        self.out.write(f"{start}{self.title}: {self.done} of {self.total} in {_clock(spent)}\n")
        self.out.flush()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
