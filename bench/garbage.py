"""Sound that is no speech and has something of it, or speech of another language: float32 [samples] in [-1, 1]."""

from __future__ import annotations

import io
import shutil
import subprocess

import numpy as np

from streamer.recognizer import Floats

FORMANTS = (730.0, 1090.0, 2440.0)  # Hz, of the vowel in "father" (Peterson and Barney 1952)
RUSSIAN = "У лукоморья дуб зелёный, златая цепь на дубе том. И днём и ночью кот учёный всё ходит по цепи кругом. "
CHORDS = ((220, 277, 330), (175, 220, 262), (196, 247, 294), (165, 208, 247))  # Hz


def vowel(samples: int, rate: int) -> Floats:
    """One vowel without end, on one breath."""
    t = np.arange(samples) / rate
    return _voice(120 + 3 * np.sin(2 * np.pi * 5 * t), rate)


def shouting(samples: int, rate: int) -> Floats:
    """The same vowel an octave and more above, rising and falling in bursts, too loud for the microphone."""
    t = np.arange(samples) / rate
    bursts = np.clip(2 * np.sin(2 * np.pi * 1.7 * t), 0, 1)
    return np.clip(6 * bursts * _voice(350 + 120 * np.sin(2 * np.pi * 1.7 * t), rate), -1, 1).astype(np.float32)


def music(samples: int, rate: int) -> Floats:
    """Struck chords, two a second."""
    t = np.arange(samples) / rate
    beat = (2 * t).astype(int)
    sound = np.zeros(samples)
    for voice in range(3):
        pitch = np.array([chord[voice] for chord in CHORDS])[beat // 2 % len(CHORDS)]
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        sound += sum(np.sin(k * phase) / k**2 for k in range(1, 6))
    return (0.15 * np.exp(-3 * (t - beat / 2)) * sound).astype(np.float32)


def russian(samples: int, rate: int) -> Floats:
    """Pushkin's prologue to Ruslan and Ludmila (1828), read by espeak-ng again and again."""
    import soundfile
    import soxr

    command = ["espeak-ng", "-v", "ru", "--stdout", RUSSIAN * 3]
    spoken, spoken_rate = soundfile.read(io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout))
    return np.resize(np.clip(soxr.resample(spoken, spoken_rate, rate), -1, 1), samples).astype(np.float32)


def _voice(pitch: np.ndarray, rate: int) -> Floats:
    """Harmonics of a pitch in Hz, float [samples], as loud as a mouth's resonances make them."""
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    middle = float(pitch.mean()) if len(pitch) else 100.0
    sound = np.zeros(len(pitch))
    for k in range(1, int(min(4000, rate / 2) / (1.4 * middle)) + 1):
        loudness = sum(1 / (1 + ((k * middle - formant) / 90) ** 2) for formant in FORMANTS)
        sound += loudness / np.sqrt(k) * np.sin(k * phase)
    return (0.3 * sound / max(float(np.abs(sound).max(initial=0.0)), 1e-9)).astype(np.float32)


SOUNDS = {"made-up music": music, "made-up shouting": shouting, "one vowel": vowel}
if shutil.which("espeak-ng"):
    SOUNDS["Russian (espeak-ng)"] = russian
