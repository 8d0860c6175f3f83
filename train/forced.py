"""Where words of a known text lie in a recording: the likeliest CTC path that spells it (Viterbi)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.recognizer import Floats
from streamer.spec import ModelSpec
from train.text import ctc_frames, encode

NEVER = -1e30


@dataclass(frozen=True, slots=True)
class Placed:
    """A word of the reference and the output frames [start, end) from its first token to its last."""

    text: str
    start: int
    end: int


def place(text: str, log_probs: Floats, spec: ModelSpec) -> list[Placed] | None:
    """The words of a normalised text at their frames, or None when the model cannot spell it in so many frames.

    log_probs: float32 [frames, vocab].
    """
    labels = encode(text, spec.vocab)
    if not labels or ctc_frames(labels) > len(log_probs):
        return None
    spans = path(log_probs, labels, spec.blank)
    words = [Placed(word, len(log_probs), 0) for word in text.split()]
    n = 0
    for label, (start, end) in zip(labels, spans, strict=True):
        for letter in spec.vocab[label]:
            if letter == " ":
                n += 1
            else:
                words[n] = Placed(words[n].text, min(words[n].start, start), end)
    return words


def path(log_probs: Floats, labels: Sequence[int], blank: int) -> list[tuple[int, int]]:
    """Frames [start, end) of each label on the likeliest path (Graves 2012, section 7.3.1: blanks between labels)."""
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]  # from one label to another without a blank between
    score = np.full(len(states), NEVER)
    score[:2] = log_probs[0, states[:2]]
    came = np.zeros((len(log_probs), len(states)), np.int8)  # how many states further back the best path was
    for t in range(1, len(log_probs)):
        before = np.stack([score, _shifted(score, 1), np.where(skips, _shifted(score, 2), NEVER)])
        came[t] = before.argmax(axis=0)
        score = before.max(axis=0) + log_probs[t, states]
    state = int(len(states) - 2 + score[-2:].argmax())
    spans = [(len(log_probs), 0)] * len(labels)
    for t in range(len(log_probs) - 1, -1, -1):
        if state % 2:
            spans[state // 2] = (t, max(spans[state // 2][1], t + 1))
        state -= int(came[t, state])
    return spans


def _shifted(score: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    return np.concatenate([np.full(by, NEVER), score[:-by]])
