"""The networks: a streaming CNN-LSTM-CTC whose state is explicit, and the tutorial's bidirectional one.

Both are Keras 3 models, so the same weights run under TensorFlow (default) and torch. Both end in log-softmax and
hold the global mean and variance of their features, so that serving needs nothing but the graph.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from train.config import Config
from train.text import letters

SIZES = {  # channels of the first convolution; units; blocks: C looks at the last frames, L remembers
    "small": (96, 192, "CLCL"),
    "base": (160, 320, "CCLCCL"),
    "large": (256, 512, "CCLCCL"),
}


class GlobalNorm(layers.Layer):
    """(x - mean) / deviation with fixed statistics of the training data, shape [width] each."""

    def build(self, input_shape: Any) -> None:
        width = (input_shape[-1],)
        self.mean = self.add_weight(name="mean", shape=width, initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=width, initializer="ones", trainable=False)

    def call(self, x: Any) -> Any:
        return (x - self.mean) * self.scale

    def set(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Take the statistics of the training features."""
        self.mean.assign(mean)
        self.scale.assign(1 / np.maximum(deviation, 1e-3))


@keras.saving.register_keras_serializable("asr_train")
class FusedLSTM(layers.LSTM):
    """Keras' LSTM, except that under torch the whole sequence goes to torch's fused kernel (4x faster on a CPU)."""

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        if keras.backend.backend() != "torch":
            return super().inner_loop(sequences, initial_state, mask, training)
        import torch

        h, c = (s.unsqueeze(0) for s in initial_state)
        kernel, recurrent, bias = (w.value for w in self.cell.trainable_variables)
        weights = [kernel.t().contiguous(), recurrent.t().contiguous(), bias, torch.zeros_like(bias)]
        if self.go_backwards:
            sequences = sequences.flip(1)
        y, h, c = torch.lstm(sequences, (h, c), weights, True, 1, 0.0, False, False, True)
        return h[0], y, [h[0], c[0]]


class RunningMean(layers.Layer):
    """x minus its mean over the last `frames` or so, which is that of the speaker, the room and the level.

    An exponential mean, as in Kaldi's online normalisation; `before` [batch, width] is the one before the first frame.
    """

    def __init__(self, frames: float, **options: Any) -> None:
        super().__init__(**options)
        self.keep = 1 - 1 / frames
        self.seeds = keras.random.SeedGenerator()

    def call(self, x: Any, before: Any) -> Any:
        """[batch, frames, width]; returns as much, and the mean after the last frame."""
        age = ops.arange(1, ops.shape(x)[1] + 1, dtype="float64")[:, None]
        grown = self.keep**-age * (1 - self.keep)  # float64, or it would overflow after four minutes
        mean = self.keep**age * (ops.cast(before, "float64")[:, None] + ops.cumsum(ops.cast(x, "float64") * grown, 1))
        mean = ops.cast(mean, x.dtype)
        return x - mean, mean[:, -1]

    def begin(self, x: Any) -> Any:
        """Means [batch, width] to begin to learn with: of nothing, or as if silence or another clip came before."""
        chosen = keras.random.uniform((ops.shape(x)[0], 1), seed=self.seeds)
        other = ops.roll(ops.mean(x, axis=1), 1, axis=0)
        return ops.where(chosen < 0.25, x[:, -1], ops.where(chosen < 0.5, other, 0.0))  # every clip ends in silence


class ConvBlock(layers.Layer):
    """What the last `kernel` frames say: a depthwise causal convolution, then two dense layers (Liu et al. 2022)."""

    kernel, expansion = 9, 3

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.depthwise = layers.DepthwiseConv1D(self.kernel, padding="valid", name="depthwise")
        self.norm = layers.LayerNormalization(name="norm")
        self.widen = layers.Dense(self.expansion * units, activation="silu", name="widen")
        self.narrow = layers.Dense(units, name="narrow")

    def call(self, x: Any, cache: Any) -> Any:
        """[batch, frames, units] and the kernel - 1 frames before them; returns as many frames, and the next cache."""
        seen = ops.concatenate([ops.cast(cache, x.dtype), x], axis=1)
        return self.narrow(self.widen(self.norm(self.depthwise(seen)))), seen[:, 1 - self.kernel :]


