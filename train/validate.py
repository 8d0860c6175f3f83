"""Error rates of a network on the validation clips while it trains, decoded greedily in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from streamer import ctc
from train.batch import Data, quiet
from train.board import Heard, sentence
from train.config import Config, subsampling
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
    ordered = sorted(data.valid, key=lambda e: e.frames)
    for at in range(0, len(ordered), 24):
        some = ordered[at : at + 24]
        longest = -(-(some[-1].frames + config.right_context) // 16) * 16
        x = np.full((len(some), longest, config.features.width), quiet(config), np.float32)
        for row, e in zip(x, some, strict=True):
            row[: e.frames] = data.cache.get(e.clip.path)
        log_probs = keras.ops.convert_to_numpy(run(net, x))
        limit = [(e.frames + config.right_context) // subsampling(config) for e in some]
        heard = [ctc.step(ctc.Hypothesis(), row[:n], blank=0) for row, n in zip(log_probs, limit, strict=True)]
        yield [(e, ctc.words(h, config.vocab)) for e, h in zip(some, heard, strict=True)]


def run(net: keras.Model, x: Floats) -> Any:
    """log_probs without gradients."""
    if keras.backend.backend() != "torch":
        return net(x, training=False)
    import torch

    with torch.no_grad():
        return net(x, training=False)
