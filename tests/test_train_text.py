from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.text import (
    ENGLISH,
    alphabet,
    ctc_frames,
    edits,
    encode,
    error_rate,
    letter_groups,
    letters,
    normalise,
    sample_sentences,
    sentences,
    spell,
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Mr. O’Brien's café,  isn't it?", "mister o'brien's café isn't it"),
        ('\'Tis "quoted" — well-known', "tis quoted well known"),
        ("\ufb01ne & dandy", "fine and dandy"),
        ("!?", ""),
    ],
)
def test_transcripts_are_normalised(raw: str, expected: str) -> None:
    assert normalise(raw) == expected


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_a_character_outside_the_vocabulary_refuses_the_transcript() -> None:
    assert encode("ab c", ENGLISH) == [2, 3, 0, 4]
    assert encode("café", ENGLISH) is None


def test_letter_groups_are_those_that_occur_most_and_never_cross_words() -> None:
    texts = ["the thin thing", "then a thing in the inn", "thing thing"]
    groups = letter_groups(texts, 3)
    assert groups == ["th", "in", "thin"]
    vocab = ("<blank>", *ENGLISH, *groups)
    labels = encode("the thing", vocab)
    assert labels is not None
    assert [vocab[i] for i in labels] == ["th", "e", " ", "thin", "g"]
    assert letter_groups(["a b"], 5) == []


@given(st.lists(st.text("abc ", max_size=12), max_size=5), st.integers(0, 8))
def test_tokens_of_any_vocabulary_spell_the_transcript(texts: list[str], count: int) -> None:
    vocab = ("<blank>", *ENGLISH, *letter_groups(texts, count))
    for text in texts:
        labels = encode(text, vocab)
        assert labels is not None
        assert "".join(vocab[i] for i in labels) == text


def test_ctc_needs_a_blank_between_repeats() -> None:
    assert ctc_frames([1, 2, 2, 2, 3]) == 7


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edits_are_a_distance(a: str, b: str) -> None:
    assert edits(a, b) == edits(b, a) <= max(len(a), len(b))
    assert (edits(a, b) == 0) == (a == b)


def test_error_rates_are_edits_over_reference_length_of_the_whole_corpus() -> None:
    assert error_rate([("abcdefghi", "abcdefghi"), ("x", "y")]) == pytest.approx(0.1)


def test_sentences_that_need_reading_of_digits_or_belong_to_a_test_set_are_left_out(tmp_path: Path) -> None:
    table = tmp_path / "metadata.csv"
    table.write_text("A-1|x|He said so twice.\nA-2|x|In 1999 it rained.\nB-1|x|She did not answer.\n")
    assert list(sentences(table, exclude=("B",))) == ["He said so twice."]


def test_other_languages_keep_their_letters_and_english_has_none_but_its_own(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(
        "Он пришёл домой. СССР был большой страной. Der Fluss heißt Öre. They met at a café. It was late by then."
    )
    assert list(sentences(text, language="ru"))[:2] == ["Он пришёл домой.", "Der Fluss heißt Öre."]
    assert list(sentences(text)) == ["It was late by then."]


def test_sampling_takes_turns_and_depends_on_the_seed_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(" ".join(f"This is {name} {'abcdefgh'[i]}." for i in range(8)))
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    first = list(sample_sentences(paths, seed=1))
    assert first == list(sample_sentences(paths, seed=1)) != list(sample_sentences(paths, seed=2))
    assert [s.split()[2] for s in first[:4]] == ["one", "two", "one", "two"]


def test_the_alphabet_of_a_language_is_that_of_its_transcripts() -> None:
    composed, decomposed = "Grüße, žluťoučký kůň", "Gru\u0308ße, z\u030cluťoučký kůň"
    assert normalise(composed) == normalise(decomposed) == "grüße žluťoučký kůň"
    texts = [normalise(composed)] * 3 + ["ñ"]
    assert alphabet(texts, rarest=3) == (" ", *sorted("grüßežluťočkýůň"))
    assert alphabet(["a"] * 5) == (" ", "a")  # one letter is a language too


@given(st.text("abc ", max_size=30))
def test_what_is_spelled_says_the_same_in_single_letters(text: str) -> None:
    vocab = ("<blank>", " ", "a", "b", "c", "ab", "abc", "ca")
    assert letters(vocab) == ["<blank>", " ", "a", "b", "c"]
    labels = encode(text, vocab)
    assert labels is not None
    spelled = spell(labels, vocab)
    assert "".join(vocab[i] for i in spelled) == text
    assert len(spelled) == len(text)
