"""The command that loads a server says what its clients heard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import tiny_model

from bench import load
from bench.servers import Server

ROOT = Path(__file__).parent.parent


def test_a_row_for_each_number_of_clients_until_it_is_too_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard: dict[str, Any] = {"refused": 0, "failed": 0, "finals": [0.05], "memory_mb": 0, "busy": 0.5, "late": 0.0}
    steps = iter(
        [
            heard | {"answers": [0.1], "checked": 0, "wrong": 0},
            heard | {"answers": [0.1], "checked": 40, "wrong": 1},
            heard | {"answers": [0.4], "checked": 40, "wrong": 40},
        ]
    )
    monkeypatch.setattr(load, "press", lambda *arguments: next(steps))
    rows, held = load.climb(Server("one", "", "recognize", os.getpid()), [10, 20, 30, 40], 45, tmp_path)
    told = [dict(zip(load.HEADS.split(","), row, strict=True)) for row in rows]
    assert [row["clients"] for row in told] == [10, 20, 30]
    assert [row["other finals than alone %"] for row in told] == ["–", "2.5", "100.0"]
    assert held == 20


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset: apt-get install util-linux")
def test_clients_of_a_model_in_full_precision_hear_what_they_hear_alone(streaming: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "1.wav", tiny_model.babble(16000 * 3), 16000)
    (tmp_path / "manifest.csv").write_text("path,text,split\n1.wav,a b c,test\n")
    command = [sys.executable, "-m", "bench.load", tmp_path, "--model", streaming, "--clients", "2", "--seconds", "4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    heads, _, recognize, vosk, *held = done.stdout.splitlines()
    columns = heads.split(" | ").index("other finals than alone %")
    assert recognize.startswith("| asr-stream, recognize | 2 | 0 | 0 | ")
    assert recognize.split(" | ")[columns] == "0.0"
    assert vosk.startswith("| asr-stream, vosk | 2 | 0 | 0 | ")
    assert vosk.split(" | ")[columns] == "–"
    assert [line.rpartition(":")[0] for line in held] == ["asr-stream, recognize", "asr-stream, vosk"]
