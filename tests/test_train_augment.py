from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from streamer import features
from streamer.probe import signal
from streamer.spec import FeatureSpec
from train.augment import (
    AUGMENTATIONS,
    add_noise,
    augment,
    band_limit,
    change_speed,
    code,
    mask,
    parse,
    reverberate,
    warp_matrix,
)

SPEC = FeatureSpec()
X = features.compute(signal(32000, 16000), SPEC)


def test_speed_changes_the_number_of_frames_and_keeps_the_ends() -> None:
    fast = change_speed(X, 1.25)
    assert len(fast) == pytest.approx(len(X) / 1.25, abs=1)
    np.testing.assert_allclose(fast[0], X[0])
    np.testing.assert_allclose(change_speed(X, 1.0), X, atol=1e-6)


def test_warping_moves_a_tone_to_its_new_frequency() -> None:
    tone = np.sin(2 * np.pi * 1500 * np.arange(16000) / 16000).astype(np.float32)
    warped = features.compute(tone, SPEC) @ warp_matrix(SPEC, 1.1)
    centre = features.mel_centres(SPEC)[1:-1][warped.mean(axis=0).argmax()]
    assert centre == pytest.approx(1650, rel=0.04)
    np.testing.assert_allclose(warp_matrix(SPEC, 1.0), np.eye(80), atol=1e-5)


def test_noise_is_added_at_the_snr_asked_for() -> None:
    noise = np.random.default_rng(0).normal(0, 1, X.shape).astype(np.float32)
    added = np.exp(add_noise(X, noise, 10.0)).mean() - np.exp(X).mean()
    assert 10 * np.log10(np.exp(X).mean() / added) == pytest.approx(10, abs=0.1)


def test_a_room_adds_power_after_a_sound_and_none_before() -> None:
    click = np.full((100, 80), -12, np.float32)
    click[50] = 0
    wet = reverberate(click, 0.4, 0.5, SPEC)
    np.testing.assert_allclose(wet[:50], click[:50], atol=0.5)
    assert (wet[52] > wet[70]).all()
    assert (wet[70] > click[70] + 1).all()


def test_a_band_limit_leaves_the_band_alone() -> None:
    centres = features.mel_centres(SPEC)[1:-1]
    limited = band_limit(X, 300, 3400, SPEC)
    inside = (centres >= 300) & (centres <= 3400)
    np.testing.assert_array_equal(limited[:, inside], X[:, inside])
    assert (limited[:, ~inside] < X[:, ~inside] - 9).all()


def test_masks_cover_no_more_than_they_may() -> None:
    how = AUGMENTATIONS["light"]
    changed = mask(X, how, np.random.default_rng(0)) != X
    assert changed.all(axis=1).sum() <= how.time_masks * how.time_mask_frames
    assert changed.all(axis=0).sum() <= how.mel_masks * how.mel_mask_width


def test_coding_drops_what_is_masked_and_leaves_the_rest_in_steps() -> None:
    coded = code(X, 20, 3)
    step = 3 * np.log(10) / 10
    threshold = X.max(axis=1, keepdims=True) - 20 * np.log(10) / 10
    kept = threshold < X
    assert np.abs(coded[kept] - X[kept]).max() <= step / 2 + 1e-4
    np.testing.assert_allclose(coded[kept] / step, np.round(coded[kept] / step), atol=1e-3)
    assert (coded[~kept] < X[~kept] - 9).all()


def test_each_augmentation_can_be_switched() -> None:
    changed = parse("light,noise=0,time_masks=4")
    assert changed == dataclasses.replace(AUGMENTATIONS["light"], noise=0.0, time_masks=4)
    assert parse("heavy") == AUGMENTATIONS["heavy"]
    assert parse("none") is None
    for wrong in ("loud", "none,noise=1", "light,echo=1", "light,noise=much", "light,noise=3", "light,noise"):
        with pytest.raises(ValueError, match="augmentation"):
            parse(wrong)


@pytest.mark.parametrize("how", ["heavy", "light"])
def test_variations_are_finite_seeded_and_different(how: str) -> None:
    def vary(seed: int) -> np.ndarray:
        return augment(X, AUGMENTATIONS[how], SPEC, [X[:50]], np.random.default_rng(seed))

    assert all(np.isfinite(vary(seed)).all() and vary(seed).dtype == np.float32 for seed in range(20))
    np.testing.assert_array_equal(vary(1), vary(1))
    assert vary(1).shape != vary(2).shape or not np.array_equal(vary(1), vary(2))
