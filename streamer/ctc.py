"""Greedy CTC decoding, one frame after the other: (hypothesis, log_probs) in, hypothesis out.

Graves et al. 2006: take the best token of every frame, merge repeats, drop blanks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamer.spec import ModelSpec

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Token:
    """One emitted token: its index in the vocabulary, the output frames it spans and its highest probability."""

    id: int
    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a segment has decoded to so far; `frame` counts output frames, `last_id` is the last frame's best token."""

    tokens: tuple[Token, ...] = ()
    last_id: int = -1
    frame: int = 0
    trailing_blanks: int = 0

    @property
    def spoken(self) -> bool:
        """Whether anything was said."""
        return bool(self.tokens)


@dataclass(frozen=True, slots=True)
class WordSpan:
    """A word in output frames; before calibration its confidence is the geometric mean of its tokens' probabilities."""

    text: str
    start: int
    end: int
    confidence: float


def step(hypothesis: Hypothesis, log_probs: Floats, blank: int) -> Hypothesis:
    """Decode more frames; log_probs: float32 [frames, vocab]."""
    tokens = list(hypothesis.tokens)
    last, frame, blanks = hypothesis.last_id, hypothesis.frame, hypothesis.trailing_blanks
    best = log_probs.argmax(axis=1)
    scores = log_probs[np.arange(len(best)), best]
    for token, score in zip(best.tolist(), scores.tolist(), strict=True):
        probability = math.exp(score)  # not np.exp: its last bit depends on the array's length
        if token == blank:
            blanks += 1
        elif token == last:
            previous = tokens[-1]
            peak = max(previous.probability, probability)
            tokens[-1] = replace(previous, end=frame + 1, probability=peak)
            blanks = 0
        else:
            tokens.append(Token(token, frame, frame + 1, probability))
            blanks = 0
        last, frame = token, frame + 1
    return Hypothesis(tuple(tokens), last, frame, blanks)


def words(hypothesis: Hypothesis, vocab: Sequence[str]) -> tuple[WordSpan, ...]:
    """The words decoded so far: tokens between spaces, joined."""
    return tuple(_words(hypothesis, vocab))


def _words(hypothesis: Hypothesis, vocab: Sequence[str]) -> Iterator[WordSpan]:
    run: list[Token] = []
    for token in (*hypothesis.tokens, None):
        if token is not None and vocab[token.id] != " ":
            run.append(token)
        elif run:
            confidence = math.exp(sum(math.log(max(t.probability, 1e-9)) for t in run) / len(run))
            yield WordSpan("".join(vocab[t.id] for t in run), run[0].start, run[-1].end, min(confidence, 1.0))
            run = []


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a confidence becomes the probability that the word is right: sigmoid(slope * logit + offset) (Platt 1999)."""

    slope: float = 1.0
    offset: float = 0.0

    def apply(self, spans: Iterable[WordSpan]) -> tuple[WordSpan, ...]:
        """The words with calibrated confidences."""
        return tuple(WordSpan(s.text, s.start, s.end, self.probability(s.confidence)) for s in spans)

    def probability(self, confidence: float) -> float:
        """The calibrated confidence, in [0, 1]."""
        return 0.5 + 0.5 * math.tanh((self.slope * logit(confidence) + self.offset) / 2)


def logit(p: float) -> float:
    """ln(p / (1 - p)), finite for 0 and 1 too."""
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


@dataclass(frozen=True, slots=True)
class Greedy:
    """The decoder without a language model; what it has decoded never changes."""

    vocab: Sequence[str]
    blank: int
    calibration: Calibration = Calibration()

    @property
    def start(self) -> Hypothesis:
        """Before the first frame."""
        return Hypothesis()

    def step(self, hypothesis: Hypothesis, log_probs: Floats) -> Hypothesis:
        """Decode more frames; log_probs: float32 [frames, vocab]."""
        return step(hypothesis, log_probs, self.blank)

    def words(self, hypothesis: Hypothesis, ended: bool = False) -> tuple[WordSpan, ...]:
        """The words decoded so far."""
        return self.calibration.apply(_words(hypothesis, self.vocab))

    def settled(self, hypothesis: Hypothesis) -> int:
        """How many words can no longer change: all but one that may go on."""
        said = "".join(self.vocab[token.id] for token in hypothesis.tokens)
        return sum(map(bool, said.split(" "))) - self.within_word(hypothesis)

    def within_word(self, hypothesis: Hypothesis) -> bool:
        """Whether the last word may go on."""
        return bool(hypothesis.tokens) and self.vocab[hypothesis.tokens[-1].id] != " "


def greedy(spec: ModelSpec) -> Greedy:
    """The decoder of a model that has no language model beside it."""
    return Greedy(spec.vocab, spec.blank, Calibration(spec.confidence_slope, spec.confidence_offset))