class StreamingNetwork(keras.Model):
    """Two strided causal convolutions, residual convolution blocks and LSTMs, then log-softmax over the vocabulary.

    What comes in is without its running mean.

    `step(x, state)` maps features [batch, frames, width] and a state to log_probs [batch, frames / 4, vocab] and the
    next state; `call` runs a whole utterance from the zero state, which is the same thing as one big step.

    Half-way up, a second head names single letters. It only helps to train (intermediate CTC, Lee & Watanabe 2021):
    letters are found long before groups of letters are. Its tokens are the first `letters` of the vocabulary.
    A third, at the top, names phones if there are any.
    """

    kernel = 5

    def __init__(
        self,
        width: int,
        vocab: int,
        letters: int,
        size: str = "base",
        dropout: float = 0.1,
        phones: int = 0,
        mean_frames: float = 0.0,
    ) -> None:
        super().__init__()
        first, units, self.plan = SIZES[size]
        self.width, self.units, self.fronts = width, units, (first, units)
        self.norm = GlobalNorm(name="norm")
        self.running_mean = RunningMean(mean_frames, name="running_mean") if mean_frames else None
        self.convs = [
            layers.Conv1D(n, self.kernel, strides=2, padding="valid", name=f"conv{i}")
            for i, n in enumerate(self.fronts)
        ]
        self.conv_norms = [layers.LayerNormalization(name=f"conv_norm{i}") for i in range(2)]
        self.blocks = [
            ConvBlock(units, name=f"block{i}")
            if kind == "C"
            else FusedLSTM(units, return_sequences=True, return_state=True, name=f"lstm{i}")
            for i, kind in enumerate(self.plan)
        ]
        self.lstm_norms = [
            layers.LayerNormalization(name=f"lstm_norm{i}") for i, kind in enumerate(self.plan) if kind == "L"
        ]
        self.dropout = layers.Dropout(dropout, noise_shape=(None, 1, None))  # one mask for all time
        self.letters_norm = layers.LayerNormalization(name="letters_norm")
        self.letters_head = layers.Dense(letters, name="letters_head")
        self.final_norm = layers.LayerNormalization(name="final_norm")
        self.head = layers.Dense(vocab, name="head")
        self.phones_head = layers.Dense(phones, name="phones_head") if phones else None

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape (without the batch axis) of every piece of state, in order."""
        shapes: dict[str, tuple[int, ...]] = {"mean": (self.width,)} if self.running_mean else {}
        shapes |= {
            "cache0": (self.kernel - 2, self.width),
            "cache1": (self.kernel - 2, self.fronts[0]),
        }
        for i, kind in enumerate(self.plan):
            if kind == "C":
                shapes[f"block{i}"] = (ConvBlock.kernel - 1, self.units)
            else:
                shapes |= {f"h{i}": (self.units,), f"c{i}": (self.units,)}
        return shapes

    def step(self, x: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """One step over a multiple of 4 frames; returns log_probs and the next state."""
        _, x, after = self._encode(x, state)
        return _log_softmax(self.head(self.final_norm(x))), after

    def call(self, x: Any, training: bool = False) -> Any:
        """log_probs of whole utterances."""
        return self.heads(x, training)[0]

    def heads(self, x: Any, training: bool) -> list[Any]:
        """log_probs of whole utterances: tokens [batch, frames / 4, vocab], letters half-way up, phones if any."""
        batch = ops.shape(x)[0]
        state = {name: ops.zeros((batch, *shape)) for name, shape in self.state_shapes().items()}
        if training and self.running_mean:
            state["mean"] = self.running_mean.begin(self.norm(x))
        half, top, _ = self._encode(x, state, training)
        top = self.final_norm(top)
        found = [self.head(top), self.letters_head(self.letters_norm(half))]
        return [_log_softmax(y) for y in (*found, *([self.phones_head(top)] if self.phones_head else []))]

    def _encode(self, x: Any, state: dict[str, Any], training: bool = False) -> tuple[Any, Any, dict[str, Any]]:
        """What half of the blocks and what all blocks make of the features, and the next state."""
        after: dict[str, Any] = {}
        x = self.norm(x)
        if self.running_mean:
            x, after["mean"] = self.running_mean(x, state["mean"])
        for i, (conv, norm) in enumerate(zip(self.convs, self.conv_norms, strict=True)):
            x = ops.concatenate([ops.cast(state[f"cache{i}"], x.dtype), x], axis=1)
            after[f"cache{i}"] = x[:, -(self.kernel - 2) :]
            x = ops.silu(norm(conv(x)))
        half, norms = x, iter(self.lstm_norms)
        x = self.dropout(x, training=training)
        for i, (kind, block) in enumerate(zip(self.plan, self.blocks, strict=True)):
            if kind == "C":
                y, after[f"block{i}"] = block(x, state[f"block{i}"])
            else:
                y, after[f"h{i}"], after[f"c{i}"] = block(
                    next(norms)(x), initial_state=[state[f"h{i}"], state[f"c{i}"]]
                )
            x = x + self.dropout(y, training=training)
            if i + 1 == len(self.plan) // 2:
                half = x
        return half, x, after


def _log_softmax(x: Any) -> Any:
    return ops.log_softmax(ops.cast(x, "float32"))


def tutorial_network(width: int, vocab: int, dropout: float) -> keras.Model:
    """The tutorial's network: two 2-D convolutions, five BiLSTM-128, dense 256; it needs a whole window to run.

    The original ends in softmax, which CTC losses silently misread; this one ends in log-softmax.
    """
    inputs = keras.Input((None, width), name="features")
    x = layers.Reshape((-1, width, 1))(GlobalNorm(name="norm")(inputs))
    for i, (kernel, strides) in enumerate((((11, 41), (2, 2)), ((11, 21), (1, 2)))):
        x = layers.Conv2D(32, kernel, strides, padding="same", use_bias=False, name=f"conv{i}")(x)
        x = layers.LeakyReLU(0.1)(layers.BatchNormalization(name=f"conv_norm{i}")(x))
    x = layers.Reshape((-1, x.shape[-2] * x.shape[-1]))(x)
    for i in range(5):
        x = layers.Bidirectional(FusedLSTM(128, return_sequences=True), name=f"bilstm{i}")(x)
        if i < 4:
            x = layers.Dropout(dropout)(x)
    x = layers.Dropout(dropout)(layers.LeakyReLU(0.1)(layers.Dense(256, name="dense")(x)))
    return keras.Model(inputs, layers.Activation("log_softmax", dtype="float32")(layers.Dense(vocab, name="head")(x)))


def build(config: Config) -> keras.Model:
    """The network a configuration describes, with its weights created."""
    width, vocab = config.features.width, len(config.vocab)
    if config.network == "tutorial":
        return tutorial_network(width, vocab, config.dropout)
    spelled, phones = len(letters(config.vocab)), len(config.phones)
    mean_frames = config.mean_seconds * config.features.sample_rate / config.features.frame_shift
    network = StreamingNetwork(width, vocab, spelled, config.size, config.dropout, phones, mean_frames)
    network(np.zeros((1, 16, width), np.float32))
    return network
