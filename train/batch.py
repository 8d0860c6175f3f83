"""From examples to padded batches: which clips an epoch hears, in which order, how varied and how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.augment import augment, parse
from train.cache import FeatureCache
from train.config import Config, subsampling
from train.data import Example
from train.phrases import Pause, phrase
from train.text import ctc_frames, spell

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Item = tuple[Example, ...]  # clips that are spoken one after the other
PAD_FRAMES = 64  # batches are padded to a multiple, so that few shapes occur: libraries prepare for each anew


@dataclass(frozen=True, slots=True)
class Data:
    """What a run learns from: examples with features in the cache, stretches of noise, and where clips can be cut."""

    train: Sequence[Example]
    valid: Sequence[Example]
    noises: Sequence[Floats]
    cache: FeatureCache
    pauses: Mapping[Path, Sequence[Pause]] = field(default_factory=dict)


def epoch_batches(config: Config, data: Data, epoch: int, workers: int) -> Iterator[list[list[Item]]]:
    """The batches of one epoch, the same for the same seed; clips are drawn by the weight of their corpus."""
    rng = np.random.default_rng((config.seed, epoch))
    weights = [config.weights.get(e.clip.corpus, 1.0) for e in data.train]
    counts = np.floor(np.array(weights) + rng.random(len(weights))).astype(int)
    drawn = [e for e, count in zip(data.train, counts, strict=True) for _ in range(count)]
    if config.cut:
        drawn = [phrase(e, data.pauses, config, rng) if rng.random() < config.cut else e for e in drawn]
    return batches(drawn, config.batch_frames, rng, workers, config.join)


def batches(
    data: Sequence[Example], batch_frames: int, rng: np.random.Generator, group: int = 1, join: float = 0.0
) -> Iterator[list[list[Item]]]:
    """One epoch: groups of `group` batches of similar length, so that parallel workers finish together.

    A batch holds about `batch_frames` frames; each of its items is a tuple of examples to be spoken one after the
    other: with probability `join` a clip is followed by another one, so that the network learns to run on.
    """
    order = list(rng.permutation(len(data)))
    items: list[Item] = []
    while order:
        first = data[order.pop()]
        joined = order and rng.random() < join and first.frames < 800
        items.append((first, data[order.pop()]) if joined else (first,))
    items.sort(key=lambda item: sum(e.frames for e in item) * rng.uniform(0.95, 1.05))
    packed: list[list[Item]] = [[]]
    for item in items:
        longest = sum(e.frames for e in item)
        if packed[-1] and longest * (len(packed[-1]) + 1) > batch_frames:
            packed.append([])
        packed[-1].append(item)
    for _ in range(len(packed) % group):
        packed.pop(int(rng.integers(len(packed))))
    groups = [packed[i : i + group] for i in range(0, len(packed), group)]
    for i in rng.permutation(len(groups)):
        yield groups[i]


def quiet(config: Config) -> float:
    """The feature value of digital silence."""
    return float(np.log(config.features.floor)) if config.features.kind == "log_mel" else 0.0


def assemble(
    items: Sequence[Item], data: Data, config: Config, rng: np.random.Generator, varied: float = 1.0
) -> tuple[Floats, Integers, Integers, Integers]:
    """A padded batch: features [B, T, W], labels [B, L], output frames [B], label lengths [B].

    varied: the share of the utterances that augmentation changes.
    """
    pairs = [_utterance(item, data, config, rng, rng.random() < varied) for item in items]
    if data.noises and rng.random() < config.silence * len(items):
        pairs[-1] = _silence(data.noises, rng)
    stride = subsampling(config)
    longest = -(-max(len(x) for x, _ in pairs) // PAD_FRAMES) * PAD_FRAMES
    batch = np.full((len(pairs), longest, config.features.width), quiet(config), np.float32)
    labels = np.zeros((len(pairs), max([1, *(len(y) for _, y in pairs)])), np.int64)
    for i, (x, y) in enumerate(pairs):
        batch[i, : len(x)], labels[i, : len(y)] = x, y
    return batch, labels, np.array([len(x) // stride for x, _ in pairs]), np.array([len(y) for _, y in pairs])


def _utterance(
    item: Item, data: Data, config: Config, rng: np.random.Generator, vary: bool
) -> tuple[Floats, list[int]]:
    """Features and labels of clips spoken one after the other, varied at random if asked for.

    A streaming network's output lags by right_context frames, so every utterance is followed by as much quiet.
    """
    labels = _join([e.labels for e in item], config)
    recorded = np.concatenate([data.cache.get(e.clip.path)[e.start : e.start + e.frames] for e in item])
    tail = np.full((config.right_context + int(rng.integers(0, 40)), recorded.shape[1]), quiet(config), np.float32)
    x = np.concatenate([recorded, tail])
    how = parse(config.augment)
    if not vary or how is None or config.features.kind != "log_mel":
        return x, labels
    varied = augment(x, how, config.features, data.noises, rng)
    return (varied if len(varied) // subsampling(config) >= ctc_frames(spell(labels, config.vocab)) else x), labels


def _silence(noises: Sequence[Floats], rng: np.random.Generator) -> tuple[Floats, list[int]]:
    """Five seconds of noise in which nobody speaks."""
    noise = noises[rng.integers(len(noises))]
    at = rng.integers(max(1, len(noise) - 500))
    return noise[at : at + 500] + np.float32(rng.uniform(-6, 2)), []


def _join(parts: Sequence[Sequence[int]], config: Config) -> list[int]:
    """Labels one after the other, with a space between them where the vocabulary has one."""
    space = [config.vocab.index(" ")] if " " in config.vocab else []
    joined: list[int] = []
    for labels in parts:
        joined += (space if joined else []) + list(labels)
    return joined


def statistics(data: Data, sample: int = 400) -> tuple[Floats, Floats]:
    """Mean and deviation of every feature over some training clips, shape [width] each."""
    rng = np.random.default_rng(0)
    picked = rng.choice(len(data.train), min(sample, len(data.train)), replace=False)
    frames = np.concatenate([data.cache.get(data.train[i].clip.path) for i in picked])
    return frames.mean(axis=0), frames.std(axis=0)
