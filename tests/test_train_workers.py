"""Workers that train together hold the same weights, whichever backend they run on."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from train.workers import local_cluster

ROOT = Path(__file__).parent.parent
SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from train.workers import join

out, cluster, rank = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
workers = join(cluster, rank)
import keras
from train import backends, network
from train.config import Config
from train.targets import targets

config = Config(size="small")
keras.utils.set_random_seed(rank)
net = network.build(config)
workers.copy_weights(net)
optimizer, gradients = backends.optimizer(net, config), backends.gradients(net, config)
rng = np.random.default_rng(rank)
kept = []
for step in range(2):
    x = rng.normal(size=(2, 64, 80)).astype(np.float32)
    wanted = targets(rng.integers(1, 28, (2, 4)), np.array([4, 3]), config)
    loss, found = gradients(x, np.array([16, 16]), wanted)
    kept.append(keras.ops.convert_to_numpy(found[0]))
    mean = workers.mean(found)
    kept.append(keras.ops.convert_to_numpy(mean[0]))
    optimizer.apply(mean, 1e-3)
agreed = workers.agree(0.25 + rank)
weights = np.concatenate([keras.ops.convert_to_numpy(v).ravel() for v in net.trainable_variables])
np.savez(out / f"{rank}.npz", *kept, weights=weights, agreed=agreed)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_two_workers_share_gradients_and_stay_alike(tmp_path: Path, backend: str) -> None:
    for name in ("keras", backend):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install -e '.[train,torch]'")
    env = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SCRIPT, tmp_path, ",".join(local_cluster(2))]
    processes = [subprocess.Popen([*map(str, command), str(rank)], env=env) for rank in range(2)]
    try:
        assert [process.wait(240) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in range(2))
    np.testing.assert_array_equal(first["weights"], second["weights"])
    assert first["agreed"] == second["agreed"] == 0.25
    assert not np.allclose(first["arr_0"], second["arr_0"])  # each heard something else
    np.testing.assert_allclose(first["arr_1"], (first["arr_0"] + second["arr_0"]) / 2, rtol=1e-4, atol=1e-6)
