"""How fast training is: hours of audio heard per hour of wall time, for each backend and number of workers.

    python bench/training.py [MINUTES_EACH]

Runs `asr-train fit` itself on made-up recordings (noise, random words as transcripts), so that reading, augmentation,
gradients and the optimizer's step are all in the figures. The first half of each run, in which graphs are compiled and
kernels prepared, does not count. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

WAYS = {
    "TensorFlow, 1 process": ["--backend", "tensorflow"],
    "TensorFlow, 2 processes": ["--backend", "tensorflow", "--workers", "2"],
    "torch, 1 process": ["--backend", "torch"],
    "torch, 2 processes": ["--backend", "torch", "--workers", "2"],
    "torch, 1 process, bfloat16": ["--backend", "torch", "--bf16"],
    "torch, 2 processes, bfloat16": ["--backend", "torch", "--workers", "2", "--bf16"],
}


def make_corpus(folder: Path, clips: int = 400) -> Path:
    """Recordings of 2 to 12 seconds at a reading pace of 14 letters a second."""
    rng = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "text", "split"])
        for i in range(clips):
            seconds = rng.uniform(2, 12)
            words = ["".join(rng.choice(list("etaoinshrdlu"), rng.integers(2, 8))) for _ in range(int(seconds * 2.5))]
            soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, int(seconds * 16000)).clip(-1, 1), 16000)
            writer.writerow([f"{i}.wav", " ".join(words), "dev" if i < 8 else "train"])
    return folder / "manifest.csv"


def measure(corpus: Path, run: Path, options: list[str], minutes: float) -> float:
    """Hours of audio per hour of wall time over the second half of a run."""
    command = [sys.executable, "-m", "train.cli", "fit", corpus, "--out", run, "--cache", corpus.parent / "cache"]
    command += ["--groups", "200", "--hours", minutes / 60, "--validate-every-minutes", minutes / 2, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ)
    if done.returncode:
        sys.exit(f"{' '.join(options)} failed:\n{done.stdout}{done.stderr}")
    with (run / "log.csv").open() as file:
        half, *_, end = csv.DictReader(file)
    heard, spent = (float(end[key]) - float(half[key]) for key in ("audio_hours", "seconds"))
    return heard / spent * 3600


def main() -> None:
    """Measure every way that is installed and print the table."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    ways = {name: w for name, w in WAYS.items() if "torch" not in w or importlib.util.find_spec("torch")}
    print(f"{os.cpu_count()} cores; the streaming network, base size; hours of audio per hour of wall time", flush=True)
    with tempfile.TemporaryDirectory() as place:
        corpus = make_corpus(Path(place))
        for i, (name, options) in enumerate(ways.items()):
            print(f"{name:32s} {measure(corpus, Path(place) / f'run{i}', options, minutes):6.0f}", flush=True)


if __name__ == "__main__":
    main()
