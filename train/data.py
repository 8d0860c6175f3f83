"""Corpora as clips: CSV manifests and LJSpeech folders in, checked clips out; nothing is dropped silently."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from train.text import ctc_frames, encode, normalise


class DataError(Exception):
    """The data cannot be used; the message is one sentence that names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording with its normalised transcript; `frames` are counted once features exist."""

    path: Path
    text: str
    split: str = ""
    speaker: str = ""
    corpus: str = ""


def read_corpus(source: Path) -> list[Clip]:
    """Clips of a CSV manifest (columns path, text; optional split, speaker, corpus) or of an LJSpeech-style folder."""
    if source.is_dir():
        if (source / "metadata.csv").is_file():
            return _read_ljspeech(source)
        source = source / "manifest.csv"
    if not source.is_file():
        raise DataError(f"no corpus at {source}: give a CSV manifest or a folder with metadata.csv or manifest.csv")
    with _open(source) as file:
        reader = csv.DictReader(file, restval="")
        missing = {"path", "text"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(
                f"{source} has no column {' or '.join(sorted(missing))}: its first line must name path and text"
            )
        return [
            Clip(
                source.parent / row["path"],
                normalise(row["text"] or ""),
                row.get("split") or "",
                row.get("speaker") or "",
                row.get("corpus") or source.parent.name,
            )
            for row in reader
        ]


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    """A table of text; DataError when it is not UTF-8 or no table."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error}): save it as one") from None


def _read_ljspeech(folder: Path) -> list[Clip]:
    """metadata.csv has id|raw|normalised without quoting; the recordings are wavs/id.wav."""
    with _open(folder / "metadata.csv") as file:
        rows = [row for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE) if row]
    return [Clip(folder / "wavs" / f"{row[0]}.wav", normalise(row[-1]), corpus=folder.name) for row in rows]


def split_clips(clips: Sequence[Clip], seed: int) -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips: by the split column if there is one (train; dev or val), else a random tenth."""
    if any(clip.split for clip in clips):
        return [c for c in clips if c.split == "train"], [c for c in clips if c.split in ("dev", "val", "valid")]
    order = np.random.default_rng(seed).permutation(len(clips))
    held_out = max(1, len(clips) // 10)
    return [clips[i] for i in order[held_out:]], [clips[i] for i in order[:held_out]]


@dataclass(frozen=True, slots=True)
class Example:
    """A clip ready for training: its label indices and feature frames."""

    clip: Clip
    labels: tuple[int, ...]
    frames: int


def examples(
    clips: Iterable[Clip], frames: dict[Path, int], vocab: Sequence[str], subsampling: int
) -> tuple[list[Example], Counter[str]]:
    """Clips that can be trained on, and how many were dropped for which reason.

    frames: feature frames of every readable recording.
    """
    kept, dropped = [], Counter[str]()
    for clip in clips:
        labels = encode(clip.text, vocab)
        if clip.path not in frames:
            dropped["unreadable audio"] += 1
        elif not clip.text:
            dropped["empty transcript"] += 1
        elif labels is None:
            dropped["character outside the vocabulary"] += 1
        elif ctc_frames(labels) > frames[clip.path] // subsampling:
            dropped["transcript too long for its audio"] += 1
        else:
            kept.append(Example(clip, tuple(labels), frames[clip.path]))
    return kept, dropped
