"""Error rates of a network on the validation clips while it trains, decoded greedily in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from streamer import ctc
from train.batch import Data, quiet
from train.board import Heard, sentence
from train.cache import FeatureCache
from train.config import Config, subsampling
from train.data import Example
from train.text import error_rate

Floats = NDArray[np.float32]


def validate(net: keras.Model, data: Data, config: Config) -> tuple[float, float, Heard]:
    """Greedy CER and WER over the validation clips, and the words heard of each, the shortest clip first."""
    heard = [pair for batch in predict(net, data, config) for pair in batch]
    pairs = [(example.clip.text, sentence(words)) for example, words in heard]
    wer = error_rate((reference.split(), text.split()) for reference, text in pairs)
    return error_rate(pairs), wer, heard


def predict(net: keras.Model, data: Data, config: Config) -> Iterator[Heard]:
    """Batches of (example, words of its greedy transcript)."""
    for batch in log_probs(net, data.valid, data.cache, config):
        yield [(e, ctc.words(ctc.step(ctc.Hypothesis(), rows, blank=0), config.vocab)) for e, rows in batch]


def log_probs(
    net: keras.Model, examples: Sequence[Example], cache: FeatureCache, config: Config
) -> Iterator[list[tuple[Example, Floats]]]:
    """Batches of (example, log_probs [output frames, vocab] of it and `right_context` frames of quiet), by length."""
    ordered = sorted(examples, key=lambda e: e.frames)
    for at in range(0, len(ordered), 24):
        some = ordered[at : at + 24]
        longest = -(-(some[-1].frames + config.right_context) // 16) * 16
        x = np.full((len(some), longest, config.features.width), quiet(config), np.float32)
        for row, e in zip(x, some, strict=True):
            row[: e.frames] = cache.get(e.clip.path)
        told = keras.ops.convert_to_numpy(run(net, x))
        limit = [(e.frames + config.right_context) // subsampling(config) for e in some]
        yield [(e, rows[:n]) for e, rows, n in zip(some, told, limit, strict=True)]


def run(net: keras.Model, x: Floats) -> Any:
    """log_probs without gradients."""
    if keras.backend.backend() != "torch":
        return net(x, training=False)
    import torch

    with torch.no_grad():
        return net(x, training=False)
