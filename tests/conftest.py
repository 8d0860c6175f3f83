from __future__ import annotations

import signal
from pathlib import Path

import pytest
import tiny_model
from certificates import make_certificate

from streamer.lm import LanguageSpec
from streamer.model import AcousticModel, load
from train.lm import estimate, write_lm

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


@pytest.fixture(scope="session")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny language model over the letters of the tiny models."""
    path = tmp_path_factory.mktemp("model") / "tiny.lm"
    sentences = [text.split() for text in ("a b c", "abc a", "b ab", "ca b a", "abc abc b", "ab a", "ca b")]
    write_lm(path, LanguageSpec(), estimate(sentences))
    return path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of a certificate of this machine and of its key."""
    cert = make_certificate(tmp_path_factory.mktemp("tls") / "cert.pem")
    return cert, cert.with_suffix(".key")


@pytest.fixture(scope="session", params=["streaming", "windowed", "streaming with a language model"])
def model(request: pytest.FixtureRequest) -> AcousticModel:
    """A tiny model of each kind, and one whose words a language model weighs."""
    kind, *helped = request.param.split(" with ")
    return load(request.getfixturevalue(kind), request.getfixturevalue("language") if helped else None)
