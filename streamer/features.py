"""Spectrogram and log-mel features: the only implementation anywhere; training imports it from here."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamer.spec import FeatureSpec

Floats = NDArray[np.float32]


def num_frames(num_samples: int, spec: FeatureSpec) -> int:
    """Whole frames in `num_samples` samples."""
    return max(0, (num_samples - spec.frame_length) // spec.frame_shift + 1)


def compute(samples: Floats, spec: FeatureSpec) -> Floats:
    """Features of every whole frame.

    samples: float32 in [-1, 1], shape [num_samples], at spec.sample_rate.
    Returns float32 of shape [num_frames(num_samples), spec.width].
    """
    frames = num_frames(len(samples), spec)
    if frames == 0:
        return np.zeros((0, spec.width), np.float32)
    samples = np.ascontiguousarray(samples, np.float32)
    strides = (spec.frame_shift * samples.itemsize, samples.itemsize)
    framed: Floats = np.ndarray((frames, spec.frame_length), np.float32, samples, strides=strides)
    spectrum = np.abs(np.fft.rfft(framed * _hann(spec.frame_length), spec.fft_size, axis=1))
    if spec.kind == "spectrogram":
        return np.sqrt(spectrum).astype(np.float32)
    power = np.square(spectrum, dtype=np.float32)
    mels: Floats = np.log(power @ _mel_filters(spec) + np.float32(spec.floor))
    return mels


@lru_cache
def _hann(length: int) -> Floats:
    """The periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's mel scale: linear below 1000 Hz (200/3 Hz a mel), logarithmic above (Auditory Toolbox, 1998)."""
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / np.log(6.4))


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `hz_to_mel`."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def mel_centres(spec: FeatureSpec) -> NDArray[np.float64]:
    """The corner frequencies of the triangular filters in Hz, shape [num_mels + 2]."""
    low, high = hz_to_mel(np.array([spec.low_hz, spec.high_hz]))
    return mel_to_hz(np.linspace(low, high, spec.num_mels + 2))


@lru_cache
def _mel_filters(spec: FeatureSpec) -> Floats:
    """Triangles of equal area over the FFT bins, shape [fft_size // 2 + 1, num_mels]; equals librosa's default."""
    bins = np.fft.rfftfreq(spec.fft_size, 1 / spec.sample_rate)
    corners = mel_centres(spec)
    rising = (bins[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    area = 2 / (corners[2:] - corners[:-2])
    return (np.maximum(0, np.minimum(rising, falling)) * area).astype(np.float32)
