"""How sure an acoustic model may say it is of a word that it decodes alone: found on clips that it has not seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from streamer.ctc import Calibration, Greedy
from streamer.model import ModelError, load
from streamer.spec import METADATA_KEY, ModelSpec
from train import recordings
from train.confidence import Judged, calibrate, calibration_error, judge
from train.data import DataError
from train.evaluate import recognise


def write_calibration(path: Path, corpora: Sequence[Path], split: str) -> tuple[Calibration, float, float]:
    """Write the calibration into the model's file; returns it, the calibration error before, and with it."""
    try:
        model = load(path)
    except ModelError as error:
        raise DataError(str(error)) from None
    spec = model.spec
    clips = recordings.choose(corpora, split)
    model.decoder = Greedy(spec.vocab, spec.blank)
    judged: list[Judged] = []
    for clip, samples in recordings.read(clips, spec.features.sample_rate, "confidences"):
        judged += judge(clip.text, recognise(model, samples))
    found, before, after = fit(judged, Calibration(spec.confidence_slope, spec.confidence_offset))
    _describe(path, dataclasses.replace(spec, confidence_slope=found.slope, confidence_offset=found.offset))
    return found, before, after


def fit(judged: Sequence[Judged], now: Calibration) -> tuple[Calibration, float, float]:
    """The best calibration of raw confidences; the calibration error with that which a file has `now`, and with it."""
    if not judged:
        raise DataError("no word was heard in these clips, so confidences cannot be calibrated: choose another --split")
    found = calibrate(judged)
    before, after = (calibration_error([(c.probability(p), right) for p, right in judged]) for c in (now, found))
    return found, before, after


def _describe(path: Path, spec: ModelSpec) -> None:
    """Give a model file another description."""
    import onnx

    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, {METADATA_KEY: spec.dump()})
    part = path.with_suffix(".part")
    onnx.save(graph, part)
    part.replace(path)
