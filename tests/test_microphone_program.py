"""`asr-stream --mic` as a user meets it, with a sound system that the test makes up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect

TESTS = Path(__file__).parent
PROGRAM = [sys.executable, "-m", "streamer.cli"]
NO_DEVICES = "import sys, fake_sounddevice\nsys.modules['sounddevice'] = fake_sounddevice.FakeSounddevice()\n"
TWO_DEVICES = """
import sys
from fake_sounddevice import FakeSounddevice, device
sys.modules["sounddevice"] = FakeSounddevice(device("Headset"), device("Webcam", channels=2, rate=44100.0))
"""
# Speaks three seconds, is pulled out, comes back and goes on speaking; what is heard is faster than life.
UNPLUGGED = """
import sys, threading, time
import numpy as np
from fake_sounddevice import FakeSounddevice, device
from tiny_model import babble

headset = device("Headset", rate=16000.0)
fake = sys.modules["sounddevice"] = FakeSounddevice(headset)

def stream(number):
    while len(fake.streams) <= number or not fake.streams[number].started:
        time.sleep(0.01)
    return fake.streams[number]

def use():
    first = stream(0)
    for block in np.split(babble(48000), 150):
        first.speak(block)
        time.sleep(0.005)
    fake.plugged.clear()
    first.unplug()
    time.sleep(0.2)
    fake.plugged.append(headset)
    second = stream(1)
    while True:
        for block in np.split(babble(48000, seed=1), 150):
            second.speak(block)
            time.sleep(0.005)

threading.Thread(target=use, daemon=True).start()
"""


def environment(folder: Path, sounddevice: str) -> dict[str, str]:
    (folder / "sounddevice.py").write_text(sounddevice)
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (folder, TESTS, TESTS.parent)))}


@pytest.mark.parametrize(
    ("options", "sounddevice", "told"),
    [
        (["--mic"], NO_DEVICES, "no microphone was found: connect one (`asr-stream --list-devices` shows it) or give"),
        (["--list-devices"], NO_DEVICES, "no microphone was found: connect one, or give a sound file instead"),
        (["--mic"], "raise OSError('PortAudio library not found')", "`sudo apt-get install libportaudio2`"),
        (["--list-devices"], "raise OSError('PortAudio library not found')", "`sudo apt-get install libportaudio2`"),
        (["--mic", "--device", "Trumpet"], TWO_DEVICES, "no microphone 'Trumpet': choose one that"),
        (["--mic", "--device", "7"], TWO_DEVICES, "no microphone '7': choose one that"),
    ],
)
def test_without_a_microphone_one_sentence_tells_what_to_do(
    tmp_path: Path, streaming: Path, options: list[str], sounddevice: str, told: str
) -> None:
    model = [] if "--list-devices" in options else ["--model", str(streaming), "--no-server"]
    done = subprocess.run(
        [*PROGRAM, *options, *model], env=environment(tmp_path, sounddevice), capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert told in done.stderr.splitlines()[-1]
    assert not done.stdout


def test_the_microphones_are_listed_and_the_default_is_marked(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "--list-devices"], env=environment(tmp_path, TWO_DEVICES), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "*  0  Headset, ALSA  (1 channels, 48000 Hz)",
        "   1  Webcam, ALSA  (2 channels, 44100 Hz)",
    ]


def test_a_microphone_that_is_pulled_out_ends_the_segment_and_is_heard_again_when_it_is_back(
    tmp_path: Path, streaming: Path
) -> None:
    args = [*PROGRAM, "--mic", "--model", str(streaming), "--port", "0", "--format", "jsonl"]
    env = environment(tmp_path, UNPLUGGED)
    with subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            address = next(line for line in process.stderr if "http://" in line).split("http://")[1].split()[0]
            with connect(f"ws://{address.rstrip('/')}/captions") as viewer:
                told = [json.loads(process.stdout.readline())]
                while [event["type"] for event in told[-2:]] != ["gap", "final"]:  # goes on after the last gap
                    event = json.loads(process.stdout.readline())
                    if event["type"] != "partial":
                        told.append(event)
                seen = [json.loads(viewer.recv(timeout=30)) for _ in told]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
    assert process.returncode == 0
    kinds = [event["type"] for event in told]
    gaps = [event for event in told if event["type"] == "gap"]
    assert kinds[:3] == ["hello", "final", "gap"]  # what was begun is finished before the gap
    assert "unplugged" in gaps[0]["reason"]
    assert "away" in gaps[-1]["reason"]
    assert told[-1]["start"] >= gaps[-1]["end"] > gaps[0]["start"]
    assert seen[0]["type"] == "hello"  # the server stayed up for those who watch
