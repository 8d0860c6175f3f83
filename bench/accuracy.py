"""This project and its peers on the same clips: error rate, speed, memory and size; one command.

    python -m bench.accuracy CORPUS [--clips 100] [--python PATH] [--vosk FOLDER] [--moonshine FOLDER]

Each recogniser has a process of its own, on one core; those that are not installed are listed. Texts are compared as
the Whisper paper does (numbers, contractions) where whisper-normalizer is installed, else in lower case without
punctuation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.options import options
from bench.peers import RATE
from train import recordings
from train.command import FOLDER, Command
from train.data import Clip, DataError
from train.progress import Progress
from train.text import error_rate, normalise

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Result:
    """What one recogniser made of all clips; `error` says why there is nothing else."""

    texts: tuple[str, ...] = ()
    cpu_seconds: float = 0.0
    memory_mb: float = 0.0
    size_mb: float = 0.0
    error: str = ""


def write_clips(clips: Sequence[Clip], folder: Path) -> tuple[list[Clip], float]:
    """The clips that can be read, as files of 16-bit samples for all recognisers alike, and their seconds."""
    kept, seconds = [], 0.0
    for clip, samples in recordings.read(clips, RATE, "clips"):
        scaled = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
        scaled.tofile(folder / f"{len(kept):06d}")
        kept.append(clip)
        seconds += len(samples) / RATE
    return kept, seconds


def run(command: Sequence[str], title: str, count: int) -> Result:
    """One recogniser over all clips, in a process of its own."""
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    answers: dict[str, Any] = {}
    texts: list[str] = []
    with (
        Progress(title, count) as progress,
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as p,
    ):
        assert p.stdout is not None
        for line in p.stdout:
            answer = json.loads(line)
            if "text" in answer:
                texts.append(answer["text"])
                progress.step()
            answers |= answer
        if p.wait() or (len(texts) != count and "error" not in answers):
            log.seek(0)
            answers["error"] = f"it ended with {p.returncode}: {''.join(log.read().strip().splitlines()[-1:])}"
    if "error" in answers:
        return Result(error=answers["error"])
    return Result(tuple(texts), answers["cpu_seconds"], answers["memory_mb"], answers["bytes"] / 1e6)


def table(results: Mapping[str, Result], clips: Sequence[Clip], seconds: float) -> str:
    """The figures as Markdown, and below them why a recogniser has none."""
    same, how = comparable()
    lines = [f"| {len(clips)} clips, {seconds / 3600:.2f} h | WER % | CPU s per audio s | memory MB | models MB |"]
    lines.append("|---|---|---|---|---|")
    for name, r in results.items():
        if not r.error:
            pairs = [(same(c.text).split(), same(text).split()) for c, text in zip(clips, r.texts, strict=True)]
            rates = f"{100 * error_rate(pairs):.1f} | {r.cpu_seconds / max(seconds, 1e-9):.3f}"
            lines.append(f"| {name} | {rates} | {r.memory_mb:.0f} | {r.size_mb:.1f} |")
    left = [f"- {name} was left out: {r.error}" for name, r in results.items() if r.error]
    return "\n".join([*lines, "", f"Texts were compared {how}.", *left])


def comparable() -> tuple[Callable[[str], str], str]:
    """How texts are made comparable, and its name."""
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError:
        return normalise, "in lower case without punctuation: numbers in digits count as wrong"
    return EnglishTextNormalizer(), "by Whisper's English normaliser"


@click.command(cls=Command)
@options
@click.option("--vosk", type=FOLDER, help="Folder of a Vosk model.")
@click.option("--moonshine", type=FOLDER, help="Folder with encoder_model.onnx and decoder_model_merged.onnx.")
@click.option("--whisper", type=FOLDER, help="Folder of a faster-whisper model.")
@click.option("--python", default=sys.executable, help="The Python in which the peers are installed.  [default: this]")
@click.option("--out", type=FOLDER, help="A folder for what each heard: PATH<TAB>TEXT.")
def main(
    corpora: tuple[Path, ...],
    name: str | None,
    lm: str | None,
    split: str,
    clips: int | None,
    seed: int,
    python: str,
    out: Path | None,
    **folders: Path | None,
) -> None:
    """Compare this project with the recognisers that are installed, on the same clips of CORPORA."""
    runs = {
        "asr-stream": [sys.executable, "ours", name or "", lm or ""],
        "asr-stream, greedy": [sys.executable, "ours", name or "", "none"],
        "pocketsphinx": [python, "pocketsphinx"],
        **{peer: [python, peer, str(folder)] for peer, folder in folders.items() if folder},
    }
    chosen = recordings.choose(corpora, split, clips, seed)
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as place:
        kept, seconds = write_clips(chosen, Path(place))
        for title, (interpreter, peer, *models) in runs.items():
            script = str(Path(__file__).with_name("peers.py"))
            results[title] = run([interpreter, script, peer, place, *models], title, len(kept))
            if peer == "ours" and results[title].error:
                raise DataError(results[title].error)
            if out and not results[title].error:
                heard = zip(kept, results[title].texts, strict=True)
                recordings.write_texts(out / f"{title.replace(', ', '-')}.tsv", heard, corpora)
    results |= {peer: Result(error=f"give its model with --{peer}") for peer, folder in folders.items() if not folder}
    click.echo(table(results, kept, seconds))


if __name__ == "__main__":
    main()
