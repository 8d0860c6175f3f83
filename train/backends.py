"""What differs between TensorFlow and torch: gradients and the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from train.config import Config
from train.targets import Target

Gradients = Callable[..., tuple[float, list[Any]]]
BETA_2 = 0.98  # gradients of CTC change quickly at first: forget their size sooner than after 1000 steps


def gradients(network: keras.Model, config: Config, blank: int = 0) -> Gradients:
    """A function from a batch to the mean loss per clip of its tokens, and the gradients of all trainable variables.

    The batch: features [B, T, W], output frames [B], and what each head is to say. The loss that is descended is that
    of the tokens and of the other heads by their weights.
    """
    kind = _torch_gradients if keras.backend.backend() == "torch" else _tensorflow_gradients
    return kind(network, config, blank, (1.0, config.letters_loss, config.phones_loss))


def _heads(network: keras.Model, x: Any) -> list[Any]:
    return network.heads(x, True) if hasattr(network, "heads") else [network(x, training=True)]


def _torch_gradients(network: keras.Model, config: Config, blank: int, weights: Sequence[float]) -> Gradients:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def loss_of(log_probs: Any, frames: Any, target: Target) -> Any:
        log_probs = log_probs.float().transpose(0, 1)
        labels, lengths, known = (torch.from_numpy(a).to(device) for a in target)
        losses = torch.nn.functional.ctc_loss(log_probs, labels, frames, lengths, blank, "none", zero_infinity=True)
        return (losses * known).mean()

    def compute(x: Any, frames: Any, wanted: Sequence[Target]) -> tuple[float, list[Any]]:
        with torch.autocast(device, torch.bfloat16, enabled=config.bf16):
            heads = _heads(network, torch.from_numpy(x).to(device))
        sizes = torch.from_numpy(frames).to(device)
        losses = [loss_of(said, sizes, target) for said, target in zip(heads, wanted, strict=True)]
        total = sum(weight * loss for weight, loss in zip(weights, losses, strict=False))
        variables = [v.value for v in network.trainable_variables]
        found = torch.autograd.grad(total, variables, allow_unused=True, materialize_grads=True)
        return float(losses[0].detach()), list(found)

    return compute


def _tensorflow_gradients(network: keras.Model, config: Config, blank: int, weights: Sequence[float]) -> Gradients:
    import tensorflow as tf

    width = network.norm.mean.shape[0] if hasattr(network, "norm") else network.input_shape[-1]

    def loss_of(log_probs: Any, frames: Any, target: Any) -> Any:
        labels, lengths, known = target
        silent = lengths == 0  # the kernel refuses empty labels: their loss is that of the path of blanks
        spoken = tf.where(silent[:, None], tf.ones_like(labels), labels)
        ragged = tf.RaggedTensor.from_tensor(spoken, tf.maximum(lengths, 1)).to_sparse()  # sparse: the fast kernel
        losses = tf.nn.ctc_loss(ragged, log_probs, None, frames, logits_time_major=False, blank_index=blank)
        heard = tf.sequence_mask(frames, tf.shape(log_probs)[1], log_probs.dtype)
        losses = tf.where(silent, -tf.reduce_sum(heard * log_probs[..., blank], axis=1), losses)
        return tf.reduce_mean(losses * known)

    row, table = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)
    target = (table, row, tf.TensorSpec([None], tf.float32))
    count = (2 + bool(config.phones)) if hasattr(network, "heads") else 1

    @tf.function(input_signature=[tf.TensorSpec([None, None, width], tf.float32), row, [target] * count])
    def compute(x: Any, frames: Any, wanted: Any) -> Any:
        with tf.GradientTape() as tape:
            heads = _heads(network, x)
            losses = [loss_of(said, frames, target) for said, target in zip(heads, wanted, strict=True)]
            total = sum(weight * loss for weight, loss in zip(weights, losses, strict=False))
        variables = [v.value for v in network.trainable_variables]
        return losses[0], tape.gradient(total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def run(x: Any, frames: Any, wanted: Sequence[Target]) -> tuple[float, list[Any]]:
        narrow = [(t.labels.astype(np.int32), t.lengths.astype(np.int32), t.known) for t in wanted]
        loss, found = compute(x, frames.astype(np.int32), narrow)
        return float(loss), found

    return run


def optimizer(network: keras.Model, config: Config) -> Any:
    """AdamW (Loshchilov & Hutter 2019): `apply(gradients, rate)`, `state()` and `restore(state)` as numpy arrays."""
    return (_TorchAdamW if keras.backend.backend() == "torch" else _KerasAdamW)(network.trainable_variables, config)


class _KerasAdamW:
    def __init__(self, variables: list[Any], config: Config) -> None:
        self.adam = keras.optimizers.AdamW(
            config.learning_rate, config.weight_decay, beta_2=BETA_2, global_clipnorm=config.clip_norm
        )
        self.adam.exclude_from_weight_decay([v for v in variables if len(v.shape) < 2])
        self.adam.build(variables)

    def apply(self, found: list[Any], rate: float) -> None:
        self.adam.learning_rate.assign(rate)
        self.adam.apply(found)

    def state(self) -> list[Any]:
        return [keras.ops.convert_to_numpy(v) for v in self.adam.variables]

    def restore(self, state: list[Any]) -> None:
        for variable, value in zip(self.adam.variables, state, strict=True):
            variable.assign(value)


class _TorchAdamW:
    """torch's fused step, ten times as fast as the same step made of Keras operations."""

    def __init__(self, variables: list[Any], config: Config) -> None:
        import torch

        self.parameters, self.clip = [v.value for v in variables], config.clip_norm
        groups = [
            {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, config.learning_rate, (0.9, BETA_2), fused=True)
        for p in self.parameters:
            self.adam.state[p] = {"step": torch.zeros((), device=p.device)}
            self.adam.state[p] |= {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}

    def apply(self, found: list[Any], rate: float) -> None:
        import torch

        for parameter, gradient in zip(self.parameters, found, strict=True):
            parameter.grad = gradient.contiguous()  # the fused step reads memory in its order, whatever the strides say
        torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()

    def state(self) -> list[Any]:
        return [value.detach().cpu().numpy() for value in self._values()]

    def restore(self, state: list[Any]) -> None:
        import torch

        for value, saved in zip(self._values(), state, strict=True):
            value.copy_(torch.from_numpy(np.asarray(saved)))

    def _values(self) -> list[Any]:
        return [value for p in self.parameters for value in self.adam.state[p].values()]
