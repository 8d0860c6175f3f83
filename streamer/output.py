"""Captions on stdout: text for people, JSON lines for programs, SRT and WebVTT for players."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Literal, TextIO

from streamer.events import Event, Final, Gap, Hello, Partial, Word, to_json

Format = Literal["text", "jsonl", "srt", "vtt"]

_CLEAR, _DIM, _PLAIN = "\r\x1b[K", "\x1b[2m", "\x1b[0m"
CUE_CHARACTERS, CUE_SECONDS = 80, 6.0  # two lines of a subtitle, and as long as it may stay


class OutputError(Exception):
    """Captions cannot be written; the message says why and what to do."""


class Printer:
    """Writes events to a text stream as they come, each flushed at once; OutputError when it cannot.

    On a terminal `text` keeps one line that is rewritten as the partial grows and scrolls on a final; elsewhere it is
    finals as plain lines. `partials` adds partials there, marked by "~ ". `jsonl` has every event.
    """

    def __init__(self, out: TextIO, form: Format = "text", partials: bool = False) -> None:
        self.out, self.form, self.partials = out, form, partials
        self.terminal = out.isatty()
        self.broken = False  # whether the latest event could not be written
        self._cues = 0
        self._open_line = False

    def write(self, event: Event, sample_rate: int) -> bool:
        """Print one event; False when the reader has gone."""
        try:
            text = self._render(event, sample_rate)
            if text:
                self.out.write(text)
                self.out.flush()
                self.broken = False
        except BrokenPipeError:
            return False
        except OSError as error:
            self.broken = True
            raise OutputError(f"captions cannot be written ({error.strerror}): make room or write elsewhere") from None
        return True

    def close(self) -> None:
        """End the open line."""
        if self._open_line:
            self._open_line = False
            self.out.write("\n")
            self.out.flush()

    def _render(self, event: Event, sample_rate: int) -> str:
        if self.form == "jsonl":
            return json.dumps(to_json(event, sample_rate), ensure_ascii=False) + "\n"
        if self.form == "text":
            return self._terminal(event, sample_rate) if self.terminal else self._plain(event)
        if self.form == "vtt" and isinstance(event, Hello):
            return "WEBVTT\n\n"
        return "".join(self._subtitles(event, sample_rate)) if isinstance(event, Final) else ""

    def _plain(self, event: Event) -> str:
        if isinstance(event, Final):
            return event.text + "\n"
        return f"~ {event.text}\n" if isinstance(event, Partial) and self.partials else ""

    def _terminal(self, event: Event, sample_rate: int) -> str:
        match event:
            case Final():
                self._open_line = False
                return f"{_CLEAR}{event.text}\n"
            case Gap():
                self._open_line = False
                seconds = (event.end - event.start) / sample_rate
                length = f"{seconds:.1f} s of audio" if seconds else "audio"
                return f"{_CLEAR}{_DIM}[{length} lost: {event.reason}]{_PLAIN}\n"
            case Partial():
                self._open_line = True
                room = shutil.get_terminal_size().columns - 1
                skipped = max(0, len(event.text) - room)
                settled, tail = event.text[skipped : event.stable], event.text[max(skipped, event.stable) :]
                return f"{_CLEAR}{settled}{_DIM}{tail}{_PLAIN}"
        return ""

    def _subtitles(self, event: Final, sample_rate: int) -> Iterator[str]:
        mark = "," if self.form == "srt" else "."
        for words in cues(event.words, sample_rate):
            self._cues += 1
            start, end = (_timestamp(p / sample_rate, mark) for p in (words[0].start, words[-1].end))
            yield f"{self._cues}\n{start} --> {end}\n{' '.join(word.text for word in words)}\n\n"


def cues(words: tuple[Word, ...], sample_rate: int) -> Iterator[list[Word]]:
    """Words in groups that a viewer can read: at most CUE_CHARACTERS long and CUE_SECONDS on screen."""
    group: list[Word] = []
    for word in words:
        length = len(" ".join(w.text for w in (*group, word)))
        if group and (length > CUE_CHARACTERS or word.end - group[0].start > CUE_SECONDS * sample_rate):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _timestamp(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"
