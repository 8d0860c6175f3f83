"""`asr-train fit`: options in, a configuration and a run out. The backend is chosen before Keras is imported."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click

from train.command import EXISTING, FOLDER, POSITIVE, Command, choose_backend, need
from train.data import DataError

SHARE = click.FloatRange(0, 1)


@click.command(cls=Command)
@click.argument("corpora", nargs=-1, required=True, type=EXISTING)
@click.option("--out", "folder", required=True, type=FOLDER, help="The run folder; an interrupted run goes on from it.")
@click.option("--network", type=click.Choice(["streaming", "tutorial"]), default="streaming", show_default=True)
@click.option("--size", type=click.Choice(["small", "base", "large"]), default="base", show_default=True)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    help="A run folder or .onnx file to begin from: its network, its weights.",
)
@click.option("--language", default="en", show_default=True, help="Not en: the letters are those of the transcripts.")
@click.option(
    "--groups", type=click.IntRange(0, 2000), default=0, help="Letter groups in the vocabulary, besides letters."
)
@click.option(
    "--pronunciations", type=EXISTING, help="Dictionary like CMUdict: a head of its own learns the phones of its words."
)
@click.option("--epochs", type=POSITIVE, default=60, show_default=True)
@click.option("--hours", type=POSITIVE, default=1e9, help="End after so many hours of training time, wherever it is.")
@click.option(
    "--patience", type=click.IntRange(0), default=0, help="End after so many validations without a better CER."
)
@click.option("--learning-rate", type=POSITIVE, default=1e-3, help="At its peak.  [default: 0.001; 0.0003 with --init]")
@click.option("--schedule", type=click.Choice(["cosine", "plateau"]), default="cosine", show_default=True)
@click.option("--batch-frames", type=click.IntRange(100), default=4000, show_default=True, help="Frames in a batch.")
@click.option(
    "--weight", "weights", multiple=True, metavar="CORPUS=W", help="How often an epoch hears each clip of it."
)
@click.option("--join", type=SHARE, default=0.1, show_default=True, help="So many clips are followed by another one.")
@click.option(
    "--cut",
    type=SHARE,
    default=0.0,
    help="Of so many only a phrase is heard, between pauses found by --init's model.",
)
@click.option("--split-by", type=click.Choice(["clip", "speaker"]), default="clip", help="What validation holds out.")
@click.option("--noise", type=EXISTING, help="Recordings of noise to mix in; coloured noise is made in any case.")
@click.option(
    "--augment", default="light", show_default=True, help="heavy, light, none, or light,noise=0.5,reverb=0 ..."
)
@click.option("--dropout", type=click.FloatRange(0, 0.9), default=0.05, show_default=True)
@click.option("--backend", type=click.Choice(["tensorflow", "torch"]), default="tensorflow", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes on this machine.")
@click.option("--distribute", metavar="HOST:PORT,...", help="Every worker of a cluster of machines, the same for all.")
@click.option("--rank", type=click.IntRange(0), default=0, help="Which of those workers this is.")
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
    distribute: str | None,
    rank: int,
    cache: Path,
    weights: tuple[str, ...],
    **settings: object,
) -> None:
    """Train on CORPORA: CSV manifests (path, text; optional split, speaker, corpus) or LJSpeech-style folders.

    Into a run folder that exists, training goes on: with the corpora and noises it began with, and all other
    settings as they were unless they are given anew.
    """
    if backend != "torch" and settings["bf16"]:
        raise click.UsageError("--bf16 needs --backend torch")
    cluster, ranks = _cluster(workers, distribute, rank)
    need("train" if backend == "tensorflow" else backend, "keras", backend)
    if settings["network"] == "tutorial":
        need("train", "tensorflow", "tf2onnx")  # at the end, for the export
    choose_backend(backend)
    from train.config import load_config
    from train.run import prepare, start

    for name in ("init", "pronunciations"):
        settings[name] = str(Path(str(settings[name])).resolve()) if settings[name] else ""
    if (folder / "data.json").exists():
        saved = load_config(folder / "config.json")
        given = {k: v for k, v in settings.items() if _was_given(k) and v != getattr(saved, k)}
        _check_augment(str(settings["augment"]))
        if weights:
            given["weights"] = _weights(weights)
        if fixed := {"network", "size", "groups", "init", "language", "split_by", "pronunciations"} & set(given):
            raise DataError(f"{folder} began with another {min(fixed)}: choose another --out for this run")
        _check_cut(settings["cut"], saved.init)
        click.echo(f"going on with {folder}" + "".join(f", {k} now {v}" for k, v in given.items()))
        dataclasses.replace(saved, **given).dump(folder / "config.json")
    else:
        given = {"weights": _weights(weights), **settings}
        _check_augment(str(settings["augment"]))
        _check_cut(settings["cut"], settings["init"])
        prepare(_begin(given) if settings["init"] else _new(given), corpora, noise, cache, folder)
    start(folder, cluster, ranks)
    if 0 not in ranks:
        return  # the first worker has the model
    choose_backend()
    from train.export import export as write

    write(folder, folder / "model.onnx", folder.name)
    click.echo(f"to use it:  asr-stream --model {folder / 'model.onnx'} --mic")


def _cluster(workers: int, distribute: str | None, rank: int) -> tuple[list[str], list[int]]:
    """The addresses of all workers, and the ranks of those to start here."""
    from train.workers import local_cluster

    if not distribute:
        return local_cluster(workers), list(range(workers))
    cluster = distribute.split(",")
    if workers > 1 or rank >= len(cluster) or not all(re.fullmatch(r"\S+:\d+", address) for address in cluster):
        raise click.UsageError(
            "--distribute wants HOST:PORT,HOST:PORT ..., a --rank below their number, and no --workers"
        )
    return cluster, [rank]


def _check_augment(text: str) -> None:
    from train.augment import parse

    try:
        parse(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _check_cut(cut: object, init: object) -> None:
    if cut and not init:
        raise click.UsageError("--cut needs a model that hears where words end: give --init")


def _new(settings: dict[str, object]) -> object:
    """The configuration of a run from nothing."""
    from train.config import Config

    if settings["network"] == "tutorial":
        settings["features"] = tutorial_features()
    if settings["language"] != "en":
        settings["vocab"] = ()
    return Config(**settings)  # type: ignore[arg-type]


def _begin(settings: dict[str, object]) -> object:
    """The configuration of a run that begins from another model: its network, features and, if not another, letters."""
    from train.config import describe

    need("train", "onnx")
    source = describe(Path(str(settings["init"])))
    for name in ("network", "size", "language"):
        given, found = settings.pop(name), getattr(source, name)
        if _was_given(name) and given != found:
            if name != "language":
                raise DataError(f"{settings['init']} has the {name} {found}: leave out --{name}")
            settings |= {"language": given, "vocab": ()}
    if not _was_given("learning_rate"):
        settings["learning_rate"] = 3e-4
    return dataclasses.replace(source, **settings)


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
