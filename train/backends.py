"""The three things that differ between TensorFlow and torch: gradients, sharing them, and saying it is a leaf."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from train.config import Config

Gradients = Callable[[Any, Any, Any, Any], tuple[float, list[Any]]]


def gradients(network: keras.Model, config: Config, blank: int = 0) -> Gradients:
    """A function from a batch to its mean loss per clip and the gradients of all trainable variables.

    The batch: features [B, T, W], labels [B, L], output frames [B], label lengths [B].
    """
    if keras.backend.backend() == "torch":
        return _torch_gradients(network, config.bf16, blank)
    return _tensorflow_gradients(network, blank)


def _torch_gradients(network: keras.Model, bf16: bool, blank: int) -> Gradients:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def compute(x: Any, labels: Any, frames: Any, lengths: Any) -> tuple[float, list[Any]]:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            log_probs = network(torch.from_numpy(x).to(device), training=True).float().transpose(0, 1)
        targets, sizes, counts = (torch.from_numpy(a).to(device) for a in (labels, frames, lengths))
        losses = torch.nn.functional.ctc_loss(log_probs, targets, sizes, counts, blank, "none", zero_infinity=True)
        variables = [v.value for v in network.trainable_variables]
        loss = losses.mean()
        found = torch.autograd.grad(loss, variables)
        return float(loss.detach()), share(list(found))

    return compute


def share(found: list[Any]) -> list[Any]:
    """Gradients averaged over all worker processes; unchanged when there is one."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        return found
    flat = torch.cat([g.reshape(-1) for g in found])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    return [part.view_as(g) for part, g in zip(flat.split([g.numel() for g in found]), found, strict=True)]


def join_workers(rank: int, workers: int, meeting_place: Path) -> None:
    """Make this process one of `workers` that share gradients (torch only), one thread each."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    if workers > 1:
        distributed.init_process_group("gloo", f"file://{meeting_place}", rank=rank, world_size=workers)


def agree(value: float) -> float:
    """Rank 0's value in every worker: all must decide alike when to stop."""
    if keras.backend.backend() != "torch":
        return value
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        return value
    box = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(box, 0)
    return float(box)


def _tensorflow_gradients(network: keras.Model, blank: int) -> Gradients:
    import tensorflow as tf

    width = network.norm.mean.shape[0] if hasattr(network, "norm") else network.input_shape[-1]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, width], tf.float32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def compute(x: Any, labels: Any, frames: Any, lengths: Any) -> Any:
        silent = lengths == 0  # the kernel refuses empty labels: their loss is that of the path of blanks
        spoken = tf.where(silent[:, None], tf.ones_like(labels), labels)
        ragged = tf.RaggedTensor.from_tensor(spoken, tf.maximum(lengths, 1)).to_sparse()  # sparse: the fast kernel
        with tf.GradientTape() as tape:
            log_probs = network(x, training=True)
            losses = tf.nn.ctc_loss(ragged, log_probs, None, frames, logits_time_major=False, blank_index=blank)
            heard = tf.sequence_mask(frames, tf.shape(log_probs)[1], log_probs.dtype)
            losses = tf.where(silent, -tf.reduce_sum(heard * log_probs[..., blank], axis=1), losses)
            loss = tf.reduce_mean(losses)
        return loss, tape.gradient(loss, [v.value for v in network.trainable_variables])

    def run(x: Any, labels: Any, frames: Any, lengths: Any) -> tuple[float, list[Any]]:
        loss, found = compute(x, *(a.astype(np.int32) for a in (labels, frames, lengths)))
        return float(loss), found

    return run
