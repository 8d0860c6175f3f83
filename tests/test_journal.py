from __future__ import annotations

import json
import logging

from streamer.journal import QUIET_SECONDS, Calm, JsonLines


def record(name: str, message: str, *args: object, at: float = 0.0, **facts: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": name, "msg": message, "args": args, "levelname": "ERROR"} | facts)
    made.created = at
    return made


def test_a_line_is_one_json_object_with_the_facts_that_are_known() -> None:
    facts = {"session": "f8ba1074", "code": 1000, "reason": "", "pid": 7}
    line = JsonLines().format(record("asr_stream", "%s said\n%s", "someone", "ü", at=1.5, **facts))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:01.500+00:00",
        "level": "error",
        "message": "someone said\nü",
        "session": "f8ba1074",
        "code": 1000,
    }


def test_a_traceback_is_within_its_line() -> None:
    try:
        raise ValueError("oh")
    except ValueError as error:
        line = JsonLines().format(record("asr_stream", "failed", exc_info=(ValueError, error, error.__traceback__)))
    assert json.loads(line)["traceback"].endswith("ValueError: oh")


def test_a_library_that_repeats_itself_is_heard_once_a_while() -> None:
    calm = Calm()
    heard = [calm.filter(record("asyncio", f"no more\nsocket {i}", at=float(i))) for i in range(200)]
    assert [i for i, one in enumerate(heard) if one] == [0, QUIET_SECONDS, 2 * QUIET_SECONDS, 3 * QUIET_SECONDS]
    assert calm.filter(record("asyncio", "something else", at=0.0))
    assert all(calm.filter(record("asr_stream", "the same", at=0.0)) for _ in range(3))


def test_many_messages_are_not_remembered_for_ever() -> None:
    calm = Calm()
    assert all(calm.filter(record("asyncio", f"message {i}")) for i in range(1000))
    assert len(calm._told) <= 100
