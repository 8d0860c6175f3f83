"""Parity: Keras on a whole utterance = the exported model streamed = the windows merged; both backends; CTC's traps."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow comes with the train extra")

import keras
import onnx

from streamer import engine, features
from streamer.model import AcousticModel, load
from streamer.probe import check, served_log_probs
from streamer.recognizer import Recognizer
from train import network
from train.backends import gradients
from train.blend import average, blend
from train.checkpoint import load_checkpoint, save_checkpoint
from train.config import Config, load_config
from train.data import DataError
from train.export import export, load_network
from train.fit import Progress, learning_rate
from train.targets import Target
from train.weights import begin_from, by_name, load_source, read_weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras and tf2onnx, with numpy 2

STREAMING = Config(size="small")
TUTORIAL = Config(network="tutorial")
SAMPLES = 0.3 * np.random.default_rng(0).normal(size=16000 * 6).astype(np.float32).clip(-1, 1)


def write_run(config: Config, folder: Path) -> keras.Model:
    """A run folder with random weights."""
    folder.mkdir(exist_ok=True)
    keras.utils.set_random_seed(7)
    net = network.build(config)
    net.get_layer("norm").set(np.linspace(-9, -5, config.features.width), np.full(config.features.width, 2.0))
    config.dump(folder / "config.json")
    save_checkpoint(folder / "best.npz", net)
    return net


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    """A streaming network and its run folder."""
    run = tmp_path_factory.mktemp("run")
    return write_run(STREAMING, run), run


@pytest.fixture(scope="module")
def exported(trained: tuple[keras.Model, Path]) -> AcousticModel:
    """The same network as ONNX."""
    path = trained[1] / "model.onnx"
    export(trained[1], path, "test")
    return load(path)


def test_the_exported_model_streamed_gives_kerass_log_probs_of_the_whole(
    trained: tuple[keras.Model, Path], exported: AcousticModel
) -> None:
    streamed = served_log_probs(exported, SAMPLES[:16000])
    x = features.compute(SAMPLES, STREAMING.features)[: len(streamed) * 4]
    whole = np.asarray(trained[0](x[None], training=False))[0]
    np.testing.assert_allclose(streamed, whole, atol=1e-4)
    assert len(streamed) > 15


def test_the_recogniser_drops_the_networks_delay_and_nothing_else(
    trained: tuple[keras.Model, Path], exported: AcousticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log-probs that reach the decoder, from odd-sized pushes, are Keras' offline ones from the delay on."""
    seen: list[np.ndarray] = []
    from streamer import ctc

    real = ctc.step
    monkeypatch.setattr(ctc, "step", lambda h, log_probs, blank: seen.append(log_probs) or real(h, log_probs, blank))
    recognizer = Recognizer(exported.spec, exported.initial_state)
    monkeypatch.setattr("streamer.endpoint.fires", lambda *_: None)
    samples = SAMPLES[:20_000]
    for piece in np.split(samples, [777, 1234, 9999, 10_001]):
        list(engine.feed(exported, recognizer, piece))
    list(engine.finish(exported, recognizer))
    padded = np.concatenate([samples, np.zeros(16000, np.float32)])
    whole = np.asarray(trained[0](features.compute(padded, STREAMING.features)[None, :144], training=False))[0]
    decoded = np.concatenate(seen)
    delay = STREAMING.right_context // 4
    np.testing.assert_allclose(decoded, whole[delay : delay + len(decoded)], atol=1e-4)
    assert len(decoded) * 4 * 160 >= len(samples)


def test_the_running_mean_is_that_of_what_came_of_late() -> None:
    mean = network.RunningMean(50.0)
    x = np.random.default_rng(0).normal(3, 1, (2, 120, 4)).astype(np.float32)
    expected, now = [], np.array([[1.0], [-2.0]]) * np.ones(4)
    for frame in range(120):
        now = 0.98 * now + 0.02 * x[:, frame]
        expected.append(x[:, frame] - now)
    y, after = mean(x, np.array([[1.0], [-2.0]], np.float32) * np.ones(4, np.float32))
    np.testing.assert_allclose(np.asarray(y), np.stack(expected, 1), atol=1e-5)
    np.testing.assert_allclose(np.asarray(after), now, atol=1e-5)
    long, _ = mean(np.full((1, 30_000, 1), 7.0, np.float32), np.zeros((1, 1), np.float32))
    np.testing.assert_allclose(np.asarray(long)[0, -1000:], 0, atol=1e-5)


