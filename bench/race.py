"""The tutorial's network and recipe against ours: the same recordings, split and CPU time; one command.

    python -m bench.race CORPUS [MINUTES_EACH] [OUT]

CORPUS is one voice, in the tutorial LJSpeech; a synthetic one is made by
`asr-train synth ljspeech_sentences.csv --engine hibari --count 2000 --out data/race`. A random tenth of it is held out.
Every training is one process, two at a time on two cores; what was trained in OUT is not trained again.
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path

from bench.runs import Trained, error_rates, fit, side_by_side, table
from train.data import read_corpus, write_manifest

# The tutorial: Adam, a learning rate of 5e-4 lowered on plateaus, batches of 8 clips, much dropout, no augmentation.
TUTORIAL = "--network tutorial --learning-rate 5e-4 --schedule plateau --augment none --dropout 0.5 --batch-frames 5300"
WAYS = {
    "the tutorial's (TensorFlow)": TUTORIAL,
    "ours (TensorFlow)": "--size base --augment light",
    "ours (torch, bfloat16)": "--size base --augment light --backend torch --bf16",
}
MARKS = (0.5, 0.2, 0.1, 0.05)  # CERs to be reached


def _row(name: str, run: Trained) -> list[object]:
    told = error_rates(run.folder / "model.onnx", run.folder / "val.csv", "val", "--lm", "none")
    wer, cer = told["all"]
    reached = ["–" if (cost := run.cpu_hours_to(mark)) is None else f"{cost:.2f}" for mark in MARKS]
    streams = "no" if "tutorial" in WAYS[name] else "yes"
    return [name, cer, wer, f"{run.cpu_hours:.2f}", f"{run.log[-1][1]:.0f}", *reached, streams, told[""][0]]


def main() -> None:
    """Run the race and print the table."""
    corpus, minutes = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 40.0
    out = Path(sys.argv[3]) if len(sys.argv) > 3 else Path("data/race-runs")
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(out / "corpus.csv", (dataclasses.replace(clip, split="") for clip in read_corpus(corpus)))
    ways = [
        partial(fit, [out / "corpus.csv"], out / str(i), out / "features", minutes, *options.split())
        for i, options in enumerate(WAYS.values())
    ]
    heads = ["", "CER %", "WER %", "CPU hours", "hours heard", *(f"CPU hours to CER {mark:.0%}" for mark in MARKS)]
    runs = side_by_side(ways, 2)
    table([*heads, "streams", "CPU s per s"], [_row(name, run) for name, run in zip(WAYS, runs, strict=True)])


if __name__ == "__main__":
    main()
