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

from train.text import ctc_frames, encode, normalise, spell

UNREADABLE = "unreadable audio"


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


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """A CSV manifest that `read_corpus` reads, with absolute paths."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "text", "split", "speaker", "corpus"])
        writer.writerows([c.path.resolve(), c.text, c.split, c.speaker, c.corpus] for c in clips)


def split_clips(clips: Sequence[Clip], seed: int, by: str = "clip") -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips: by the split column if there is one (train; dev or val), else a random tenth.

    by: "speaker" holds out whole speakers, as many as a tenth of the clips takes.
    """
    if any(clip.split for clip in clips):
        return [c for c in clips if c.split == "train"], [c for c in clips if c.split in ("dev", "val", "valid")]
    if by == "speaker":
        return _split_speakers(clips, seed)
    order = np.random.default_rng(seed).permutation(len(clips))
    held_out = max(1, len(clips) // 10)
    return [clips[i] for i in order[held_out:]], [clips[i] for i in order[:held_out]]


def _split_speakers(clips: Sequence[Clip], seed: int) -> tuple[list[Clip], list[Clip]]:
    sizes = Counter(clip.speaker for clip in clips)
    if len(sizes) < 2:
        raise DataError(f"all clips of {clips[0].corpus} are of one speaker: split them by clip")
    names, held_out = sorted(sizes), set[str]()
    for i in np.random.default_rng(seed).permutation(len(names)):
        if len(held_out) < len(names) - 1 and sum(sizes[name] for name in held_out) < len(clips) / 10:
            held_out.add(names[i])
    return [c for c in clips if c.speaker not in held_out], [c for c in clips if c.speaker in held_out]


@dataclass(frozen=True, slots=True)
class Example:
    """A clip ready for training, or a part of one: its label indices, how many feature frames, and from which on."""

    clip: Clip
    labels: tuple[int, ...]
    frames: int
    start: int = 0


def examples(
    clips: Iterable[Clip], frames: dict[Path, int], vocab: Sequence[str], subsampling: int
) -> tuple[list[Example], list[tuple[Clip, str]]]:
    """Clips that can be trained on, and those that were dropped, with the reason.

    frames: feature frames of every readable recording.
    """
    kept, dropped = list[Example](), list[tuple[Clip, str]]()
    taken = set[Path]()
    for clip in clips:
        labels = encode(clip.text, vocab)
        if clip.path in taken:
            dropped.append((clip, "a path given twice"))
        elif clip.path not in frames:
            dropped.append((clip, UNREADABLE))
        elif not clip.text:
            dropped.append((clip, "empty transcript"))
        elif labels is None:
            dropped.append((clip, "character outside the vocabulary"))
        elif ctc_frames(spell(labels, vocab)) > frames[clip.path] // subsampling:
            dropped.append((clip, "transcript too long for its audio"))
        else:
            kept.append(Example(clip, tuple(labels), frames[clip.path]))
            taken.add(clip.path)
    return kept, dropped
