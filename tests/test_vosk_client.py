"""The client of the vosk package, vosk-transcriber (github.com/alphacep/vosk-api), hears what is said alone."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_sessions import VOICES, expected, serving
from waiting import asynchronous

from streamer.model import MODELS, find, find_lm, load
from streamer.server import Address

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vosk") is None, reason="vosk comes with the test extra"),
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="vosk-transcriber needs ffmpeg: apt-get install ffmpeg"),
]

# `vosk-transcriber --server` itself, but for two things: it knows no server but port 2700 of this machine, and it loads
# a model of its own, or fetches one, though the server is to recognise.
PROGRAM = """
import sys
from vosk.transcriber import cli, transcriber
transcriber.Model = lambda **_: None
cli.parser.set_defaults(server=sys.argv.pop(1))
cli.main()
"""


async def transcribe(address: Address, *options: object) -> None:
    """Run the client until it ends, which must be well."""
    command = [sys.executable, "-c", PROGRAM, address.url.replace("http", "ws"), *map(str, options)]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors, errors.decode()


def text_of(finals: list[dict[str, Any]]) -> str:
    return " ".join(final["text"] for final in finals)


@asynchronous
async def test_it_hears_the_words_of_the_bundled_sample(tmp_path: Path) -> None:
    sample, heard = MODELS / "sample.opus", tmp_path / "sample.txt"
    decode = ["ffmpeg", "-nostdin", "-loglevel", "quiet", "-i", sample, "-ar", "16000", "-ac", "1", "-f", "s16le", "-"]
    voice = np.frombuffer(subprocess.run(decode, stdout=subprocess.PIPE, check=True).stdout, "<i2")
    model = load(find(None), find_lm(None, find(None)))
    finals = expected(model, voice)
    assert "the words are being spoken" in text_of(finals)
    async with serving(model) as (address, sessions):
        await transcribe(address, "--input", sample, "--output", heard)
        assert sessions.tally.sessions == {"vosk": 1}
    assert " ".join(heard.read_text(encoding="utf-8").split()) == text_of(finals)


@asynchronous
async def test_it_hears_the_words_and_times_of_many_files_at_once(streaming: Path, tmp_path: Path) -> None:
    talks, heard = tmp_path / "talks", tmp_path / "heard"
    talks.mkdir()
    heard.mkdir()
    for number, voice in enumerate(VOICES):
        with wave.open(str(talks / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(voice.tobytes())
    model = load(streaming)
    async with serving(model) as (address, _):
        await transcribe(address, "--input", talks, "--output", heard, "--output-type", "srt")
    for number, voice in enumerate(VOICES):
        subtitles = (heard / f"{number}.srt").read_text(encoding="utf-8")
        assert subtitles.strip() == srt(expected(model, voice)).strip() != ""


def srt(finals: list[dict[str, Any]]) -> str:
    """As the client writes it: at most seven words of a result in each subtitle."""
    lines = [final["words"][at : at + 7] for final in finals for at in range(0, len(final["words"]), 7)]
    times = [f"{clock(words[0]['start'])} --> {clock(words[-1]['end'])}" for words in lines]
    texts = [" ".join(word["text"] for word in words) for words in lines]
    return "\n".join(f"{n}\n{time}\n{text}\n" for n, (time, text) in enumerate(zip(times, texts, strict=True), 1))


def clock(seconds: float) -> str:
    """Hours, minutes, seconds and milliseconds of a subtitle."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{thousandths:03}"
