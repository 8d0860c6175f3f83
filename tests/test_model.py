from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_model
from tiny_model import STREAMING, WINDOWED

from streamer.model import MODELS, AcousticModel, ModelError, find, load


def test_a_model_file_says_what_it_is(model: AcousticModel) -> None:
    assert model.spec in (STREAMING, WINDOWED)


def test_the_shipped_files_have_the_checksums_beside_them_and_a_card_each() -> None:
    lines = (MODELS / "SHA256SUMS").read_text().splitlines()
    sums = {name: told for told, name in (line.split() for line in lines)}
    shipped = [path for path in MODELS.iterdir() if path.suffix in (".onnx", ".lm")]
    assert sums == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in shipped}
    assert (MODELS / "english.md").is_file()
    assert (MODELS / "english-lm.md").is_file()


def test_the_state_before_the_first_chunk_is_zeros(streaming: Path) -> None:
    [(name, value)] = load(streaming).initial_state.items()
    assert name == "h"
    np.testing.assert_array_equal(value, np.zeros(5))


def test_a_windowed_model_gives_the_log_probs_of_its_middle(windowed: Path) -> None:
    model = load(windowed)
    window = np.random.default_rng(0).normal(-5, 3, (36, 8)).astype(np.float32)
    [(middle, state)] = model.step([window], [{}])
    assert middle.shape == (4, 5)
    assert state == {}
    [(shifted, _)] = model.step([np.roll(window, 4, axis=0)], [{}])
    np.testing.assert_allclose(shifted[1:], middle[:-1], atol=1e-6)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"no model at nowhere.onnx: give --model"):
        load(find("nowhere.onnx"))


def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="is not an ONNX model"):
        load(path)


def test_a_model_without_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lacks the 'asr_stream' metadata"):
        load(tiny_model.build(STREAMING, tmp_path / "model.onnx", metadata=""))


def test_a_description_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not JSON"):
        load(tiny_model.build(STREAMING, tmp_path / "model.onnx", metadata="{"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"vocab": ("<blank>", "a", "b")}, r"log_probs are \(4, 5\), but the description says \(4, 3\)"),
        ({"chunk_frames": 32}, "does not take the 32 x 8 features"),
        ({"features": dataclasses.replace(STREAMING.features, num_mels=9)}, "does not take the 16 x 9 features"),
        ({"kind": "windowed", "right_context": 0}, "described as windowed but its graph carries state"),
    ],
)
def test_a_description_that_contradicts_the_graph_is_refused(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    lie = json.dumps(json.loads(dataclasses.replace(STREAMING, **change).dump()))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=complaint):
        load(tiny_model.build(STREAMING, tmp_path / "model.onnx", metadata=lie))


def test_a_graph_without_the_agreed_ports_is_refused(tmp_path: Path, streaming: Path) -> None:
    graph = onnx.load(streaming)
    graph.graph.output[1].name = graph.graph.node[-2].output[0] = "h_after"
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="no port 'next_h'"):
        load(tmp_path / "model.onnx")


def test_a_graph_that_gives_no_log_probabilities_is_refused(tmp_path: Path, streaming: Path) -> None:
    graph = onnx.load(streaming)
    graph.graph.node[-1].op_type = "Softmax"
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="do not sum to 1"):
        load(tmp_path / "model.onnx")
