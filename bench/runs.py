"""Trainings to compare: `asr-train` started side by side, its CPU time, its log, and what the model then hears."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


def asr_train(*arguments: object) -> tuple[str, float]:
    """What `asr-train` prints, and the CPU hours of it and its workers; ends the program when it fails."""
    command = [sys.executable, "-m", "train.cli", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as run:
        assert run.stdout is not None
        told = run.stdout.read()
        _, status, used = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
    if run.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{told}")
    return told, (used.ru_utime + used.ru_stime) / 3600


@dataclass(frozen=True, slots=True)
class Trained:
    """A run that has ended: its folder, CPU hours, and (seconds, audio hours, CER) of each validation."""

    folder: Path
    cpu_hours: float
    log: list[tuple[float, float, float]]

    def cpu_hours_to(self, cer: float) -> float | None:
        """CPU hours until validation was that good, if it ever was."""
        seconds = next((seconds for seconds, _, found in self.log if found <= cer), None)
        return None if seconds is None else self.cpu_hours * seconds / self.log[-1][0]


def fit(corpora: Sequence[Path], folder: Path, cache: Path, minutes: float, *options: object) -> Trained:
    """Train for so many minutes, with ten validations on the way; a run that has ended is not made again."""
    done = folder / "cpu_hours.txt"
    if not done.exists():
        limits = ["--hours", minutes / 60, "--epochs", 1e6, "--validate-every-minutes", minutes / 10]
        _, cpu = asr_train("fit", *corpora, "--out", folder, "--cache", cache, *limits, *options)
        done.write_text(str(cpu))
    with (folder / "log.csv").open() as file:
        rows = csv.DictReader(file)
        log = [(float(row["seconds"]), float(row["audio_hours"]), float(row["cer"])) for row in rows]
    return Trained(folder, float(done.read_text()), log)


def error_rates(model: Path, corpus: Path, split: str, *options: object) -> dict[str, tuple[float, float]]:
    """WER and CER in percent of each corpus of a manifest and of "all", and under "" the CPU seconds per second."""
    told, _ = asr_train("evaluate", model, corpus, "--split", split, *options)
    lines = told.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("corpus "))
    found = dict[str, tuple[float, float]]()
    for line in lines[start + 1 :]:
        if "CPU seconds per second" in line:
            found[""] = (float(line.split()[0]), 0.0)
        elif len(words := line.split()) == 5 and not line.startswith("expected"):
            found[words[0]] = (float(words[3]), float(words[4]))
    return found


def side_by_side(tasks: Iterable[Callable[[], object]], cores: int) -> list[object]:
    """The results of all tasks, so many at a time: a process for each core."""
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(lambda task: task(), tasks))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
