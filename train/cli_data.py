"""`asr-train download`, `record`, `synth`, `say`: where speech to learn from comes from."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from train.command import CORES, EXISTING, FILE, FOLDER, POSITIVE, Command
from train.data import DataError


@click.command(cls=Command)
@click.argument("corpus")
@click.option("--out", type=FOLDER, default=Path("data"), show_default=True, help="The folder to put it into.")
@click.option("--url", help="Fetch the archive from there, from a mirror for example.")
@click.option(
    "--archive", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Unpack this file, fetch nothing."
)
def download(corpus: str, out: Path, url: str | None, archive: Path | None) -> None:
    """Fetch, check and unpack CORPUS for `fit`; an interrupted download goes on.

    CORPUS is ljspeech, or a part of LibriSpeech (dev-clean, test-clean, train-clean-100, train-clean-360), or
    commonvoice, which needs an --archive that you have got by browser.
    """
    if url and archive:
        raise click.UsageError("give --url or --archive, not both")
    from train.download import download as obtain

    folder, new = obtain(corpus, out, url, archive)
    partner = {"train": "dev", "dev": "train", "test": "train"}.get(corpus.partition("-")[0])  # of LibriSpeech's parts
    other = f" and one that begins with {partner}" if partner else ""
    click.echo(f"{folder} is ready: give it to  asr-train fit{other}" if new else f"{folder} exists: nothing to do")


@click.command(cls=Command)
@click.argument("prompts", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", required=True, type=FOLDER, help="Folder for the recordings and their manifest.csv.")
@click.option("--speaker", default="me", show_default=True, help="Who reads.")
@click.option("--count", type=click.IntRange(1), help="So many, in random order.  [default: all, in their order]")
@click.option("--auto", is_flag=True, help="Without keys: keep what is followed by a second of quiet, and go on.")
@click.option("--seconds", type=POSITIVE, default=30, show_default=True, help="A recording ends after so many at most.")
@click.option("--device", metavar="N|NAME", help="Which microphone; `asr-stream --list-devices` shows them.")
@click.option("--seed", type=int, default=1, show_default=True)
def record(prompts: Path, out: Path, **settings: object) -> None:
    """Record yourself reading PROMPTS, a sentence on each line (or prose, .xz, LJSpeech-style .csv), as a corpus.

    It can be stopped at any time; the same command goes on with what was not read yet.
    """
    import logging

    from train.record import record as run

    logging.basicConfig(format="asr-train: %(message)s", stream=sys.stderr)
    logging.getLogger("asr_stream").setLevel(logging.INFO)  # which microphone, and when it is away
    run(prompts, out, **settings)  # type: ignore[arg-type]


@click.command(cls=Command)
@click.argument("texts", nargs=-1, required=True, type=EXISTING)
@click.option("--out", required=True, type=FOLDER, help="Folder for the recordings and their manifest.csv.")
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="How many sentences.")
@click.option("--engine", "engines", multiple=True, help="Only these synthesisers.  [default: all that are installed]")
@click.option("--language", default="en", show_default=True, help="What is read: voices and letters are of it.")
@click.option("--exclude", multiple=True, help="Beginnings of ids to leave out of an LJSpeech-style .csv.")
@click.option("--workers", type=click.IntRange(1), default=CORES, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def synth(
    texts: tuple[Path, ...],
    out: Path,
    count: int,
    engines: tuple[str, ...],
    language: str,
    exclude: tuple[str, ...],
    workers: int,
    seed: int,
) -> None:
    """Have sentences of TEXTS (.txt, .txt.xz, LJSpeech-style .csv) read by the speech synthesisers on this machine."""
    from train.synth import installed, plan, synthesise

    found = installed(engines, language)
    click.echo(f"voices of {', '.join(found)}")
    clips, hours = synthesise(plan(texts, out, count, found, seed, exclude, language), out / "manifest.csv", workers)
    click.echo(f"{clips} clips, {hours:.2f} h in {out / 'manifest.csv'}")


@click.command(cls=Command)
@click.argument("text")
@click.argument("out", type=FILE)
@click.option("--engine", default="espeak", show_default=True)
@click.option("--voice", help="[default: the engine's first]")
@click.option("--language", default="en", show_default=True, help="Which voices to choose from.")
@click.option("--pace", type=float, default=1.0, show_default=True)
def say(text: str, out: Path, engine: str, voice: str | None, language: str, pace: float) -> None:
    """Speak one TEXT into a sound file (how the bundled sample and test audio were made)."""
    from train.synth import Utterance, installed, speak, voices

    installed([engine], language)
    if out.exists():
        raise DataError(f"{out} exists already: remove it first")
    if not speak(Utterance(out, text, engine, voice or voices(engine, language)[0], pace)):
        raise DataError(f"{engine} could not speak this: try another --voice or --engine")
