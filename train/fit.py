"""Training: CTC loss over lazily read batches; warm-up and cosine; the best weights by CER; goes on after a kill."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np

from train import backends, network
from train.batch import Data, Item, assemble, epoch_batches, statistics
from train.blend import blend
from train.board import Board, open_board, sentence
from train.checkpoint import load_checkpoint, save_checkpoint
from train.config import Config
from train.data import DataError
from train.phrases import known_pauses
from train.targets import targets
from train.validate import validate
from train.weights import begin_from, load_source
from train.workers import Workers

WARM_UP = 0.05  # part of a short run after which the warm-up is over, however few its steps
PLATEAU = 2  # validations without a better CER after which the plateau schedule halves the learning rate


@dataclass(slots=True)
class Progress:
    """How far a run is; travels in the checkpoint."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    step: int = 0
    seconds: float = 0.0
    audio_hours: float = 0.0
    best_cer: float = 9.0
    stale: int = 0  # validations since the best one
    scale: float = 1.0  # of the learning rate, where plateaus lower it

    def part(self, config: Config, batches_per_epoch: int) -> float:
        """Share of the run that is done, by whichever limit is nearer."""
        if config.patience and self.stale >= config.patience:
            return 1.0
        return max(self.step / (config.epochs * batches_per_epoch), self.seconds / 3600 / config.hours)

    def heard(self, cer: float) -> None:
        """Take note of a validation: whether it is the best so far, and how long ago that was."""
        self.stale = 0 if cer <= self.best_cer else self.stale + 1
        self.best_cer = min(cer, self.best_cer)
        if self.stale and self.stale % PLATEAU == 0:
            self.scale /= 2


def learning_rate(config: Config, progress: Progress, part: float) -> float:
    """Linear warm-up, then a cosine from the peak to 1 % of it over the run, or what plateaus have left of it."""
    peak = config.learning_rate * min(1.0, max((progress.step + 1) / config.warmup_steps, part / WARM_UP))
    if config.schedule == "plateau":
        return peak * progress.scale
    return float(peak * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(part, 1.0)))))


def fit(config: Config, data: Data, folder: Path, workers: Workers) -> None:
    """Train until the configured end, from the checkpoint in `folder` when there is one."""
    keras.utils.set_random_seed(config.seed + workers.rank)
    learner = Learner(config, data, workers)
    if (folder / "checkpoint.npz").exists():
        learner.progress = Progress(**load_checkpoint(folder / "checkpoint.npz", learner.net, learner.optimizer))
    elif config.init:
        begin_from(load_source(Path(config.init)), learner.net, config.vocab)
    if config.cut:
        if tuple(load_source(Path(config.init)).vocab) != config.vocab:
            raise DataError("--cut needs a model to begin from that has the same letters and groups: leave it out")
        data = replace(data, pauses=known_pauses(folder / "pauses.json", learner.net, data.train, data.cache, config))
    if workers.agree(learner.progress.step) != learner.progress.step:
        raise SystemExit(f"the first worker is at another step: copy its run folder to {folder} and begin all again")
    workers.copy_weights(learner.net)
    report = Report(folder, learner, open_board(folder)) if workers.rank == 0 else None
    progress = learner.progress
    per_epoch = sum(1 for _ in epoch_batches(config, data, 0, workers.size))
    if not per_epoch:
        raise SystemExit(f"too little data for {workers.size} workers: give fewer --workers or smaller --batch-frames")
    part = workers.agree(progress.part(config, per_epoch))
    if progress.step and part >= 1:
        print("this run is complete: to go on, give more --hours, --epochs or --patience", flush=True)
    while part < 1:
        for n, group in enumerate(epoch_batches(config, data, progress.epoch, workers.size)):
            if n < progress.batch:
                continue
            loss = learner.step(group[workers.rank], part)
            if report:
                report.after_step(loss, progress.part(config, per_epoch))
            progress.scale, part = workers.agree(progress.scale), workers.agree(progress.part(config, per_epoch))
            if part >= 1:
                break
        else:
            progress.epoch, progress.batch = progress.epoch + 1, 0
    if report and config.init:
        _blend(learner, folder)


def _blend(learner: Learner, folder: Path) -> None:
    """Keep of a fine-tuned model's best weights as much as validation prefers, if the tokens are the same."""
    config, path = learner.config, Path(learner.config.init)
    if not path.exists() or tuple((source := load_source(path)).vocab) != config.vocab:
        return
    load_checkpoint(folder / "best.npz", learner.net)
    part, cer = blend(learner.net, source.weights, lambda: validate(learner.net, learner.data, config)[0])
    save_checkpoint(folder / "best.npz", learner.net)
    print(f"kept {100 * part:.0f} % of the way from {path.name}: CER {100 * cer:.2f} %", flush=True)


class Learner:
    """A network with its optimizer and progress: what a training step changes."""

    def __init__(self, config: Config, data: Data, workers: Workers) -> None:
        self.config, self.data, self.workers = config, data, workers
        self.net = network.build(config)
        self.net.get_layer("norm").set(*statistics(data))
        self.optimizer = backends.optimizer(self.net, config)
        self.rate = config.learning_rate
        self.gradients = backends.gradients(self.net, config)
        self.progress = Progress()

    def step(self, items: Sequence[Item], part: float) -> float:
        """One update from one batch; returns its mean loss per clip."""
        started, progress, config = time.monotonic(), self.progress, self.config
        rng = np.random.default_rng((config.seed, progress.step, self.workers.rank))
        varied = min(1.0, part / config.ease) if config.ease else 1.0
        x, labels, frames, lengths = assemble(items, self.data, config, rng, varied)
        loss, found = self.gradients(x, frames, targets(labels, lengths, config))
        self.rate = learning_rate(config, progress, part)
        self.optimizer.apply(self.workers.mean(found), self.rate)
        progress.step += 1
        progress.batch += 1
        progress.seconds += time.monotonic() - started
        spec = config.features
        progress.audio_hours += self.workers.size * x.shape[0] * x.shape[1] * spec.frame_shift / spec.sample_rate / 3600
        return loss


@dataclass(slots=True)
class Report:
    """Tells a person, log.csv and TensorBoard how a run goes, and saves its checkpoints."""

    folder: Path
    learner: Learner
    board: Board | None = None
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
        cer, wer, heard = validate(learner.net, learner.data, learner.config)
        example, words = heard[len(heard) // 2]
        told = f"{sentence(words)!r} for {example.clip.text!r}"
        print(f"validation: CER {100 * cer:.2f} %  WER {100 * wer:.2f} %  {told}", flush=True)
        row = [progress.step, progress.epoch, round(progress.seconds), round(progress.audio_hours, 2)]
        row += [round(float(np.mean(self.losses)), 4), float(f"{learner.rate:.2e}"), round(cer, 4), round(wer, 4)]
        self._log(row)
        progress.heard(cer)
        if not progress.stale:
            save_checkpoint(self.folder / "best.npz", learner.net)
        save_checkpoint(self.folder / "checkpoint.npz", learner.net, learner.optimizer, progress)
        if self.board:
            figures = dict(zip(self.columns, row, strict=True))
            self.board.validated(figures, heard, learner.config, learner.data.cache.get)

    def _log(self, row: Sequence[object]) -> None:
        path = self.folder / "log.csv"
        begun = path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([row] if begun else [self.columns, row])
