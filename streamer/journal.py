"""The log on stderr: lines for people, or JSON for programs, each with the session it is about."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

current_session: ContextVar[str] = ContextVar("current_session", default="")

QUIET_SECONDS, MAX_REMEMBERED = 60.0, 100
_FACTS = ("session", "address", "protocol", "how", "code", "reason", "audio_seconds", "text")


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


def start_log(verbose: bool, as_json: bool) -> None:
    """Send the log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("asr-stream: %(message)s"))
    handler.addFilter(Calm())
    handler.addFilter(_name_session)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("asr_stream").setLevel(logging.DEBUG if verbose else logging.INFO)
