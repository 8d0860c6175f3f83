"""Processes that train together: each takes its own batches, all take the mean of their gradients.

The collectives are the libraries' own: torch.distributed with gloo, or TensorFlow's MultiWorkerMirroredStrategy, on one
machine or on several.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among `size` of them; `total` sums a tensor over all."""

    rank: int = 0
    size: int = 1
    total: Callable[[Any], Any] = lambda tensor: tensor

    def mean(self, gradients: Sequence[Any]) -> list[Any]:
        """Gradients averaged over all workers."""
        from keras import ops

        if self.size == 1:
            return list(gradients)
        flat = self.total(ops.concatenate([ops.reshape(g, (-1,)) for g in gradients])) / self.size
        ends = np.cumsum([int(np.prod(g.shape)) for g in gradients])
        return [ops.reshape(part, g.shape) for part, g in zip(ops.split(flat, ends[:-1]), gradients, strict=True)]

    def agree(self, value: float) -> float:
        """Rank 0's value in every worker: all must decide alike when to stop."""
        from keras import ops

        if self.size == 1:
            return value
        return float(self.total(ops.convert_to_tensor([value if self.rank == 0 else 0.0], "float64"))[0])

    def copy_weights(self, network: Any) -> None:
        """Rank 0's weights in every worker: shared gradients are worth nothing where the weights differ."""
        if self.size > 1:
            for variable in network.variables:
                if variable.dtype == "float32":  # not the seeds of dropout, which are each worker's own
                    variable.assign(self.total(variable.value * float(self.rank == 0)))


def join(cluster: Sequence[str], rank: int) -> Workers:
    """Make this process worker `rank` of a cluster, given as HOST:PORT of each; returns when all have met."""
    import keras

    if keras.backend.backend() == "torch":
        return _join_torch(cluster, rank)
    return _join_tensorflow(cluster, rank) if len(cluster) > 1 else Workers()


def _join_torch(cluster: Sequence[str], rank: int) -> Workers:
    import torch
    from torch import distributed

    torch.set_num_threads(1)  # two threads in one LSTM are slower than one
    if len(cluster) < 2:
        return Workers()
    distributed.init_process_group("gloo", f"tcp://{cluster[0]}", rank=rank, world_size=len(cluster))

    def total(tensor: Any) -> Any:
        tensor = tensor.detach().clone()
        distributed.all_reduce(tensor)
        return tensor

    return Workers(rank, len(cluster), total)


def _join_tensorflow(cluster: Sequence[str], rank: int) -> Workers:
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": list(cluster)}, "task": {"type": "worker", "index": rank}}
    )
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    @tf.function(reduce_retracing=True)
    def total(tensor: Any) -> Any:
        def reduce() -> Any:
            here = tf.identity(tensor)  # on the replica's device, or the collective finds none
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, here)

        return strategy.run(reduce)

    return Workers(rank, len(cluster), total)


def local_cluster(size: int) -> list[str]:
    """Addresses on this machine for `size` workers."""
    with ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(size)]
        for one in bound:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in bound]
