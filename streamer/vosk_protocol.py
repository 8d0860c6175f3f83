"""The messages of vosk-server's WebSocket protocol: a client's text in, replies out, as JSON that looks like its.

See github.com/alphacep/vosk-server, websocket/asr_server.py: every binary message is answered by exactly one text.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import Any, Literal

from streamer.events import Event, Final, Partial, Word
from streamer.session_config import SAMPLE_RATES, ConfigError, load_message, load_phrases

log = logging.getLogger("asr_stream")


@dataclass(frozen=True, slots=True)
class VoskConfig:
    """What a client has asked for."""

    sample_rate: int = 8000
    words: bool = True
    max_alternatives: int = 0
    phrases: tuple[str, ...] = ()  # single words, in lower case


class Dialogue:
    """One client: `read` its text, `tell` it events, `reply` to each of its binary messages."""

    def __init__(self, config: VoskConfig, sample_rate: int) -> None:
        self.config = config
        self._sample_rate = sample_rate  # of the positions in events
        self._finals: list[Final] = []
        self._partial = ""

    def read(self, text: str, begun: bool) -> Literal["config", "eof", "reset"]:
        """What a text message is; a configuration counts unless audio has begun. ConfigError."""
        message = load_message(text)
        if "config" in message:
            if not begun:
                self.config = _configured(self.config, message["config"])
            return "config"
        if "eof" in message:
            return "eof"
        if "reset" in message:
            return "reset"
        raise ConfigError('the text message is none of {"config": ...}, {"eof": 1} and {"reset": 1}')

    def tell(self, event: Event) -> None:
        """Note what the next reply will say."""
        if isinstance(event, Partial):
            self._partial = event.text
        elif isinstance(event, Final):
            self._partial = ""
            self._finals.append(event)

    def reply(self) -> str:
        """The answer to audio: the segments that it ended as one result, or what the open one says so far."""
        return self.last() if self._finals else _dump({"partial": self._partial})

    def last(self) -> str:
        """The answer to the end of the audio, when the open segment is closed."""
        finals, self._finals = self._finals, []
        return _dump(self._result(finals))

    def _result(self, finals: list[Final]) -> dict[str, Any]:
        text = " ".join(final.text for final in finals)
        words = [self._told(word) for final in finals for word in final.words]
        if self.config.max_alternatives:
            confidence = sum(word["conf"] for word in words) / len(words) if words else 1.0
            bare = [{name: word[name] for name in ("end", "start", "word")} for word in words]
            told: dict[str, Any] = {"confidence": round(confidence, 6)}
            told |= {"result": bare} if bare and self.config.words else {}
            return {"alternatives": [told | {"text": text}]}
        return {"result": words, "text": text} if words and self.config.words else {"text": text}

    def _told(self, word: Word) -> dict[str, Any]:
        start, end = (round(position / self._sample_rate, 3) for position in (word.start, word.end))
        return {"conf": round(word.confidence, 6), "end": end, "start": start, "word": word.text}


def _configured(config: VoskConfig, wanted: object) -> VoskConfig:
    """The configuration as a client wants it, read as liberally as vosk-server does; unknown fields are ignored."""
    if not isinstance(wanted, dict):
        raise ConfigError("the config is not a JSON object")
    if "model" in wanted:
        log.info("a client of vosk-server's protocol asked for another model, which is ignored")
    if "sample_rate" in wanted:
        config = replace(config, sample_rate=_rate(wanted["sample_rate"]))
    if "words" in wanted:
        config = replace(config, words=bool(wanted["words"]))
    if "max_alternatives" in wanted:
        config = replace(config, max_alternatives=_count(wanted["max_alternatives"]))
    if "phrase_list" in wanted:
        config = replace(config, phrases=load_phrases(wanted["phrase_list"], "the config's phrase_list"))
    return config


def _rate(value: object) -> int:
    low, high = SAMPLE_RATES
    try:
        rate = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        rate = 0.0
    if not low <= rate <= high:
        raise ConfigError(f"the config's sample_rate must be a number of Hz from {low} to {high}")
    return round(rate)


def _count(value: object) -> int:
    if not isinstance(value, int | float) or not 0 <= value <= 1000:
        raise ConfigError("the config's max_alternatives must be a number from 0 to 1000")
    return int(value)


def _dump(message: dict[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, indent=2, separators=(",", " : "))
