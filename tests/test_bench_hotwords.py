"""The measurement of hotwords counts what it says it counts."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import tiny_model

from bench.hotwords import found, rarest
from streamer.model import load_lm

ROOT = Path(__file__).parent.parent


def test_words_that_the_language_model_does_not_know_are_the_rarest(language: Path) -> None:
    lm = load_lm(language)
    assert rarest(["a b zebra", "b abc"], lm, 1) == {"zebra"}
    assert rarest(["a b zebra", "b abc"], lm, 9) == {"a", "b", "abc", "zebra"}


def test_a_word_is_found_where_it_was_said_and_false_elsewhere() -> None:
    pairs = [(["the", "nile", "rose"], ["the", "nile", "nile", "rose"]), (["a", "jest"], ["a", "nile"])]
    assert found(pairs, frozenset({"nile", "jest"})) == (1, 2)


@pytest.mark.parametrize("lm", [True, False])
def test_the_command_prints_its_table_or_says_what_is_missing(
    tmp_path: Path, streaming: Path, language: Path, lm: bool
) -> None:
    soundfile.write(tmp_path / "a.wav", tiny_model.babble(64000), 16000)
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "text", "split"], ["a.wav", "cb ab", "test"]])
    options = ["--model", str(streaming), "--lm", str(language) if lm else "none"]
    command = [sys.executable, "-m", "bench.hotwords", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    if lm:
        assert done.returncode == 0, done.stderr
        assert "2 words, said 2 times in 1 clips" in done.stdout
        assert "| 4 (default) |" in done.stdout
    else:
        assert done.returncode != 0
        assert "only be listened for with a language model" in done.stderr
