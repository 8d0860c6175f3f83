"""Transcripts as the model sees them: one normalisation for training labels, synthesis and scoring."""

from __future__ import annotations

import csv
import itertools
import lzma
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ENGLISH = (" ", "'", *"abcdefghijklmnopqrstuvwxyz")
BLANK = "<blank>"

_ABBREVIATIONS = {"mr.": "mister", "mrs.": "missus", "dr.": "doctor", "ms.": "miss", "&": "and"}
_ABBREVIATION = re.compile(r"(?<!\w)(mr\.|mrs\.|dr\.|ms\.|&)(?!\w)")
_SENTENCE = re.compile(r"[^.!?;]+[.!?;]?")
_READABLE = re.compile(r"(?:[^\W\d_]|[' ,.!?;:-])+")  # letters of any script; nothing that would have to be read out


def normalise(text: str) -> str:
    """Lower case, NFKC, abbreviations spelled out, punctuation gone, single spaces; letters keep their accents."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'").replace("ʼ", "'")
    text = _ABBREVIATION.sub(lambda m: _ABBREVIATIONS[m.group()], text)
    text = "".join(c if c == "'" or c.isalnum() or unicodedata.combining(c) else " " for c in text)
    words = (word.strip("'") if word.strip("'") else "" for word in text.split())
    return " ".join(word for word in words if word)


def alphabet(texts: Iterable[str], rarest: int = 5) -> tuple[str, ...]:
    """The characters of normalised transcripts that occur at least `rarest` times, the space first."""
    counts = Counter(itertools.chain.from_iterable(texts))
    return (" ", *sorted(c for c, n in counts.items() if n >= rarest and c != " "))


def letter_groups(texts: Iterable[str], count: int) -> list[str]:
    """The `count` groups of letters that byte-pair encoding joins first (Sennrich et al. 2016), never across words."""
    words = {tuple(word): n for word, n in Counter(word for text in texts for word in text.split()).items()}
    groups: list[str] = []
    while len(groups) < count:
        pairs = Counter[tuple[str, str]]()
        for word, n in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += n
        if not pairs:
            break
        joined = max(pairs, key=lambda pair: (pairs[pair], pair))
        groups.append("".join(joined))
        words = {_join(word, joined): n for word, n in words.items()}
    return groups


def _join(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """A word's tokens with every occurrence of the pair joined, from left to right."""
    tokens: list[str] = []
    for token in word:
        if tokens and (tokens[-1], token) == pair:
            tokens[-1] += token
        else:
            tokens.append(token)
    return tuple(tokens)


def encode(text: str, vocab: Sequence[str]) -> list[int] | None:
    """Label indices of a normalised transcript, longest tokens first, or None when a character is in no token."""
    index = {token: i for i, token in enumerate(vocab)}
    longest = max(map(len, vocab))
    labels, at = [], 0
    while at < len(text):
        size = next((n for n in range(min(longest, len(text) - at), 0, -1) if text[at : at + n] in index), 0)
        if not size:
            return None
        labels.append(index[text[at : at + size]])
        at += size
    return labels


def letters(vocab: Sequence[str]) -> list[str]:
    """The blank and the single characters that a vocabulary begins with, before its letter groups."""
    return [vocab[0], *itertools.takewhile(lambda token: len(token) == 1, vocab[1:])]


def spell(labels: Iterable[int], vocab: Sequence[str]) -> list[int]:
    """Label indices of the same text in single letters."""
    index = {letter: i for i, letter in enumerate(letters(vocab))}
    return [index[letter] for label in labels for letter in vocab[label]]


def ctc_frames(labels: Sequence[int]) -> int:
    """The fewest output frames CTC needs for these labels: one each, and a blank between repeats."""
    return len(labels) + sum(a == b for a, b in itertools.pairwise(labels))


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein distance between two sequences of words or characters."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        previous, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (expected != heard))
    return row[-1]


def error_rate(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> float:
    """Edits over reference length, both summed over the corpus of (reference, hypothesis) pairs."""
    total = wrong = 0
    for reference, hypothesis in pairs:
        wrong += edits(reference, hypothesis)
        total += len(reference)
    return wrong / max(total, 1)


def sentences(
    path: Path, exclude: tuple[str, ...] = (), words: tuple[int, int] = (3, 24), language: str = "en"
) -> Iterator[str]:
    """Sentences of a text file (.txt, .xz, or LJSpeech's id|raw|normalised .csv) that need no reading of digits.

    exclude: beginnings of ids in a .csv to leave out (clips that belong to a test set). English ones have no letters
    but a to z: its models know no others.
    """
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE) if row]
        found: Iterable[str] = [row[-1] for row in rows if not row[0].startswith(exclude)]
    else:
        with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8") as file:
            text = re.sub(r"\b(Mr|Mrs|Dr|Ms)\.", r"\1", re.sub(r"\s+", " ", file.read()))
        found = _SENTENCE.findall(text)
    for sentence in found:
        sentence = re.sub(r'[\s_"]+', " ", sentence).strip()
        readable = _READABLE.fullmatch(sentence) and (language != "en" or sentence.isascii())
        acronyms = any(a.isupper() and b.isupper() for a, b in itertools.pairwise(sentence))
        if readable and not acronyms and words[0] <= len(sentence.split()) <= words[1]:
            yield sentence


def sample_sentences(
    paths: Sequence[Path], seed: int, exclude: tuple[str, ...] = (), language: str = "en"
) -> Iterator[str]:
    """Distinct sentences, an equal share from every file while it lasts, in a seeded random order."""
    pools = [sorted(set(sentences(path, exclude, language=language))) for path in paths]
    rng = random.Random(seed)
    for pool in pools:
        rng.shuffle(pool)
    while pools := [pool for pool in pools if pool]:
        for pool in pools:
            yield pool.pop()
