"""Adapting to a voice: error rates of a speaker held out of the base model, before and after minutes of their speech.

    python -m bench.adaptation CORPORA SPEAKER-CORPUS BASE OUT [MINUTES_OF_TRAINING]

BASE is a run of `asr-train fit` without that speaker (`--weight SPEAKER-CORPUS=0`). Each amount of speech is drawn at
random from the speaker's training split; one process on one core each, two at a time. What is heard is the test split.
"""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path

import soundfile

from bench.runs import Trained, error_rates, fit, side_by_side, table
from train.data import Clip, read_corpus, write_manifest

SPEECH_MINUTES = (5, 10, 20)


def some_of(clips: list[Clip], minutes: float) -> list[Clip]:
    """Clips drawn at random, at least so many minutes of them."""
    pool, seconds, drawn = list(clips), 0.0, list[Clip]()
    random.Random(1).shuffle(pool)
    while pool and seconds < minutes * 60:
        drawn.append(pool.pop())
        seconds += soundfile.info(drawn[-1].path).duration
    return drawn


def main() -> None:
    """Adapt and print the table."""
    corpora, speaker, base, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    minutes = float(sys.argv[5]) if len(sys.argv) > 5 else 5.0
    clips = read_corpus(corpora)
    own = [c for c in clips if c.corpus == speaker]
    train, dev = ([c for c in own if c.split == split] for split in ("train", "dev"))
    out.mkdir(parents=True, exist_ok=True)
    ways = []
    for amount in SPEECH_MINUTES:
        manifest = out / f"{amount}.csv"
        write_manifest(manifest, [*some_of(train, amount), *dev])
        options = ["--init", base, "--backend", "torch", "--bf16"]
        ways.append(partial(fit, [manifest], out / str(amount), out / "features", minutes, *options))
    runs: list[Trained] = side_by_side(ways, 2)  # type: ignore[assignment]
    models = [("none", base, "")]
    for amount, trained in zip(SPEECH_MINUTES, runs, strict=True):
        models.append((f"{amount} minutes", trained.folder, f"{trained.cpu_hours * 60:.0f}"))
    write_manifest(out / "test.csv", [c for c in own if c.split == "test"])
    write_manifest(out / "others.csv", [c for c in clips if c.split == "test" and c.corpus != speaker])
    rows = []
    for name, run, cpu_minutes in models:
        greedy, lm, others = (
            error_rates(run / "model.onnx", out / f"{which}.csv", "test", "--lm", lm)["all"][0]
            for which, lm in (("test", "none"), ("test", "models/english.lm"), ("others", "none"))
        )
        rows.append([name, greedy, lm, others, cpu_minutes])
    table([f"{speaker}'s speech", "WER % greedy", "WER % with the LM", "WER % of others, greedy", "CPU minutes"], rows)


if __name__ == "__main__":
    main()
