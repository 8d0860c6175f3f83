"""What a recogniser says: Hello, Partial, Final, Gap. Positions are absolute samples; JSON carries seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PROTOCOL = 1
MAX_SECONDS = 1e9  # in a message that is read: thirty years
MAX_SAMPLE_RATE = 1_000_000


@dataclass(frozen=True, slots=True)
class Hello:
    """A stream begins: which model hears it, where the audio comes from, and a name by which to know it again."""

    model: str
    language: str
    sample_rate: int
    source: str
    stream: str = ""
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a final; confidence is in [0, 1]."""

    text: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Partial:
    """All that is known so far about an open segment; it replaces earlier partials of the same segment.

    The first `stable` characters of `text` are whole words that will not change; the rest may.
    """

    segment: int
    start: int
    end: int
    text: str
    stable: int


@dataclass(frozen=True, slots=True)
class Final:
    """A finished segment; it never changes."""

    segment: int
    start: int
    end: int
    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Audio between `start` and `end` was lost and why; nothing is ever lost silently."""

    start: int
    end: int
    reason: str


Event = Hello | Partial | Final | Gap


def to_json(event: Event, sample_rate: int) -> dict[str, Any]:
    """The event as docs/protocol.md describes it, times in seconds (milliseconds precision)."""

    def seconds(position: int) -> float:
        return round(position / sample_rate, 3)

    match event:
        case Hello():
            return {
                "type": "hello",
                "protocol": event.protocol,
                "model": event.model,
                "language": event.language,
                "sample_rate": event.sample_rate,
                "source": event.source,
                "stream": event.stream,
            }
        case Gap():
            return {"type": "gap", "start": seconds(event.start), "end": seconds(event.end), "reason": event.reason}
    message: dict[str, Any] = {
        "type": "partial" if isinstance(event, Partial) else "final",
        "segment": event.segment,
        "start": seconds(event.start),
        "end": seconds(event.end),
        "text": event.text,
    }
    if isinstance(event, Partial):
        return message | {"stable": event.stable}
    words = [
        {"text": w.text, "start": seconds(w.start), "end": seconds(w.end), "confidence": round(w.confidence, 3)}
        for w in event.words
    ]
    return message | {"words": words}


def from_json(message: Any, sample_rate: int = 1) -> Event:
    """The event that `to_json` makes this message of; a Hello brings its own rate. ValueError when there is none."""
    match _field(message, "type", str):
        case "hello":
            names = {"model": str, "language": str, "sample_rate": int, "source": str, "stream": str, "protocol": int}
            hello = Hello(*(_field(message, name, kind) for name, kind in names.items()))
            if not 0 < hello.sample_rate <= MAX_SAMPLE_RATE:
                raise ValueError("a hello has a sample rate that cannot be")
            return hello
        case "gap":
            return Gap(*_positions(message, sample_rate), _field(message, "reason", str))
        case "partial":
            start, end = _positions(message, sample_rate)
            segment, stable = _field(message, "segment", int), _field(message, "stable", int)
            return Partial(segment, start, end, _field(message, "text", str), stable)
        case "final":
            start, end = _positions(message, sample_rate)
            words = tuple(_word(word, sample_rate) for word in _field(message, "words", list))
            return Final(_field(message, "segment", int), start, end, _field(message, "text", str), words)
    raise ValueError(f"{message['type']!r} is no type of event")


def _word(message: Any, sample_rate: int) -> Word:
    confidence = _field(message, "confidence", float)
    if not 0 <= confidence <= 1:  # NaN too, which JSON does not have
        raise ValueError("a word has a confidence that cannot be")
    return Word(_field(message, "text", str), *_positions(message, sample_rate), confidence)


def _positions(message: Any, sample_rate: int) -> tuple[int, int]:
    """Start and end in samples."""
    start, end = _field(message, "start", float), _field(message, "end", float)
    if not 0 <= start <= MAX_SECONDS or not 0 <= end <= MAX_SECONDS:  # infinite, or no number at all
        raise ValueError("a message has times that cannot be")
    return round(start * sample_rate), round(end * sample_rate)


def _field(message: Any, name: str, kind: type) -> Any:
    """A field of a message, where it is of this kind; a whole number is a float too."""
    value = message.get(name) if isinstance(message, dict) else None
    if not isinstance(value, (int, float) if kind is float else kind):
        raise ValueError(f"a message has no {name}")
    return value
