"""Weights between weights: part of the way back after fine-tuning, and the mean of several fine-tunings.

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" and "Model soups": what lies between weights that come
from the same ones is good, too; it errs less on new voices and forgets less of others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from train.checkpoint import save_checkpoint
from train.config import Config
from train.data import DataError
from train.export import load_network
from train.weights import by_name

PARTS = (0.25, 0.5, 0.75, 1.0)


Array = NDArray[np.float32]


def blend(net: keras.Model, before: Mapping[str, Array], error: Callable[[], float]) -> tuple[float, float]:
    """Leave the network where its error is least among PARTS of the way from `before` (by name) to its own weights.

    Weights that `before` lacks stay as they are. Returns the part and its error.
    """
    after = {name: keras.ops.convert_to_numpy(v).copy() for name, v in by_name(net).items() if name in before}

    def go(part: float) -> None:
        for name, variable in by_name(net).items():
            if name in after:
                variable.assign((1 - part) * before[name] + part * after[name])

    def tried(part: float) -> float:
        go(part)
        return error()

    errors = {part: tried(part) for part in PARTS}
    best = min(PARTS, key=lambda part: errors[part])
    go(best)
    return best, errors[best]


def average(runs: Sequence[Path], out: Path) -> None:
    """Write a run folder whose best weights are the mean of those of `runs`; DataError when these do not fit."""
    if (out / "config.json").exists():
        raise DataError(f"{out} holds a run already: give another folder")
    config, net = load_network(runs[0])
    total = {name: keras.ops.convert_to_numpy(v).astype(np.float64) for name, v in by_name(net).items()}
    for run in runs[1:]:
        other, its = load_network(run)
        if _shape(other) != _shape(config):
            raise DataError(f"{run} is of another network than {runs[0]}: give runs that began from the same weights")
        for name, variable in by_name(its).items():
            total[name] += keras.ops.convert_to_numpy(variable)
    for name, variable in by_name(net).items():
        variable.assign((total[name] / len(runs)).astype(np.float32))
    out.mkdir(parents=True, exist_ok=True)
    dataclasses.replace(config, init=" + ".join(run.name for run in runs)).dump(out / "config.json")
    save_checkpoint(out / "best.npz", net)


def _shape(config: Config) -> tuple[object, ...]:
    """What runs must share so that their weights mean the same."""
    input_and_output = config.features, config.mean_seconds, config.right_context, config.vocab, config.phones
    return config.network, config.size, *input_and_output
