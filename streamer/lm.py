"""A word trigram language model: log-probabilities of a word after the two before it, backing off to shorter contexts.

Arrays only, as they lie in the file: the words that follow a context lie side by side and sorted, so that one binary
search finds them; probabilities are bytes in sixteenths of a nat.
"""

from __future__ import annotations

import bisect
import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.spec import SpecError, shown

UNKNOWN, BEGIN, END = 0, 1, 2  # the first three words of every model
STEPS_PER_NAT = 16
SCHEMA = 1
ARRAYS = ("words", "p1", "b1", "n2", "w2", "p2", "b2", "n3", "w3", "p3")


@dataclass(frozen=True, slots=True)
class LanguageSpec:
    """How a language model is weighed against the acoustic model; it travels in the file."""

    language: str = "en"
    weight: float = 0.6  # of its log-probabilities
    word_bonus: float = 3.0  # nats for every word, against the pull towards few and long ones
    unknown_penalty: float = 6.0  # nats for a word that is not in the list
    confidence_slope: float = 1.0  # these two make a word's confidence the probability that it is right
    confidence_offset: float = 0.0
    schema: int = SCHEMA
    training: Mapping[str, Any] = field(default_factory=dict)


class LanguageModel:
    """Shared and read-only; made from the arrays of a file, or SpecError says what is wrong with them."""

    def __init__(self, spec: LanguageSpec, arrays: Mapping[str, NDArray[Any]]) -> None:
        tables = [arrays[name] for name in ARRAYS[1:]]
        if any(table.ndim != 1 or table.dtype.kind != "u" for table in tables):
            raise SpecError("the language model's tables are not rows of whole numbers")
        self.spec = spec
        self.words = str(arrays["words"]).split("\n")
        self._id = {word: i for i, word in enumerate(self.words)}
        self._sorted = sorted(self.words[END + 1 :])
        self._p = [arrays[name].astype(np.float32) / -STEPS_PER_NAT for name in ("p1", "p2", "p3")]
        self._backoff = [arrays[name].astype(np.float32) / -STEPS_PER_NAT for name in ("b1", "b2")]
        self._next = [arrays["w2"], arrays["w3"]]
        self._first = [np.concatenate([[0], np.cumsum(arrays[name].astype(np.int64))]) for name in ("n2", "n3")]
        sizes = [len(self.words), len(arrays["w2"]), len(arrays["w3"])]
        given = [len(p) for p in self._p] + [len(b) for b in self._backoff] + [len(f) - 1 for f in self._first]
        if (
            len(self.words) <= END
            or given != [*sizes, *sizes[:2], *sizes[:2]]
            or [int(f[-1]) for f in self._first] != sizes[1:]
        ):
            raise SpecError("the language model's tables do not fit together")
        self.score = lru_cache(maxsize=100_000)(self._score)
        self.begins_word = lru_cache(maxsize=50_000)(self._begins_word)

    def with_spec(self, spec: LanguageSpec) -> LanguageModel:
        """The same tables, weighed otherwise."""
        other = copy.copy(self)
        other.spec = spec
        return other

    def id(self, word: str) -> int:
        """The number of a word, UNKNOWN when it is not in the list."""
        return self._id.get(word, UNKNOWN)

    def _score(self, before: int, last: int, word: int) -> float:
        """ln p(word | before last); `before` is -1 at the beginning of a segment."""
        backoff = 0.0
        pair = self._find(0, last, before) if before >= 0 else -1
        if pair >= 0:
            triple = self._find(1, word, pair)
            if triple >= 0:
                return float(self._p[2][triple])
            backoff = float(self._backoff[1][pair])
        pair = self._find(0, word, last)
        if pair >= 0:
            return backoff + float(self._p[1][pair])
        return backoff + float(self._backoff[0][last] + self._p[0][word])

    def _find(self, order: int, word: int, context: int) -> int:
        """Where `word` stands among those that follow a context, -1 when it does not."""
        start, end = self._first[order][context : context + 2]
        at = int(start + np.searchsorted(self._next[order][start:end], word))
        return at if at < end and self._next[order][at] == word else -1

    def _begins_word(self, text: str) -> bool:
        """Whether a word in the list begins so."""
        at = bisect.bisect_left(self._sorted, text)
        return at < len(self._sorted) and self._sorted[at].startswith(text)


def load_language_spec(text: str) -> LanguageSpec:
    """Read a language model's description; SpecError names what is missing, unknown or wrong."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise SpecError(f"the language model's description is not JSON: {error}") from None
    known = {f.name for f in fields(LanguageSpec)}
    if not isinstance(raw, dict) or set(raw) - known or raw.get("schema") != SCHEMA:
        raise SpecError(f"the language model's description is not of schema {SCHEMA}")
    for name in ("weight", "word_bonus", "unknown_penalty", "confidence_slope", "confidence_offset"):
        least = -100 if name == "confidence_offset" else 0
        if not isinstance(raw.get(name, 0.0), int | float) or not least <= raw.get(name, 0.0) <= 100:
            raise SpecError(f"the language model's {name} is {shown(raw[name])}")
    return LanguageSpec(**raw)
