from __future__ import annotations

import numpy as np
import pytest

from streamer import features
from streamer.probe import signal
from streamer.spec import FeatureSpec


def test_mel_filters_equal_librosas() -> None:
    librosa = pytest.importorskip("librosa", reason="librosa comes with the train extra")
    spec = FeatureSpec(num_mels=80, low_hz=20, high_hz=7600)
    expected = librosa.filters.mel(sr=16000, n_fft=512, n_mels=80, fmin=20, fmax=7600)
    np.testing.assert_allclose(features._mel_filters(spec).T, expected, atol=2e-9)


def test_log_mel_equals_librosas_spectrogram_through_its_filters() -> None:
    librosa = pytest.importorskip("librosa", reason="librosa comes with the train extra")
    spec, samples = FeatureSpec(), signal(8000, 16000)
    padded = np.pad(samples, (56, 56))  # librosa centres a 400-sample window in its 512-sample FFT frame
    power = np.abs(librosa.stft(padded, n_fft=512, hop_length=160, win_length=400, center=False)) ** 2
    mel = librosa.filters.mel(sr=16000, n_fft=512, n_mels=80, fmin=20, fmax=7600) @ power
    np.testing.assert_allclose(features.compute(samples, spec), np.log(mel.T + 1e-6), atol=1e-3)


def test_a_tone_is_loudest_in_the_filter_at_its_frequency() -> None:
    spec = FeatureSpec()
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    loudest = features.compute(tone, spec).mean(axis=0).argmax()
    centres = features.mel_centres(spec)[1:-1]
    assert abs(centres[loudest] - 1000) < 40


def test_only_whole_frames_are_computed() -> None:
    spec = FeatureSpec()
    assert [features.num_frames(n, spec) for n in (0, 399, 400, 559, 560)] == [0, 0, 1, 1, 2]
    assert features.compute(np.zeros(399, np.float32), spec).shape == (0, 80)


def test_digital_silence_is_the_floor_and_finite() -> None:
    spec = FeatureSpec()
    np.testing.assert_allclose(features.compute(np.zeros(800, np.float32), spec), np.log(1e-6), rtol=1e-6)


def test_the_tutorials_spectrogram_is_the_root_of_the_magnitude() -> None:
    spec = FeatureSpec("spectrogram", frame_length=256, frame_shift=160, fft_size=384)
    samples = signal(4000, 16000)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    expected = np.sqrt(np.abs(np.fft.rfft(samples[320:576] * window, 384)))
    np.testing.assert_allclose(features.compute(samples, spec)[2], expected, atol=1e-5)
