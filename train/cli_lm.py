"""`asr-train lm`, `tune` and `calibrate`: a language model from text, its weight, and how sure words may be."""

from __future__ import annotations

from pathlib import Path

import click

from train.command import EXISTING, FILE, Command, need


@click.command(cls=Command)
@click.argument("texts", nargs=-1, required=True, type=EXISTING)
@click.option("--out", required=True, type=FILE, help="Beside MODEL.onnx call it MODEL.lm, and asr-stream uses it.")
@click.option("--words", type=click.IntRange(10, 65_000), default=65_000, show_default=True, help="At most so many.")
@click.option("--exclude", multiple=True, help="Beginnings of ids to leave out of an LJSpeech-style .csv.")
@click.option("--language", default="en", show_default=True)
def lm(texts: tuple[Path, ...], out: Path, words: int, exclude: tuple[str, ...], language: str) -> None:
    """Count a word trigram language model of TEXTS: .txt, .xz, LJSpeech-style .csv, or corpora (their train split)."""
    from streamer.lm import LanguageSpec
    from train.lm import estimate, read_sentences, write_lm

    arrays = estimate(read_sentences(texts, exclude), words)
    counts = {"words": len(arrays["p1"]), "pairs": len(arrays["p2"]), "triples": len(arrays["p3"])}
    told = {"texts": [path.name for path in texts], **counts}
    write_lm(out, LanguageSpec(language=language, training=told), arrays)
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    click.echo(f"{out}: {listed}, {out.stat().st_size / 1e6:.1f} MB; weigh it with  asr-train tune MODEL {out} CORPUS")


@click.command(cls=Command)
@click.argument("model", type=EXISTING)
@click.argument("lm", type=EXISTING)
@click.argument("corpora", nargs=-1, required=True, type=EXISTING)
@click.option("--split", default="dev", show_default=True, help="Which split of the manifests; never test.")
def tune(model: Path, lm: Path, corpora: tuple[Path, ...], split: str) -> None:
    """Find how much LM should weigh beside MODEL on CORPORA, calibrate confidences, and write both into LM's file."""
    from train.tune import tune as search

    spec, before, after = search(model, lm, corpora, split)
    found = f"weight {spec.weight}, word bonus {spec.word_bonus}, unknown penalty {spec.unknown_penalty}"
    click.echo(f"{lm}: {found}; WER {100 * before:.2f} % before, {100 * after:.2f} % now")


@click.command(cls=Command)
@click.argument("model", type=EXISTING)
@click.argument("corpora", nargs=-1, required=True, type=EXISTING)
@click.option("--split", default="dev", show_default=True, help="Which split of the manifests; never test.")
def calibrate(model: Path, corpora: tuple[Path, ...], split: str) -> None:
    """Make the confidences of words that MODEL decodes without a language model the probabilities that they are right.

    Two numbers, found on CORPORA, are written into MODEL's file; those for a language model are found by tune.
    """
    need("train", "onnx", "scipy")
    from train.calibrate import write_calibration

    found, before, after = write_calibration(model, corpora, split)
    told = f"confidence slope {found.slope}, offset {found.offset}"
    click.echo(f"{model}: {told}; expected calibration error {before:.3f} before, {after:.3f} now")
