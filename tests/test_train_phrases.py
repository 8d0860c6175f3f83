"""Clips are cut where they are quiet between words, and a phrase is what its part of the clip says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from streamer.spec import FeatureSpec
from train.batch import Data, assemble, epoch_batches
from train.config import Config
from train.data import Clip, Example
from train.phrases import Pause, pauses, phrase
from train.text import encode

CONFIG = Config(features=FeatureSpec(num_mels=4), augment="none", join=0.0, silence=0.0, right_context=4)
TEXT = "ab c de"
CLIP = Example(Clip(Path("a.wav"), TEXT), tuple(encode(TEXT, CONFIG.vocab) or ()), 300)


def clip(quiet: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probs in which letters are said at output frames 10, 15, 32, 50, 55, and features quiet in some places."""
    log_probs = np.full((76, len(CONFIG.vocab)), -20.0, np.float32)
    log_probs[:, 0] = -0.01
    for letter, frame in zip(TEXT, (10, 15, 24, 32, 40, 50, 55), strict=True):
        log_probs[frame, [0, CONFIG.vocab.index(letter)]] = -9.0, -0.01
    features = np.zeros((300, 4), np.float32)
    for start, end in [(0, 20), (280, 300), *quiet]:
        features[start:end] = -8
    return log_probs, features


def test_a_clip_is_cut_where_it_is_quiet_between_two_words() -> None:
    first, second = pauses(CLIP, *clip([(80, 95), (150, 170)]), CONFIG)
    assert (first.words, second.words) == (1, 2)
    assert 80 <= first.frame < 95
    assert 150 <= second.frame < 170


def test_words_without_a_pause_between_them_stay_together() -> None:
    assert [pause.words for pause in pauses(CLIP, *clip([(150, 170)]), CONFIG)] == [2]
    assert pauses(CLIP, *clip([(30, 42)]), CONFIG) == []  # a quiet place within the first word


def test_a_phrase_is_a_part_of_the_clip_with_its_words() -> None:
    known = {CLIP.clip.path: [Pause(1, 90), Pause(2, 160)]}
    parts = {phrase(CLIP, known, CONFIG, np.random.default_rng(seed)) for seed in range(60)}
    assert {("".join(CONFIG.vocab[i] for i in part.labels), part.start, part.frames) for part in parts} == {
        ("ab", 0, 90),
        ("c", 90, 70),
        ("de", 160, 140),
        ("ab c", 0, 160),
        ("c de", 90, 210),
    }


@pytest.mark.parametrize("known", [{}, {CLIP.clip.path: [Pause(1, 10), Pause(2, 280)]}])
def test_a_clip_without_pauses_or_with_parts_too_short_is_heard_whole(known: dict[Path, list[Pause]]) -> None:
    heard = [phrase(CLIP, known, CONFIG, np.random.default_rng(seed)) for seed in range(60)]
    assert CLIP in heard
    assert all(part.frames >= 40 for part in heard)


def test_an_epoch_hears_phrases_as_often_as_asked_and_their_own_frames() -> None:
    class Ramp:
        """Features that tell their own position."""

        def get(self, path: Path) -> np.ndarray:
            return np.repeat(np.arange(300, dtype=np.float32)[:, None], 4, axis=1)

    data = Data([CLIP] * 400, [], [], Ramp(), {CLIP.clip.path: [Pause(1, 90)]})  # type: ignore[arg-type]
    config = dataclasses.replace(CONFIG, cut=0.5)
    items = [item for group in epoch_batches(config, data, 0, 1) for batch in group for item in batch]
    parts = [example for (example,) in items if example.frames < 300]
    assert 150 < len(parts) < 250
    for part in (max(parts, key=lambda p: p.start), min(parts, key=lambda p: p.start)):
        x, labels, _, lengths = assemble([(part,)], data, config, np.random.default_rng(0))
        np.testing.assert_array_equal(x[0, : part.frames, 0], np.arange(part.start, part.start + part.frames))
        assert labels[0, : lengths[0]].tolist() == list(part.labels)
