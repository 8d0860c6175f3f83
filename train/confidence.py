"""Whether confidences mean what they say: of the words told with 0.8, four in five should be right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamer.ctc import Calibration, logit
from train.align import align

Judged = tuple[float, bool]  # the confidence of a word that was heard, and whether it is right
BINS = 10


class Heard(Protocol):
    """A word with its confidence."""

    @property
    def text(self) -> str: ...
    @property
    def confidence(self) -> float: ...


def judge(reference: str, words: Sequence[Heard]) -> list[Judged]:
    """The words that were heard, right where an alignment with the fewest edits has the same word in the reference."""
    pairs = align(reference.split(), [word.text for word in words])
    right = [expected == text for expected, text in pairs if text is not None]
    return [(word.confidence, same) for word, same in zip(words, right, strict=True)]


@dataclass(frozen=True, slots=True)
class Bin:
    """Words of similar confidence: its mean, the share that is right, how many they are."""

    confidence: float
    right: float
    count: int


def reliability(judged: Iterable[Judged], bins: int = BINS) -> list[Bin]:
    """Words by confidence in bins of equal width; those without words are left out."""
    groups: list[list[Judged]] = [[] for _ in range(bins)]
    for confidence, right in judged:
        groups[min(int(confidence * bins), bins - 1)].append((confidence, right))
    return [
        Bin(sum(p for p, _ in group) / len(group), sum(right for _, right in group) / len(group), len(group))
        for group in groups
        if group
    ]


def calibration_error(judged: Sequence[Judged], bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al. 2015): how far confidence is from the share that is right, on average.

    The mean over all words of |confidence - share| of their bin.
    """
    return sum(b.count * abs(b.confidence - b.right) for b in reliability(judged, bins)) / max(len(judged), 1)


def calibrate(judged: Sequence[Judged]) -> Calibration:
    """The logistic map that makes these confidences likeliest, with Platt's targets short of 0 and 1 (Platt 1999)."""
    from scipy.optimize import minimize

    logits = np.array([logit(confidence) for confidence, _ in judged])
    right = np.array([right for _, right in judged], bool)
    target = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))

    def loss(weights: np.ndarray) -> float:
        z = weights[0] * logits + weights[1]
        return float(np.mean(np.logaddexp(0, z) - target * z))

    found = minimize(loss, [1.0, 0.0], bounds=[(0, 100), (-100, 100)])
    return Calibration(*(round(float(weight), 4) for weight in found.x))
