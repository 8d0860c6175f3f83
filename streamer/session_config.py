"""What a client of /recognize says in JSON, checked: its configuration and its end; and its audio as samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from streamer.endpoint import Endpointing

Floats = NDArray[np.float32]
Format = Literal["s16le", "f32le"]  # what a client of /recognize may send
Encoding = Format | Literal["u8", "s24le", "s32le"]

MAX_TEXT_BYTES, MAX_DEPTH = 16_384, 8
MAX_HOTWORDS, MAX_HOTWORD_CHARACTERS = 200, 40
SAMPLE_RATES = (4000, 192_000)
PAUSE_SECONDS = (0.1, 10.0)
PIECE_BYTES = 1 << 16  # of a message, made into samples at a time
SAMPLE_BYTES: dict[Encoding, int] = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}


class ConfigError(ValueError):
    """A client's message is not what it should be; the message is one sentence for the client."""


@dataclass(frozen=True, slots=True)
class Config:
    """How a session's audio comes and what its client wants to hear."""

    sample_rate: int = 16000
    format: Encoding = "s16le"
    partials: bool = True
    words: bool = True
    hotwords: tuple[str, ...] = ()
    pause_seconds: float = Endpointing().pause_seconds
    channels: int = 1


def load_message(text: str) -> dict[str, Any]:
    """A client's JSON object, of bounded size; ConfigError when it is something else."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise ConfigError(f"a text message may have at most {MAX_TEXT_BYTES} bytes: send audio as binary messages")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError("the text message is not JSON: send an object with a type") from None
    if not isinstance(message, dict):
        raise ConfigError("the text message is not a JSON object: send an object with a type")
    if depth(message) > MAX_DEPTH:
        raise ConfigError(f"the text message is nested deeper than {MAX_DEPTH} levels: send an object with a type")
    return message


def depth(value: object) -> int:
    """How many lists and objects lie within each other."""
    levels, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
        levels += 1
    return levels


def load_config(message: dict[str, Any]) -> Config:
    """The configuration that a `config` message describes; ConfigError names what is unknown or wrong."""
    facts = {name: value for name, value in message.items() if name != "type"}
    for name in facts:
        if name not in _CHECKS:
            raise ConfigError(f"the config has an unknown field {name[:40]!r}: known are {', '.join(_CHECKS)}")
    for name, value in facts.items():
        valid, expected = _CHECKS[name]
        if not valid(value):
            raise ConfigError(f"the config's {name} must be {expected}")
    if "hotwords" in facts:
        facts["hotwords"] = tuple(word for phrase in facts["hotwords"] for word in phrase.lower().split())
    return Config(**facts)


def load_phrases(phrases: object, name: str) -> tuple[str, ...]:
    """The words of a list of phrases, in lower case, as many as may be listened for; ConfigError when it is no list."""
    if not isinstance(phrases, list):
        raise ConfigError(f"{name} must be a list of phrases")
    words = (word for phrase in phrases if isinstance(phrase, str) for word in phrase.lower().split())
    return tuple(word for word in words if len(word) <= MAX_HOTWORD_CHARACTERS)[:MAX_HOTWORDS]


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _are_hotwords(value: object) -> bool:
    if not isinstance(value, list) or not all(isinstance(phrase, str) for phrase in value):
        return False
    words = [word for phrase in value for word in phrase.split()]
    return len(words) <= MAX_HOTWORDS and all(len(word) <= MAX_HOTWORD_CHARACTERS for word in words)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sample_rate": (
        lambda value: _is_number(value, *SAMPLE_RATES) and isinstance(value, int),
        "a whole number of Hz from {} to {}".format(*SAMPLE_RATES),
    ),
    "format": (lambda value: value in get_args(Format), " or ".join(get_args(Format))),
    "partials": (lambda value: isinstance(value, bool), "true or false"),
    "words": (lambda value: isinstance(value, bool), "true or false"),
    "hotwords": (
        _are_hotwords,
        f"a list of at most {MAX_HOTWORDS} words of at most {MAX_HOTWORD_CHARACTERS} characters",
    ),
    "pause_seconds": (
        lambda value: _is_number(value, *PAUSE_SECONDS),
        "a number of seconds from {} to {}".format(*PAUSE_SECONDS),
    ),
}


class Pcm:
    """Bytes of any cut as float32 samples; a sample that a message splits is completed by the next one."""

    def __init__(self, form: Encoding, channels: int = 1) -> None:
        self._form, self._channels = form, channels
        self._size = channels * SAMPLE_BYTES[form]
        self._begun = b""

    def push(self, data: bytes) -> Iterator[Floats]:
        """The samples that are complete, in pieces of bounded size; not yet clipped, and maybe no numbers.

        [n] for one channel, [n, channels] for more.
        """
        for at in range(0, len(data), PIECE_BYTES):
            piece = self._begun + data[at : at + PIECE_BYTES]
            whole = len(piece) // self._size * self._size
            self._begun = piece[whole:]
            if whole:
                samples = _samples(piece[:whole], self._form)
                yield samples if self._channels == 1 else samples.reshape(-1, self._channels)


def _samples(data: bytes, form: Encoding) -> Floats:
    match form:
        case "u8":
            return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(1 << 7)
        case "s16le":
            return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(1 << 15)
        case "f32le":
            return np.frombuffer(data, "<f4").astype(np.float32)
        case "s24le":  # as the upper three bytes of four
            upper = np.frombuffer(data, np.uint8).reshape(-1, 3)
            data = np.pad(upper, ((0, 0), (1, 0))).tobytes()
    return np.frombuffer(data, "<i4").astype(np.float32) / np.float32(1 << 31)
