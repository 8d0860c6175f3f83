"""The shipped model, the real program, real speech: sample, microphone and browser; the screenshot is kept."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from browser import CHROMIUM, browser
from virtual_microphone import missing, virtual_microphone
from waiting import PATIENCE_SECONDS, asynchronous

from streamer.model import MODELS, find

PROGRAM = [sys.executable, "-m", "streamer.cli"]
ARTIFACTS = Path(__file__).parent.parent / "artifacts"
SPOKEN = [
    "hello",
    "and",
    "welcome",
    "these",
    "captions",
    "appear",
    "while",
    "the",
    "words",
    "are",
    "being",
    "spoken",
    "nothing",
    "you",
    "say",
    "leaves",
    "this",
    "computer",
    "the",
    "sound",
    "is",
    "turned",
    "into",
    "text",
    "right",
    "here",
    "by",
    "a",
    "small",
    "model",
    "that",
    "you",
    "can",
    "train",
    "yourself",
    "open",
    "the",
    "page",
    "in",
    "a",
    "browser",
    "and",
    "read",
    "along",
    "with",
    "everyone",
    "else",
    "in",
    "the",
    "room",
]


def shared_words(text: str) -> float:
    """The share of the sample's words that are among those heard."""
    return sum(word in set(text.split()) for word in SPOKEN) / len(SPOKEN)


def captions(*args: str, **more: object) -> list[dict[str, object]]:
    done = subprocess.run(
        [*PROGRAM, *args, "--format", "jsonl", "--no-server"], capture_output=True, check=True, **more
    )  # type: ignore[call-overload]
    return [json.loads(line) for line in done.stdout.splitlines()]


def text_of(events: list[dict[str, object]]) -> str:
    return " ".join(str(event["text"]) for event in events if event["type"] == "final")


def test_the_shipped_model_passes_its_own_check() -> None:
    done = subprocess.run([*PROGRAM, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "as in training" in done.stdout


def test_the_bundled_sample_is_recognised() -> None:
    heard = captions("sample")
    assert shared_words(text_of(heard)) > 0.6, text_of(heard)
    assert [event["type"] for event in heard].count("partial") > 15


def test_the_bundled_sample_sounds_as_it_did_when_the_model_was_shipped() -> None:
    """Golden transcript: it changes with the model only; models/sample.txt is written by `make golden`."""
    assert text_of(captions("sample")) == (MODELS / "sample.txt").read_text().strip()


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
        process = subprocess.Popen(
            command, env=microphone.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["source"] == "microphone"
        microphone.play(tmp_path / "sample.wav")
        heard = [{"type": "hello"}]
        while shared_words(text_of(heard)) <= 0.3:  # pytest would wait for ever, the program ends at its last word
            heard.append(json.loads(process.stdout.readline()))
            if heard[-1]["type"] == "final" and len(text_of(heard).split()) > len(SPOKEN) // 2:
                break
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE_SECONDS)
    heard += map(json.loads, rest.splitlines())
    assert process.returncode == 0, errors
    assert shared_words(text_of(heard)) > 0.5, text_of(heard)


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
        printed = (await process.stdout.read()).decode()
        await process.wait()
        shown = await page.value("[...document.querySelectorAll('#log .line .words')].map((w) => w.textContent)")
    assert process.returncode == 0
    assert shown == printed.splitlines() != []
    assert find(None).is_file()
