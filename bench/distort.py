"""What happens to sound between a mouth and a recogniser, done to waveforms: float32 [samples] in and out."""

from __future__ import annotations

import numpy as np
import soxr
from scipy.signal import butter, fftconvolve, sosfilt

from streamer.recognizer import Floats

DECAY_SECONDS = 0.6  # in which a room's sound falls by 60 dB


def add_noise(x: Floats, noise: Floats, snr_db: float, rng: np.random.Generator) -> Floats:
    """A random stretch of the noise is added so that the mean power of `x` is `snr_db` above its own."""
    stretch = noise[(rng.integers(len(noise)) + np.arange(len(x))) % len(noise)]
    power, loudness = (float(np.mean(np.square(sound, dtype=np.float64))) for sound in (x, stretch))
    gain = np.sqrt(power / max(loudness, 1e-12)) * 10 ** (-snr_db / 20)
    return (x + np.float32(gain) * stretch).astype(np.float32)


def pink_noise(samples: int, rng: np.random.Generator) -> Floats:
    """Noise with equal power in every octave."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    sound = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), samples)
    return (0.1 * sound / max(float(np.abs(sound).max()), 1e-9)).astype(np.float32)


def reverberate(x: Floats, rate: int, rng: np.random.Generator) -> Floats:
    """A made-up room: the sound itself and, as loud as it, noise that decays exponentially (Polack 1988)."""
    t = np.arange(round(DECAY_SECONDS * rate)) / rate
    tail = rng.normal(size=len(t)) * 10 ** (-3 * t / DECAY_SECONDS)
    response = tail / np.sqrt(np.sum(tail**2))
    response[0] += 1.0
    return fftconvolve(x, response)[: len(x)].astype(np.float32)


def telephone(x: Floats, rate: int) -> Floats:
    """The band from 300 to 3400 Hz."""
    band = butter(6, (300, 3400), "bandpass", fs=rate, output="sos")
    return sosfilt(band, x).astype(np.float32)


def change_speed(x: Floats, factor: float) -> Floats:
    """`factor` times as fast, and as high: resampled."""
    return soxr.resample(x, 1000 * factor, 1000).astype(np.float32)


def amplify(x: Floats, db: float) -> Floats:
    """Louder or quieter."""
    return x * np.float32(10 ** (db / 20))


def clip(x: Floats, db: float) -> Floats:
    """Amplified so that the loudest sample would be `db` above full scale, where it is cut off."""
    peak = max(float(np.abs(x).max(initial=0.0)), 1e-9)
    return np.clip(amplify(x / np.float32(peak), db), -1, 1)
