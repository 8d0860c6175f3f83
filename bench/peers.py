"""One recogniser in a process of its own: clips in, texts, CPU time and memory out; started by bench/accuracy.py.

    python bench/peers.py NAME FOLDER_OF_CLIPS [MODEL ...]

A clip is a file of 16-bit samples at 16 kHz. It needs nothing of ours but for our own recogniser, so that it can be run
by another Python, where the others are installed. Each line that it prints is JSON: first {"bytes"} of the models,
or {"error"}, then {"text"} of each clip, then {"cpu_seconds", "memory_mb"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

RATE = 16000
BLOCK = RATE // 5  # samples that a streaming recogniser gets at a time

Samples = np.ndarray  # int16
Transcribe = Callable[[Samples], str]
Peer = Callable[..., tuple[Transcribe, list[Path]]]  # models in; how to recognise, and the files they are made of, out


def blocks(samples: Samples) -> list[bytes]:
    """A clip as a streaming recogniser gets it."""
    return [samples[at : at + BLOCK].tobytes() for at in range(0, len(samples), BLOCK)]


def sound(samples: Samples) -> np.ndarray:
    """The same as float32 in [-1, 1]."""
    return samples.astype(np.float32) / 32768


def ours(model: str, lm: str) -> tuple[Transcribe, list[Path]]:
    """This project's, streaming; empty names stand for the default model and the language model beside it."""
    from streamer.model import find, find_lm, load
    from train.evaluate import transcribe

    path = find(model or None)
    helper = find_lm(lm or None, path)
    acoustic = load(path, helper)
    if acoustic.spec.features.sample_rate != RATE:
        raise RuntimeError(f"{path} is for {acoustic.spec.features.sample_rate} Hz, the peers for {RATE}")
    return lambda samples: transcribe(acoustic, sound(samples)), [path, helper] if helper else [path]


def vosk(model: str) -> tuple[Transcribe, list[Path]]:
    """Vosk, streaming; model: its folder."""
    import vosk

    vosk.SetLogLevel(-1)
    acoustic = vosk.Model(model)

    def transcribe(samples: Samples) -> str:
        recognizer, texts = vosk.KaldiRecognizer(acoustic, RATE), []
        for block in blocks(samples):
            if recognizer.AcceptWaveform(block):
                texts.append(json.loads(recognizer.Result())["text"])
        return " ".join([*texts, json.loads(recognizer.FinalResult())["text"]])

    return transcribe, [Path(model)]


def pocketsphinx() -> tuple[Transcribe, list[Path]]:
    """PocketSphinx, each clip at once, with the model that comes with it."""
    import pocketsphinx

    decoder = pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL")

    def transcribe(samples: Samples) -> str:
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        return decoder.hyp().hypstr if decoder.hyp() else ""

    return transcribe, [Path(pocketsphinx.get_model_path())]


def moonshine(model: str) -> tuple[Transcribe, list[Path]]:
    """Moonshine, each clip at once; model: a folder of its files, in one named tiny or base."""
    import moonshine_onnx

    size = "base" if "base" in Path(model).resolve().parts else "tiny"
    network = moonshine_onnx.MoonshineOnnxModel(models_dir=model, model_name=size)
    tokenizer = moonshine_onnx.load_tokenizer()

    def transcribe(samples: Samples) -> str:
        padded = np.pad(sound(samples), (0, max(0, RATE // 5 - len(samples))))  # shorter ones are refused
        return str(tokenizer.decode_batch(network.generate(padded[None]))[0])

    return transcribe, [Path(model)]


def whisper(model: str) -> tuple[Transcribe, list[Path]]:
    """Whisper by faster-whisper in 8 bits, each clip at once; model: its folder."""
    import faster_whisper

    network = faster_whisper.WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=1)

    def transcribe(samples: Samples) -> str:
        segments, _ = network.transcribe(sound(samples), language="en")
        return " ".join(segment.text for segment in segments)

    return transcribe, [Path(model)]


PEERS: dict[str, Peer] = {
    "ours": ours,
    "vosk": vosk,
    "pocketsphinx": pocketsphinx,
    "moonshine": moonshine,
    "whisper": whisper,
}


def size(files: list[Path]) -> int:
    """Bytes of files, and of all files in folders."""
    found = [file for path in files for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in found if file.is_file())


def memory_mb() -> float:
    """The most memory this process has had; getrusage would count that of the process which started it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def main() -> None:
    """Recognise every clip with one recogniser on one core."""
    name, folder, *models = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        transcribe, files = PEERS[name](*models)
    except Exception as error:  # libraries raise whatever they like
        missing = isinstance(error, ModuleNotFoundError) and f"{error.name} is not installed"
        answers.write(json.dumps({"error": missing or " ".join(str(error).split()) or type(error).__name__}) + "\n")
        return
    answers.write(json.dumps({"bytes": size(files)}) + "\n")
    busy = 0.0
    for path in sorted(Path(folder).iterdir()):
        samples = np.fromfile(path, np.int16)
        started = time.process_time()
        text = transcribe(samples)
        busy += time.process_time() - started
        answers.write(json.dumps({"text": text}) + "\n")
    answers.write(json.dumps({"cpu_seconds": busy, "memory_mb": memory_mb()}) + "\n")


if __name__ == "__main__":
    main()
