"""The command `asr-train`: parse, build, run; nothing else. The backend is chosen before Keras is imported."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

import click

from train.data import DataError

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING = click.Path(path_type=Path, exists=True)
POSITIVE = click.FloatRange(min=0, min_open=True)
CORES = os.cpu_count() or 1


class Command(click.Command):
    """A command whose DataErrors are one sentence on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DataError as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            sys.exit(130)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train, export and measure the models that asr-stream serves.

    \b
      asr-train fit LJSpeech-1.1 --out runs/mine --hours 2
      asr-train export runs/mine mine.onnx
      asr-stream --model mine.onnx --mic
    """


@main.command(cls=Command)
@click.argument("corpora", nargs=-1, required=True, type=EXISTING)
@click.option("--out", "folder", required=True, type=FOLDER, help="The run folder; an interrupted run goes on from it.")
@click.option("--network", type=click.Choice(["streaming", "tutorial"]), default="streaming", show_default=True)
@click.option("--size", type=click.Choice(["small", "base", "large"]), default="base", show_default=True)
@click.option(
    "--groups", type=click.IntRange(0, 2000), default=0, help="Letter groups in the vocabulary, besides letters."
)
@click.option("--epochs", type=POSITIVE, default=60, show_default=True)
@click.option("--hours", type=POSITIVE, default=1e9, help="End after so many hours of training time, wherever it is.")
@click.option("--learning-rate", type=float, default=1e-3, show_default=True)
@click.option("--batch-frames", type=click.IntRange(100), default=10_000, show_default=True, help="Frames in a batch.")
@click.option(
    "--weight", "weights", multiple=True, metavar="CORPUS=W", help="How often an epoch hears each clip of it."
)
@click.option("--noise", type=EXISTING, help="Recordings of noise to mix in; coloured noise is made in any case.")
@click.option("--augment", type=click.Choice(["heavy", "light", "none"]), default="light", show_default=True)
@click.option("--dropout", type=click.FloatRange(0, 0.9), default=0.05, show_default=True)
@click.option("--backend", type=click.Choice(["tensorflow", "torch"]), default="tensorflow", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes (torch only).")
@click.option("--bf16", is_flag=True, help="Mixed precision (torch only).")
@click.option("--validate-every-minutes", type=float, default=5.0, show_default=True)
@click.option("--cache", type=FOLDER, default=Path("data/features"), show_default=True, help="Where features are kept.")
@click.option("--seed", type=int, default=1, show_default=True)
def fit(
    corpora: tuple[Path, ...],
    folder: Path,
    noise: Path | None,
    backend: str,
    workers: int,
    cache: Path,
    weights: tuple[str, ...],
    **settings: object,
) -> None:
    """Train on CORPORA: CSV manifests (path, text; optional split, speaker, corpus) or LJSpeech-style folders.

    Into a run folder that exists, training goes on: with the corpora and noises it began with, and all other
    settings as they were unless they are given anew.
    """
    if backend != "torch" and (workers > 1 or settings["bf16"]):
        raise click.UsageError("--workers and --bf16 need --backend torch")
    _need("train", "keras", "tensorflow")
    if backend == "torch":
        _need("torch", "torch")
    os.environ["KERAS_BACKEND"] = backend
    from train.config import Config, load_config
    from train.run import prepare, start

    if (folder / "data.json").exists():
        saved = load_config(folder / "config.json")
        given = {k: v for k, v in settings.items() if _was_given(k) and v != getattr(saved, k)}
        if weights:
            given["weights"] = _weights(weights)
        if {"network", "size", "groups"} & set(given):
            raise DataError(f"{folder} is a run of another network: choose another --out")
        click.echo(f"going on with {folder}" + "".join(f", {k} now {v}" for k, v in given.items()))
        dataclasses.replace(saved, **given).dump(folder / "config.json")
    else:
        features = {"features": tutorial_features()} if settings["network"] == "tutorial" else {}
        config = Config(weights=_weights(weights), **features, **settings)  # type: ignore[arg-type]
        prepare(config, corpora, noise, cache, folder)
    start(folder, workers)


def _need(extra: str, *modules: str) -> None:
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise DataError(f"{name} is not installed: type  pip install 'asr-stream[{extra}]'")


def _was_given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def tutorial_features() -> object:
    """The tutorial's spectrogram: 256-sample frames every 160 samples, FFT of 384, at our sample rate."""
    from streamer.spec import FeatureSpec

    return FeatureSpec("spectrogram", frame_length=256, frame_shift=160, fft_size=384)


