"""Fuzzing of every parser of outside bytes: `python -m bench.fuzz [TARGET]... --minutes 10`.

Hypothesis makes inputs that look almost right and shrinks what breaks a law; with `--guided`, Atheris (`pip install
atheris`, Linux) drives the same inputs by which lines of the program they reach. A crasher becomes a test.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import click
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

EXAMPLES = 500  # at a time


class Target(NamedTuple):
    """What is fuzzed: where the inputs come from, and a law that every input has to keep (else it raises)."""

    inputs: SearchStrategy[Any]
    law: Callable[[Any], None]


def targets() -> dict[str, Target]:
    """All targets by name."""
    from bench.fuzz_parsers import PARSERS
    from bench.fuzz_port import PORTS

    return PARSERS | PORTS


def run(target: Target, seconds: float, first_seed: int, examples: int = EXAMPLES) -> int:
    """Try inputs for so long, at least `examples`; how many. Raises what breaks the law; its notes tell the input."""
    until, tried = time.monotonic() + seconds, 0

    def law(value: Any) -> None:
        nonlocal tried
        tried += 1
        target.law(value)

    for number in range(sys.maxsize):
        _test(target, law, first_seed + number, examples)()
        if time.monotonic() >= until:
            break
    return tried


def _test(target: Target, law: Callable[[Any], None], number: int, examples: int) -> Any:
    limits = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @limits
    @given(value=target.inputs)
    def test(value: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            law(value)

    return test


def _guided(name: str, seconds: float, number: int) -> None:
    """Let Atheris choose the inputs of one target; it ends the process."""
    try:
        import atheris
    except ImportError:
        raise click.ClickException("atheris is not installed: type  pip install atheris") from None
    with atheris.instrument_imports(include=["streamer"]):
        target = targets()[name]
    test = _test(target, target.law, number, EXAMPLES)
    options = [sys.argv[0], f"-max_total_time={round(seconds)}", f"-seed={number}", "-max_len=4096"]
    atheris.Setup(options, test.hypothesis.fuzz_one_input)
    atheris.Fuzz()


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[TARGET]...")
@click.option("--minutes", type=click.FloatRange(min=0), default=10.0, show_default=True, help="For each target.")
@click.option("--seed", "number", type=int, default=1, show_default=True)
@click.option("--guided", is_flag=True, help="By coverage, with Atheris; one target at a time.")
def main(names: tuple[str, ...], minutes: float, number: int, guided: bool) -> None:
    if guided:
        if len(names) != 1:
            raise click.UsageError("--guided takes one target")
        return _guided(names[0], 60 * minutes, number)
    known = targets()
    for name in names or known:
        if name not in known:
            raise click.UsageError(f"there is no target {name!r}: choose from {', '.join(known)}")
        click.echo(f"{name}: {run(known[name], 60 * minutes, number)} inputs in {minutes:g} minutes kept the law")
    return None


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # of strange samples and the like, thousands
    main()
