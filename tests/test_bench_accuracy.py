"""Our recogniser and stand-ins for its peers, each in a process of its own, on the same clips."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model

from bench import accuracy, peers
from streamer.model import load
from train.data import Clip
from train.evaluate import transcribe

ROOT = Path(__file__).parent.parent

# An interpreter whose pocketsphinx hears "two words" in everything, whose vosk dies, and that has no moonshine.
STAND_IN = """#!/bin/sh
case $2 in
pocketsphinx)
    echo '{"bytes": 5000000}'
    for clip in "$3"/*; do echo '{"text": "Two, words!"}'; done
    echo '{"cpu_seconds": 1.5, "memory_mb": 77.4}';;
vosk) echo "its model is broken" >&2; exit 3;;
*) echo '{"error": "moonshine_onnx is not installed"}';;
esac
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two clips of the test split, one of which cannot be read."""
    soundfile.write(tmp_path / "1.wav", tiny_model.babble(48000), 16000)
    soundfile.write(tmp_path / "2.wav", tiny_model.babble(24000, 2), 8000)
    rows = ["path,text,split", "1.wav,two words,test", "2.wav,two birds,test", "gone.wav,a,test"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    return tmp_path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.accuracy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.skipif(os.name != "posix", reason="the stand-in is a shell script")
def test_every_recogniser_gets_a_row_or_a_reason(streaming: Path, language: Path, corpus: Path) -> None:
    python = corpus / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    models = ["--model", streaming, "--lm", language, "--vosk", corpus, "--moonshine", corpus]
    done = run(corpus, *models, "--python", python, "--out", corpus / "heard")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| 2 clips, 0.00 h | WER % ")
    assert re.search(r"^\| asr-stream \| [\d.]+ \| 0\.\d+ \| \d+ \| 0\.0 \|$", done.stdout, re.MULTILINE)
    assert re.search(r"^\| asr-stream, greedy \| ", done.stdout, re.MULTILINE)
    assert "| pocketsphinx | 25.0 | 0.250 | 77 | 5.0 |" in done.stdout  # one of four words; 1.5 s for 6 s
    assert "- vosk was left out: it ended with 3: its model is broken" in done.stdout
    assert "- moonshine was left out: moonshine_onnx is not installed" in done.stdout
    assert "- whisper was left out: give its model with --whisper" in done.stdout
    assert (corpus / "heard" / "pocketsphinx.tsv").read_text() == "1.wav\tTwo, words!\n2.wav\tTwo, words!\n"
    heard = transcribe(load(streaming), sixteen_bits(corpus / "1.wav"))
    assert (corpus / "heard" / "asr-stream-greedy.tsv").read_text().splitlines()[0] == f"1.wav\t{heard}"


def sixteen_bits(path: Path) -> np.ndarray:
    """A recording as it comes out of 16 bits."""
    return soundfile.read(path, dtype="int16")[0].astype(np.float32) / 32768


def test_a_mistake_is_one_sentence(corpus: Path) -> None:
    done = run(corpus, "--model", corpus / "manifest.csv")
    assert done.returncode == 1
    assert "is not an ONNX model" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_tells_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "vosk.py").write_text("import no_such_package")
    command = [sys.executable, str(ROOT / "bench" / "peers.py"), "vosk", str(tmp_path), "model"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert json.loads(done.stdout) == {"error": "no_such_package is not installed"}


def test_sizes_are_of_all_files_in_a_folder_and_memory_is_this_process(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a").write_bytes(bytes(10))
    (tmp_path / "deep" / "er" / "b").write_bytes(bytes(5))
    assert peers.size([tmp_path / "deep", tmp_path / "a"]) == peers.size([tmp_path]) == 15
    assert 10 < peers.memory_mb() < 100_000


def test_the_table_counts_errors_over_all_words() -> None:
    clips = [Clip(Path("1"), "a b c"), Clip(Path("2"), "d")]
    told = accuracy.table({"x": accuracy.Result(("a b", "d"), 3.0, 50.0, 1.0)}, clips, 6.0)
    assert "| x | 25.0 | 0.500 | 50 | 1.0 |" in told
