"""Ctrl-C and SIGTERM: the first asks for an end in good order, the second does not ask."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal


def stop_on_signals(stop: asyncio.Event, patience_seconds: float | None = None) -> None:
    """Set `stop` on a signal, and exit with 1 when the process still runs so many seconds later."""
    loop = asyncio.get_running_loop()

    def ask(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)  # the second one ends it at once
        if patience_seconds is not None:
            loop.call_later(patience_seconds, os._exit, 1)

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
            loop.add_signal_handler(number, ask, number)
