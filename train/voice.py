"""A person's voice as a corpus: what is to be read, and what has been."""

from __future__ import annotations

import csv
import io
import lzma
import os
from collections.abc import Sequence
from pathlib import Path

from streamer.ring import Floats
from train.data import Clip, DataError, read_corpus
from train.reading import RATE
from train.text import normalise, sentences

LONGEST = 24  # words in a prompt


class Voice:
    """The corpus in a folder: numbered FLAC files and the manifest that lists them."""

    def __init__(self, folder: Path, speaker: str) -> None:
        self.folder, self._speaker, self._manifest = folder, speaker, folder / "manifest.csv"
        if (folder / "metadata.csv").exists():
            raise DataError(f"{folder} has a metadata.csv and is another corpus: choose another --out")
        clips = read_corpus(folder) if self._manifest.exists() else []
        self.clips, self.seconds = len(clips), sum(map(_seconds, clips))
        self.recorded = {clip.text for clip in clips if clip.speaker == speaker}
        names = [path.stem for path in (*folder.glob("*.flac"), *(clip.path for clip in clips))]
        self._last = max((int(name) for name in names if name.isdecimal()), default=0)

    def keep(self, text: str, samples: Floats) -> Path:
        """Save a recording; when this returns it is in the manifest, and until then nothing has changed there."""
        import soundfile

        path = self.folder / f"{self._last + 1:04d}.flac"
        sound, row = io.BytesIO(), io.StringIO()
        soundfile.write(sound, samples, RATE, "PCM_16", format="FLAC")
        listed = {"path": path.name, "text": text, "speaker": self._speaker, "corpus": self.folder.resolve().name}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _replace(path, sound.getvalue())
            old = self._manifest.read_bytes() if self._manifest.exists() else b"path,text,speaker,corpus\r\n"
            columns = next(csv.reader([old.decode("utf-8-sig").partition("\n")[0].rstrip("\r")]))
            csv.DictWriter(row, columns, extrasaction="ignore").writerow(listed | {"split": "train"})
            _replace(self._manifest, old + (b"" if old.endswith(b"\n") else b"\r\n") + row.getvalue().encode())
        except OSError as error:
            raise DataError(f"{path} cannot be saved ({error.strerror}): make room or choose another --out") from None
        self._last, self.clips, self.seconds = self._last + 1, self.clips + 1, self.seconds + len(samples) / RATE
        return path


def _replace(path: Path, content: bytes) -> None:
    """Write a whole file beside `path` and then put it in its place, so that there is never a part of one."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _seconds(clip: Clip) -> float:
    import soundfile

    try:
        return float(soundfile.info(clip.path).duration)
    except (OSError, RuntimeError):
        return 0.0


def read_prompts(path: Path) -> tuple[list[str], int]:
    """Distinct sentences, and how many lines were left out because of digits.

    A list has one on each line; in prose, .xz and LJSpeech-style .csv they are what `train.text.sentences` finds.
    """
    try:
        listed = path.suffix not in (".xz", ".csv")
        lines = path.read_text(encoding="utf-8-sig").splitlines() if listed else []
        found = [" ".join(line.split()) for line in lines]
        if not listed or _is_prose(found):
            found = list(sentences(path))
    except (OSError, UnicodeDecodeError, csv.Error, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path} cannot be read as text in UTF-8 ({error}): save it as such") from None
    spelled = [line for line in found if not any(map(str.isdigit, line))]
    distinct = {normalise(line): line for line in reversed(spelled) if normalise(line)}
    if not distinct:
        raise DataError(f"{path} has no sentence to read aloud: write one on each line, numbers as words")
    return [line for line in spelled if distinct.pop(normalise(line), None)], len(found) - len(spelled)


def _is_prose(lines: Sequence[str]) -> bool:
    """Whether most lines are too long to be prompts or run on in the next."""
    pairs = [(line, after) for line, after in zip(lines, [*lines[1:], ""], strict=True) if line]
    running = sum(line[-1] not in ".!?:;" and after[:1].islower() for line, after in pairs)
    long = sum(len(line.split()) > LONGEST for line, _ in pairs)
    return max(long, running if any(line[-1] in ".!?" for line, _ in pairs) else 0) > len(pairs) / 2
