"""What a recogniser says: Hello, Partial, Final, Gap. Positions are absolute samples; JSON carries seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PROTOCOL = 1


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


def from_json(message: dict[str, Any], sample_rate: int = 1) -> Event:
    """The event that `to_json` makes this message of; a Hello brings its own rate. KeyError, ValueError, TypeError."""

    def position(seconds: float) -> int:
        return round(seconds * sample_rate)

    match message["type"]:
        case "hello":
            names = ("model", "language", "sample_rate", "source", "stream", "protocol")
            return Hello(*(message[name] for name in names))
        case "gap":
            return Gap(position(message["start"]), position(message["end"]), message["reason"])
        case "partial" | "final" as kind:
            where = message["segment"], position(message["start"]), position(message["end"])
            if kind == "partial":
                return Partial(*where, message["text"], message["stable"])
            words = (
                Word(w["text"], position(w["start"]), position(w["end"]), w["confidence"]) for w in message["words"]
            )
            return Final(*where, message["text"], tuple(words))
    raise ValueError(f"{message['type']!r} is no type of event")
