"""From Keras weights to one self-describing ONNX file; the tutorial's network needs the TensorFlow backend for it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from streamer.spec import METADATA_KEY, ModelSpec
from train import graph, network
from train.checkpoint import load_checkpoint
from train.config import Config, load_config, subsampling
from train.data import DataError

CHUNK_FRAMES = 16  # 160 ms: how often a streaming model is run
WINDOW = {"left_context": 200, "chunk_frames": 100, "right_context": 100}  # the tutorial's network: 4 s, moved by 1 s


def load_network(run: Path) -> tuple[Config, keras.Model]:
    """The network of a run folder with its best weights."""
    for name in ("config.json", "best.npz"):
        if not (run / name).is_file():
            raise DataError(f"{run} has no {name}: give the --out of a `fit` that got to its first validation")
    config = load_config(run / "config.json")
    net = network.build(config)
    load_checkpoint(run / "best.npz", net)
    return config, net


def describe(config: Config, name: str, training: Mapping[str, Any]) -> ModelSpec:
    """The description that travels in the file."""
    windowed = config.network == "tutorial"
    sizes = WINDOW if windowed else {"chunk_frames": CHUNK_FRAMES, "right_context": config.right_context}
    return ModelSpec(
        name=name,
        kind="windowed" if windowed else "streaming",
        vocab=config.vocab,
        blank=0,
        features=config.features,
        subsampling=subsampling(config),
        language=config.language,
        training=dict(training),
        **sizes,
    )


def export(run: Path, out: Path, name: str, int8: bool = False) -> ModelSpec:
    """Write the best weights of a run as ONNX; int8 quantises all matrices but the first, per channel."""
    import onnx

    config, net = load_network(run)
    model = to_onnx(net)
    spec = describe(config, name, provenance(run, config))
    spec = dataclasses.replace(spec, probe=probe(net, config, spec))
    part = out.with_suffix(".part")
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, part)
    if int8:
        _quantise(part, [node.name for node in model.graph.node if "conv0/kernel" in node.input])
        model = onnx.load(part)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.dump()})
    onnx.save(model, part)
    part.replace(out)
    return spec


def provenance(run: Path, config: Config) -> dict[str, Any]:
    """How the weights came to be: the configuration, and the last line of the training log."""
    log = run / "log.csv"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    told = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True)) if lines else {}
    settings = dataclasses.asdict(config)
    for elsewhere in ("features", "vocab", "language"):
        settings.pop(elsewhere)
    for path in ("init", "pronunciations"):  # where they lie on this machine is nobody's business
        settings[path] = Path(settings[path]).name
    return {"config": settings, "log": told}


def to_onnx(net: keras.Model) -> Any:
    """An ONNX graph with named ports: features and states in, log_probs and next states out."""
    if isinstance(net, network.StreamingNetwork):
        return graph.write(net, CHUNK_FRAMES)
    return _traced(net)


def _traced(net: keras.Model) -> Any:
    """The tutorial's network, by tf2onnx."""
    if keras.backend.backend() != "tensorflow":
        raise DataError("the tutorial's network is exported with TensorFlow: type  pip install 'asr-stream[train]'")
    import tensorflow as tf
    import tf2onnx

    width = net.input_shape[-1]
    signature = [tf.TensorSpec([None, sum(WINDOW.values()), width], tf.float32, name="features")]
    traced = tf.function(lambda features: {"log_probs": net(features, training=False)}, input_signature=signature)
    model, _ = tf2onnx.convert.from_function(traced, input_signature=signature, opset=graph.OPSET)
    found = [o.name for o in model.graph.output]
    if found != ["log_probs"]:
        raise RuntimeError(f"tf2onnx named the outputs {found}")
    if any(node.op_type in ("Loop", "Scan") for node in model.graph.node):
        raise RuntimeError("the exported graph has a Loop, twenty times slower: an LSTM was not fused")
    return model


def _quantise(path: Path, but: Sequence[str]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it recommends steps that this graph is written not to need
    kinds = ["LSTM", "MatMul"]
    quantize_dynamic(path, path, kinds, per_channel=True, weight_type=QuantType.QInt8, nodes_to_exclude=but)
    logging.disable(logging.NOTSET)


def probe(net: keras.Model, config: Config, spec: ModelSpec) -> dict[str, Any]:
    """A formula-made signal with the features and tokens that training's own code gives for it.

    `asr-stream --check` makes them anew and compares: a front end that drifted shows itself.
    """
    from streamer import features
    from streamer.probe import signal

    frames = spec.chunk_frames * 8
    samples = signal((frames - 1) * spec.features.frame_shift + spec.features.frame_length, spec.features.sample_rate)
    x = features.compute(samples, spec.features)
    log_probs = keras.ops.convert_to_numpy(net(x[None], training=False))[0]
    return {
        "frames": frames,
        "feature_means": [round(float(v), 5) for v in x.mean(axis=0)],
        "tokens": [int(t) for t in log_probs.argmax(-1)],
    }
