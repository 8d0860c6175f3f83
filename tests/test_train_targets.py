"""What the heads are to say: tokens, letters, phones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from train.config import Config
from train.data import DataError
from train.targets import pronounce, pronunciations, targets

DICTIONARY = """;;; a remark
tea T IY1
tea(2) T EY1
two T UW1 # a number
"""


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    path = tmp_path / "words.dict"
    path.write_text(DICTIONARY)
    return path


def test_the_first_pronunciation_without_stress(dictionary: Path) -> None:
    known = pronunciations(dictionary)
    assert known == {"tea": ("t", "iy"), "two": ("t", "uw")}
    assert pronounce("tea two", known) == ["t", "iy", "t", "uw"]
    assert pronounce("tea for two", known) is None


def test_every_head_is_told_what_to_say_and_phones_only_where_they_are_known(dictionary: Path) -> None:
    vocab = ("<blank>", " ", *"aefortuw", "te", "two")
    config = Config(vocab=vocab, pronunciations=str(dictionary), phones=("<blank>", "iy", "t", "uw"))
    te, a, space, two, f, o, r = (vocab.index(t) for t in ("te", "a", " ", "two", "f", "o", "r"))
    labels = np.array([[te, a, space, two], [f, o, r, 0], [0, 0, 0, 0]])
    tokens, letters, phones = targets(labels, np.array([4, 3, 0]), config)
    assert tokens.labels.tolist() == labels.tolist()
    assert tokens.lengths.tolist() == [4, 3, 0]
    assert "".join(vocab[i] for i in letters.labels[0]) == "tea two"
    assert letters.lengths.tolist() == [7, 3, 0]
    assert phones.labels[0].tolist() == [2, 1, 2, 3]
    assert phones.lengths.tolist() == [4, 0, 0]
    assert phones.known.tolist() == [1, 0, 1], "nobody speaks in the third: that is known"


def test_a_file_that_is_no_dictionary_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("tea\n")
    for name in ("empty", "missing"):
        with pytest.raises(DataError, match="give a"):
            pronunciations(tmp_path / name)
