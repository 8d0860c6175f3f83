"""Tiny real ONNX models of both kinds, built node by node, so that serving is tested without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from streamer.spec import METADATA_KEY, FeatureSpec, ModelSpec

VOCAB = ("<blank>", " ", "a", "b", "c")
FEATURES = FeatureSpec(num_mels=8)
STREAMING = ModelSpec("tiny", "streaming", VOCAB, 0, FEATURES, subsampling=4, chunk_frames=16, right_context=8)
WINDOWED = ModelSpec("tiny", "windowed", VOCAB, 0, FEATURES, 4, chunk_frames=16, left_context=8, right_context=12)


def window_frames(spec: ModelSpec) -> int:
    """Frames of one step."""
    return spec.chunk_frames + (spec.left_context + spec.right_context) * (spec.kind == "windowed")


def build(spec: ModelSpec, path: Path, metadata: str | None = None) -> Path:
    """Write the model; every output frame sees 4 feature frames, and with `h` a trace of all before the chunk.

    metadata: what the file says about itself instead of the truth; "" for nothing.
    """
    frames, width, vocab = window_frames(spec), spec.features.width, len(spec.vocab)
    steps = frames // spec.subsampling
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.25, (4 * width, vocab)).astype(np.float32)
    weights[:, 0] = -0.06  # quiet is blank
    constants = {
        "shape": np.array([-1, steps, 4 * width], np.int64),
        "weights": weights,
        "level": np.float32(5),
        "fade": np.float32(0.5),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Add", ["features", "level"], ["centred"]),
        helper.make_node("Reshape", ["centred", "shape"], ["grouped"]),
        helper.make_node("MatMul", ["grouped", "weights"], ["scores"]),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", frames, width])]
    outputs = [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", steps, vocab])]
    logits = "scores"
    if spec.kind == "streaming":
        nodes += [
            helper.make_node("Unsqueeze", ["h", "one"], ["trace"]),
            helper.make_node("Add", ["scores", "trace"], ["remembered"]),
            helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("Add", ["h", "mean"], ["sum"]),
            helper.make_node("Mul", ["sum", "fade"], ["next_h"]),
        ]
        inputs.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", vocab]))
        outputs.append(helper.make_tensor_value_info("next_h", TensorProto.FLOAT, ["batch", vocab]))
        logits = "remembered"
    nodes.append(helper.make_node("LogSoftmax", [logits], ["log_probs"], axis=-1))
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if metadata != "":
        helper.set_model_props(model, {METADATA_KEY: metadata or spec.dump()})
    onnx.save(model, path)
    return path


def babble(samples: int, seed: int = 0) -> np.ndarray:
    """Sound that changes ten times a second and pauses every three seconds, float32 [samples] at 16 kHz."""
    rng = np.random.default_rng(seed)
    tenth = 1600
    pitches = np.repeat(rng.uniform(80, 3000, samples // tenth + 1), tenth)[:samples]
    speaking = np.arange(samples) % 48000 < 30000
    tone = 0.3 * speaking * np.sin(2 * np.pi * np.cumsum(pitches) / 16000)
    return (tone + 0.001 * rng.normal(size=samples)).astype(np.float32)
