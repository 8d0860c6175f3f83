"""Augmentation of log-mel features: what would be done to the sound, done to its spectrum, at a tenth of the cost.

Every function maps log-mel [frames, mels] to log-mel. Powers are exp(x); noise, room and floor are sums of powers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from streamer.features import mel_centres
from streamer.spec import FeatureSpec

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much of each: largest relative change, probability, range in dB, number and size of masks."""

    speed: float = 0.12
    warp: float = 0.1
    tone_db: float = 4.0
    reverb: float = 0.15
    band_limit: float = 0.15
    codec: float = 0.1
    noise: float = 0.5
    snr_db: tuple[float, float] = (3.0, 30.0)
    gain_db: tuple[float, float] = (-20.0, 8.0)
    time_masks: int = 3
    time_mask_frames: int = 20
    mel_masks: int = 2
    mel_mask_width: int = 14


AUGMENTATIONS = {
    "heavy": Augmentation(),
    "light": Augmentation(
        speed=0.1,
        warp=0.06,
        tone_db=2.0,
        reverb=0.08,
        band_limit=0.08,
        codec=0.05,
        noise=0.25,
        snr_db=(6.0, 30.0),
        gain_db=(-15.0, 6.0),
        time_masks=2,
        time_mask_frames=15,
        mel_mask_width=10,
    ),
}


@lru_cache(maxsize=8)
def parse(text: str) -> Augmentation | None:
    """`heavy`, `light` or `none`, then what differs from it: light,noise=0.5,reverb=0; ValueError if wrong."""
    name, *changes = text.split(",")
    if name == "none" and not changes:
        return None
    if name not in AUGMENTATIONS:
        raise ValueError(f"there is no augmentation {name!r}: give heavy, light or none")
    known = dataclasses.asdict(AUGMENTATIONS[name])
    numbers = {key: type(value) for key, value in known.items() if not isinstance(value, tuple)}
    for change in changes:
        key, _, value = change.partition("=")
        if key not in numbers:
            raise ValueError(f"there is no augmentation {key!r}: {', '.join(numbers)} can be changed")
        try:
            known[key] = numbers[key](value)
        except ValueError:
            raise ValueError(f"the augmentation {key} wants a number, not {value!r}") from None
        if not 0 <= known[key] < (1 if numbers[key] is float and not key.endswith("_db") else 1000):
            raise ValueError(f"the augmentation {key}={value} is out of range")
    return Augmentation(**known)


def augment(
    x: Floats, how: Augmentation, spec: FeatureSpec, noises: Sequence[Floats], rng: np.random.Generator
) -> Floats:
    """A random variation of one utterance; the number of frames may change by the speed."""
    x = change_speed(x, rng.uniform(1 - how.speed, 1 + how.speed))
    x = x @ warp_matrix(spec, round(rng.uniform(1 - how.warp, 1 + how.warp), 2))
    x = x + np.float32(rng.uniform(*how.gain_db) * np.log(10) / 10)
    x = x + _smooth(x.shape[1], how.tone_db * np.log(10) / 10, rng)
    if rng.random() < how.reverb:
        x = reverberate(x, rng.uniform(0.1, 0.6), rng.uniform(0.05, 0.5), spec)
    if rng.random() < how.band_limit:
        x = band_limit(x, rng.uniform(50, 400), rng.uniform(3000, 6000), spec)
    if rng.random() < how.codec:
        x = band_limit(code(x, rng.uniform(18, 60), rng.uniform(0.5, 4)), 0, rng.uniform(4500, 7500), spec)
    if rng.random() < how.noise:
        x = add_noise(x, _noise(x.shape, noises, rng), rng.uniform(*how.snr_db))
    x = np.logaddexp(x, np.float32(np.log(spec.floor)))
    return mask(x, how, rng)


def change_speed(x: Floats, factor: float) -> Floats:
    """`factor` times as fast, by linear interpolation between frames."""
    at = np.arange(int((len(x) - 1) / factor) + 1, dtype=np.float32) * np.float32(factor)
    low = np.minimum(at.astype(np.int64), len(x) - 1)
    part = (at - low).astype(np.float32)[:, None]
    return x[low] * (1 - part) + x[np.minimum(low + 1, len(x) - 1)] * part


