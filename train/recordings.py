"""The recordings of a split, read one after the other: what every measurement goes through."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from streamer.recognizer import Floats
from train.cache import read_audio
from train.data import Clip, DataError, read_corpus, split_clips
from train.progress import Progress


def of_split(clips: list[Clip], split: str) -> list[Clip]:
    """Clips of a split; of a corpus without splits, the tenth that `fit` with its default seed did not train on."""
    if split == "all":
        return clips
    return [c for c in clips if c.split == split] if any(c.split for c in clips) else split_clips(clips, seed=1)[1]


def choose(corpora: Sequence[Path], split: str, count: int | None = None, seed: int = 1) -> list[Clip]:
    """The clips of a split, or `count` of them at random; DataError when there are none."""
    clips = [clip for root in corpora for clip in of_split(read_corpus(root), split)]
    if not clips:
        raise DataError(f"no clip of split {split!r} in {', '.join(map(str, corpora))}: choose another with --split")
    if count is None or count >= len(clips):
        return clips
    return [clips[i] for i in sorted(np.random.default_rng(seed).permutation(len(clips))[:count])]


def write_texts(path: Path, heard: Iterable[tuple[Clip, str]], corpora: Sequence[Path]) -> None:
    """PATH<TAB>TEXT for every clip, paths as the manifests have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{_relative(clip.path, corpora)}\t{' '.join(text.split())}\n" for clip, text in heard)
    path.write_text("".join(lines), encoding="utf-8")


def _relative(path: Path, corpora: Sequence[Path]) -> Path:
    """As the manifest names it."""
    for root in corpora:
        base = root if root.is_dir() else root.parent
        if path.is_relative_to(base):
            return path.relative_to(base)
    return path


def read(clips: Sequence[Clip], rate: int, title: str) -> Iterator[tuple[Clip, Floats]]:
    """Each clip with its samples, float32 at `rate`; those that cannot be read are counted on stderr."""
    unreadable = 0
    with Progress(title, len(clips)) as progress:
        for clip in clips:
            progress.step()
            try:
                samples = read_audio(clip.path, rate)
            except (OSError, RuntimeError):
                unreadable += 1
                continue
            yield clip, samples
    if unreadable == len(clips):
        raise DataError(f"none of the {len(clips)} clips can be read: see where the manifest says they are")
    if unreadable:
        print(f"{unreadable} clips could not be read and do not count", file=sys.stderr)
