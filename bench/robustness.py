"""Error rates when the sound is not clean: noise, a room, a telephone, other speeds and levels; one command.

    python -m bench.robustness CORPUS [--clips 100] [--noise FOLDER]

Every clip is changed in the same way for the same seed, and goes through the path that asr-stream serves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np

from bench.noise import read_noise
from bench.options import open_model, options
from streamer.recognizer import Floats
from train import recordings
from train.command import EXISTING, Command, need
from train.evaluate import transcribe
from train.text import error_rate

Change = Callable[[Floats, np.random.Generator], Floats]


def conditions(noise: Floats, rate: int) -> dict[str, Change]:
    """What is done to a clip, by name."""
    from bench import distort

    noisy: dict[str, Change] = {
        f"noise at {db} dB": partial(lambda x, rng, db: distort.add_noise(x, noise, db, rng), db=db)
        for db in (20, 10, 5, 0)
    }
    return {
        "as it is": lambda x, _: x,
        **noisy,
        f"reverberation, {distort.DECAY_SECONDS} s": lambda x, rng: distort.reverberate(x, rate, rng),
        "telephone, 300 to 3400 Hz": lambda x, _: distort.telephone(x, rate),
        "0.8 × speed (resampled: lower too)": lambda x, _: distort.change_speed(x, 0.8),
        "1.25 × speed (resampled: higher too)": lambda x, _: distort.change_speed(x, 1.25),
        "quiet, −30 dB": lambda x, _: distort.amplify(x, -30),
        "clipped, 10 dB too loud": lambda x, _: distort.clip(x, 10),
    }


@click.command(cls=Command)
@options
@click.option("--noise", type=EXISTING, help="Recordings to add as noise.  [default: pink noise]")
def main(
    corpora: tuple[Path, ...],
    name: str | None,
    lm: str | None,
    split: str,
    clips: int | None,
    seed: int,
    noise: Path | None,
) -> None:
    """Word error rates on CORPORA under conditions that are worse than those they were recorded in."""
    need("train", "scipy")
    from bench.distort import pink_noise

    model = open_model(name, lm)
    rate = model.spec.features.sample_rate
    sound = read_noise(noise, rate) if noise else pink_noise(60 * rate, np.random.default_rng(seed))
    changes = conditions(sound, rate)
    heard: dict[str, list[tuple[list[str], list[str]]]] = {name: [] for name in changes}
    chosen = recordings.choose(corpora, split, clips, seed)
    for n, (clip, samples) in enumerate(recordings.read(chosen, rate, "clips")):
        for condition, change in changes.items():
            text = transcribe(model, change(samples, np.random.default_rng((seed, n))))
            heard[condition].append((clip.text.split(), text.split()))
    rates = {condition: 100 * error_rate(pairs) for condition, pairs in heard.items()}
    click.echo(f"| {len(chosen)} clips | WER % | worse by |\n|---|---|---|")
    for condition, wer in rates.items():
        click.echo(f"| {condition} | {wer:.1f} | {wer - rates['as it is']:+.1f} |")


if __name__ == "__main__":
    main()
