from __future__ import annotations

import signal
from pathlib import Path

import pytest
import tiny_model

from streamer.model import AcousticModel, load

# A shell's background job begins with Ctrl-C ignored and would hand that on to the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny streaming model."""
    return tiny_model.build(tiny_model.STREAMING, tmp_path_factory.mktemp("model") / "streaming.onnx")


@pytest.fixture(scope="session")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny windowed model."""
    return tiny_model.build(tiny_model.WINDOWED, tmp_path_factory.mktemp("model") / "windowed.onnx")


@pytest.fixture(scope="session", params=["streaming", "windowed"])
def model(request: pytest.FixtureRequest) -> AcousticModel:
    """A tiny model of each kind."""
    return load(request.getfixturevalue(request.param))
