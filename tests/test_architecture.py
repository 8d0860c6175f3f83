"""The shape of the code, checked: who imports whom, and what the command line may not load."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_imports_keep_their_contracts() -> None:
    pytest.importorskip("importlinter", reason="import-linter comes with the test extra")
    # In a process of its own, because it switches off the loggers of the one it runs in.
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded after running `code`."""
    listing = f"{code}; import sys; print(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", listing], cwd=ROOT, text=True, check=True, capture_output=True
        ).stdout.split()
    )


def test_help_loads_nothing_heavy() -> None:
    heavy = {"numpy", "onnxruntime", "websockets", "sounddevice", "soundfile", "soxr", "asyncio", "tensorflow", "keras"}
    code = "import streamer.cli as c; c.main(['--help'], standalone_mode=False)"
    assert not heavy & loaded_by(code)


def test_serving_loads_no_training() -> None:
    heavy = {"tensorflow", "keras", "librosa", "tf2onnx", "train", "torch", "onnx"}
    assert not heavy & loaded_by("import streamer.daemon, streamer.sources, streamer.probe, onnxruntime")


def test_no_file_names_a_path_of_one_machine() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True)
    for name in listed.stdout.split("\n"):
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".html") and path.name != Path(__file__).name and path.is_file():
            assert "/root/" not in path.read_text(encoding="utf-8"), name
