"""The streaming network as an ONNX graph, written node by node: what `StreamingNetwork.step` computes.

A traced graph spends half of its time on what tracing made of layer norms and biases. Here every node is one that ONNX
Runtime has a kernel for, and its order is one that it fuses: a norm is a node, a matrix product takes its bias along,
strided convolutions are matrix products too, so that int8 reaches them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from train.network import ConvBlock, StreamingNetwork
from train.weights import by_name, layout

OPSET = 17
FLOAT = 1  # of onnx.TensorProto


class Graph:
    """Nodes and initialisers in the making. Values are known by name; `add` returns the name of what it computes."""

    def __init__(self, net: StreamingNetwork) -> None:
        self.units = net.units
        self._weights = {name: keras.ops.convert_to_numpy(v) for name, v in by_name(net).items()}
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}

    def add(self, kind: str, *inputs: str, out: Sequence[str] = (), **attributes: Any) -> str:
        """One node; its first output is named `out[0]`, or after its kind."""
        from onnx import helper

        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, list(out) or [name], name, **attributes))
        return str(self._nodes[-1].output[0])

    def weight(self, name: str) -> str:
        """A variable of the network, under its name and in the graph's layout."""
        value = self._weights[name]
        return self._hold(name, layout(name, value.ndim)[0](value))

    def numbers(self, *values: int) -> str:
        """Whole numbers that a node takes as an input."""
        return self._hold("_".join(map(str, ("numbers", *values))), np.array(values, np.int64))

    def table(self, name: str, value: np.ndarray) -> str:
        """Numbers that are made here and not learnt."""
        return self._hold(name, value.astype(np.float32))

    def _hold(self, name: str, value: np.ndarray) -> str:
        from onnx import numpy_helper

        self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def model(self, inputs: dict[str, tuple[int, ...]], outputs: Sequence[str]) -> Any:
        """The finished graph; shapes of inputs are without the batch axis."""
        from onnx import helper

        takes = [helper.make_tensor_value_info(name, FLOAT, ["batch", *shape]) for name, shape in inputs.items()]
        gives = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
        graph = helper.make_graph(self._nodes, "asr", takes, gives, list(self._initializers.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def write(net: StreamingNetwork, frames: int) -> Any:
    """The ONNX model of one step over `frames` frames: features and states in, log_probs and next states out."""
    g = Graph(net)
    x = g.add("Mul", g.add("Sub", "features", g.weight("norm/mean")), g.weight("norm/scale"))
    if net.running_mean:
        x = _minus_mean(g, x, net.running_mean.keep, frames)
    for i in range(len(net.convs)):
        x = g.add("Concat", f"cache{i}", x, axis=1)
        _last(g, x, net.kernel - 2, f"next_cache{i}")
        x = _silu(g, _norm(g, _strided(g, x, net.kernel, frames >> i, f"conv{i}"), net.conv_norms[i]))
    norms = iter(net.lstm_norms)
    for i, kind in enumerate(net.plan):
        y = _convolve(g, x, net.blocks[i], f"block{i}") if kind == "C" else _remember(g, _norm(g, x, next(norms)), i)
        x = g.add("Add", x, y)
    g.add("LogSoftmax", _dense(g, _norm(g, x, net.final_norm), "head"), out=["log_probs"], axis=-1)
    shapes = net.state_shapes()
    return g.model({"features": (frames, net.width)} | shapes, ["log_probs", *(f"next_{name}" for name in shapes)])


def _minus_mean(g: Graph, x: str, keep: float, frames: int) -> str:
    """RunningMean: the means after all frames of the step are a matrix times these, and what is left of before."""
    age = np.arange(frames)[:, None] - np.arange(frames)[None]
    shares = np.where(age >= 0, (1 - keep) * keep ** np.maximum(age, 0), 0)
    kept = g.table("mean_kept", keep ** np.arange(1, frames + 1)[:, None])
    before = g.add("Mul", g.add("Unsqueeze", "mean", g.numbers(1)), kept)
    means = g.add("Add", g.add("MatMul", g.table("mean_shares", shares), x), before)
    last = g.add("Slice", means, g.numbers(-1), g.numbers(np.iinfo(np.int64).max), g.numbers(1))
    g.add("Squeeze", last, g.numbers(1), out=["next_mean"])
    return g.add("Sub", x, means)


def _norm(g: Graph, x: str, layer: Any, scope: str = "") -> str:
    name = scope + layer.name
    weights = g.weight(f"{name}/gamma"), g.weight(f"{name}/beta")
    return g.add("LayerNormalization", x, *weights, axis=-1, epsilon=layer.epsilon)


def _dense(g: Graph, x: str, name: str) -> str:
    return g.add("Add", g.add("MatMul", x, g.weight(f"{name}/kernel")), g.weight(f"{name}/bias"))


def _silu(g: Graph, x: str) -> str:
    return g.add("Mul", x, g.add("Sigmoid", x))


def _last(g: Graph, x: str, count: int, out: str) -> str:
    """The last frames, which the next step begins with."""
    return g.add("Slice", x, g.numbers(-count), g.numbers(np.iinfo(np.int64).max), g.numbers(1), out=[out])


def _strided(g: Graph, x: str, kernel: int, frames: int, name: str) -> str:
    """A convolution of stride 2: the frames under the kernel side by side, times a matrix."""
    under = [
        g.add("Slice", x, g.numbers(at), g.numbers(at + frames - 1), g.numbers(1), g.numbers(2)) for at in range(kernel)
    ]
    return _dense(g, g.add("Concat", *under, axis=-1), name)


def _convolve(g: Graph, x: str, block: ConvBlock, name: str) -> str:
    """ConvBlock: [batch, frames, units] becomes an image of one row for the depthwise convolution, and back."""
    seen = g.add("Concat", name, x, axis=1)
    _last(g, seen, block.kernel - 1, f"next_{name}")
    row = g.add("Unsqueeze", g.add("Transpose", seen, perm=[0, 2, 1]), g.numbers(2))
    weights = g.weight(f"{name}/depthwise/kernel"), g.weight(f"{name}/depthwise/bias")
    row = g.add("Conv", row, *weights, group=g.units, kernel_shape=[1, block.kernel])
    y = g.add("Transpose", g.add("Squeeze", row, g.numbers(2)), perm=[0, 2, 1])
    y = _norm(g, y, block.norm, f"{name}/")
    return _dense(g, _silu(g, _dense(g, y, f"{name}/widen")), f"{name}/narrow")


def _remember(g: Graph, x: str, i: int) -> str:
    """An LSTM, which ONNX runs over [frames, batch, units]."""
    cell = [g.weight(f"lstm{i}/lstm_cell/{part}") for part in ("kernel", "recurrent_kernel", "bias")]
    before = [g.add("Unsqueeze", f"{part}{i}", g.numbers(0)) for part in "hc"]
    y, *after = (f"lstm{i}_{part}" for part in ("y", "h", "c"))
    g.add("LSTM", g.add("Transpose", x, perm=[1, 0, 2]), *cell, "", *before, out=[y, *after], hidden_size=g.units)
    for part, state in zip("hc", after, strict=True):
        g.add("Squeeze", state, g.numbers(0), out=[f"next_{part}{i}"])
    return g.add("Transpose", g.add("Squeeze", y, g.numbers(1)), perm=[1, 0, 2])
