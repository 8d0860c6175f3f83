"""What each head of a network is to say of an utterance: its tokens, single letters, the phones of its words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from train.config import Config
from train.data import DataError
from train.text import spell

Integers = NDArray[np.int64]


class Target(NamedTuple):
    """Labels of a batch, padded [B, L]; how many each has [B]; 1 where they are known, 0 where not [B]."""

    labels: Integers
    lengths: Integers
    known: NDArray[np.float32]


@lru_cache(maxsize=2)
def pronunciations(path: Path) -> Mapping[str, tuple[str, ...]]:
    """The first pronunciation of every word, without stress, in a dictionary like CMUdict; DataError if it is none.

    A line is a word, `word(2)` for its second pronunciation, and its phones; after # is a remark.
    """
    found: dict[str, tuple[str, ...]] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            word, *phones = line.partition("#")[0].partition(";;;")[0].lower().split() or [""]
            if phones and not re.fullmatch(r".+\(\d+\)", word):
                found[word] = tuple(phone.rstrip("012") for phone in phones)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): give a pronunciation dictionary as CMUdict is one") from None
    if not found:
        raise DataError(f"{path} has no line of a word and its phones: give a dictionary as CMUdict is one")
    return found


def pronounce(text: str, known: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """The phones of a normalised text, None when a word is not in the dictionary."""
    said: list[str] = []
    for word in text.split():
        if word not in known:
            return None
        said += known[word]
    return said


def targets(labels: Integers, lengths: Integers, config: Config) -> list[Target]:
    """What the heads of the configured network are to say, in their order, for a batch of labels [B, L]."""
    rows = [row[:n].tolist() for row, n in zip(labels, lengths, strict=True)]
    found = [_pad(rows)]
    if config.network == "streaming":
        found.append(_pad([spell(row, config.vocab) for row in rows]))
        if config.phones:
            number = {phone: i for i, phone in enumerate(config.phones)}
            known = pronunciations(Path(config.pronunciations))
            said = [pronounce("".join(config.vocab[i] for i in row), known) for row in rows]
            found.append(_pad([None if phones is None else [number[phone] for phone in phones] for phones in said]))
    return found


def _pad(rows: Sequence[Sequence[int] | None]) -> Target:
    filled = [row or [] for row in rows]
    labels = np.zeros((len(filled), max([1, *map(len, filled)])), np.int64)
    for row, found in zip(labels, filled, strict=True):
        row[: len(found)] = found
    known = np.array([row is not None for row in rows], np.float32)
    return Target(labels, np.array([len(row) for row in filled]), known)
