"""Beam search finds what an exhaustive search finds, whatever the cut, and what it calls settled stays."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import ctc
from streamer.beam import BeamSearch, Hotwords
from streamer.lm import BEGIN, UNKNOWN, LanguageModel, LanguageSpec
from train.lm import estimate

VOCAB = ("<blank>", " ", "a", "b", "ab")
SENTENCES = [s.split() for s in ("a b a", "ab a", "b ab", "a b a b", "ab ab a", "ba ba", "a ba b")]
ARRAYS = estimate(SENTENCES)


def search(width: int = 10_000, vocab: tuple[str, ...] = VOCAB, **weights: float) -> BeamSearch:
    spec = LanguageSpec(
        weight=weights.get("weight", 0.7), word_bonus=weights.get("word_bonus", 0.5), unknown_penalty=2.0
    )
    return BeamSearch(vocab, 0, LanguageModel(spec, ARRAYS), width=width, least=-1e9, margin=1e9)


def random_log_probs(seed: int, frames: int, sharpness: float = 1.0, vocab: int = len(VOCAB)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.log(rng.dirichlet(np.full(vocab, sharpness), frames) + 1e-9).astype(np.float32)


def told(decoder: BeamSearch, log_probs: np.ndarray) -> str:
    return " ".join(word.text for word in decoder.words(decoder.step(decoder.start, log_probs), ended=True))


def language_score(text: str, lm: LanguageModel) -> float:
    """What the words of a text count, unknown ones with their penalty."""
    total, context = 0.0, (-1, BEGIN)
    for word in text.split():
        number = lm.id(word)
        total += lm.spec.weight * lm.score(*context, number) + lm.spec.word_bonus
        total -= lm.spec.unknown_penalty if number == UNKNOWN else 0.0
        context = (context[1], number)
    return total


def exhaustive(log_probs: np.ndarray, lm: LanguageModel, vocab: tuple[str, ...] = VOCAB) -> str:
    """The best text over every alignment there is."""
    sums: dict[str, float] = {}
    for path in itertools.product(range(len(vocab)), repeat=len(log_probs)):
        kept = [t for i, t in enumerate(path) if t and (i == 0 or t != path[i - 1])]
        text = " ".join("".join(vocab[t] for t in kept).split())
        sums[text] = sums.get(text, 0.0) + math.exp(sum(float(log_probs[i, t]) for i, t in enumerate(path)))
    return max(sums, key=lambda text: math.log(sums[text]) + language_score(text, lm))


@pytest.mark.parametrize("vocab", [VOCAB, ("<blank>", " ", "a", "b", " a")])
def test_it_finds_the_text_that_is_best_over_all_alignments(vocab: tuple[str, ...]) -> None:
    found = []
    for seed in range(25):
        log_probs = random_log_probs(seed, 5)
        decoder = search(vocab=vocab)
        best = exhaustive(log_probs, decoder.lm, vocab)
        found.append(told(decoder, log_probs) == best)
    assert all(found), found


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 60), max_size=6))
def test_what_it_decodes_does_not_depend_on_the_cut(seed: int, cuts: list[int]) -> None:
    log_probs, decoder = random_log_probs(seed, 60, 0.2), search(width=6)
    whole = decoder.step(decoder.start, log_probs)
    beam = decoder.start
    for piece in np.split(log_probs, sorted(cuts)):
        beam = decoder.step(beam, piece)
    assert beam == whole


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_settled_words_never_change(seed: int) -> None:
    log_probs, decoder = random_log_probs(seed, 80, 0.15), search(width=6)
    beam, settled = decoder.start, []
    for row in log_probs:
        beam = decoder.step(beam, row[None])
        words = [word.text for word in decoder.words(beam)]
        count = decoder.settled(beam)
        assert words[: len(settled)] == settled
        assert count >= len(settled)
        settled = words[:count]
    final = [word.text for word in decoder.words(beam, ended=True)]
    assert final[: len(settled)] == settled


def test_the_language_model_decides_between_what_sounds_alike() -> None:
    """ "ba" is a word of the texts and "bb" is none, though it is a little likelier by ear."""
    frames = ["b", "ab", "-"]
    log_probs = np.log(np.full((len(frames), len(VOCAB)), 1e-4))
    log_probs[0, VOCAB.index("b")] = log_probs[2, 0] = 0.0
    log_probs[1, 0] = math.log(0.01)
    log_probs[1, VOCAB.index("a")], log_probs[1, VOCAB.index("ab")] = math.log(0.45), math.log(0.54)
    assert told(search(), log_probs.astype(np.float32)) == "ba"
    greedy = ctc.words(ctc.step(ctc.Hypothesis(), log_probs.astype(np.float32), 0), VOCAB)
    assert [word.text for word in greedy] == ["bab"]


def test_a_hotword_is_heard_though_no_text_has_it() -> None:
    log_probs = np.log(np.full((3, len(VOCAB)), 1e-4))
    log_probs[0, VOCAB.index("b")] = log_probs[2, 0] = 0.0
    log_probs[1, VOCAB.index("b")], log_probs[1, VOCAB.index("a")] = math.log(0.01), math.log(0.3)
    log_probs[1, VOCAB.index("ab")] = math.log(0.6)
    assert told(search(), log_probs.astype(np.float32)) == "ba"
    hot = dataclasses.replace(search(), hot=Hotwords(frozenset({"bab"})))
    assert told(hot, log_probs.astype(np.float32)) == "bab"


def test_a_network_that_overflows_ends_no_captions() -> None:
    log_probs = random_log_probs(1, 30, 0.2)
    log_probs[7] = np.nan
    decoder = search(width=6)
    beam = decoder.step(decoder.start, log_probs)
    assert all(math.isfinite(path.score) for path in beam.paths)
    assert beam.frame == 30


def test_words_know_their_frames_and_how_sure_they_are() -> None:
    log_probs = np.log(np.full((12, len(VOCAB)), 1e-6))
    for frame, (token, p) in {2: ("a", 0.9), 3: ("b", 0.4), 5: (" ", 1.0), 7: ("b", 0.8)}.items():
        log_probs[frame, VOCAB.index(token)] = math.log(p)
    log_probs[[0, 1, 4, 6, 8, 9, 10, 11], 0] = 0.0
    decoder = search()
    beam = decoder.step(decoder.start, log_probs.astype(np.float32))
    first, second = decoder.words(beam, ended=True)
    assert (first.text, first.start, first.end) == ("ab", 2, 4)
    assert (second.text, second.start, second.end) == ("b", 7, 8)
    assert first.confidence == pytest.approx((0.9 * 0.4) ** 0.5, rel=1e-3)
    assert (beam.frame, beam.trailing_blanks, beam.spoken) == (12, 4, True)
    assert decoder.within_word(beam)
