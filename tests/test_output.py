from __future__ import annotations

import io
import json
import os

import pytest

from streamer.events import Final, Gap, Hello, Partial, Word
from streamer.output import Format, Printer, cues

HELLO = Hello("tiny", "en", 1000, "talk.wav")
PARTIAL = Partial(0, 0, 1500, "hello wor", 5)
FINAL = Final(0, 0, 2000, "hello world", (Word("hello", 0, 900, 0.9), Word("world", 1000, 2000, 0.8)))
GAP = Gap(2000, 3500, "overrun")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(form: Format, out: io.StringIO | None = None, partials: bool = False) -> str:
    out = out or io.StringIO()
    printer = Printer(out, form, partials)
    assert all(printer.write(event, 1000) for event in (HELLO, PARTIAL, FINAL, GAP))
    printer.close()
    return out.getvalue()


def test_piped_text_is_finals_as_plain_lines() -> None:
    assert printed("text") == "hello world\n"


def test_partials_can_be_added_and_are_marked() -> None:
    assert printed("text", partials=True) == "~ hello wor\nhello world\n"


def test_on_a_terminal_the_partial_is_rewritten_and_its_tail_is_dim() -> None:
    shown = printed("text", Terminal())
    assert shown.startswith("\r\x1b[Khello\x1b[2m wor\x1b[0m\r\x1b[Khello world\n")
    assert "[1.5 s of audio lost: overrun]" in shown


def test_a_partial_wider_than_the_terminal_keeps_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    Printer(out).write(Partial(0, 0, 9, "a" * 30 + " the end", 30), 1000)
    visible = out.getvalue().replace("\r\x1b[K", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert visible == ("a" * 30 + " the end")[-19:]


def test_an_open_partial_is_ended_with_its_line() -> None:
    out = Terminal()
    printer = Printer(out)
    printer.write(PARTIAL, 1000)
    printer.close()
    assert out.getvalue().endswith("\n")


def test_json_lines_are_the_events_of_the_protocol() -> None:
    lines = [json.loads(line) for line in printed("jsonl").splitlines()]
    assert [line["type"] for line in lines] == ["hello", "partial", "final", "gap"]
    assert lines[2]["words"][1] == {"text": "world", "start": 1.0, "end": 2.0, "confidence": 0.8}


def test_srt_numbers_its_cues() -> None:
    assert printed("srt") == "1\n00:00:00,000 --> 00:00:02,000\nhello world\n\n"


def test_vtt_begins_with_its_name() -> None:
    assert printed("vtt") == "WEBVTT\n\n1\n00:00:00.000 --> 00:00:02.000\nhello world\n\n"


def test_long_finals_become_cues_that_can_be_read() -> None:
    words = tuple(Word("wonderful", i * 600, i * 600 + 500, 1.0) for i in range(40))
    groups = list(cues(words, 1000))
    assert [w for group in groups for w in group] == list(words)
    assert all(len(" ".join(w.text for w in g)) <= 80 and g[-1].end - g[0].start <= 6000 for g in groups)


def test_a_reader_that_has_gone_is_noticed() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        printer = Printer(out)
        assert not printer.write(FINAL, 1000)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # so that closing it has somewhere to flush
