"""Words of a known text are found where they are, and the simulated clock tells when they appeared."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model
from hypothesis import given
from hypothesis import strategies as st

from bench import latency, live, noise
from streamer.events import Final, Partial, Word
from streamer.model import AcousticModel
from train import plots
from train.data import Clip, DataError
from train.evaluate import transcribe
from train.forced import Placed, path, place

ROOT = Path(__file__).parent.parent


@given(st.integers(0, 10_000), st.lists(st.integers(1, 2), min_size=1, max_size=3))
def test_the_path_is_the_likeliest_of_all(seed: int, labels: list[int]) -> None:
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(3), 6)).astype(np.float32)
    spelled = {}
    for states in itertools.product(range(3), repeat=6):
        runs = [token for token, _ in itertools.groupby(states)]
        if [token for token in runs if token] == labels:
            spelled[states] = sum(float(log_probs[t, token]) for t, token in enumerate(states))
    if not spelled:
        assert place("ab", log_probs[:1], tiny_model.STREAMING) is None
        return
    best = max(spelled, key=lambda states: spelled[states])
    expected, at = [], 0
    for token, run in itertools.groupby(best):
        size = len(list(run))
        if token:
            expected.append((at, at + size))
        at += size
    assert path(log_probs, labels, 0) == expected


def test_words_lie_from_their_first_to_their_last_letter() -> None:
    best = [0, 2, 2, 3, 0, 1, 0, 4, 0, 0]  # _ a a b _ space _ c _ _
    log_probs = np.full((len(best), 5), math.log(0.01), np.float32)
    log_probs[np.arange(len(best)), best] = math.log(0.96)
    assert place("ab c", log_probs, tiny_model.STREAMING) == [Placed("ab", 1, 4), Placed("c", 7, 8)]
    assert place("ab z", log_probs, tiny_model.STREAMING) is None
    assert place("", log_probs, tiny_model.STREAMING) is None
    assert place("aaaaaaaaaaa", log_probs, tiny_model.STREAMING) is None


def test_a_word_appears_at_the_first_event_that_has_it_and_stays_from_the_last_on() -> None:
    texts = ["a", "a b", "c b", "a b", "a b a"]
    words = [Word(text, 2 * n, 2 * n + 1, 1.0) for n, text in enumerate("aba")]
    told = [live.Told(Partial(0, 0, 4 if n else 2, text, 0), float(n), n) for n, text in enumerate(texts[:-1])]
    told.append(live.Told(Final(0, 0, 5, texts[-1], tuple(words)), 4.0, 4))
    told.append(live.Told(Final(1, 8, 9, "b", (Word("b", 8, 9, 1.0),)), 5.0, 5))
    assert live.appearances(told) == [
        live.Appearance("a", 0.0, 3.0),
        live.Appearance("b", 1.0, 1.0),
        live.Appearance("a", 4.0, 4.0),
        live.Appearance("b", 5.0, 5.0),
    ]


def test_a_live_stream_says_what_a_file_says_and_never_before_it_was_spoken(model: AcousticModel) -> None:
    samples = tiny_model.babble(16000 * 5 + 77)
    heard = live.listen(model, samples)
    assert " ".join(heard.words) == transcribe(model, samples) != ""
    assert np.array_equal(heard.log_probs, plots.hear(model, samples).log_probs)
    times = [told.at for told in heard.told]
    assert times == sorted(times)
    for told in heard.told:
        assert isinstance(told.event, Partial | Final)
        assert told.at >= told.event.end / 16000
    assert all(word.stayed >= word.first for word in live.appearances(heard.told))


def test_speech_ends_where_it_becomes_quiet() -> None:
    speech = np.concatenate([0.3 * np.ones(16000), 0.001 * np.ones(8000)]).astype(np.float32)
    assert latency.speech_end(speech, 16000) == pytest.approx(1.0)
    assert latency.speech_end(0 * speech, 16000) == 0
    assert latency.speech_end(speech[:0], 16000) == 0


def test_right_words_and_endpoints_are_measured(model: AcousticModel) -> None:
    samples = tiny_model.babble(16000 * 5)
    clip = Clip(Path("x.wav"), " ".join(live.listen(model, samples).words))
    found = latency.measure(model, [(clip, samples), (Clip(Path("y.wav"), "z"), samples[:400])])
    assert len(found.first) == len(found.stayed) > 0
    assert found.unplaced == 1
    assert all(stayed >= first for first, stayed in zip(found.first, found.stayed, strict=True))
    assert len(found.final) >= 1
    assert all(0 <= delay < 5 for delay in found.final)
    told = latency.table(found, 2)
    assert f"| word end to first appearance | {1000 * np.median(found.first):.0f} |" in told
    assert "1 clips cannot be spelled" in told
    assert "| – | – | 0 |" in latency.table(latency.Measured(), 0)


def test_noise_is_a_folder_of_recordings(tmp_path: Path, model: AcousticModel) -> None:
    (tmp_path / "readme.txt").write_text("not a sound")
    with pytest.raises(DataError, match="give --noise a folder of sound files"):
        noise.read_noise(tmp_path, 16000)
    soundfile.write(tmp_path / "n.wav", tiny_model.babble(8000), 16000)
    told = noise.false_alarms(model, noise.read_noise(tmp_path, 16000), 0.1)
    assert re.search(r"\| 0.1 min of silence \| 0 \| 0 \| 0 \|\n\| 0.1 min of noise \| \d+ \| \d+ \| \d+ \|", told)


def test_the_command_prints_tables_and_draws(streaming: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    soundfile.write(tmp_path / "1.wav", tiny_model.babble(32000), 16000)
    (tmp_path / "manifest.csv").write_text("path,text,split\n1.wav,a b c,test\n")
    command = [sys.executable, "-m", "bench.latency", tmp_path, "--model", streaming, "--minutes", "0.05"]
    done = subprocess.run([*command, "--out", tmp_path / "x.png"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "| word end to first appearance |" in done.stdout
    assert "min of silence | 0 | 0 | 0 |" in done.stdout
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    for wrong, reason in [(["--out", "x.xyz"], "ends in .png"), (["--split", "dev"], "no clip of split 'dev'")]:
        done = subprocess.run([*command, *wrong], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 1
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
