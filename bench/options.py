"""What the measurements share: their options, and the model they are about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from streamer.model import AcousticModel, ModelError, find, find_lm, load
from train.command import EXISTING
from train.data import DataError

OPTIONS = (
    click.argument("corpora", nargs=-1, required=True, type=EXISTING),
    click.option("--model", "name", metavar="PATH|NAME", help="An .onnx file, or the name of a shipped model."),
    click.option("--lm", metavar="PATH|none", help="A language model.  [default: the .lm beside the model]"),
    click.option("--split", default="test", show_default=True, help="Which split of the manifests."),
    click.option("--clips", type=click.IntRange(1), help="So many clips, at random.  [default: all]"),
    click.option("--seed", type=int, default=1, show_default=True),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options of every measurement on a corpus."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def open_model(name: str | None, lm: str | None) -> AcousticModel:
    """The model that asr-stream would use; DataError says what is wrong with it."""
    try:
        path = find(name)
        return load(path, find_lm(lm, path))
    except ModelError as error:
        raise DataError(str(error)) from None
