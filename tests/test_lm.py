"""The language model: Kneser-Ney as the formula says, probabilities that sum to one, files that cannot lie."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model

from streamer.lm import BEGIN, LanguageModel, LanguageSpec, load_language_spec
from streamer.model import ModelError, load_lm
from streamer.spec import SpecError
from train.data import DataError
from train.lm import estimate, read_arrays, read_sentences, write_lm
from train.tune import tune

TEXT = "the cat sat on the mat . the dog sat on the cat . a cat saw the dog . the cat sat . the dog saw a mat"
SENTENCES = [sentence.split() for sentence in TEXT.split(" . ")]


def model(sentences: list[list[str]] = SENTENCES) -> LanguageModel:
    return LanguageModel(LanguageSpec(), estimate(sentences))


def test_the_probabilities_after_any_context_sum_to_one() -> None:
    lm = model()
    words = range(len(lm.words))
    for before, last in [(-1, BEGIN), (BEGIN, lm.id("the")), (lm.id("sat"), lm.id("on")), (lm.id("dog"), lm.id("mat"))]:
        total = sum(math.exp(lm.score(before, last, word)) for word in words if word != BEGIN)
        assert total == pytest.approx(1, abs=0.04)  # a byte holds sixteenths of a nat


def test_a_word_after_two_others_has_the_probability_that_kneser_and_ney_give_it() -> None:
    """By hand, from the counts of the text: discounted trigram, and bigram and unigram by their contexts."""
    stream = [w for words in SENTENCES for w in ["<s>", *words, "</s>"]]
    triples = Counter(t for t in zip(stream, stream[1:], stream[2:], strict=False) if "</s>" not in t[:2])
    pairs = Counter(p for p in itertools.pairwise(stream) if p[0] != "</s>")

    def discounts(counts: list[int]) -> list[float]:
        n = [sum(c == i for c in counts) for i in (1, 2, 3, 4)]
        y = n[0] / max(n[0] + 2 * n[1], 1)
        return [0.0, *(max(i - (i + 1) * y * n[i] / max(n[i - 1], 1), 0.1) for i in (1, 2, 3))]

    contexts = {p: len({t[0] for t in triples if t[1:] == p}) if p[0] != "<s>" else n for p, n in pairs.items()}
    single = {w: len({p[0] for p in pairs if p[1] == w}) for w in set(stream) - {"<s>"}}
    vocab = len(single) + 1  # and the unknown word
    d1, d2, d3 = (discounts(list(c.values())) for c in (single, contexts, triples))
    total = sum(single.values())

    def p1(w: str) -> float:
        left = sum(d1[min(n, 3)] for n in single.values()) / total
        return (single[w] - d1[min(single[w], 3)]) / total + left / vocab

    def p2(v: str, w: str) -> float:
        kept = {p: n for p, n in contexts.items() if p[0] == v and keep(p)}
        of_v = sum(n for p, n in contexts.items() if p[0] == v)
        left = 1 - sum(n - d2[min(n, 3)] for n in kept.values()) / of_v
        here = kept.get((v, w), 0)
        return (here - d2[min(here, 3)]) / of_v + left * p1(w) if here else left * p1(w)

    def keep(pair: tuple[str, str]) -> bool:
        return pairs[pair] > 1 or any(t[:2] == pair and n > 1 for t, n in triples.items())

    def p3(u: str, v: str, w: str) -> float:
        of_uv = sum(n for t, n in triples.items() if t[:2] == (u, v))
        kept = {t: n for t, n in triples.items() if t[:2] == (u, v) and n > 1}
        left = 1 - sum(n - d3[min(n, 3)] for n in kept.values()) / of_uv
        here = kept.get((u, v, w), 0)
        return (here - d3[min(here, 3)]) / of_uv + left * p2(v, w)

    lm = model()
    for u, v, w in [("sat", "on", "the"), ("the", "cat", "sat"), ("on", "the", "dog"), ("the", "dog", "a")]:
        found = lm.score(lm.id(u), lm.id(v), lm.id(w))
        assert found == pytest.approx(math.log(p3(u, v, w)), abs=0.12), (u, v, w)
    begin = lm.score(-1, BEGIN, lm.id("the"))
    assert begin == pytest.approx(math.log(p2("<s>", "the")), abs=0.07)


def test_words_and_their_beginnings_are_known() -> None:
    lm = model()
    assert lm.words[:3] == ["<unknown>", "<begin>", "<end>"]
    assert lm.id("zebra") == 0 != lm.id("cat")
    assert lm.begins_word("ca")
    assert lm.begins_word("cat")
    assert not lm.begins_word("cx")
    assert lm.score(lm.id("sat"), lm.id("on"), lm.id("the")) > lm.score(lm.id("sat"), lm.id("on"), lm.id("dog"))


def test_a_model_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    spec = LanguageSpec(weight=0.4, training={"texts": ["a"]})
    write_lm(tmp_path / "x.lm", spec, estimate(SENTENCES))
    read = load_lm(tmp_path / "x.lm")
    assert read.spec == spec
    assert read.score(-1, BEGIN, 5) == model().score(-1, BEGIN, 5)


def test_files_that_are_no_language_model_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.lm"
    with pytest.raises(ModelError, match="no language model at"):
        load_lm(path)
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ModelError, match="is not a language model"):
        load_lm(path)
    np.savez(path.with_suffix(".npz"), spec=np.array("{}"))
    with pytest.raises(ModelError, match="schema"):
        load_lm(path.with_suffix(".npz"))
    arrays = estimate(SENTENCES)
    write_lm(path, LanguageSpec(), arrays | {"p2": arrays["p2"][:-1]})
    with pytest.raises(ModelError, match="do not fit together"):
        load_lm(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(ModelError, match="is not a language model"):
        load_lm(path.with_suffix(".npy"))
    write_lm(path, LanguageSpec(), arrays | {"n2": arrays["n2"].astype(np.int64)})
    with pytest.raises(ModelError, match="not rows of whole numbers"):
        load_lm(path)
    for wrong in ("[]", "{", json.dumps({"schema": 1, "weight": -1}), json.dumps({"schema": 1, "colour": 1})):
        with pytest.raises(SpecError):
            load_language_spec(wrong)


def test_sentences_come_from_prose_tables_and_the_train_split_of_corpora(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Mr. Smith came. It was\n1890; nobody saw him!")
    (tmp_path / "b.csv").write_text('A-1|x|"Twice, he said.\nB-1|x|left out\n')
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "manifest.csv").write_text("path,text,split\n1.wav,to learn,train\n2.wav,to test,test\n")
    for name in ("a.txt", "b.csv"):
        assert list(read_sentences([tmp_path / name], exclude=("B",)))
    by_name = list(read_sentences([tmp_path / "c" / "manifest.csv"]))
    assert by_name == list(read_sentences([tmp_path / "c"])) == [["to", "learn"]]
    sources = [tmp_path / name for name in ("a.txt", "b.csv", "c")]
    found = [" ".join(words) for words in read_sentences(sources, exclude=("B",))]
    assert found == ["mr smith came", "nobody saw him", "twice he said", "to learn"]


def test_the_weight_that_errs_least_on_held_out_clips_is_written_into_the_file(
    streaming: Path, language: Path, tmp_path: Path
) -> None:
    lines = ["path,text,split"]
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", tiny_model.babble(32000, i), 16000)
        lines.append(f"{i}.wav,{'abc a' if i % 2 else 'ca b ab'},{'dev' if i < 3 else 'test'}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    lm = tmp_path / "tiny.lm"
    write_lm(lm, LanguageSpec(unknown_penalty=5.0), read_arrays(language))
    before = load_lm(lm)
    spec, first, best = tune(streaming, lm, [tmp_path], "dev")
    assert best < first
    after = load_lm(lm)
    assert after.spec == spec != before.spec
    assert after.score(-1, BEGIN, 4) == before.score(-1, BEGIN, 4)
    with pytest.raises(DataError, match="no clip of split 'val'"):
        tune(streaming, lm, [tmp_path], "val")
