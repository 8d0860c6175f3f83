"""Confidences that mean what they say: the error by hand, the fit on made-up words, the commands that write it."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model
from hypothesis import given
from hypothesis import strategies as st

from streamer.ctc import Calibration, WordSpan, logit
from streamer.lm import load_language_spec
from streamer.model import load, load_lm
from streamer.spec import SpecError, load_spec
from train.calibrate import write_calibration
from train.confidence import Bin, calibrate, calibration_error, judge, reliability
from train.data import DataError
from train.evaluate import recognise


def test_the_error_is_the_mean_distance_of_confidence_and_share() -> None:
    judged = [(0.92, True), (0.98, False), (0.9, True), (1.0, True), (0.3, False)]
    assert reliability(judged) == [Bin(0.3, 0.0, 1), Bin(pytest.approx(0.95), 0.75, 4)]
    assert calibration_error(judged) == pytest.approx((4 * 0.2 + 1 * 0.3) / 5)
    assert calibration_error([]) == 0


def test_words_are_right_where_the_reference_has_them() -> None:
    heard = [WordSpan(text, 0, 1, p) for text, p in [("the", 0.9), ("uh", 0.2), ("cat", 0.8), ("sad", 0.4)]]
    assert judge("the cat sat down", heard) == [(0.9, True), (0.2, False), (0.8, True), (0.4, False)]
    assert judge("", heard[:1]) == [(0.9, False)]
    assert judge("nobody spoke", []) == []


def test_the_map_that_made_the_words_right_is_found_again() -> None:
    rng = np.random.default_rng(0)
    truth = Calibration(0.6, -1.5)
    raw = rng.uniform(0.01, 0.999, 20_000)
    judged = [(p, rng.random() < truth.probability(p)) for p in raw.tolist()]
    found = calibrate(judged)
    assert found.slope == pytest.approx(0.6, abs=0.05)
    assert found.offset == pytest.approx(-1.5, abs=0.1)
    assert calibration_error(judged) > 0.2
    assert calibration_error([(found.probability(p), right) for p, right in judged]) < 0.02


def test_words_that_are_all_right_or_all_wrong_are_no_certainty() -> None:
    for right in (True, False):
        found = calibrate([(0.5, right), (0.6, right), (0.7, right)])
        assert 0.1 < found.probability(0.6) < 0.9


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 100), st.floats(-100, 100))
def test_calibration_keeps_the_order_and_the_range(p: float, q: float, slope: float, offset: float) -> None:
    low, high = (Calibration(slope, offset).probability(x) for x in sorted((p, q)))
    assert 0 <= low <= high <= 1
    assert Calibration().probability(p) == pytest.approx(p, abs=2e-6)
    assert math.isfinite(logit(p))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Clips whose references are only partly what the tiny model hears."""
    lines = ["path,text,split"]
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", tiny_model.babble(64000, i), 16000)
        lines.append(f"{i}.wav,{'abc a b c' if i % 2 else 'a ca b ab'},{'dev' if i < 3 else 'test'}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    return tmp_path


def test_calibration_is_written_into_the_model_and_nothing_else_changes(streaming: Path, corpus: Path) -> None:
    path = Path(shutil.copy(streaming, corpus / "tiny.onnx"))
    before = load(path)
    assert (before.spec.confidence_slope, before.spec.confidence_offset) == (1, 0)
    found, first, now = write_calibration(path, [corpus], "dev")
    assert now < first
    again, same, _ = write_calibration(path, [corpus], "dev")  # from raw confidences, not from calibrated ones
    assert (again, same) == (found, now)
    after = load(path)
    assert (after.spec.confidence_slope, after.spec.confidence_offset) == (found.slope, found.offset)
    raw, told = (recognise(model, tiny_model.babble(64000, 7)) for model in (before, after))
    assert [word.text for word in told] == [word.text for word in raw] != []
    for word, calibrated in zip(raw, told, strict=True):
        assert calibrated.confidence == pytest.approx(found.probability(word.confidence))
    with pytest.raises(DataError, match="no clip of split 'val'"):
        write_calibration(path, [corpus], "val")


def test_tuning_calibrates_the_words_of_the_beam(streaming: Path, language: Path, corpus: Path) -> None:
    pytest.importorskip("scipy")
    lm = Path(shutil.copy(language, corpus / "tiny.lm"))
    command = [sys.executable, "-m", "train.cli", "tune", streaming, lm, corpus]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr
    spec = load_lm(lm).spec
    assert (spec.confidence_slope, spec.confidence_offset) != (1, 0)
    assert f"confidence slope {spec.confidence_slope}, offset {spec.confidence_offset}" in done.stdout
    assert all(0 <= word.confidence <= 1 for word in recognise(load(streaming, lm), tiny_model.babble(64000)))


def test_an_evaluation_tells_the_calibration_error(streaming: Path, corpus: Path) -> None:
    command = [sys.executable, "-m", "train.cli", "evaluate", streaming, corpus, "--report", corpus / "report.html"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr
    assert "expected calibration error of " in done.stdout
    assert "On the diagonal confidence is what it says" in (corpus / "report.html").read_text()


def test_calibrations_out_of_range_are_refused_by_name() -> None:
    text = tiny_model.STREAMING.dump()
    assert load_spec(text.replace('"confidence_slope": 1.0, "confidence_offset": 0.0, ', "")) == tiny_model.STREAMING
    for wrong in ('"confidence_slope": -1', '"confidence_slope": NaN', '"confidence_slope": "x"'):
        with pytest.raises(SpecError, match="confidence_slope"):
            load_spec(text.replace('"confidence_slope": 1.0', wrong))
    for wrong in ('{"schema": 1, "confidence_offset": 101}', '{"schema": 1, "confidence_offset": NaN}'):
        with pytest.raises(SpecError, match="confidence_offset"):
            load_language_spec(wrong)
    assert load_language_spec('{"schema": 1, "confidence_offset": -2}').confidence_offset == -2
