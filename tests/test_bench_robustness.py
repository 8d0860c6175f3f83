"""Every change of a recording does what its name says, and the command tells what it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model

pytest.importorskip("scipy", reason="scipy comes with the train extra")

from bench import distort
from bench.robustness import conditions

ROOT = Path(__file__).parent.parent
RATE = 16000
SPEECH = tiny_model.babble(32000)


def power(x: np.ndarray) -> float:
    return float(np.mean(x.astype(np.float64) ** 2))


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("snr", [20, 0])
def test_noise_is_as_far_below_the_speech_as_asked(snr: float) -> None:
    noise = distort.pink_noise(8000, np.random.default_rng(1))  # shorter than the speech: it goes round
    added = distort.add_noise(SPEECH, noise, snr, np.random.default_rng(2)) - SPEECH
    assert 10 * np.log10(power(SPEECH) / power(added)) == pytest.approx(snr, abs=0.01)


def test_a_telephone_passes_the_middle_and_nothing_else() -> None:
    for hz, passes in [(100, False), (1000, True), (6000, False)]:
        assert (power(distort.telephone(tone(hz), RATE)) > 0.5 * power(tone(hz))) is passes


def test_a_room_answers_after_the_sound_and_keeps_its_length() -> None:
    click = np.zeros(RATE, np.float32)
    click[100] = 0.5
    heard = distort.reverberate(click, RATE, np.random.default_rng(0))
    assert len(heard) == RATE
    assert not np.abs(heard[:100]).max() > 1e-6
    early, late = power(heard[101:1000]), power(heard[8000:9000])
    assert 0 < late < 0.01 * early


def test_speed_changes_the_length_and_the_pitch() -> None:
    fast = distort.change_speed(tone(400), 1.25)
    assert len(fast) == pytest.approx(RATE / 1.25, abs=2)
    assert np.abs(np.fft.rfft(fast, RATE)).argmax() == pytest.approx(500, abs=2)
    assert len(distort.change_speed(tone(400), 0.8)) == pytest.approx(RATE / 0.8, abs=2)


def test_levels_are_in_decibels() -> None:
    assert power(distort.amplify(SPEECH, -30)) == pytest.approx(power(SPEECH) / 1000, rel=1e-3)
    clipped = distort.clip(tone(400), 20)
    assert np.abs(clipped).max() == 1
    assert (np.abs(clipped) == 1).mean() > 0.9
    assert not distort.clip(np.zeros(10, np.float32), 20).any()


def test_the_same_seed_makes_the_same_sound_and_short_clips_do_no_harm() -> None:
    noise = distort.pink_noise(RATE, np.random.default_rng(1))
    for change in conditions(noise, RATE).values():
        one, other = (change(SPEECH, np.random.default_rng((1, 5))) for _ in range(2))
        assert np.array_equal(one, other)
        assert one.dtype == np.float32
        assert np.isfinite(change(SPEECH[:7], np.random.default_rng(0))).all()
        assert np.isfinite(change(np.zeros(1600, np.float32), np.random.default_rng(0))).all()


def test_the_command_prints_a_row_for_every_condition(streaming: Path, tmp_path: Path) -> None:
    for n in range(3):
        soundfile.write(tmp_path / f"{n}.wav", tiny_model.babble(16000, n), RATE)
    rows = [f"{n}.wav,a b c,test" for n in range(3)]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,text,split", *rows]))
    command = [sys.executable, "-m", "bench.robustness", tmp_path, "--model", streaming, "--clips", "2"]
    done = subprocess.run([*command, "--noise", tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "| 2 clips | WER % | worse by |"
    assert len(lines) == 2 + 11
    assert lines[2].startswith("| as it is | ")
    assert lines[2].endswith(" | +0.0 |")
    again = subprocess.run([*command, "--noise", tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert again.stdout == done.stdout
    wrong = subprocess.run([*command[:3], tmp_path, "--model", "nowhere"], capture_output=True, text=True, cwd=ROOT)
    assert wrong.returncode == 1
    assert "no model at nowhere" in wrong.stderr
    assert "Traceback" not in wrong.stderr
