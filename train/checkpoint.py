"""Checkpoints: one .npz with weights, optimizer and progress, replaced whole or not at all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from train.data import DataError


def save_checkpoint(path: Path, net: keras.Model, optimizer: Any = None, progress: Any = None) -> None:
    """Write to a temporary file, then rename: a full disk or a kill leaves the old one as it was."""
    arrays = {f"weight{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(net.variables)}
    if optimizer is not None:
        arrays |= {f"optimizer{i}": value for i, value in enumerate(optimizer.state())}
    if progress is not None:
        arrays["progress"] = np.array(json.dumps(dataclasses.asdict(progress)))
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror}): make room and go on; what was saved before is untouched"
        ) from None


def load_checkpoint(path: Path, net: keras.Model, optimizer: Any = None) -> dict[str, Any]:
    """Put a checkpoint's weights into the network (and optimizer); returns its progress, if it has any."""
    with np.load(path) as arrays:
        for variable, value in zip(net.variables, _read(path, arrays, "weight", net.variables), strict=True):
            variable.assign(value)
        if optimizer is not None:
            optimizer.restore(_read(path, arrays, "optimizer", optimizer.state()))
        return json.loads(str(arrays["progress"])) if "progress" in arrays else {}


def _read(path: Path, arrays: Any, kind: str, like: list[Any]) -> list[Any]:
    """The arrays of one kind, which must have the shapes of those of `like`."""
    found = [arrays[f"{kind}{i}"] for i in range(sum(name.startswith(kind) for name in arrays.files))]
    if [a.shape for a in found] != [tuple(v.shape) for v in like]:
        raise DataError(f"{path} is a checkpoint of another network: its {kind}s have other shapes")
    return found
