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
        arrays |= {f"optimizer{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(optimizer.variables)}
    if progress is not None:
        arrays["progress"] = np.array(json.dumps(dataclasses.asdict(progress)))
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(path)


def load_checkpoint(path: Path, net: keras.Model, optimizer: Any = None) -> dict[str, Any]:
    """Put a checkpoint's weights into the network (and optimizer); returns its progress, if it has any."""
    with np.load(path) as arrays:
        _assign(path, net.variables, arrays, "weight")
        if optimizer is not None:
            _assign(path, optimizer.variables, arrays, "optimizer")
        return json.loads(str(arrays["progress"])) if "progress" in arrays else {}


def _assign(path: Path, variables: list[Any], arrays: Any, kind: str) -> None:
    found = [name for name in arrays.files if name.startswith(kind)]
    shapes = [tuple(v.shape) for v in variables]
    if len(found) != len(shapes) or any(arrays[f"{kind}{i}"].shape != s for i, s in enumerate(shapes)):
        raise DataError(f"{path} is a checkpoint of another network: its {kind}s have other shapes")
    for i, variable in enumerate(variables):
        variable.assign(arrays[f"{kind}{i}"])