def test_training_begins_with_no_mean_that_of_silence_or_that_of_another_clip() -> None:
    x = np.stack([np.linspace(0, row, 8)[:, None] for row in range(1, 201)]).astype(np.float32)
    begun = np.asarray(network.RunningMean(300.0).begin(x))[:, 0]
    last, other = x[:, -1, 0], np.roll(x.mean(axis=(1, 2)), 1)
    counts = [int(np.isclose(begun, what).sum()) for what in (0, last, other)]
    assert sum(counts) == 200
    assert all(30 < count < 125 for count in counts)


def test_a_run_that_is_older_than_the_running_mean_goes_without(tmp_path: Path) -> None:
    raw = dataclasses.asdict(STREAMING)
    del raw["mean_seconds"]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert "mean" not in network.build(load_config(tmp_path / "config.json")).state_shapes()
    assert "mean" in network.build(STREAMING).state_shapes()


def test_the_exported_graph_has_fused_lstms_and_no_loop(trained: tuple[keras.Model, Path]) -> None:
    export(trained[1], trained[1] / "graph.onnx", "test")
    kinds = [node.op_type for node in onnx.load(trained[1] / "graph.onnx").graph.node]
    assert kinds.count("LSTM") == network.SIZES["small"][2].count("L")
    assert not {"Loop", "Scan"} & set(kinds)


def test_the_probe_in_the_file_is_recomputed(exported: AcousticModel) -> None:
    assert "100% of" in check(exported)


def test_int8_is_smaller_and_says_much_the_same(trained: tuple[keras.Model, Path], exported: AcousticModel) -> None:
    path = trained[1] / "int8.onnx"
    export(trained[1], path, "test", int8=True)
    assert path.stat().st_size < 0.45 * (trained[1] / "model.onnx").stat().st_size
    full, small = (served_log_probs(m, SAMPLES[:32000]) for m in (exported, load(path)))
    assert np.abs(np.exp(full) - np.exp(small)).mean() < 0.01


