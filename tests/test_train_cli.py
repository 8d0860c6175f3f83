"""asr-train as a user runs it: from recordings to a model file that asr-stream serves."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from train.workers import local_cluster

PROGRAM = [sys.executable, "-m", "train.cli"]
ROOT = Path(__file__).parent.parent
TONES = {"a": 400, "b": 900, "c": 1700, "d": 2800, " ": 0}


def run(*args: object, ok: bool = True) -> str:
    """Standard output and error of a command, which must succeed (or fail without a traceback)."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([*PROGRAM, *map(str, args)], capture_output=True, text=True, env=env, timeout=600)
    output = done.stdout + done.stderr
    assert (done.returncode == 0) == ok, output
    assert ok or "Traceback" not in output, output
    return output


def speak(text: str, rng: np.random.Generator) -> np.ndarray:
    """A language that is easily learnt: a tone for each letter, 120 ms long, with a breath between them."""
    t = np.arange(1920) / 16000
    parts = [np.zeros(2000)]
    for letter in text:
        parts += [0.3 * np.sin(2 * np.pi * TONES[letter] * t), np.zeros(640)]
    sound = np.concatenate([*parts, np.zeros(4000)])
    return (sound + 0.003 * rng.normal(size=len(sound))).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 70 clips in that language, ten each for validation and test."""
    return write_corpus(tmp_path_factory.mktemp("corpus"), "abc", 70)


def write_corpus(folder: Path, letters: str, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "text", "split"])
        for i in range(count):
            words = ["".join(rng.choice(list(letters), rng.integers(1, 4))) for _ in range(rng.integers(1, 4))]
            soundfile.write(folder / f"{i}.wav", speak(" ".join(words), rng), 16000)
            writer.writerow([f"{i}.wav", " ".join(words), "dev" if i < 10 else "test" if i < 20 else "train"])
    return folder / "manifest.csv"


def test_recordings_become_a_model_that_is_served(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow comes with the train extra")
    fit = ["fit", corpus, "--out", tmp_path / "run", "--cache", tmp_path / "cache", "--size", "small", "--seed", 3]
    fit += [
        "--batch-frames",
        1200,
        "--learning-rate",
        0.01,
        "--augment",
        "none",
        "--dropout",
        0,
        "--language",
        "tones",
    ]
    first = run(*fit, "--epochs", 6)
    assert "train: 50 clips" in first
    assert "vocabulary: a b c" in first
    steps = int((tmp_path / "run" / "log.csv").read_text().splitlines()[-1].split(",")[0])
    resumed = run(*fit, "--epochs", 60)
    assert "going on with" in resumed
    lines = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert int(lines[-1].split(",")[0]) > steps
    assert float(lines[-1].split(",")[6]) < 0.15, resumed  # CER

    assert len((tmp_path / "run" / "val.csv").read_text().splitlines()) == 11
    run("export", tmp_path / "run", tmp_path / "tones.onnx", "--int8")
    measured = run("evaluate", tmp_path / "tones.onnx", corpus, "--out", tmp_path / "heard.tsv", "--worst", 1)
    served = next(line for line in measured.splitlines() if line.startswith("all"))
    assert float(served.split()[-1]) < 25, measured  # CER in percent, through the served path
    assert len((tmp_path / "heard.tsv").read_text().splitlines()) == 10

    command = [sys.executable, "-m", "streamer.cli", corpus.parent / "12.wav", "--model", tmp_path / "tones.onnx"]
    captions = subprocess.run([*command, "--no-server"], capture_output=True, text=True, cwd=ROOT)
    heard = dict(line.split("\t") for line in (tmp_path / "heard.tsv").read_text().splitlines())
    assert captions.stdout.split() == heard["12.wav"].split() != []
    without_size = [*fit[:6], *fit[8:]]
    assert "began with another size" in run(*without_size, "--size", "base", ok=False)
    (tmp_path / "said.dict").write_text("a AH0\n")
    told = run(*fit, "--pronunciations", tmp_path / "said.dict", ok=False)
    assert "began with another pronunciations" in told
    learn_another_letter(tmp_path / "tones.onnx", tmp_path)


def learn_another_letter(model: Path, folder: Path) -> None:
    """Training begins from a model file, int8 at that, with a letter that it did not know."""
    manifest = write_corpus(folder / "more", "abcd", 40)
    fit = ["fit", manifest, "--out", folder / "more" / "run", "--cache", folder / "cache", "--init", model]
    fit += ["--language", "more tones", "--augment", "none", "--dropout", 0, "--batch-frames", 1200]
    told = run(*fit, "--learning-rate", 0.002, "--epochs", 8)
    assert "vocabulary: a b c d" in told
    last = (folder / "more" / "run" / "log.csv").read_text().splitlines()[-1].split(",")
    assert float(last[6]) < 0.2, told  # CER; from nothing it would be near 1 after so few steps
    assert "the same letters and groups" in run(*fit[:3], folder / "cut up", *fit[4:], "--cut", 0.5, ok=False)
    assert "has the network streaming" in run(*fit[:3], folder / "other", *fit[4:], "--network", "tutorial", ok=False)


def test_a_run_that_begins_from_another_may_hear_phrases(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow comes with the train extra")
    fit = ["fit", corpus, "--cache", tmp_path / "cache", "--augment", "none", "--batch-frames", 1200, "--epochs", 1]
    assert "--cut needs a model that hears where words end" in run(*fit, "--cut", 1, "--out", tmp_path / "a", ok=False)
    run(*fit, "--size", "small", "--out", tmp_path / "a")
    run(*fit, "--init", tmp_path / "a", "--cut", 0.8, "--out", tmp_path / "b")
    pauses = json.loads((tmp_path / "b" / "pauses.json").read_text())
    with (tmp_path / "b" / "train.csv").open() as file:
        texts = {row["path"]: row["text"] for row in csv.DictReader(file)}
    assert pauses
    for path, found in pauses.items():
        assert all(0 < words < len(texts[path].split()) for words, _ in found)


def test_the_tutorials_network_goes_from_an_ljspeech_folder_to_captions(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow comes with the train extra")
    import onnx

    folder, rng = tmp_path / "speech", np.random.default_rng(0)
    (folder / "wavs").mkdir(parents=True)
    texts = ["".join(rng.choice(list("abcd"), 3)) for _ in range(20)]
    for i, text in enumerate(texts):
        soundfile.write(folder / "wavs" / f"LJ{i}.wav", speak(text, rng), 16000)
    (folder / "metadata.csv").write_text("".join(f"LJ{i}|{t.upper()}.|{t}\n" for i, t in enumerate(texts)))
    told = run("fit", folder, "--network", "tutorial", "--epochs", 1, "--out", tmp_path / "run", "--augment", "none")
    assert "train: 18 clips" in told  # a tenth is held out
    assert "val: 2 clips" in told
    graph = onnx.load(tmp_path / "run" / "model.onnx").graph
    assert sum(node.op_type == "LSTM" for node in graph.node) in (5, 10)  # five in both directions, each one node
    assert not {"Loop", "Scan", "If"} & {node.op_type for node in graph.node}
    evaluated = run("evaluate", tmp_path / "run" / "model.onnx", folder, "--split", "all", "--lm", "none")
    assert f"{folder.name}  " in evaluated
    command = [sys.executable, "-m", "streamer.cli", folder / "wavs" / "LJ0.wav", "--no-server", "--format", "jsonl"]
    done = subprocess.run(
        [*command, "--model", tmp_path / "run" / "model.onnx"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert '"hello"' in done.stdout


def test_two_machines_train_one_model(corpus: Path, tmp_path: Path) -> None:
    """Two processes that know each other by address only, as if each ran on a machine of its own."""
    pytest.importorskip("tensorflow", reason="TensorFlow comes with the train extra")
    fit = [*PROGRAM, "fit", corpus, "--cache", tmp_path / "cache", "--size", "small", "--epochs", 2]
    fit += ["--batch-frames", 1200, "--distribute", ",".join(local_cluster(2))]
    env = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    commands = [[*map(str, fit), "--rank", str(rank), "--out", str(tmp_path / str(rank))] for rank in range(2)]
    processes = [subprocess.Popen(command, env=env) for command in commands]
    try:
        assert [process.wait(240) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    assert (tmp_path / "0" / "model.onnx").exists()
    assert not (tmp_path / "1" / "log.csv").exists()  # the first one reports for both


def test_mistakes_are_one_sentence(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,text,split\nmissing.wav,a b,train\ngone.wav,a,dev\n")
    out = ["--out", tmp_path / "run", "--cache", tmp_path / "cache"]
    assert "1 of 1 recordings cannot be read" in run("fit", tmp_path, *out, ok=False)
    assert "needs --backend torch" in run("fit", corpus, "--bf16", *out, ok=False)
    assert "there is no augmentation 'echo'" in run("fit", corpus, "--augment", "light,echo=1", *out, ok=False)
    assert "--distribute wants" in run("fit", corpus, "--distribute", "here", *out, ok=False)
    assert "no config.json" in run("fit", corpus, "--init", tmp_path, *out, ok=False)
    assert "--weight wants CORPUS=NUMBER" in run("fit", corpus, "--weight", "x", *out, ok=False)
    (tmp_path / "junk.onnx").write_text("junk")
    assert "is not an ONNX model" in run("evaluate", tmp_path / "junk.onnx", corpus, ok=False)
    assert "there is no engine 'siri'" in run("synth", corpus, "--out", tmp_path, "--engine", "siri", ok=False)
    if shutil.which("espeak-ng"):
        told = run("synth", corpus, "--out", tmp_path, "--engine", "espeak", "--language", "klingon", ok=False)
        assert "espeak has no voice for the language 'klingon'" in told


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng: apt-get install espeak-ng")
def test_sentences_become_a_labelled_corpus_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    text = "The cat sat on the mat. It was 9 o'clock. Nobody had seen the dog. Where did it go?"
    (tmp_path / "story.txt").write_text(text)
    synth = ["synth", tmp_path / "story.txt", "--out", tmp_path / "speech", "--engine", "espeak", "--count", 3]
    assert "3 clips" in run(*synth)
    with (tmp_path / "speech" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["text"] for row in rows} == {"the cat sat on the mat", "nobody had seen the dog", "where did it go"}
    recordings = [tmp_path / "speech" / row["path"] for row in rows]
    assert all(soundfile.info(path).samplerate == 16000 for path in recordings)
    made = [path.stat().st_mtime_ns for path in recordings[1:]]
    recordings[0].unlink()
    run(*synth)
    assert recordings[0].exists()
    assert [path.stat().st_mtime_ns for path in recordings[1:]] == made


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng: apt-get install espeak-ng")
def test_another_language_is_read_by_its_own_voices(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Он пришёл домой. Der Fluss heißt Öre.")
    options = ["--engine", "espeak", "--language", "ru", "--out", tmp_path / "speech"]
    assert "2 clips" in run("synth", tmp_path / "text.txt", *options)
    with (tmp_path / "speech" / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["text"] for row in rows} == {"он пришёл домой", "der fluss heißt öre"}
    assert all(row["speaker"].startswith("espeak-ru") for row in rows)