def _weights(given: tuple[str, ...]) -> dict[str, float]:
    try:
        return {name: float(weight) for name, weight in (pair.split("=") for pair in given)}
    except ValueError:
        raise click.UsageError(f"--weight wants CORPUS=NUMBER, not {' '.join(given)}") from None


@main.command(cls=Command)
@click.argument("run", type=EXISTING)
@click.argument("out", type=FILE)
@click.option("--name", help="What the model calls itself.  [default: the file's name]")
@click.option("--int8", is_flag=True, help="Quantise the LSTM and matrix weights, per channel: a third of the size.")
def export(run: Path, out: Path, name: str | None, int8: bool) -> None:
    """Write the best weights of a RUN as one self-describing ONNX file."""
    _need("train", "keras", "tensorflow", "tf2onnx", "onnx")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    from train.export import export as write

    spec = write(run, out, name or out.stem, int8)
    click.echo(f"{out}: {spec.kind}, {len(spec.vocab)} tokens, {out.stat().st_size / 1e6:.1f} MB")


@main.command(cls=Command)
@click.argument("model", type=EXISTING)
@click.argument("corpora", nargs=-1, required=True, type=EXISTING)
@click.option("--split", default="test", show_default=True, help="Which split of the manifests.")
@click.option("--out", type=FILE, help="Write PATH<TAB>TEXT for every clip.")
@click.option("--worst", type=int, default=0, help="List so many of the worst clips.")
def evaluate(model: Path, corpora: tuple[Path, ...], split: str, out: Path | None, worst: int) -> None:
    """Word and character error rates of MODEL over CORPORA, through the path that asr-stream serves."""
    from train.evaluate import evaluate as measure

    measure(model, corpora, split, out, worst)


@main.command(cls=Command)
@click.argument("texts", nargs=-1, required=True, type=EXISTING)
@click.option("--out", required=True, type=FOLDER, help="Folder for the recordings and their manifest.csv.")
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="How many sentences.")
@click.option("--engine", "engines", multiple=True, help="Only these synthesisers.  [default: all that are installed]")
@click.option("--exclude", multiple=True, help="Beginnings of ids to leave out of an LJSpeech-style .csv.")
@click.option("--workers", type=click.IntRange(1), default=CORES, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def synth(
    texts: tuple[Path, ...],
    out: Path,
    count: int,
    engines: tuple[str, ...],
    exclude: tuple[str, ...],
    workers: int,
    seed: int,
) -> None:
    """Have sentences of TEXTS (.txt, .txt.xz, LJSpeech-style .csv) read by the speech synthesisers on this machine."""
    from train.synth import installed, plan, synthesise

    found = installed(engines)
    click.echo(f"voices of {', '.join(found)}")
    clips, hours = synthesise(plan(texts, out, count, found, seed, exclude), out / "manifest.csv", workers)
    click.echo(f"{clips} clips, {hours:.2f} h in {out / 'manifest.csv'}")


@main.command(cls=Command)
@click.argument("text")
@click.argument("out", type=FILE)
@click.option("--engine", default="espeak", show_default=True)
@click.option("--voice", help="[default: the engine's first]")
@click.option("--pace", type=float, default=1.0, show_default=True)
def say(text: str, out: Path, engine: str, voice: str | None, pace: float) -> None:
    """Speak one TEXT into a sound file (how the bundled sample and test audio were made)."""
    from train.synth import ENGINES, Utterance, installed, speak

    installed([engine])
    if out.exists():
        raise DataError(f"{out} exists already: remove it first")
    if not speak(Utterance(out, text, engine, voice or ENGINES[engine].voices[0], pace)):
        raise DataError(f"{engine} could not speak this: try another --voice or --engine")


if __name__ == "__main__":
    main()
