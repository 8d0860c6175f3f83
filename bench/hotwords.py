"""What a list of words to listen for is worth: the rarest words of a corpus, given and not given; one command.

    python -m bench.hotwords CORPUS [--rarest 200]

A word is the rarer, the less likely the language model thinks it; those that it does not know come first.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from bench.options import open_model, options
from streamer.beam import BeamSearch, Hotwords
from streamer.lm import UNKNOWN, LanguageModel
from train import recordings
from train.align import align
from train.command import Command
from train.data import DataError
from train.evaluate import transcribe
from train.text import error_rate

BONUSES = (2.0, 4.0, 6.0)  # nats

Pairs = list[tuple[list[str], list[str]]]  # words that were said, words that were heard


def rarest(texts: Iterable[str], lm: LanguageModel, count: int) -> frozenset[str]:
    """The `count` words of the texts that the language model thinks least likely."""
    words = sorted({word for text in texts for word in text.split()})
    likely = {word: lm.score(-1, UNKNOWN, lm.id(word)) if lm.id(word) != UNKNOWN else float("-inf") for word in words}
    return frozenset(sorted(words, key=lambda word: likely[word])[:count])


def found(pairs: Pairs, words: frozenset[str]) -> tuple[int, int]:
    """How often one of the words was heard where it was said, and how often where it was not."""
    counts = Counter[bool]()
    for said, heard in pairs:
        counts.update(expected == text for expected, text in align(said, heard) if text in words)
    return counts[True], counts[False]


@click.command(cls=Command)
@options
@click.option("--rarest", "count", type=click.IntRange(1), default=200, show_default=True, help="How many words.")
def main(
    corpora: tuple[Path, ...],
    name: str | None,
    lm: str | None,
    split: str,
    clips: int | None,
    seed: int,
    count: int,
) -> None:
    """How many of CORPORA's rarest words are heard when they are listened for, and what that costs."""
    model = open_model(name, lm)
    plain = model.decoder
    if not isinstance(plain, BeamSearch):
        raise DataError("words can only be listened for with a language model: leave out --lm none")
    chosen = recordings.choose(corpora, split, clips, seed)
    words = rarest((clip.text for clip in chosen), plain.lm, count)
    rows: Sequence[tuple[str, Hotwords]] = [
        ("not given", plain.hot),
        *((f"{bonus:g}{' (default)' * (bonus == Hotwords.bonus)}", Hotwords(words, bonus)) for bonus in BONUSES),
    ]
    heard: dict[str, Pairs] = {row: [] for row, _ in rows}
    for clip, samples in recordings.read(chosen, model.spec.features.sample_rate, "clips"):
        for row, hot in rows:
            model.decoder = dataclasses.replace(plain, hot=hot)
            heard[row].append((clip.text.split(), transcribe(model, samples).split()))
    said = sum(word in words for clip in chosen for word in clip.text.split())
    click.echo(f"{len(words)} words, said {said} times in {len(chosen)} clips; for example")
    click.echo(f"{', '.join(sorted(words)[:: max(1, len(words) // 12)])}\n")
    click.echo("| bonus, nats | heard | heard where they were not | WER % |\n|---|---|---|---|")
    for row, pairs in heard.items():
        right, wrong = found(pairs, words)
        click.echo(f"| {row} | {right} | {wrong} | {100 * error_rate(pairs):.1f} |")


if __name__ == "__main__":
    main()