@lru_cache(maxsize=64)
def warp_matrix(spec: FeatureSpec, factor: float) -> Floats:
    """[mels, mels] matrix that moves what was at f Hz to f * factor: another vocal tract length and pitch."""
    centres = mel_centres(spec)[1:-1]
    matrix = np.zeros((spec.num_mels, spec.num_mels), np.float32)
    for column, position in enumerate(np.interp(centres / factor, centres, np.arange(spec.num_mels))):
        low = min(int(position), spec.num_mels - 2)
        matrix[low, column], matrix[low + 1, column] = 1 - (position - low), position - low
    return matrix


def reverberate(x: Floats, decay_seconds: float, ratio: float, spec: FeatureSpec) -> Floats:
    """A room's late sound: power decays by 60 dB in `decay_seconds`; `ratio` of each frame's power enters it."""
    keep = 10 ** (-6 * spec.frame_shift / spec.sample_rate / decay_seconds)
    power = np.exp(x)
    return np.log(power + ratio * lfilter([0, 1 - keep], [1, -keep], power, axis=0)).astype(np.float32)


def band_limit(x: Floats, low_hz: float, high_hz: float, spec: FeatureSpec) -> Floats:
    """What a telephone or an old recording leaves: 40 dB less below and above the band."""
    centres = mel_centres(spec)[1:-1]
    return x - np.where((centres < low_hz) | (centres > high_hz), np.float32(9.2), np.float32(0))


def code(x: Floats, depth_db: float, step_db: float) -> Floats:
    """What lossy coding leaves of each frame: bands `depth_db` below its loudest are gone, the others come in steps."""
    to_nats = np.float32(np.log(10) / 10)
    step = np.float32(step_db) * to_nats
    audible = x > x.max(axis=1, keepdims=True) - np.float32(depth_db) * to_nats
    return np.where(audible, np.round(x / step) * step, x - np.float32(9.2)).astype(np.float32)


def add_noise(x: Floats, noise: Floats, snr_db: float) -> Floats:
    """Powers added so that the mean power of `x` is `snr_db` above that of the noise."""
    level = np.log(np.exp(x).mean()) - np.log(np.exp(noise).mean()) - snr_db * np.log(10) / 10
    return np.logaddexp(x, noise + np.float32(level))


def _noise(shape: tuple[int, ...], noises: Sequence[Floats], rng: np.random.Generator) -> Floats:
    """A random stretch of a recorded noise, or coloured noise: a random smooth spectrum with chi-square powers."""
    frames, mels = shape
    if len(noises) and rng.random() < 0.6:
        recorded = noises[rng.integers(len(noises))]
        at = rng.integers(len(recorded)) + np.arange(frames)
        return recorded[at % len(recorded)]
    return (_smooth(mels, 1.5, rng) + np.log(rng.gamma(2.0, 0.5, shape) + 1e-3)).astype(np.float32)


def _smooth(mels: int, deviation: float, rng: np.random.Generator) -> Floats:
    """A random smooth spectrum: another microphone, room or voice."""
    knots = rng.normal(0, deviation, 6)
    return np.interp(np.arange(mels), np.linspace(0, mels - 1, len(knots)), knots).astype(np.float32)


def mask(x: Floats, how: Augmentation, rng: np.random.Generator) -> Floats:
    """SpecAugment (Park et al. 2019): stretches of time and bands of frequency replaced by the mean."""
    x, mean = x.copy(), x.mean(axis=0)
    for _ in range(min(how.time_masks, 1 + len(x) // 100)):
        width = rng.integers(how.time_mask_frames + 1)
        at = rng.integers(max(1, len(x) - width))
        x[at : at + width] = mean
    for _ in range(how.mel_masks):
        width = rng.integers(how.mel_mask_width + 1)
        at = rng.integers(max(1, x.shape[1] - width))
        x[:, at : at + width] = mean[at : at + width]
    return x