def test_windows_of_the_tutorials_network_merge_to_the_whole_on_the_interior(tmp_path: Path) -> None:
    net = write_run(TUTORIAL, tmp_path)
    export(tmp_path, tmp_path / "model.onnx", "test")
    model = load(tmp_path / "model.onnx")
    assert model.spec.kind == "windowed"
    assert "probe tokens as in training" in check(model)
    merged = served_log_probs(model, SAMPLES)
    x = features.compute(SAMPLES, TUTORIAL.features)
    whole = np.asarray(net(x[None, : len(x) // 2 * 2], training=False))[0]
    inside = slice(100, len(merged))  # windows that begin before the stream see silence there
    assert len(merged) >= 150
    np.testing.assert_allclose(merged[inside], whole[inside], atol=5e-3)


def test_a_checkpoint_of_another_network_is_refused(trained: tuple[keras.Model, Path]) -> None:
    with pytest.raises(DataError, match="checkpoint of another network"):
        load_checkpoint(trained[1] / "best.npz", network.build(Config(size="base")))


def test_a_full_disk_leaves_the_checkpoint_before_as_it_was(trained: tuple[keras.Model, Path], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.npz", trained[0])
    before = (tmp_path / "best.npz").read_bytes()
    (tmp_path / "best.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left on device"):
        save_checkpoint(tmp_path / "best.npz", trained[0])
    assert (tmp_path / "best.npz").read_bytes() == before
    assert not (tmp_path / "best.part").exists()


@pytest.mark.parametrize("int8", [False, True])
def test_the_weights_of_an_exported_model_can_be_begun_from(
    trained: tuple[keras.Model, Path], tmp_path: Path, int8: bool
) -> None:
    """Every weight that serving needs is found again by its name, and tokens keep their rows of the head."""
    keras.utils.set_random_seed(1)
    for variable in by_name(trained[0]).values():  # no two alike, as after training
        variable.assign(variable + keras.random.normal(variable.shape, stddev=0.01))
    save_checkpoint(trained[1] / "best.npz", trained[0])
    export(trained[1], tmp_path / "model.onnx", "test", int8)
    other = network.build(Config(size="small", vocab=("<blank>", "z", "ä", "a")))
    begin_from(load_source(tmp_path / "model.onnx"), other, ("<blank>", "z", "ä", "a"))
    for name, value in by_name(other).items():
        expected = keras.ops.convert_to_numpy(by_name(trained[0])[name])
        found = keras.ops.convert_to_numpy(value)
        if name.startswith("letters_"):
            continue  # serving does without the second head
        if name.startswith("head"):
            rows = [0, STREAMING.vocab.index("z"), STREAMING.vocab.index("a")]
            found, expected = found[..., [0, 1, 3]], expected[..., rows]
        np.testing.assert_allclose(found, expected, atol=0.02 if int8 else 1e-6, err_msg=name)


def test_of_a_fine_tuned_model_as_much_is_kept_as_errs_least(trained: tuple[keras.Model, Path]) -> None:
    net = network.build(STREAMING)
    before = {name: keras.ops.convert_to_numpy(v) for name, v in by_name(net).items() if name != "head/bias"}
    for variable in by_name(net).values():
        variable.assign(variable + 4)
    moved = by_name(net)["conv0/kernel"]

    def error() -> float:
        return float(np.abs(keras.ops.convert_to_numpy(moved) - before["conv0/kernel"] - 2.1).mean())

    part, least = blend(net, before, error)
    assert (part, least) == (0.5, pytest.approx(0.1, abs=1e-5))
    for name, value in by_name(net).items():
        expected = before[name] + 2 if name in before else 4
        np.testing.assert_allclose(keras.ops.convert_to_numpy(value), expected, atol=1e-5, err_msg=name)


def test_the_mean_of_runs_is_a_run(tmp_path: Path) -> None:
    for name, shift in (("a", 1.0), ("b", 4.0)):
        net = network.build(STREAMING)
        for variable in by_name(net).values():
            variable.assign(keras.ops.ones_like(variable) * shift)
        (tmp_path / name).mkdir()
        STREAMING.dump(tmp_path / name / "config.json")
        save_checkpoint(tmp_path / name / "best.npz", net)
    average([tmp_path / "a", tmp_path / "b"], tmp_path / "mean")
    config, net = load_network(tmp_path / "mean")
    values = {float(v) for variable in by_name(net).values() for v in np.unique(keras.ops.convert_to_numpy(variable))}
    assert values == {2.5}
    assert config == dataclasses.replace(STREAMING, init="a + b")
    with pytest.raises(DataError, match="holds a run already"):
        average([tmp_path / "a"], tmp_path / "mean")
    dataclasses.replace(STREAMING, right_context=20).dump(tmp_path / "b" / "config.json")
    with pytest.raises(DataError, match="b is of another network than"):
        average([tmp_path / "a", tmp_path / "b"], tmp_path / "other")


def test_weights_that_lie_otherwise_are_not_taken_for_what_they_are_not(
    trained: tuple[keras.Model, Path], exported: AcousticModel
) -> None:
    """As in files of earlier exports, where convolutions were no matrices."""
    model = onnx.load(trained[1] / "model.onnx")
    before = read_weights(trained[1] / "model.onnx", trained[0])
    kernel = next(i for i in model.graph.initializer if i.name == "conv1/kernel")
    kernel.dims[:] = kernel.dims[::-1]
    onnx.save(model, trained[1] / "other.onnx")
    assert set(before) - set(read_weights(trained[1] / "other.onnx", trained[0])) == {"conv1/kernel"}


def test_the_torch_backend_gives_the_same_model(trained: tuple[keras.Model, Path], tmp_path: Path) -> None:
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode:
        pytest.skip("torch is not installed: pip install -e '.[torch]'")
    x = features.compute(SAMPLES[:16000], STREAMING.features)[None, :96]
    np.save(tmp_path / "x.npy", x)
    script = (
        "import sys, numpy as np, torch; from pathlib import Path; from train import network;"
        "from train.config import load_config; from train.checkpoint import load_checkpoint;"
        "run, at = map(Path, sys.argv[1:]); net = network.build(load_config(run / 'config.json'));"
        "load_checkpoint(run / 'best.npz', net);"
        "y = net(np.load(at / 'x.npy'), training=False).detach().numpy(); np.save(at / 'y.npy', y);"
        "from train.export import export; export(run, at / 'model.onnx', 'test')"
    )
    subprocess.run(
        [sys.executable, "-c", script, trained[1], tmp_path], check=True, env=os.environ | {"KERAS_BACKEND": "torch"}
    )
    expected = np.asarray(trained[0](x, training=False))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-5)
    assert "100% of" in check(load(tmp_path / "model.onnx"))


def test_torchs_step_does_not_depend_on_how_a_gradient_lies_in_memory(tmp_path: Path) -> None:
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode:
        pytest.skip("torch is not installed: pip install -e '.[torch]'")
    script = (
        "import keras, torch; from types import SimpleNamespace\n"
        "from train import backends; from train.config import Config\n"
        "torch.manual_seed(0); start, found = torch.randn(2, 5, 7)\n"
        "def moved(gradient):\n"
        "    variable = keras.Variable(start.clone())\n"
        "    net = SimpleNamespace(trainable_variables=[variable])\n"
        "    backends.optimizer(net, Config(weight_decay=0.0)).apply([gradient], 0.1)\n"
        "    return variable.value.detach() - start\n"
        "as_it_is, transposed = moved(found), moved(found.t().contiguous().t())\n"
        "assert torch.allclose(as_it_is, transposed), (as_it_is, transposed)\n"
        "assert torch.equal(as_it_is.sign(), -found.sign())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"KERAS_BACKEND": "torch"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def brute_force_loss(log_probs: np.ndarray, labels: list[int]) -> float:
    """-log of the summed probability of every path that collapses to the labels."""
    frames, vocab = log_probs.shape
    total = 0.0
    for path in np.ndindex(*[vocab] * frames):
        kept = [t for i, t in enumerate(path) if t and (i == 0 or t != path[i - 1])]
        if kept == labels:
            total += float(np.exp(sum(log_probs[i, t] for i, t in enumerate(path))))
    return -float(np.log(total))


def test_the_warm_up_ends_after_its_steps_or_a_twentieth_of_a_short_run() -> None:
    config = Config(learning_rate=1e-3, warmup_steps=500, schedule="plateau")
    assert learning_rate(config, Progress(step=49), 0.001) == pytest.approx(1e-4)
    assert learning_rate(config, Progress(step=499), 0.001) == pytest.approx(1e-3)
    assert learning_rate(config, Progress(step=7), 0.025) == pytest.approx(5e-4)
    assert learning_rate(config, Progress(step=14), 0.05) == pytest.approx(1e-3)


def test_the_ctc_loss_is_that_of_brute_force_and_respects_lengths() -> None:
    """Clips of different length in one padded batch; what is in the padding does not count."""
    log_probs = np.log(np.random.default_rng(0).dirichlet(np.ones(3), (3, 5))).astype(np.float32)

    class Fixed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
            self.norm = type("Norm", (), {"mean": np.zeros(3)})

        def call(self, x: object, training: bool = False) -> object:
            return x * self.scale

    said = Target(np.array([[1, 2, 0], [2, 2, 1], [0, 0, 0]]), np.array([2, 3, 0]), np.ones(3, np.float32))
    loss, _ = gradients(Fixed(), STREAMING)(log_probs, np.array([3, 5, 4]), [said])
    expected = [brute_force_loss(log_probs[0, :3], [1, 2]), brute_force_loss(log_probs[1], [2, 2, 1])]
    expected.append(brute_force_loss(log_probs[2, :4], []))  # nobody speaks
    assert loss == pytest.approx(np.mean(expected), rel=1e-4)
    said = said._replace(known=np.array([1, 0, 1], np.float32))  # what the second clip says is not known
    assert gradients(Fixed(), STREAMING)(log_probs, np.array([3, 5, 4]), [said])[0] == pytest.approx(
        (expected[0] + expected[2]) / 3, rel=1e-4
    )
