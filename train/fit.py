"""Training: lazily read, augmented, bucketed batches; CTC loss; warm-up and cosine; the best checkpoint by CER."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from train import backends, network
from train.augment import augment
from train.cache import FeatureCache
from train.checkpoint import load_checkpoint, save_checkpoint
from train.config import Config
from train.data import Example, batches
from train.text import error_rate

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Data:
    """What a run learns from: examples with features in the cache, and stretches of noise."""

    train: Sequence[Example]
    valid: Sequence[Example]
    noises: Sequence[Floats]
    cache: FeatureCache


@dataclass(slots=True)
class Progress:
    """How far a run is; travels in the checkpoint."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    step: int = 0
    seconds: float = 0.0
    audio_hours: float = 0.0
    best_cer: float = 9.0

    def part(self, config: Config, steps_per_epoch: float) -> float:
        """Share of the run that is done, by whichever limit is nearer."""
        return max(self.step / (config.epochs * steps_per_epoch), self.seconds / 3600 / config.hours)


def learning_rate(config: Config, step: int, part: float) -> float:
    """Linear warm-up, then a cosine from the peak to 1 % of it over the run."""
    warmup = min(1.0, (step + 1) / config.warmup_steps)
    return config.learning_rate * warmup * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(part, 1.0))))


def fit(config: Config, data: Data, folder: Path, rank: int = 0, workers: int = 1) -> None:
    """Train until the configured end, from the checkpoint in `folder` when there is one."""
    keras.utils.set_random_seed(config.seed + rank)
    net = network.build(config)
    net.get_layer("norm").set(*statistics(data))
    optimizer = keras.optimizers.AdamW(
        config.learning_rate, weight_decay=config.weight_decay, global_clipnorm=config.clip_norm
    )
    optimizer.build(net.trainable_variables)
    progress = Progress()
    if (folder / "checkpoint.npz").exists():
        progress = Progress(**load_checkpoint(folder / "checkpoint.npz", net, optimizer))
    gradients = backends.gradients(net, config)
    log = Log(folder / "log.csv") if rank == 0 else None
    shown = validated = time.monotonic()
    losses: list[float] = []
    per_epoch = sum(1 for _ in epoch_batches(config, data, 0, workers))
    while (part := backends.agree(progress.part(config, per_epoch))) < 1:
        for n, group in enumerate(epoch_batches(config, data, progress.epoch, workers)):
            if n < progress.batch:
                continue
            started = time.monotonic()
            rng = np.random.default_rng((config.seed, progress.step, rank))
            x, *labels = assemble(group[rank], data, config, rng)
            loss, found = gradients(x, *labels)
            optimizer.learning_rate.assign(learning_rate(config, progress.step, part))
            optimizer.apply(found)
            losses.append(loss)
            progress.step += 1
            progress.batch += 1
            progress.seconds += time.monotonic() - started
            progress.audio_hours += workers * x.shape[0] * x.shape[1] * config.features.frame_shift / config.features.sample_rate / 3600
            part = backends.agree(progress.part(config, per_epoch))
            now = time.monotonic()
            if log and now - shown > 20:
                print(f"step {progress.step} ({100 * part:.1f} %)  loss {np.mean(losses):.3f}  {progress.audio_hours:.1f} h of audio in {progress.seconds / 3600:.2f} h", flush=True)
                shown = now
            if log and (now - validated > 60 * config.validate_every_minutes or part >= 1):
                cer, wer, example = validate(net, data, config)
                print(f"  validation CER {100 * cer:.2f} %  WER {100 * wer:.2f} %  {example}", flush=True)
                log.write(progress, float(np.mean(losses)), float(optimizer.learning_rate), cer, wer)
                if cer <= progress.best_cer:
                    progress.best_cer = cer
                    save_checkpoint(folder / "best.npz", net)
                save_checkpoint(folder / "checkpoint.npz", net, optimizer, progress)
                losses, validated = [], time.monotonic()
            if part >= 1:
                break
        else:
            progress.epoch, progress.batch = progress.epoch + 1, 0


def epoch_batches(config: Config, data: Data, epoch: int, workers: int) -> Iterator[list[list[tuple[Example, ...]]]]:
    """The batches of one epoch, the same for the same seed; clips are drawn by the weight of their corpus."""
    rng = np.random.default_rng((config.seed, epoch))
    weights = [config.weights.get(e.clip.corpus, 1.0) for e in data.train]
    counts = np.floor(np.array(weights) + rng.random(len(weights))).astype(int)
    drawn = [e for e, count in zip(data.train, counts, strict=True) for _ in range(count)]
    return batches(drawn, config.batch_frames, rng, workers, config.join)


