"""A training run from corpora to run folder: prepare the data, start the workers, fit."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from train.cache import FeatureCache
from train.config import Config, load_config, subsampling
from train.data import Clip, DataError, Example, examples, read_corpus, split_clips
from train.text import letter_groups


def prepare(config: Config, sources: Sequence[Path], noise: Path | None, cache: Path, folder: Path) -> None:
    """Read corpora, compute missing features, say what was dropped, and write the run folder's data.json."""
    train: list[Clip] = []
    valid: list[Clip] = []
    for source in sources:
        clips = read_corpus(source)
        parts = split_clips(clips, config.seed)
        train += parts[0]
        valid += parts[1]
        others = len(clips) - len(parts[0]) - len(parts[1])
        print(f"{source}: {len(clips)} clips" + (f", {others} of them of other splits" if others else ""), flush=True)
    if config.groups:
        found = letter_groups((clip.text for clip in train), config.groups)
        config = dataclasses.replace(config, vocab=(*config.vocab, *found))
    features = FeatureCache(cache, config.features)
    noises = sorted(p for p in noise.iterdir() if p.is_file()) if noise else []
    cores = os.cpu_count() or 1
    frames = features.add([c.path for c in [*train, *valid]] + noises, cores)
    told: dict[str, object] = {
        "cache": str(cache.resolve()),
        "noises": [str(p.resolve()) for p in noises if p in frames],
    }
    for name, clips in (("train", train), ("valid", valid)):
        kept, dropped = examples(clips, frames, config.vocab, subsampling(config))
        hours = sum(e.frames for e in kept) * config.features.frame_shift / config.features.sample_rate / 3600
        print(f"{name}: {len(kept)} clips, {hours:.2f} h{_reasons(dropped)}", flush=True)
        if not kept:
            raise DataError(f"no {name} clips are left: give a manifest with a split column (train, dev) or more data")
        told[name] = [[str(e.clip.path.resolve()), e.clip.text, e.clip.corpus, list(e.labels), e.frames] for e in kept]
    folder.mkdir(parents=True, exist_ok=True)
    config.dump(folder / "config.json")
    (folder / "data.json").write_text(json.dumps(told))


def _reasons(dropped: Counter[str]) -> str:
    listed = ", ".join(f"{count} with {reason}" for reason, count in dropped.most_common())
    return f"; dropped {sum(dropped.values())}: {listed}" if dropped else ""


def start(folder: Path, workers: int) -> None:
    """Fit in `workers` processes that share gradients; returns when all are done, DataError when one fails."""
    with tempfile.TemporaryDirectory() as place:
        commands = [
            [sys.executable, "-m", "train.run", str(folder), str(rank), str(workers), f"{place}/meeting"]
            for rank in range(workers)
        ]
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers end with it
        processes = [subprocess.Popen(c, env=os.environ | {"OMP_NUM_THREADS": "1"}) for c in commands]
        try:
            failed = [p.wait() for p in processes]
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
    if any(failed):
        raise DataError(
            f"training in {folder} stopped with an error, see above; the same command goes on from its checkpoint"
        )


def work(folder: Path, rank: int, workers: int, meeting_place: Path) -> None:
    """One worker process."""
    import keras

    from train import backends
    from train.batch import Data
    from train.fit import fit

    config = load_config(folder / "config.json")
    if keras.backend.backend() == "torch":
        backends.join_workers(rank, workers, meeting_place)
    told = json.loads((folder / "data.json").read_text())
    cache = FeatureCache(Path(told["cache"]), config.features)
    train, valid = (
        [Example(Clip(Path(p), text, corpus=corpus), tuple(labels), n) for p, text, corpus, labels, n in told[kind]]
        for kind in ("train", "valid")
    )
    noises = [Path(p) for p in told["noises"]]
    wanted = [e.clip.path for e in [*train, *valid]] + noises
    if len(cache.known(wanted)) < len(set(wanted)):
        raise SystemExit(f"recordings of {folder} changed or went since it began: begin a new run with another --out")
    fit(config, Data(train, valid, [cache.get(p) for p in noises], cache), folder, rank, workers)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
