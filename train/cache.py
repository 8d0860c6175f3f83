"""Features computed once: a memory-mapped file of float16 frames, keyed by FeatureSpec and recording."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer import features
from streamer.spec import FeatureSpec
from train.progress import Progress

Floats = NDArray[np.float32]

SAVE_EVERY = 2000  # recordings after which a stopped run loses nothing


def read_audio(path: Path, sample_rate: int) -> Floats:
    """A whole recording as mono float32 at `sample_rate`; OSError or RuntimeError when it cannot be read."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = np.ascontiguousarray(samples.mean(axis=1))
    return mono if rate == sample_rate else soxr.resample(mono, rate, sample_rate).astype(np.float32)


class FeatureCache:
    """Frames of many recordings in one file under `folder`; `frames` and `get` answer for what was added."""

    def __init__(self, folder: Path, spec: FeatureSpec) -> None:
        self.spec = spec
        key = hashlib.sha256(repr(spec).encode()).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)
        self._data, self._index_path = folder / f"{key}.f16", folder / f"{key}.json"
        self._index = self._saved()
        self._frames: dict[Path, tuple[int, int]] = {}
        self._map: NDArray[np.float16] | None = None

    def add(self, paths: Iterable[Path], workers: int = 1) -> dict[Path, int]:
        """Compute what is not there yet; returns the frames of every readable recording."""
        paths = list(dict.fromkeys(paths))
        keys = {path: _key(path) for path in paths}
        missing = [path for path in paths if keys[path] and keys[path] not in self._index]
        if missing:
            self._compute(missing, keys, workers)
        return self.known(paths)

    def known(self, paths: Iterable[Path]) -> dict[Path, int]:
        """The frames of those recordings that are there, unchanged; `get` answers for them from now on."""
        found = {path: entry for path in paths if (entry := self._index.get(_key(path), (0, 0)))[1]}
        self._frames |= found
        self._map = None
        return {path: frames for path, (_, frames) in found.items()}

    def get(self, path: Path) -> Floats:
        """Features of a recording that was added, float32 [frames, width]."""
        if self._map is None:
            rows = self._data.stat().st_size // (2 * self.spec.width)  # a run that was killed may leave part of one
            self._map = np.memmap(self._data, np.float16, "r", shape=(rows, self.spec.width))
        at, frames = self._frames[path]
        return self._map[at : at + frames].astype(np.float32)

    def _compute(self, paths: list[Path], keys: dict[Path, str], workers: int) -> None:
        with self._data.open("ab") as file, Progress("features", len(paths)) as progress:
            fcntl.flock(file, fcntl.LOCK_EX)  # one run at a time adds to it
            self._index |= self._saved()
            at = max((start + frames for start, frames in self._index.values()), default=0)
            file.truncate(at * self.spec.width * 2)  # drop what a stopped run wrote and did not index
            with ProcessPoolExecutor(workers) as pool:
                found = pool.map(partial(_features, spec=self.spec), paths, chunksize=32)
                for path, frames in zip(paths, found, strict=True):
                    file.write(frames.tobytes())
                    self._index[keys[path]] = (at, len(frames))
                    at += len(frames)
                    progress.step()
                    if progress.done % SAVE_EVERY == 0 or progress.done == progress.total:
                        file.flush()
                        self._save()

    def _saved(self) -> dict[str, tuple[int, int]]:
        if not self._index_path.exists():
            return {}
        return {key: (at, frames) for key, (at, frames) in json.loads(self._index_path.read_text()).items()}

    def _save(self) -> None:
        part = self._index_path.with_suffix(".part")
        part.write_text(json.dumps(self._index))
        part.replace(self._index_path)


def _key(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"


def _features(path: Path, spec: FeatureSpec) -> NDArray[np.float16]:
    """Features of one recording; no frames when it cannot be read."""
    try:
        samples = read_audio(path, spec.sample_rate)
    except (OSError, RuntimeError, TypeError, ValueError):
        samples = np.zeros(0, np.float32)
    return features.compute(samples, spec).astype(np.float16)
