"""A short run of every fuzzer; the long ones are in docs/operating.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import strategies as st

from bench import fuzz
from bench.fuzz import Target, run, targets


@pytest.mark.parametrize("name", targets())
def test_inputs_that_look_almost_right_keep_the_law(name: str) -> None:
    assert run(targets()[name], seconds=0, first_seed=7, examples=60) >= 60


def test_every_target_has_its_law_in_the_docs() -> None:
    text = (Path(__file__).parent.parent / "docs" / "operating.md").read_text()
    laws, _, _ = text.partition("| target | law |")[2].partition("\n\n")
    assert set(re.findall(r"^\| `(\S+)` \|", laws, re.MULTILINE)) == set(targets())
    assert all(re.search(rf"`{name}` [\d,]+", text) for name in targets())  # how many inputs were tried


def test_what_breaks_a_law_is_told_in_its_smallest_form() -> None:
    def law(number: int) -> None:
        assert number < 1000

    with pytest.raises(AssertionError) as broken:
        run(Target(st.integers(), law), seconds=0, first_seed=1)
    assert any("value=1000" in note for note in broken.value.__notes__)


def test_the_command_tells_how_much_was_tried() -> None:
    told = CliRunner().invoke(fuzz.main, ["config", "--minutes", "0"]).output
    assert told == "config: 500 inputs in 0 minutes kept the law\n"
    assert "choose from config, vosk" in CliRunner().invoke(fuzz.main, ["nothing"]).output
    assert "takes one target" in CliRunner().invoke(fuzz.main, ["--guided"]).output
