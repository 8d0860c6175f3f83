"""What a run writes for TensorBoard, read back with TensorBoard's own reader."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model

from streamer import features
from streamer.ctc import WordSpan
from train.board import Board, open_board, shown, table, timed
from train.config import Config
from train.data import Clip, Example
from train.spectrogram import Label

pytest.importorskip("tensorboard")
ROOT = Path(__file__).parent.parent
ROW = {"step": 7, "epoch": 0, "seconds": 1800, "audio_hours": 100, "loss": 31.5}
ROW |= {"learning_rate": 1e-3, "cer": 0.25, "wer": 0.5}
CONFIG = Config(right_context=12)


@pytest.fixture
def heard(tmp_path: Path) -> list[tuple[Example, tuple[WordSpan, ...]]]:
    """Twenty clips of one to twenty seconds, each with its number as transcript and the word `heard` for it."""
    found = []
    for n in range(1, 21):
        path = tmp_path / f"{n}.wav"
        soundfile.write(path, tiny_model.babble(8000), 16000)
        found.append((Example(Clip(path, f"clip|{n}"), (1,), 100 * n), (WordSpan("heard", 3, 8, 0.9),)))
    return found


def read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """All that the event files of a folder hold, by tag."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))  # read without TensorFlow too
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return accumulator.EventAccumulator(str(folder)).Reload()


def test_a_validation_can_be_read_back(heard: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    run = tmp_path / "run"
    run.mkdir()
    board = open_board(run)
    assert board is not None

    def frames(path: Path) -> np.ndarray:
        return features.compute(soundfile.read(path, dtype="float32")[0], CONFIG.features)

    board.validated(ROW, heard, CONFIG, frames)
    board.validated(ROW | {"step": 9, "seconds": 3600, "audio_hours": 400, "cer": 0.125}, heard, CONFIG, frames)
    events = read(run, monkeypatch)
    assert len(list(run.iterdir())) == 1

    def scalars(tag: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in events.Scalars(tag)]

    assert scalars("validation/cer") == [(7, 0.25), (9, 0.125)]
    assert scalars("validation/wer") == [(7, 0.5), (9, 0.5)]
    assert scalars("training/loss") == [(7, 31.5), (9, 31.5)]
    assert scalars("training/learning_rate") == [(7, pytest.approx(1e-3)), (9, pytest.approx(1e-3))]
    assert scalars("training/audio_hours") == [(7, 100), (9, 400)]
    assert scalars("training/audio_hours_per_hour") == [(7, 200), (9, 600)]

    text = events.Tensors("validation/transcripts")[1].tensor_proto
    lines = text.string_val[0].decode().splitlines()
    assert lines[:3] == ["| reference | heard |", "|---|---|", r"| clip\|1 | heard |"]
    assert len(lines) == 2 + 8
    assert events.SummaryMetadata("validation/transcripts").plugin_data.plugin_name == "text"

    image = events.Images("validation/words")[1]
    png = image.encoded_image_string
    assert png.startswith(b"\x89PNG")
    assert (image.width, image.height) == tuple(int.from_bytes(png[at : at + 4]) for at in (16, 20))
    assert 600 < image.width < 3000

    [sound] = events.Tensors("validation/clip")  # it stays the same, so once is enough
    samples, rate = soundfile.read(io.BytesIO(sound.tensor_proto.string_val[0]))
    assert (len(samples), rate) == (8000, 16000)
    assert events.SummaryMetadata("validation/clip").plugin_data.plugin_name == "audio"


def test_a_run_that_goes_on_adds_to_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.out.tfevents.1000000000.asr-train.1").write_bytes(b"")
    Board(tmp_path).scalars(3, ROW)
    assert [event.step for event in read(tmp_path, monkeypatch).Scalars("validation/cer")] == [3]


def test_a_recording_that_is_gone_does_not_end_the_run(
    heard: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    for example, _ in heard:
        example.clip.path.unlink()
    Board(tmp_path).validated(ROW, heard, CONFIG, lambda _: np.zeros((100, 80), np.float32))
    assert "6.wav cannot be read any more" in capsys.readouterr().out


def test_event_files_need_neither_tensorflow_nor_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from train.board import Board\n"
        f"board = Board(Path(sys.argv[1])); board.scalars(1, {ROW!r}); board.text(1, 'a', 'b')\n"
        "print({'tensorflow', 'torch', 'keras'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (done.stdout, done.returncode) == ("set()\n", 0), done.stderr


def test_without_its_package_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert open_board(tmp_path) is None
    assert "without tensorboard and matplotlib nothing is written for TensorBoard" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_clip_that_is_shown_is_the_longest_that_is_not_too_long(heard: list) -> None:
    assert shown(heard, CONFIG)[0].frames == 600
    assert shown(heard[15:], CONFIG)[0].frames == 1600


def test_words_stand_where_they_were_spoken_not_where_the_network_said_them() -> None:
    spans = [WordSpan("a", 1, 5, 0.9), WordSpan("b", 8, 9, 0.9)]
    assert timed(spans, CONFIG) == [Label("a", 0.0, 0.08), Label("b", 0.2, 0.24)]
    assert timed(spans[1:], Config(network="tutorial")) == [Label("b", 0.16, 0.18)]


def test_a_transcript_cannot_break_its_table() -> None:
    assert table([("a | b", "*c* <d>")]).splitlines()[2] == r"| a \| b | \*c\* \<d> |"
