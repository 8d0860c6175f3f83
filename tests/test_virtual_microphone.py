"""The microphone for real: PortAudio records what PulseAudio plays, also after the sound server died and came back."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from virtual_microphone import missing, virtual_microphone

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

ROOT = Path(__file__).parent.parent
RATE = 16000

# Reports on stdout what it hears; what was heard since the last gap is saved when it is interrupted.
RECORDER = """
import asyncio, contextlib, sys
import numpy as np
from streamer.sources import Lost, read_microphone

async def record(path):
    heard, silent = [], None
    try:
        async for item in read_microphone(None, 16000):
            if isinstance(item, Lost):
                print("lost", item.samples, item.reason, flush=True)
                heard = []
                continue
            if not heard:
                print("listening", flush=True)
            heard.append(item)
            if np.abs(item).max() > 0.05:
                silent = 0
            elif silent is not None:
                silent += len(item)
                if silent > 4000:
                    print("it is silent again", flush=True)
                    silent = None
    finally:
        np.save(path, np.concatenate(heard))

with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(record(sys.argv[1]))
"""


class Recorder:
    """A child process that listens to the microphone."""

    def __init__(self, process):
        self._process = process

    def expect(self, words):
        """Wait until it reports this, and nothing else before."""
        line = self._process.stdout.readline()
        assert words in line, f"{line!r} instead of {words!r}; errors: {'' if line else self._process.stderr.read()}"
        return line

    def interrupt(self):
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(timeout=60) == 0


@contextmanager
def recorder(env, path):
    command = [sys.executable, "-c", RECORDER, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        watchdog = threading.Timer(120, process.kill)  # then expect() sees the end of stdout
        watchdog.start()
        try:
            yield Recorder(process)
        finally:
            watchdog.cancel()
            process.kill()


@pytest.fixture
def chirp(tmp_path):
    """One second that sweeps from 200 to 4000 Hz, and the file that holds it."""
    t = np.arange(RATE) / RATE
    samples = 0.5 * np.sin(2 * np.pi * (200 * t + 1900 * t**2)) * np.hanning(RATE)
    soundfile.write(tmp_path / "chirp.wav", samples, RATE)
    return samples, tmp_path / "chirp.wav"


def similarity(recording, played):
    """The correlation of what was played with the part of a recording that fits it best."""
    size = len(recording) + len(played)
    fits = np.fft.irfft(np.fft.rfft(recording, size) * np.conj(np.fft.rfft(played, size)), size)
    at = int(np.argmax(fits[: len(recording) - len(played) + 1]))
    return np.corrcoef(recording[at : at + len(played)], played)[0, 1]


def test_the_microphone_hears_what_is_played(tmp_path, chirp):
    samples, wav = chirp
    with virtual_microphone() as microphone, recorder(microphone.env, tmp_path / "heard.npy") as recording:
        recording.expect("listening")
        microphone.play(wav)
        recording.expect("it is silent again")
        recording.interrupt()
    assert similarity(np.load(tmp_path / "heard.npy"), samples) > 0.9


def test_the_microphone_is_heard_again_after_the_sound_server_died_and_came_back(tmp_path, chirp):
    samples, wav = chirp
    with virtual_microphone() as microphone, recorder(microphone.env, tmp_path / "heard.npy") as recording:
        recording.expect("listening")
        microphone.stop()
        recording.expect("lost 0 the microphone was unplugged")
        microphone.start()
        away = recording.expect("the microphone was away")
        assert int(away.split()[1]) >= 2 * RATE  # it tries again after two seconds
        recording.expect("listening")
        microphone.play(wav)
        recording.expect("it is silent again")
        recording.interrupt()
    assert similarity(np.load(tmp_path / "heard.npy"), samples) > 0.9
