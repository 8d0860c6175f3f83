"""Kokoro's engine, with a network of its shape that says nothing: what it is given is what counts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx comes with the train extra")
soundfile = pytest.importorskip("soundfile")

from onnx import TensorProto, helper  # noqa: E402

from train import kokoro  # noqa: E402

pytestmark = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like the package's: the network answers with the tokens, the style's first value and the speed."""
    ports = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
        helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
    ]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["said"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["speed", "zero"], ["pace"]),
        helper.make_node("Concat", ["said", "style", "pace"], ["all"], axis=1),
        helper.make_node("Mul", ["all", "quiet"], ["waveform"]),
    ]
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("quiet", TensorProto.FLOAT, [], [1 / 1024]),
    ]
    out = helper.make_tensor_value_info("waveform", TensorProto.FLOAT, [1, "samples"])
    graph = helper.make_graph(nodes, "fake", ports, [out], constants)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "kokoro-quantized.onnx",
    )
    symbols = {symbol: i for i, symbol in enumerate("$təˈiːuw,", 0)}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": symbols}}), encoding="utf-8")
    (tmp_path / "voices").mkdir()
    for name, value in (("af_sky", 1.0), ("bm_lewis", 3.0)):
        (np.ones((510, 256), np.float32) * value).tofile(tmp_path / "voices" / f"{name}.bin")
    monkeypatch.setattr(kokoro, "FOLDER", tmp_path)
    for cached in (kokoro._model, kokoro._style):
        cached.cache_clear()
    return tmp_path


def test_it_speaks_the_phones_in_the_mean_of_two_styles(weights: Path, tmp_path: Path) -> None:
    kokoro.speak("tea, two", "af_sky+bm_lewis", 1.25, tmp_path / "tea.wav")
    samples, rate = soundfile.read(tmp_path / "tea.wav", dtype="float32")
    heard = np.round(samples * 1024, 2).tolist()
    phones, style, pace = heard[:-257], heard[-257:-1], heard[-1]
    assert rate == 24000
    assert "".join("$təˈiːuw,"[int(i)] for i in phones).strip("$").replace("ː", "") in ("tˈi,tˈu", "tˈi,tu")
    assert set(style) == {2.0}
    assert pace == 1.25


def test_a_text_that_is_too_long_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too many"):
        kokoro.speak("tea " * 300, "af_sky", 1.0, tmp_path / "tea.wav")


def test_every_pair_of_voices_is_a_voice() -> None:
    assert len(kokoro.VOICES) == 28 + 28 * 27 // 2
    assert len(set(kokoro.VOICES)) == len(kokoro.VOICES)
