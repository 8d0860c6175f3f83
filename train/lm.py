"""A word trigram language model from text: interpolated modified Kneser-Ney (Chen & Goodman 1999), pruned, in bytes.

N-grams are integers while they are counted (17 bits a word), so that sorting does the counting.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import lzma
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.lm import BEGIN, END, STEPS_PER_NAT, UNKNOWN, LanguageSpec
from train.data import DataError, read_corpus, split_clips
from train.text import normalise

BITS = 17
WORD = (1 << BITS) - 1
MOST_WORDS = 65_000  # numbers of words are two bytes in the file
_SENTENCE = re.compile(r"[^.!?;:]+[.!?;:]?")

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


def read_sentences(sources: Sequence[Path], exclude: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Words of every sentence of texts (.txt, .xz), tables (LJSpeech-style .csv) and corpora (folders; train split).

    Sentences with digits are left out: how they are said is not known.
    """
    for source in sources:
        for sentence in _sentences(source, exclude):
            words = normalise(sentence).split()
            if words and not any(c.isdigit() for word in words for c in word):
                yield words


def _sentences(source: Path, exclude: tuple[str, ...]) -> Iterable[str]:
    if source.is_dir() or _is_manifest(source):
        return [clip.text for clip in split_clips(read_corpus(source), seed=1)[0]]
    try:
        if source.suffix == ".csv":
            with source.open(encoding="utf-8", newline="") as lines:
                rows = [row for row in csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE) if row]
            return [row[-1] for row in rows if not row[0].startswith(exclude or ("\0",))]
        with (lzma.open if source.suffix == ".xz" else open)(source, "rt", encoding="utf-8") as file:
            text = re.sub(r"[\s_]+", " ", file.read().replace("--", " "))
    except (OSError, UnicodeDecodeError, lzma.LZMAError, EOFError, csv.Error) as error:
        raise DataError(f"{source} cannot be read as text in UTF-8 ({error}): save it as such") from None
    return _SENTENCE.findall(re.sub(r"\b(Mr|Mrs|Dr|Ms)\.", r"\1", text))


def _is_manifest(path: Path) -> bool:
    """Whether a .csv is a corpus' manifest and not an LJSpeech-style table."""
    if path.suffix != ".csv":
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return {"path", "text"} <= set(file.readline().strip().split(","))


def estimate(sentences: Iterable[Sequence[str]], most: int = MOST_WORDS) -> dict[str, Any]:
    """The arrays of a language model (see streamer.lm) of the `most` words that occur twice or more."""
    kept = list(sentences)
    counts = Counter(word for words in kept for word in words)
    listed = ["<unknown>", "<begin>", "<end>", *sorted(w for w, n in counts.most_common(most) if n > 1)]
    if len(listed) < 4:
        raise DataError("there is too little text for a language model: no word occurs twice")
    number = {word: i for i, word in enumerate(listed)}
    stream = np.fromiter(
        (n for words in kept for n in (BEGIN, *(number.get(w, UNKNOWN) for w in words), END)), np.int64
    )
    return {"words": np.array("\n".join(listed))} | _estimate(stream, len(listed))


def _estimate(stream: Integers, vocab: int) -> dict[str, Any]:
    a, b, c = stream[:-2], stream[1:-1], stream[2:]
    inside = (a != END) & (b != END)
    triples, counts3 = np.unique((a << 2 * BITS | b << BITS | c)[inside], return_counts=True)
    a, b = stream[:-1], stream[1:]
    pairs, seen2 = np.unique((a << BITS | b)[a != END], return_counts=True)

    # Shorter n-grams count in how many contexts they occur; only what begins a sentence has none.
    contexts2 = np.bincount(np.searchsorted(pairs, triples & (WORD << BITS | WORD)), minlength=len(pairs))
    counts2 = np.where(pairs >> BITS == BEGIN, seen2, contexts2)
    counts1 = np.bincount(pairs & WORD, minlength=vocab)
    counts1[BEGIN] = 0

    keep3 = counts3 > 1
    keep2 = seen2 > 1
    keep2[np.searchsorted(pairs, np.unique(triples[keep3] >> BITS))] = True

    p1, left = _discounted(counts1, np.zeros(vocab, np.int64), np.ones(vocab, bool), 1)
    p1 = p1 + left[0] / (vocab - 1)
    p2, b1 = _discounted(counts2, pairs >> BITS, keep2, vocab)
    p2 += b1[pairs >> BITS] * p1[pairs & WORD]
    context = np.searchsorted(pairs, triples >> BITS)
    p3, b2 = _discounted(counts3, context, keep3, len(pairs))
    shorter = np.searchsorted(pairs, triples & (WORD << BITS | WORD))
    backed_off = b1[(triples >> BITS) & WORD] * p1[triples & WORD]
    p3 += b2[context] * np.where(keep2[shorter], p2[shorter], backed_off)

    place = np.cumsum(keep2) - 1
    follow2, follow3 = pairs[keep2], triples[keep3]
    return {
        "p1": _bytes(p1),
        "b1": _bytes(b1),
        "n2": np.bincount(follow2 >> BITS, minlength=vocab).astype(np.uint16),
        "w2": (follow2 & WORD).astype(np.uint16),
        "p2": _bytes(p2[keep2]),
        "b2": _bytes(b2[keep2]),
        "n3": np.bincount(place[context[keep3]], minlength=len(follow2)).astype(np.uint16),
        "w3": (follow3 & WORD).astype(np.uint16),
        "p3": _bytes(p3[keep3]),
    }


def _discounted(counts: Integers, context: Integers, keep: NDArray[np.bool_], contexts: int) -> tuple[Reals, Reals]:
    """(count - discount) / total of the context for n-grams that are kept, 0 for others; what is left, per context."""
    of = [np.count_nonzero(counts == n) for n in range(1, 5)]
    y = of[0] / max(of[0] + 2 * of[1], 1)
    discounts = [0.0, *(max(n - (n + 1) * y * of[n] / max(of[n - 1], 1), 0.1) for n in (1, 2, 3))]
    total = np.bincount(context, weights=counts, minlength=contexts)
    rest = np.where(keep, np.maximum(counts - np.array(discounts)[np.minimum(counts, 3)], 0.0), 0.0)
    given = rest / np.maximum(total[context], 1)
    return given, 1 - np.bincount(context, weights=given, minlength=contexts)


def _bytes(p: Reals) -> NDArray[np.uint8]:
    """-ln p in sixteenths of a nat, at most 255 of them."""
    return np.clip(np.round(-np.log(np.maximum(p, 1e-9)) * STEPS_PER_NAT), 0, 255).astype(np.uint8)


def write_lm(path: Path, spec: LanguageSpec, arrays: dict[str, Any]) -> None:
    """One file: the arrays and the description, as numpy's compressed .npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, spec=np.array(json.dumps(dataclasses.asdict(spec), ensure_ascii=False)), **arrays)
    part.replace(path)


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of a language model file, without its description."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if name != "spec"}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a language model ({error}): give a file made by `asr-train lm`") from None
