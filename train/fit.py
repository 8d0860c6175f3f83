"""Training: CTC loss over lazily read batches; warm-up and cosine; the best weights by CER; goes on after a kill."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from train import backends, network
from train.batch import Data, Item, assemble, epoch_batches, statistics
from train.checkpoint import load_checkpoint, save_checkpoint
from train.config import Config
from train.validate import validate


@dataclass(slots=True)
class Progress:
    """How far a run is; travels in the checkpoint."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    step: int = 0
    seconds: float = 0.0
    audio_hours: float = 0.0
    best_cer: float = 9.0

    def part(self, config: Config, batches_per_epoch: int) -> float:
        """Share of the run that is done, by whichever limit is nearer."""
        return max(self.step / (config.epochs * batches_per_epoch), self.seconds / 3600 / config.hours)


def learning_rate(config: Config, step: int, part: float) -> float:
    """Linear warm-up, then a cosine from the peak to 1 % of it over the run."""
    warmup = min(1.0, (step + 1) / config.warmup_steps)
    return float(config.learning_rate * warmup * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(part, 1.0)))))


def fit(config: Config, data: Data, folder: Path, rank: int = 0, workers: int = 1) -> None:
    """Train until the configured end, from the checkpoint in `folder` when there is one."""
    keras.utils.set_random_seed(config.seed + rank)
    learner = Learner(config, data, rank, workers)
    if (folder / "checkpoint.npz").exists():
        learner.progress = Progress(**load_checkpoint(folder / "checkpoint.npz", learner.net, learner.optimizer))
    report = Report(folder, learner) if rank == 0 else None
    progress = learner.progress
    per_epoch = sum(1 for _ in epoch_batches(config, data, 0, workers))
    if not per_epoch:
        raise SystemExit(f"too little data for {workers} workers: give fewer --workers or smaller --batch-frames")
    part = backends.agree(progress.part(config, per_epoch))
    while part < 1:
        for n, group in enumerate(epoch_batches(config, data, progress.epoch, workers)):
            if n < progress.batch:
                continue
            loss = learner.step(group[rank], part)
            part = backends.agree(progress.part(config, per_epoch))
            if report:
                report.after_step(loss, part)
            if part >= 1:
                break
        else:
            progress.epoch, progress.batch = progress.epoch + 1, 0


class Learner:
    """A network with its optimizer and progress: what a training step changes."""

    def __init__(self, config: Config, data: Data, rank: int, workers: int) -> None:
        self.config, self.data, self.rank, self.workers = config, data, rank, workers
        self.net = network.build(config)
        self.net.get_layer("norm").set(*statistics(data))
        self.optimizer = keras.optimizers.AdamW(
            config.learning_rate, weight_decay=config.weight_decay, global_clipnorm=config.clip_norm
        )
        self.optimizer.build(self.net.trainable_variables)
        self.gradients = backends.gradients(self.net, config)
        self.progress = Progress()

    def step(self, items: Sequence[Item], part: float) -> float:
        """One update from one batch; returns its mean loss per clip."""
        started, progress, config = time.monotonic(), self.progress, self.config
        rng = np.random.default_rng((config.seed, progress.step, self.rank))
        x, labels, frames, lengths = assemble(items, self.data, config, rng)
        loss, found = self.gradients(x, labels, frames, lengths)
        self.optimizer.learning_rate.assign(learning_rate(config, progress.step, part))
        self.optimizer.apply(found)
        progress.step += 1
        progress.batch += 1
        progress.seconds += time.monotonic() - started
        spec = config.features
        progress.audio_hours += self.workers * x.shape[0] * x.shape[1] * spec.frame_shift / spec.sample_rate / 3600
        return loss


@dataclass(slots=True)
class Report:
    """Tells a person and log.csv how a run goes, and saves its checkpoints."""

    folder: Path
    learner: Learner
    losses: list[float] = field(default_factory=list)
    shown: float = field(default_factory=time.monotonic)
    validated: float = field(default_factory=time.monotonic)

    columns = ("step", "epoch", "seconds", "audio_hours", "loss", "learning_rate", "cer", "wer")

    def after_step(self, loss: float, part: float) -> None:
        """A line every 20 seconds; a validation every few minutes and at the end."""
        self.losses.append(loss)
        progress, now = self.learner.progress, time.monotonic()
        if now - self.shown > 20:
            self.shown = now
            speed = progress.audio_hours / max(progress.seconds / 3600, 1e-9)
            left = progress.seconds / 60 * (1 / max(part, 1e-9) - 1)
            print(
                f"step {progress.step}  {100 * part:.1f} %  loss {np.mean(self.losses):.2f}  "
                f"{speed:.0f} h of audio an hour  {left:.0f} min left",
                flush=True,
            )
        if now - self.validated > 60 * self.learner.config.validate_every_minutes or part >= 1:
            self._validate()
            self.losses, self.validated = [], time.monotonic()

    def _validate(self) -> None:
        learner, progress = self.learner, self.learner.progress
        cer, wer, example = validate(learner.net, learner.data, learner.config)
        print(f"validation: CER {100 * cer:.2f} %  WER {100 * wer:.2f} %  {example}", flush=True)
        rate = float(keras.ops.convert_to_numpy(learner.optimizer.learning_rate))
        told: list[Any] = [progress.step, progress.epoch, round(progress.seconds), round(progress.audio_hours, 2)]
        self._log([*told, round(float(np.mean(self.losses)), 4), f"{rate:.2e}", round(cer, 4), round(wer, 4)])
        if cer <= progress.best_cer:
            progress.best_cer = cer
            save_checkpoint(self.folder / "best.npz", learner.net)
        save_checkpoint(self.folder / "checkpoint.npz", learner.net, learner.optimizer, progress)

    def _log(self, row: Sequence[object]) -> None:
        path = self.folder / "log.csv"
        begun = path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([row] if begun else [self.columns, row])
