"""The command `asr-train`: parse, build, run; nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from train.cli_data import download, record, say, synth
from train.cli_fit import fit
from train.cli_lm import calibrate, lm, tune
from train.command import EXISTING, FILE, FOLDER, Command, choose_backend, need


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train, export and measure the models that asr-stream serves.

    \b
      asr-train fit LJSpeech-1.1 --out runs/mine --hours 2
      asr-train export runs/mine mine.onnx
      asr-stream --model mine.onnx --mic
    """


for command in (download, record, synth, say, fit, lm, tune, calibrate):
    main.add_command(command)


@main.command(cls=Command)
@click.argument("run", type=EXISTING)
@click.argument("out", type=FILE)
@click.option("--name", help="What the model calls itself.  [default: the file's name]")
@click.option("--int8", is_flag=True, help="Quantise all matrices but the first, per channel: a quarter of the size.")
def export(run: Path, out: Path, name: str | None, int8: bool) -> None:
    """Write the best weights of a RUN as one self-describing ONNX file."""
    need("train", "keras", "onnx")
    choose_backend()
    from train.export import export as write

    spec = write(run, out, name or out.stem, int8)
    click.echo(f"{out}: {spec.kind}, {len(spec.vocab)} tokens, {out.stat().st_size / 1e6:.1f} MB")


@main.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=EXISTING)
@click.option("--out", required=True, type=FOLDER, help="A run folder to write, for `export`.")
def average(runs: tuple[Path, ...], out: Path) -> None:
    """The mean of the best weights of RUNS that began from the same ones: errs less than each of them."""
    need("train", "keras")
    choose_backend()
    from train.blend import average as mean

    mean(runs, out)
    click.echo(f"{out}: the mean of {len(runs)} runs")


@main.command(cls=Command)
@click.argument("model", type=EXISTING)
@click.argument("corpora", nargs=-1, required=True, type=EXISTING)
@click.option("--split", default="test", show_default=True, help="Which split of the manifests.")
@click.option("--out", type=FILE, help="Write PATH<TAB>TEXT for every clip.")
@click.option("--worst", type=int, default=0, help="List so many of the worst clips.")
@click.option("--lm", metavar="PATH|none", help="A language model.  [default: the .lm beside the model]")
@click.option("--report", type=FILE, help="Write a page (HTML) that shows where it errs.")
@click.option("--run", type=EXISTING, help="A run folder whose training curves go into the report.")
def evaluate(
    model: Path,
    corpora: tuple[Path, ...],
    split: str,
    out: Path | None,
    worst: int,
    report: Path | None,
    run: Path | None,
    lm: str | None,
) -> None:
    """Word and character error rates of MODEL over CORPORA, through the path that asr-stream serves."""
    if run and not report:
        raise click.UsageError("--run goes with --report")
    if report:
        need("train", "matplotlib")
    from train.evaluate import evaluate as measure

    measure(model, corpora, split, out, worst, report, run, lm)


@main.command(cls=Command)
@click.argument("audio", type=EXISTING)
@click.option("--model", help="A file made by export, or the name of a shipped model.  [default: english]")
@click.option("--out", required=True, type=FILE, help="The picture: .png, .svg or .pdf.")
@click.option("--start", type=click.FloatRange(0), default=0.0, show_default=True, help="Second at which it begins.")
@click.option("--seconds", type=click.FloatRange(0.1, 120), default=30.0, show_default=True, help="How long it is.")
def plot(audio: Path, model: str | None, out: Path, start: float, seconds: float) -> None:
    """Draw how a model hears AUDIO: waveform, spectrogram with the words, and the probabilities of its tokens."""
    need("train", "matplotlib")
    from train.plots import plot as draw

    click.echo(draw(audio, model, out, start, seconds))


if __name__ == "__main__":
    main()
