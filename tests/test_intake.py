"""What a source delivers becomes mono, finite, bounded blocks at the model's rate, however it was cut."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.intake import Intake


def through(samples, cuts=(), rate=16000, sample_rate=16000):
    """All that an intake makes of samples that arrive cut at these positions."""
    intake = Intake("talk.wav", rate, sample_rate)
    pieces = np.split(np.asarray(samples, np.float32), sorted(cuts))
    blocks = [block for piece in pieces for block in intake.push(piece)] + intake.flush()
    return np.concatenate([np.zeros(0, np.float32), *blocks])


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from([8000, 11025, 16000, 44100, 48000]),
    channels=st.sampled_from([None, 1, 2, 3]),
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 9000), max_size=30),
)
def test_blocks_do_not_depend_on_how_the_input_was_cut(rate, channels, seed, cuts):
    shape = 9000 if channels is None else (9000, channels)
    samples = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) / 2
    assert np.array_equal(through(samples, cuts, rate), through(samples, (), rate))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_duration_pitch_and_time(rate):
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    heard = through(tone, rate=rate)
    assert len(heard) == 16000
    assert np.abs(heard - expected)[500:-500].max() < 1e-3


def test_channels_are_averaged():
    assert np.array_equal(through([[1.0, 0.5], [-0.5, 0.0]]), np.float32([0.75, -0.25]))


def test_what_is_no_number_becomes_silence_with_one_warning(caplog):
    heard = through([0.5, np.nan, np.inf, -np.inf, 0.25, np.nan], cuts=[3])
    assert np.array_equal(heard, np.float32([0.5, 0, 0, 0, 0.25, 0]))
    assert [record.getMessage() for record in caplog.records] == [
        "talk.wav: samples that are not numbers are replaced by silence"
    ]


def test_what_is_too_loud_is_clipped_with_one_warning(caplog):
    assert np.array_equal(through([0.5, 1.5, -3.0, 1.0], cuts=[2]), np.float32([0.5, 1, -1, 1]))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "clipped" in caplog.text


def test_full_scale_audio_stays_in_range_when_resampled_and_nobody_is_blamed(caplog):
    square = np.sign(np.sin(2 * np.pi * 100 * np.arange(44100) / 44100 + 0.1))
    heard = through(square, rate=44100)
    assert np.abs(heard).max() == 1
    assert not caplog.records


def test_a_flush_ends_one_stretch_of_audio_and_the_next_starts_afresh():
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 48000).astype(np.float32)
    intake = Intake("microphone", 48000, 16000)
    first = np.concatenate(intake.push(noise) + intake.flush())
    second = np.concatenate(intake.push(noise) + intake.flush())
    assert len(first) == 16000
    assert np.array_equal(first, second)


def test_the_input_may_be_overwritten_afterwards():
    buffer = np.full((4, 1), 0.5, np.float32)
    (block,) = Intake("file", 16000, 16000).push(buffer)
    buffer.fill(0)
    assert np.array_equal(block, np.full(4, 0.5, np.float32))
