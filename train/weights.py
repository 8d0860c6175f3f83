"""Weights by name: how they stand in an exported graph, and out of it again to begin training from a model file.

An initialiser of the graph has the name of its variable, which quantisation keeps (with a suffix).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from train import network
from train.config import describe
from train.data import DataError

Array = NDArray[np.float32]


def by_name(net: keras.Model) -> dict[str, Any]:
    """The variables of a network by a name that does not depend on where the network stands: block0/widen/kernel."""
    return {v.path.removeprefix(f"{net.name}/"): v for v in net.variables if v.dtype == "float32"}


def _gates(x: Array, order: tuple[int, ...]) -> Array:
    """The four gates of an LSTM, along the last axis, in another order."""
    parts = np.split(x, 4, axis=-1)
    return np.concatenate([parts[i] for i in order], axis=-1)


# How a weight of each kind stands in the graph, and back. LSTM gates are i, f, c, o in Keras and i, o, f, c in ONNX.
Layout = tuple[Callable[[Array], Array], Callable[[Array], Array]]
AS_IS: Layout = (lambda x: x, lambda y: y)
LSTM: Layout = (lambda x: _gates(x, (0, 3, 1, 2)).T[None], lambda y: _gates(y[0].T, (0, 2, 3, 1)))
LSTM_BIAS: Layout = (
    lambda x: np.concatenate([_gates(x, (0, 3, 1, 2)), np.zeros_like(x)])[None],
    lambda y: _gates(y[0, : y.shape[1] // 2], (0, 2, 3, 1)),
)
MATRIX: Layout = (lambda x: x.reshape(-1, x.shape[-1]), lambda y: y)  # of what is under the kernel, side by side
DEPTHWISE: Layout = (lambda x: x.transpose(1, 2, 0)[:, :, None], lambda y: y[:, :, 0].transpose(2, 0, 1))


def layout(name: str, ndim: int) -> Layout:
    """How the variable of this name and number of axes lies in a graph."""
    if "lstm_cell" in name:
        return LSTM if ndim == 2 else LSTM_BIAS
    if ndim == 3:
        return DEPTHWISE if "depthwise" in name else MATRIX
    return AS_IS


def read_weights(path: Path, net: keras.Model) -> Mapping[str, Array]:
    """The weights of an exported model by name, in Keras' layout, full precision or not, as far as `net` has them."""
    import onnx
    from onnx import numpy_helper

    held = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    return dict(_read(held, net))


def _read(held: Mapping[str, Any], net: keras.Model) -> Iterator[tuple[str, Array]]:
    for name, variable in by_name(net).items():
        if name in held:
            value = held[name]
        elif f"{name}_quantized" in held:
            scale, zero = held[f"{name}_scale"], held[f"{name}_zero_point"].astype(np.float32)
            value = (held[f"{name}_quantized"].astype(np.float32) - zero) * scale
            if "lstm_cell" in name:  # onnxruntime wants the quantised matrices of an LSTM transposed
                value = value.transpose(0, 2, 1)
        else:
            continue
        restore = layout(name, len(variable.shape))[1]
        shape = tuple(variable.shape)
        expected = layout(name, len(shape))[0](np.zeros(shape, np.float32)).shape
        if value.squeeze().shape == tuple(n for n in expected if n > 1):  # else it lies as it once did: not known
            yield name, restore(value.reshape(expected)).reshape(shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Source:
    """A model that training can begin from: its vocabulary, and its weights by name."""

    vocab: Sequence[str]
    weights: Mapping[str, Array]


def load_source(path: Path) -> Source:
    """A run folder (its best weights) or an exported .onnx file, whatever its precision."""
    if path.is_dir():
        from train.export import load_network

        config, net = load_network(path)
        return Source(config.vocab, {name: keras.ops.convert_to_numpy(v) for name, v in by_name(net).items()})
    config = describe(path)
    try:
        net = network.build(config)
        found = read_weights(path, net)
    except (KeyError, ValueError):
        raise DataError(f"{path} is of a network that this asr-train does not know: give a newer model") from None
    if {name for name in by_name(net) if not name.startswith(("letters_", "phones_"))} - set(found):
        raise DataError(f"{path} does not name all its weights: export it anew, or give the run folder it came from")
    return Source(config.vocab, found)


HEADS = ("head", "letters_head")


def begin_from(source: Source, net: keras.Model, vocab: Sequence[str]) -> None:
    """Give a network the weights of another; of the heads, those of the tokens that both vocabularies have."""
    for name, variable in by_name(net).items():
        if name not in source.weights:
            continue
        value = source.weights[name]
        if name.split("/")[0] in HEADS:
            fresh = keras.ops.convert_to_numpy(variable).copy()
            for i, token in enumerate(vocab[: fresh.shape[-1]]):
                if token in source.vocab[: value.shape[-1]]:
                    fresh[..., i] = value[..., source.vocab.index(token)]
            value = fresh
        variable.assign(value)
