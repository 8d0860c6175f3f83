"""Clips cut at pauses to phrases: words stand in new company, so that fewer sentences are learnt by heart.

After the aligned data augmentation of Lam et al. 2021 (On-the-fly aligned data augmentation for sequence-to-sequence
ASR), without exchanging words: the network that a run begins from tells where words lie (CTC forced alignment).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streamer.recognizer import Floats
from train.config import Config, subsampling
from train.data import Example
from train.forced import path
from train.progress import Progress
from train.text import ctc_frames, encode, spell

if TYPE_CHECKING:
    import keras

    from train.cache import FeatureCache

LEAST_WORDS = 3  # of a clip that is cut
LEAST_FRAMES = 40  # of a phrase
QUIET = 0.35  # a pause is quieter than this part of the way from the clip's quietest twentieth to its median
EARLY = 10  # feature frames before the network's last token of a word at which the word may be over


class Pause(NamedTuple):
    """Where a clip can be cut: after so many words, before this feature frame."""

    words: int
    frame: int


def known_pauses(
    file: Path, net: keras.Model, examples: Sequence[Example], cache: FeatureCache, config: Config
) -> dict[Path, list[Pause]]:
    """The pauses of the examples, from the file where they are kept, which is made where there is none."""
    if not file.exists():
        found = dict(_find(net, examples, cache, config))
        part = file.with_suffix(".part")
        part.write_text(json.dumps({str(clip): pauses for clip, pauses in found.items()}))
        part.replace(file)
    return {Path(clip): [Pause(*p) for p in pauses] for clip, pauses in json.loads(file.read_text()).items()}


def _find(
    net: keras.Model, examples: Sequence[Example], cache: FeatureCache, config: Config
) -> Iterator[tuple[Path, list[Pause]]]:
    from train.validate import log_probs

    long_enough = [e for e in examples if e.clip.text.count(" ") >= LEAST_WORDS - 1]
    with Progress("pauses between words", len(long_enough)) as progress:
        for batch in log_probs(net, long_enough, cache, config):
            for example, rows in batch:
                found = pauses(example, rows, cache.get(example.clip.path), config)
                if found:
                    yield example.clip.path, found
            progress.step(count=len(batch))


def pauses(example: Example, log_probs: Floats, features: Floats, config: Config) -> list[Pause]:
    """Where a clip is quiet between two words, as the network hears them.

    log_probs: [output frames, vocab] of the clip and `right_context` frames of quiet; features: [frames, width].
    """
    stride = subsampling(config)
    loudness = np.convolve(features.mean(axis=1), np.ones(5) / 5, "same")
    least, middle = np.percentile(loudness, (5, 50))
    found: list[Pause] = []
    words = _words(example, path(log_probs, example.labels, 0), config)
    for n, ((_, last), (first, _)) in enumerate(itertools.pairwise(words), 1):
        start = max(0, last * stride - config.right_context - EARLY)
        end = min(len(features), (first + 1) * stride - config.right_context)
        if end <= start:
            continue
        at = start + int(loudness[start:end].argmin())
        after = found[-1].frame if found else 0
        if loudness[at] < least + QUIET * (middle - least) and after + 10 < at < len(features) - 10:
            found.append(Pause(n, at))
    return found


def _words(example: Example, spans: Sequence[tuple[int, int]], config: Config) -> list[tuple[int, int]]:
    """Output frames of each word's first token and after its last, from those of the labels."""
    words: list[list[int]] = [[]]
    for label, span in zip(example.labels, spans, strict=True):
        for letter in config.vocab[label]:
            if letter == " ":
                words.append([])
            else:
                words[-1] += span
    return [(min(frames), max(frames)) for frames in words]


def phrase(
    example: Example, known: Mapping[Path, Sequence[Pause]], config: Config, rng: np.random.Generator
) -> Example:
    """A random part of a clip from one pause, or end, to another; the clip itself where there is none that can be."""
    inside = known.get(example.clip.path)
    if not inside:
        return example
    words = example.clip.text.split()
    ends = [Pause(0, 0), *inside, Pause(len(words), example.frames)]
    pairs = [(a, b) for i, a in enumerate(ends) for b in ends[i + 1 :] if (a, b) != (ends[0], ends[-1])]
    a, b = pairs[int(rng.integers(len(pairs)))]
    frames, labels = b.frame - a.frame, encode(" ".join(words[a.words : b.words]), config.vocab)
    if not labels or frames < LEAST_FRAMES:
        return example
    if ctc_frames(spell(labels, config.vocab)) > frames // subsampling(config):
        return example
    return replace(example, labels=tuple(labels), frames=frames, start=a.frame)
