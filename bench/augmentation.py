"""What augmentation does to the gap between training and validation: the same data and time, with and without.

    python -m bench.augmentation CORPORA [--minutes 30] [--out FOLDER] [--corpus NAME] ...

CORPORA is a folder with a `manifest.csv` that has the columns split (train, dev), speaker and corpus, and with
recordings in `noise`; the named ones of its corpora are used, or all. Both trainings are one process each, at the same
time. The gap is between clips that were trained on (as many of each corpus as there are for validation) and
validation, both as they are, through the served path. Both begin from nothing: the models are those of the best
validation, and a model that is good already may be at its best before it has begun to know its clips by heart.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
from collections import Counter
from functools import partial
from pathlib import Path

from bench.runs import Trained, error_rates, fit, side_by_side, table
from train.data import Clip, read_corpus, write_manifest

WAYS = {"without": ("--augment", "none"), "heavy": ("--augment", "heavy")}


def chosen(corpora: Path, names: list[str]) -> list[Clip]:
    """Training and validation clips of the named corpora."""
    clips = read_corpus(corpora)
    return [c for c in clips if c.split in ("train", "dev") and (not names or c.corpus in names)]


def known(clips: list[Clip]) -> list[Clip]:
    """As many training clips of each corpus as it has for validation, drawn at random, under the split `known`."""
    wanted = Counter(c.corpus for c in clips if c.split == "dev")
    pool = [c for c in clips if c.split == "train"]
    random.Random(1).shuffle(pool)
    taken = Counter[str]()
    drawn = list[Clip]()
    for clip in pool:
        if taken[clip.corpus] < wanted[clip.corpus]:
            taken[clip.corpus] += 1
            drawn.append(dataclasses.replace(clip, split="known"))
    return drawn


def _rows(name: str, run: Trained, manifest: Path) -> list[list[object]]:
    model = run.folder / "model.onnx"
    trained, unknown = (error_rates(model, manifest, split, "--lm", "none") for split in ("known", "dev"))
    return [
        [name, corpus, trained[corpus][1], unknown[corpus][1], f"{unknown[corpus][1] - trained[corpus][1]:.1f}"]
        for corpus in unknown
        if corpus
    ]


def main() -> None:
    """Train both ways and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, each")
    parser.add_argument("--out", type=Path, default=Path("data/augmentation-runs"))
    parser.add_argument("--corpus", action="append", default=[], help="only these of the corpora")
    options = parser.parse_args()
    corpora, out = options.corpora, options.out
    clips = chosen(corpora, options.corpus)
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(out / "manifest.csv", clips)
    write_manifest(out / "judged.csv", known(clips) + [c for c in clips if c.split == "dev"])
    common = ["--backend", "torch", "--bf16", "--noise", corpora / "noise"]
    ways = [
        partial(fit, [out / "manifest.csv"], out / name, out / "features", options.minutes, *common, *way)
        for name, way in WAYS.items()
    ]
    runs = side_by_side(ways, 2)
    rows = [row for name, run in zip(WAYS, runs, strict=True) for row in _rows(name, run, out / "judged.csv")]
    table(["augmentation", "corpus", "CER % trained on", "CER % validation", "gap"], rows)


if __name__ == "__main__":
    main()
