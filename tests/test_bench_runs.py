"""What the comparisons of trainings draw, count and read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import soundfile
import tiny_model

from bench.adaptation import some_of
from bench.augmentation import chosen, known
from bench.runs import Trained
from bench.second_language import prompts
from train.data import Clip, write_manifest


def test_the_cpu_hours_to_an_error_rate_are_those_of_the_first_validation_that_reached_it() -> None:
    run = Trained(Path("run"), 2.0, [(100.0, 1.0, 0.9), (300.0, 3.0, 0.4), (400.0, 4.0, 0.45)])
    assert run.cpu_hours_to(0.5) == pytest.approx(1.5)
    assert run.cpu_hours_to(0.1) is None


def test_trained_clips_are_judged_in_the_proportions_of_validation(tmp_path: Path) -> None:
    clips = [Clip(Path(f"{i}.wav"), "a", "train", corpus="one" if i % 2 else "two") for i in range(40)]
    clips += [Clip(Path(f"dev{i}.wav"), "a", "dev", corpus=name) for i, name in enumerate(["one"] * 3 + ["two"] * 5)]
    clips += [Clip(Path("secret.wav"), "a", "test", corpus="one")]
    write_manifest(tmp_path / "manifest.csv", clips)
    taken = chosen(tmp_path, [])
    assert {c.split for c in taken} == {"train", "dev"}
    assert {c.corpus for c in chosen(tmp_path, ["two"])} == {"two"}
    drawn = known(taken)
    assert Counter(c.corpus for c in drawn) == {"one": 3, "two": 5}
    assert len({c.path for c in drawn}) == 8
    assert {c.path for c in drawn} <= {c.path for c in taken if c.split == "train"}


def test_minutes_of_speech_are_drawn_until_there_are_enough(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "two.wav", tiny_model.babble(32000), 16000)
    clips = [Clip(tmp_path / "two.wav", str(i)) for i in range(20)]
    drawn = some_of(clips, 0.1)
    assert len(drawn) == len(set(drawn)) == 3
    assert len(some_of(clips, 99)) == 20


def test_prompts_with_digits_or_tones_are_left_out_and_equal_texts_share_a_split(tmp_path: Path) -> None:
    listed = {"a": "Добавлено.", "b": "Нажмите 1.", "c": "[tone]", "d": "добавлено", "e": "Спасибо", "gone": "Нет"}
    (tmp_path / "list.txt").write_text("; comment\n" + "".join(f"{k}: {v}\n" for k, v in listed.items()))
    for name in "abcde":
        (tmp_path / f"{name}.wav").touch()
    found = {c.path.stem: c for c in prompts(tmp_path / "list.txt", tmp_path)}
    assert sorted(found) == ["a", "d", "e"]
    assert found["a"].split == found["d"].split != found["e"].split
    assert found["a"].text == "добавлено"
