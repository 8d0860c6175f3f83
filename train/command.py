"""What all subcommands of `asr-train` share: types of options, and mistakes as one sentence."""

from __future__ import annotations

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


def need(extra: str, *modules: str) -> None:
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise DataError(f"{name} is not installed: type  pip install 'asr-stream[{extra}]'")


def choose_backend(name: str = "") -> None:
    """Say what Keras shall run on, before it is imported; without a name TensorFlow where it is installed."""
    os.environ["KERAS_BACKEND"] = name or ("tensorflow" if importlib.util.find_spec("tensorflow") else "torch")
