"""The Wyoming protocol's messages: bytes in, messages out and back; what a client asks for; what it is told.

See github.com/OHF-Voice/wyoming: a line of JSON that says how many bytes of JSON and of audio follow it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from streamer.events import Event, Final, Partial
from streamer.session_config import MAX_DEPTH, SAMPLE_RATES, Config, ConfigError, Encoding, depth, load_phrases
from streamer.spec import ModelSpec

MAX_HEADER_BYTES = 1 << 14
MAX_DATA_BYTES = 1 << 16
MAX_PAYLOAD_BYTES = 1 << 20
MAX_CHANNELS = 8
ENCODINGS: dict[object, Encoding] = {1: "u8", 2: "s16le", 3: "s24le", 4: "s32le"}  # by the bytes of a sample


@dataclass(frozen=True, slots=True)
class Message:
    """One message: the protocol calls it an event."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    def dump(self) -> bytes:
        """The message as it is sent."""
        data = json.dumps(self.data).encode() if self.data else b""
        header = {"type": self.type, "data_length": len(data), "payload_length": len(self.payload)}
        return json.dumps(header).encode() + b"\n" + data + self.payload


class Parser:
    """Bytes of any cut → messages: `push` what has come, `take` until it gives None. It holds one message at most."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._header: tuple[Message, int, int] | None = None  # with the lengths of its data and its payload

    def push(self, data: bytes) -> None:
        """Take the next bytes."""
        self._bytes += data

    def take(self) -> Message | None:
        """The next message, or None when more bytes are needed; ConfigError when it is none."""
        if self._header is None:
            length = self._bytes.find(b"\n")
            if max(length, len(self._bytes) if length < 0 else 0) > MAX_HEADER_BYTES:
                raise ConfigError(f"a message's line of JSON may have at most {MAX_HEADER_BYTES} bytes")
            if length < 0:
                return None
            self._header = _load_header(self._cut(length + 1))
        message, data_bytes, payload_bytes = self._header
        if len(self._bytes) < data_bytes + payload_bytes:
            return None
        self._header = None
        more = _load_object(self._cut(data_bytes), "a message's data") if data_bytes else {}
        return replace(message, data=message.data | more, payload=self._cut(payload_bytes))

    def _cut(self, count: int) -> bytes:
        data = bytes(self._bytes[:count])
        del self._bytes[:count]
        return data


def _load_header(line: bytes) -> tuple[Message, int, int]:
    header = _load_object(line, "a message's first line")
    if not isinstance(header.get("type"), str):
        raise ConfigError("a message's first line has no type")
    data = header.get("data") or {}
    if not isinstance(data, dict):
        raise ConfigError("a message's data is not a JSON object")
    lengths = (
        _length(header.get(name), name, most)
        for name, most in (("data_length", MAX_DATA_BYTES), ("payload_length", MAX_PAYLOAD_BYTES))
    )
    return (Message(header["type"], data), *lengths)  # type: ignore[return-value]  # there are two


def _length(value: object, name: str, most: int) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ConfigError(f"a message's {name} must be a whole number from 0 to {most}")
    return value


def _load_object(data: bytes, what: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ConfigError(f"{what} is not JSON") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{what} is not a JSON object")
    if depth(content) > MAX_DEPTH:
        raise ConfigError(f"{what} is nested deeper than {MAX_DEPTH} levels")
    return content


def load_words(data: dict[str, Any], language: str) -> tuple[str, ...]:
    """The words that a `transcribe` wants listened for, names first; ConfigError when it wants another language."""
    wanted = data.get("language")
    if isinstance(wanted, str) and wanted and _primary(wanted) != _primary(language):
        raise ConfigError(f"this server understands the language {language!r}, not {wanted[:40]!r}")
    phrases = [data.get(name) or [] for name in ("transcript_names", "transcript_terms")]
    return tuple(word for listed in phrases for word in load_phrases(listed, "transcribe's names and terms"))


def _primary(language: str) -> str:
    """The language without its region: "en" of "en-US" and "en_US"."""
    return language.lower().replace("_", "-").partition("-")[0]


def load_audio(data: dict[str, Any]) -> Config:
    """How the audio comes that an `audio-start` or `audio-chunk` tells of; ConfigError names what is wrong."""
    rate, width, channels = (data.get(name) for name in ("rate", "width", "channels"))
    low, high = SAMPLE_RATES
    if type(rate) is not int or not low <= rate <= high:
        raise ConfigError(f"the audio's rate must be a whole number of Hz from {low} to {high}")
    if type(width) is not int or width not in ENCODINGS:
        raise ConfigError("the audio's width must be a number of bytes from 1 to 4")
    if type(channels) is not int or not 1 <= channels <= MAX_CHANNELS:
        raise ConfigError(f"the audio's channels must be a number from 1 to {MAX_CHANNELS}")
    return Config(rate, ENCODINGS[width], channels=channels, words=False)


class Transcript:
    """What one client is told of its audio: `tell` it events, `take` what was settled since, and at the end `text`."""

    def __init__(self) -> None:
        self.characters = 0  # of all that has been settled
        self._told: list[str] = []
        self._new = ""
        self._within = 0  # characters of the open segment that are among these already

    def tell(self, event: Event) -> None:
        """Note what will not change any more."""
        if isinstance(event, Partial):
            self._settle(event.text[: event.stable])
        elif isinstance(event, Final):
            self._settle(event.text)
            self._within = 0

    def take(self) -> str:
        """What has been settled since the last time."""
        new, self._new = self._new, ""
        if new:
            self._told.append(new)
        return new

    @property
    def text(self) -> str:
        """All that has been taken."""
        return "".join(self._told)

    def _settle(self, text: str) -> None:
        if len(text) > self._within:
            between = " " if self.characters and not self._within else ""
            new = between + text[self._within :]
            self._new += new
            self.characters += len(new)
            self._within = len(text)


def info(spec: ModelSpec) -> dict[str, Any]:
    """The data of an `info` message: one program with one model, whose version is a fingerprint of its description."""
    program = {
        "attribution": {"name": "asr-stream", "url": ""},
        "installed": True,
        "version": _version(),
    }
    model = program | {
        "name": spec.name,
        "description": f"{spec.name}, {spec.kind}, {spec.features.sample_rate} Hz",
        "version": hashlib.sha256(spec.dump().encode()).hexdigest()[:12],
        "languages": [spec.language],
    }
    about = {"name": "asr-stream", "description": "Speech recognition on your own machine, while you speak"}
    streaming = {"supports_transcript_streaming": True, "requires_external_vad": True}
    return {"asr": [program | about | {"models": [model]} | streaming]}


def _version() -> str | None:
    try:
        return version("asr-stream")
    except PackageNotFoundError:  # run from its folder
        return None