class Log:
    """log.csv: one line per validation, appended across resumed runs."""

    columns = ("step", "epoch", "seconds", "audio_hours", "loss", "learning_rate", "cer", "wer")

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            self._append(self.columns)

    def write(self, progress: Progress, loss: float, rate: float, cer: float, wer: float) -> None:
        """Append one validation."""
        row = (progress.step, progress.epoch, f"{progress.seconds:.0f}", f"{progress.audio_hours:.2f}")
        self._append((*row, f"{loss:.4f}", f"{rate:.2e}", f"{cer:.4f}", f"{wer:.4f}"))

    def _append(self, row: Sequence[object]) -> None:
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(row)


def statistics(data: Data, sample: int = 400) -> tuple[Floats, Floats]:
    """Mean and deviation of every feature over some training clips, shape [width] each."""
    rng = np.random.default_rng(0)
    picked = rng.choice(len(data.train), min(sample, len(data.train)), replace=False)
    frames = np.concatenate([data.cache.get(data.train[i].clip.path) for i in picked])
    return frames.mean(axis=0), frames.std(axis=0)


def assemble(items: Sequence[tuple[Example, ...]], data: Data, config: Config, rng: np.random.Generator) -> tuple[Any, ...]:
    """A padded batch: features [B, T, W], labels [B, L], output frames [B], label lengths [B].

    A streaming network's output lags by right_context frames, so every utterance is followed by as much quiet.
    """
    floor = np.log(config.features.floor) if config.features.kind == "log_mel" else 0.0
    stride = network.subsampling(config)
    xs, ys = [], []
    for item in items:
        parts = [data.cache.get(e.clip.path) for e in item]
        x, y = np.concatenate(parts), join_labels(item, config)
        tail = np.full((config.right_context + int(rng.integers(0, 40)), x.shape[1]), floor, np.float32)
        x = np.concatenate([x, tail])
        if config.augmented and config.features.kind == "log_mel":
            x = augment(x, config.augmentation, config.features, data.noises, rng)
        if len(x) // stride < len(y) + 2:
            x = np.concatenate(parts)  # too fast for CTC: take it as it was recorded
        xs.append(x)
        ys.append(y)
    if data.noises and rng.random() < config.silence * len(items):
        noise = data.noises[rng.integers(len(data.noises))]
        at = rng.integers(max(1, len(noise) - 500))
        xs[-1], ys[-1] = noise[at : at + 500] + np.float32(rng.uniform(-6, 2)), []
    frames = -(-max(map(len, xs)) // stride) * stride
    batch = np.full((len(xs), frames, xs[0].shape[1]), floor, np.float32)
    labels = np.zeros((len(xs), max(1, max(map(len, ys)))), np.int64)
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        batch[i, : len(x)], labels[i, : len(y)] = x, y
    return batch, labels, np.array([len(x) // stride for x in xs]), np.array([len(y) for y in ys])


def join_labels(item: Sequence[Example], config: Config) -> list[int]:
    """The labels of clips spoken one after the other, with a space between them."""
    space = config.vocab.index(" ") if " " in config.vocab else None
    joined: list[int] = []
    for e in item:
        joined += ([space] if joined and space is not None else []) + list(e.labels)
    return joined


def validate(net: keras.Model, data: Data, config: Config) -> tuple[float, float, str]:
    """Greedy CER and WER over the validation clips, and one example to look at."""
    pairs = []
    for batch in predict(net, data, config):
        pairs += batch
    cer = error_rate(pairs)
    wer = error_rate((reference.split(), heard.split()) for reference, heard in pairs)
    reference, heard = pairs[len(pairs) // 2]
    return cer, wer, f"{heard!r} for {reference!r}"


def predict(net: keras.Model, data: Data, config: Config) -> Iterator[list[tuple[str, str]]]:
    """Batches of (reference, greedy transcript)."""
    ordered = sorted(data.valid, key=lambda e: e.frames)
    quiet = np.log(config.features.floor) if config.features.kind == "log_mel" else 0.0
    for at in range(0, len(ordered), 24):
        some = ordered[at : at + 24]
        longest = -(-(some[-1].frames + config.right_context) // 16) * 16
        x = np.full((len(some), longest, config.features.width), quiet, np.float32)
        for row, e in zip(x, some, strict=True):
            row[: e.frames] = data.cache.get(e.clip.path)
        best = keras.ops.convert_to_numpy(run(net, x)).argmax(-1)
        limit = [(e.frames + config.right_context) // network.subsampling(config) for e in some]
        yield [(e.clip.text, collapse(row[:n], config.vocab)) for e, row, n in zip(some, best, limit, strict=True)]


def run(net: keras.Model, x: Floats) -> Any:
    """log_probs without gradients."""
    if keras.backend.backend() != "torch":
        return net(x, training=False)
    import torch

    with torch.no_grad():
        return net(x, training=False)


def collapse(best: NDArray[np.int64], vocab: Sequence[str]) -> str:
    """Greedy CTC of a whole utterance: repeats merged, then blanks (index 0) dropped."""
    kept = best[np.concatenate([[True], best[1:] != best[:-1]])]
    return " ".join("".join(vocab[i] for i in kept if i != 0).split())
