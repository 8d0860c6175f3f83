"""A run's validations as event files for TensorBoard, written with its own package and without TensorFlow or torch."""

from __future__ import annotations

import importlib.util
import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamer.ctc import WordSpan
from streamer.recognizer import Floats
from train import spectrogram
from train.align import compare
from train.cache import read_audio
from train.config import Config, subsampling
from train.data import Example
from train.spectrogram import Label

EXAMPLES = 8  # clips whose transcripts are shown
LONGEST = 6.0  # seconds of the clip that is shown and heard

Heard = Sequence[tuple[Example, tuple[WordSpan, ...]]]  # words in output frames


def open_board(folder: Path) -> Board | None:
    """A new event file in a run's folder; None, and a word about it, where its packages are not installed."""
    missing = [name for name in ("tensorboard", "matplotlib") if importlib.util.find_spec(name) is None]
    if not missing:
        return Board(folder)
    print(f"without {' and '.join(missing)} nothing is written for TensorBoard: type  pip install 'asr-stream[train]'")
    return None


class Board:
    """One event file in `folder`, to which every validation is appended; `tensorboard --logdir` shows it meanwhile.

    TensorBoard's own EventFileWriter imports TensorFlow wherever that is installed; its records and messages do not.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"events.out.tfevents.{int(time.time()):010d}.asr-train.{os.getpid()}"
        self._before = (0.0, 0.0)  # seconds and hours of audio at the last validation
        self._sounding: Path | None = None  # the clip whose sound was written last
        self._write(0, file_version="brain.Event:2")

    def validated(
        self, row: Mapping[str, float], heard: Heard, config: Config, features: Callable[[Path], Floats]
    ) -> None:
        """A validation: a row of log.csv, the words heard of every clip, and `features` of recordings."""
        step = int(row["step"])
        self.scalars(step, row)
        some = [heard[i] for i in np.unique(np.linspace(0, len(heard) - 1, EXAMPLES).round().astype(int))]
        self.text(step, "validation/transcripts", table([(e.clip.text, sentence(words)) for e, words in some]))
        example, words = shown(heard, config)
        path, spec = example.clip.path, config.features
        frames = features(path)
        labels = compare(example.clip.text, timed(words, config), len(frames) * spec.frame_shift / spec.sample_rate)
        self.image(step, "validation/words", spectrogram.picture(frames, spec, labels))
        if self._sounding != path:
            self._sounding = path
            try:
                self.audio(step, "validation/clip", read_audio(path, spec.sample_rate), spec.sample_rate)
            except (OSError, RuntimeError) as error:
                print(f"{path} cannot be read any more ({error}): TensorBoard goes without its sound", flush=True)

    def scalars(self, step: int, row: Mapping[str, float]) -> None:
        """Loss, error rates, learning rate and speed, from a row of log.csv."""
        seconds, hours = row["seconds"] - self._before[0], row["audio_hours"] - self._before[1]
        self._before = (row["seconds"], row["audio_hours"])
        values = {f"training/{name}": row[name] for name in ("loss", "learning_rate", "audio_hours")}
        values |= {f"validation/{name}": row[name] for name in ("cer", "wer")}
        values["training/audio_hours_per_hour"] = 3600 * hours / max(seconds, 1e-9)
        self._summary(step, *({"tag": tag, "simple_value": value} for tag, value in values.items()))

    def text(self, step: int, tag: str, markdown: str) -> None:
        """A text, shown as Markdown."""
        kind = {"plugin_data": {"plugin_name": "text"}}
        tensor = {"dtype": "DT_STRING", "string_val": [markdown.encode()], "tensor_shape": {}}
        self._summary(step, {"tag": tag, "metadata": kind, "tensor": tensor})

    def image(self, step: int, tag: str, png: bytes) -> None:
        """A picture; its size in pixels is in the first chunk of the PNG."""
        width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
        shape = {"width": width, "height": height, "colorspace": 4}
        self._summary(step, {"tag": tag, "image": {**shape, "encoded_image_string": png}})

    def audio(self, step: int, tag: str, samples: Floats, rate: int) -> None:
        """A recording to listen to, float32 [samples] at `rate`, as 16-bit WAV."""
        import soundfile
        from tensorboard.plugins.audio import metadata

        wav = io.BytesIO()
        soundfile.write(wav, samples, rate, format="WAV", subtype="PCM_16")
        kind = metadata.create_summary_metadata("", "", metadata.Encoding.Value("WAV"))
        shape = {"dim": [{"size": 1}, {"size": 2}]}  # one recording and its empty label
        tensor = {"dtype": "DT_STRING", "string_val": [wav.getvalue(), b""], "tensor_shape": shape}
        self._summary(step, {"tag": tag, "metadata": kind, "tensor": tensor})

    def _summary(self, step: int, *values: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(step, summary=Summary(value=[Summary.Value(**value) for value in values]))

    def _write(self, step: int, **what: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._path.open("ab") as file:
            RecordWriter(file).write(Event(wall_time=time.time(), step=step, **what).SerializeToString())


def shown(heard: Heard, config: Config) -> tuple[Example, tuple[WordSpan, ...]]:
    """The clip to look at and listen to: the longest of those that are not too long, else the shortest."""
    frames = LONGEST * config.features.sample_rate / config.features.frame_shift
    by_length = sorted(heard, key=lambda pair: (pair[0].frames, str(pair[0].clip.path)))
    return next((pair for pair in reversed(by_length) if pair[0].frames <= frames), by_length[0])


def timed(words: Sequence[WordSpan], config: Config) -> list[Label]:
    """Words in seconds of their recording: a streaming network speaks right_context frames late."""
    late = config.right_context if config.network == "streaming" else 0
    second = config.features.sample_rate / config.features.frame_shift

    def at(frame: int) -> float:
        return max(0.0, (frame * subsampling(config) - late) / second)

    return [Label(word.text, at(word.start), at(word.end)) for word in words]


def sentence(words: Sequence[WordSpan]) -> str:
    """The transcript of the words."""
    return " ".join(word.text for word in words)


def table(pairs: Sequence[tuple[str, str]]) -> str:
    """References and what was heard as a Markdown table."""
    rows = [f"| {_cell(reference)} | {_cell(heard)} |" for reference, heard in pairs]
    return "\n".join(["| reference | heard |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\|*_`<[" else c for c in text)
