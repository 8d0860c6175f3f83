"""The shipped model, the real program, real speech: sample, microphone and browser; the screenshot is kept."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from browser import CHROMIUM, browser
from virtual_microphone import missing, virtual_microphone
from waiting import asynchronous

from streamer.model import MODELS
from train.text import edits

PROGRAM = [sys.executable, "-m", "streamer.cli"]
ARTIFACTS = Path(__file__).parent.parent / "artifacts"
SPOKEN = (
    "hello and welcome these captions appear while the words are being spoken nothing you say leaves this computer "
    "the sound is turned into text right here by a small model that you can train yourself open the page in a browser "
    "and read along with everyone else in the room"
)


def golden() -> str:
    """What the shipped model hears in the bundled sample; written by `make golden` when the model changes."""
    return " ".join((MODELS / "sample.txt").read_text(encoding="utf-8").split())


def character_errors(text: str) -> float:
    """Edits between what was heard and what the sample says, over the length of what it says."""
    return edits(text, SPOKEN) / len(SPOKEN)


def captions(*args: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [*PROGRAM, *args, "--format", "jsonl", "--no-server"], capture_output=True, check=True, timeout=120
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def text_of(events: list[dict[str, object]]) -> str:
    return " ".join(str(event["text"]) for event in events if event["type"] == "final")


def test_the_shipped_model_passes_its_own_check() -> None:
    done = subprocess.run([*PROGRAM, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "as in training" in done.stdout


def test_the_bundled_sample_is_recognised() -> None:
    heard = captions("sample")
    assert character_errors(text_of(heard)) < 0.2, text_of(heard)
    assert [event["type"] for event in heard].count("partial") > 15


def test_the_bundled_sample_sounds_as_it_did_when_the_model_was_shipped() -> None:
    heard = text_of(captions("sample"))
    assert edits(heard, golden()) <= 0.1 * len(golden()), heard  # int8 arithmetic differs a little between processors


def test_the_live_path_says_what_the_fast_path_says() -> None:
    live = captions("sample", "--realtime")
    assert [e for e in live if e["type"] == "final"] == [e for e in captions("sample") if e["type"] == "final"]


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_speech_played_into_a_virtual_microphone_comes_out_as_captions(tmp_path: Path) -> None:
    import soundfile

    samples, rate = soundfile.read(MODELS / "sample.opus")
    soundfile.write(tmp_path / "sample.wav", samples, rate)
    with virtual_microphone() as microphone:
        command = [*PROGRAM, "--mic", "--port", "0", "--format", "jsonl"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=microphone.env, **pipes) as process:  # type: ignore[call-overload]
            watchdog = threading.Timer(120, process.kill)
            watchdog.start()
            try:
                assert json.loads(process.stdout.readline())["source"] == "microphone"
                microphone.play(tmp_path / "sample.wav")
                process.send_signal(signal.SIGINT)
                rest, errors = process.communicate()
            finally:
                process.kill()
                watchdog.cancel()
    assert process.returncode == 0, errors
    heard = text_of([json.loads(line) for line in rest.splitlines()])
    assert character_errors(heard) < 0.35, heard


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
@asynchronous
async def test_the_caption_page_shows_what_is_spoken() -> None:
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "sample", "--realtime", "--port", "0", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    found = re.search(r"http://\S+", (await process.stderr.readline()).decode())
    assert found
    async with browser() as page:
        await page.open(found.group())
        await page.until("document.body.innerText.split(' ').length > 25")
        ARTIFACTS.mkdir(exist_ok=True)
        await page.screenshot(ARTIFACTS / "live-captions.png")
        printed = (await process.stdout.read()).decode().splitlines()
        await process.wait()
        lines = "[...document.querySelectorAll('#log .line .words')].map((w) => w.textContent)"
        await page.until(f"{lines}.length >= {len(printed)}")
        shown = await page.value(lines)
    assert process.returncode == 0
    assert shown == printed != []
