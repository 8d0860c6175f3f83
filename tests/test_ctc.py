from __future__ import annotations

import numpy as np
import pytest

from streamer import ctc

VOCAB = ("<blank>", " ", "a", "b")


def decode(best: str, probability: float = 0.9) -> ctc.Hypothesis:
    """The hypothesis for frames whose best tokens are given, `-` for blank."""
    ids = ["- ab".index(c) for c in best]
    probabilities = np.full((len(ids), 4), (1 - probability) / 3, np.float32)
    probabilities[np.arange(len(ids)), ids] = probability
    return ctc.step(ctc.Hypothesis(), np.log(probabilities), blank=0)


def text(hypothesis: ctc.Hypothesis) -> str:
    return " ".join(word.text for word in ctc.words(hypothesis, VOCAB))


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ("", ""),
        ("---", ""),
        ("aaa", "a"),
        ("a-a", "aa"),
        ("aab-b", "abb"),
        ("-a  b-", "a b"),
        ("  a--  - b ", "a b"),
    ],
)
def test_repeats_merge_and_blanks_vanish(frames: str, expected: str) -> None:
    assert text(decode(frames)) == expected


def test_words_know_the_frames_they_span() -> None:
    first, second = ctc.words(decode("-aab--  bb-"), VOCAB)
    assert (first.start, first.end, second.start, second.end) == (1, 4, 8, 10)


def test_a_words_confidence_is_the_geometric_mean_of_its_tokens() -> None:
    sure, unsure = decode("a", 0.9), decode("b", 0.4)
    both = ctc.Hypothesis(sure.tokens + unsure.tokens)
    [word] = ctc.words(both, VOCAB)
    assert word.confidence == pytest.approx((0.9 * 0.4) ** 0.5)


def test_trailing_blanks_are_counted_from_the_last_token() -> None:
    assert decode("a---").trailing_blanks == 3
    assert decode("--a").trailing_blanks == 0


def test_greedy_is_the_best_path_of_all_paths() -> None:
    """Against brute force: the most probable single path, collapsed."""
    rng = np.random.default_rng(4)
    log_probs = np.log(rng.dirichlet(np.ones(4), 5)).astype(np.float32)
    paths = np.stack(np.meshgrid(*[range(4)] * 5, indexing="ij"), -1).reshape(-1, 5)
    best = paths[log_probs[np.arange(5), paths].sum(axis=1).argmax()]
    collapsed = [t for i, t in enumerate(best) if t and (i == 0 or t != best[i - 1])]
    assert [token.id for token in ctc.step(ctc.Hypothesis(), log_probs, 0).tokens] == collapsed
