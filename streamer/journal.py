"""The log on stderr: lines for people, or JSON for programs, each with the session it is about."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import QueueHandler

current_session: ContextVar[str] = ContextVar("current_session", default="")

QUIET_SECONDS, MAX_REMEMBERED = 60.0, 100
MAX_WAITING = 1000  # lines, while nobody reads stderr; more are lost
FLUSH_SECONDS = 1.0  # at the end
_FACTS = ("session", "address", "protocol", "how", "code", "reason", "audio_seconds", "lag_seconds", "text")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, message, and those facts that the record has."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= {name: value for name in _FACTS if (value := getattr(record, name, None)) not in (None, "")}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Calm(logging.Filter):
    """Of libraries, the same message once in `QUIET_SECONDS`: who floods a port must not fill the log's disk."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("asr_stream"):
            return True
        message = str(record.msg).partition("\n")[0]
        told = self._told.get(message)
        if told is not None and abs(record.created - told) < QUIET_SECONDS:
            return False
        if len(self._told) >= MAX_REMEMBERED:
            self._told.clear()
        self._told[message] = record.created
        return True


def _name_session(record: logging.LogRecord) -> bool:
    if not hasattr(record, "session"):
        record.session = current_session.get()
    return True


class _Waiting(QueueHandler):
    """Hands records over as they are; with nobody to write them, those that find no room are lost."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def handleError(self, record: logging.LogRecord) -> None:
        pass


class _Stderr(logging.Handler):
    """Writes past Python's own stderr, whose lock would not let the program end while its reader pauses."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # a full disk, or nobody reads any more
            os.write(2, f"{self.format(record)}\n".encode(errors="backslashreplace"))


def start_log(verbose: bool, as_json: bool) -> None:
    """Send the log to stderr, from a thread of its own: a reader of it who pauses must not hold up anything else."""
    writer = _Stderr()
    writer.setFormatter(JsonLines() if as_json else logging.Formatter("asr-stream: %(message)s"))
    waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_WAITING)
    handler = _Waiting(waiting)
    handler.addFilter(Calm())
    handler.addFilter(_name_session)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    thread = threading.Thread(target=_write, args=(waiting, writer), name="log", daemon=True)
    thread.start()
    atexit.register(_flush, waiting, thread)
    logging.getLogger("asr_stream").setLevel(logging.DEBUG if verbose else logging.INFO)


def _write(waiting: queue.Queue[logging.LogRecord | None], writer: logging.Handler) -> None:
    while (record := waiting.get()) is not None:
        writer.emit(record)  # not handle, whose lock the end of the program would wait for


def _flush(waiting: queue.Queue[logging.LogRecord | None], thread: threading.Thread) -> None:
    try:
        waiting.put(None, timeout=FLUSH_SECONDS)
    except queue.Full:
        return
    thread.join(FLUSH_SECONDS)
