"""A training run from corpora to run folder: prepare the data, start the workers, fit."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from train.cache import FeatureCache
from train.config import Config, load_config, subsampling
from train.data import UNREADABLE, Clip, DataError, examples, read_corpus, split_clips, write_manifest
from train.targets import pronunciations
from train.text import BLANK, alphabet, letter_groups

UNREADABLE_SHARE = 0.1  # of the recordings: with more, something is wrong with the manifest


def prepare(config: Config, sources: Sequence[Path], noise: Path | None, cache: Path, folder: Path) -> None:
    """Read corpora, compute missing features, and write the run folder: config, train.csv, val.csv, dropped.csv."""
    train, valid = read_splits(sources, config)
    if not train:
        raise DataError("no clip is of the split train: give a corpus that has some, or manifests without splits")
    config = dataclasses.replace(config, vocab=_vocabulary(config, [clip.text for clip in train]))
    if config.pronunciations:
        sounds = {phone for said in pronunciations(Path(config.pronunciations)).values() for phone in said}
        config = dataclasses.replace(config, phones=(BLANK, *sorted(sounds)))
    features = FeatureCache(cache, config.features)
    noises = sorted(p for p in noise.iterdir() if p.is_file()) if noise else []
    frames = features.add([c.path for c in [*train, *valid]] + noises, os.cpu_count() or 1)
    folder.mkdir(parents=True, exist_ok=True)
    refused = list[tuple[Clip, str]]()
    for name, clips in (("train", train), ("val", valid)):
        kept, dropped = examples(clips, frames, config.vocab, subsampling(config))
        hours = sum(e.frames for e in kept) * config.features.frame_shift / config.features.sample_rate / 3600
        print(f"{name}: {len(kept)} clips, {hours:.2f} h{_reasons(dropped)}", flush=True)
        refused += dropped
        write_manifest(folder / f"{name}.csv", (dataclasses.replace(e.clip, split=name) for e in kept))
        write_manifest(folder / "dropped.csv", (dataclasses.replace(clip, split=why) for clip, why in refused))
        unreadable = [clip.path for clip, reason in dropped if reason == UNREADABLE]
        if len(unreadable) > UNREADABLE_SHARE * len(clips):
            raise DataError(
                f"{len(unreadable)} of {len(clips)} recordings cannot be read, {unreadable[0]} among them: "
                f"see {folder / 'dropped.csv'} and mend the manifest"
            )
        if not kept:
            raise DataError(f"no {name} clips are left: give a manifest with a split column (train, dev) or more data")
    config.dump(folder / "config.json")
    told = {"cache": str(cache.resolve()), "noises": [str(p.resolve()) for p in noises if p in frames]}
    (folder / "data.json").write_text(json.dumps(told))


def read_splits(sources: Sequence[Path], config: Config) -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips of all corpora; of the former a tenth where no corpus has any for validation."""
    train, valid = list[Clip](), list[Clip]()
    for source in sources:
        clips = read_corpus(source)
        parts = split_clips(clips, config.seed, config.split_by)
        train += parts[0]
        valid += parts[1]
        others = len(clips) - len(parts[0]) - len(parts[1])
        print(f"{source}: {len(clips)} clips" + (f", {others} of them of other splits" if others else ""), flush=True)
    if train and not valid:
        print(f"no clip is of the split dev: a tenth is held out, by {config.split_by}", flush=True)
        return split_clips([dataclasses.replace(clip, split="") for clip in train], config.seed, config.split_by)
    return train, valid


def _vocabulary(config: Config, texts: Sequence[str]) -> tuple[str, ...]:
    """The configured one, or the transcripts' own alphabet where none is, and the letter groups asked for."""
    vocab = config.vocab or (BLANK, *alphabet(texts))
    if not config.vocab:
        print(f"vocabulary: {' '.join(vocab[2:])}", flush=True)
    found = letter_groups(texts, config.groups) if config.groups else []
    return (*vocab, *(group for group in found if set(group) <= set(vocab) and group not in vocab))


def _reasons(dropped: Sequence[tuple[Clip, str]]) -> str:
    counts = Counter(reason for _, reason in dropped)
    listed = ", ".join(f"{count} with {reason}" for reason, count in counts.most_common())
    return f"; dropped {len(dropped)}: {listed}" if dropped else ""


def start(folder: Path, cluster: Sequence[str], ranks: Sequence[int]) -> None:
    """Fit in processes that share gradients: those of `ranks` run here; returns when all are done.

    cluster: HOST:PORT of every worker. DataError when one fails.
    """
    commands = [[sys.executable, "-m", "train.run", str(folder), ",".join(cluster), str(rank)] for rank in ranks]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers end with it
    threads = {"OMP_NUM_THREADS": "1"}
    if load_config(folder / "config.json").network == "tutorial":
        threads["TF_ENABLE_ONEDNN_OPTS"] = "0"  # with it a step can take minutes: its gradient of wide strided kernels
    processes = [subprocess.Popen(c, env=os.environ | threads) for c in commands]
    try:
        while any(p.poll() is None for p in processes) and not any(p.poll() for p in processes):
            time.sleep(0.2)
        failed = any(p.poll() for p in processes)  # then the others wait for it in vain
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    if failed:
        raise DataError(
            f"training in {folder} stopped with an error, see above; the same command goes on from its checkpoint"
        )


def work(folder: Path, cluster: Sequence[str], rank: int) -> None:
    """One worker process."""
    from train.batch import Data
    from train.fit import fit
    from train.workers import join

    config = load_config(folder / "config.json")
    workers = join(cluster, rank)
    told = json.loads((folder / "data.json").read_text())
    cache = FeatureCache(Path(told["cache"]), config.features)
    noises = [Path(p) for p in told["noises"]]
    clips = {name: read_corpus(folder / f"{name}.csv") for name in ("train", "val")}
    wanted = [c.path for name in clips for c in clips[name]] + noises
    frames = cache.known(wanted)
    if len(frames) < len(set(wanted)):
        raise SystemExit(f"recordings of {folder} changed or went since it began: begin a new run with another --out")
    train, valid = (examples(clips[name], frames, config.vocab, subsampling(config))[0] for name in clips)
    fit(config, Data(train, valid, [cache.get(p) for p in noises], cache), folder, workers)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    try:
        work(Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]))
    except DataError as error:
        sys.exit(f"Error: {error}")
