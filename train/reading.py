"""Reading aloud, without terminal or device: samples and keys in, actions out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamer.ring import Floats
from train.text import normalise

RATE = 16000
FRAME = RATE // 50
SECOND = 50  # frames
MARGIN = 15  # frames of silence that are left before and after speech
SHORTEST = 10  # frames; what is loud for less is a cough or a door
SILENCE = -120.0  # dBFS
QUIETEST = -65.0  # dBFS; no room counts as more silent than that
ABOVE_ROOM = 10.0  # dB; how much louder than the room speech is
TOO_QUIET = -40.0  # dBFS of speech
CLIPPED = 0.985
FASTEST, SLOWEST = 25, 4  # letters a second


class Take(NamedTuple):
    """A recording without the silence around it; `whole` unless it cannot be all of its text and no more."""

    samples: Floats
    level: float
    faults: tuple[str, ...]
    whole: bool


class Show(NamedTuple):
    """Show the prompt with this number; what is played back ends."""

    number: int
    text: str


class Listen(NamedTuple):
    """Tell that recording begins."""


class Level(NamedTuple):
    """How loud it is so many seconds into a recording (with auto: into speech), and whether it ever was too loud."""

    seconds: float
    level: float
    clipped: bool


class Judge(NamedTuple):
    """Tell how a take is; `next` is what happens to it: "ask", "keep" or "again"."""

    take: Take
    next: str


class Keep(NamedTuple):
    """Save this recording of this text."""

    text: str
    samples: Floats


class Play(NamedTuple):
    """Play this back."""

    samples: Floats


Action = Show | Listen | Level | Judge | Keep | Play


def loudness(samples: Floats) -> float:
    """The level in dBFS, whatever constant the device adds."""
    return 20 * float(np.log10(np.std(samples) + 1e-6))


def is_clipped(samples: Floats) -> bool:
    return int(np.count_nonzero(np.abs(samples) >= CLIPPED)) >= 3


def spoken(levels: Sequence[float], room: float) -> tuple[int, int] | None:
    """The first frame of speech and the one after the last, if there is enough of it; clicks are none."""
    loud = np.pad(np.asarray(levels) > room + ABOVE_ROOM, 2)
    speech = np.flatnonzero(np.convolve(loud, np.ones(5), "valid") >= 3)
    return (int(speech[0]), int(speech[-1]) + 1) if len(speech) >= SHORTEST else None


def judge(frames: Sequence[Floats], levels: Sequence[float], room: float, text: str, gap: str = "") -> Take:
    """Trim a recording of `text` and name what is wrong with it; `gap` says why its end is missing, if it is."""
    found = spoken(levels, room)
    start, end = found or (0, len(frames))
    samples = _join(frames[max(0, start - MARGIN) : end + MARGIN])
    level = loudness(_join(frames[start:end])) if end > start else SILENCE
    seconds, letters = (end - start) / SECOND, len(normalise(text))
    partial = {
        f"cut off, {gap}": gap,
        "no speech is heard in it": found is None,
        "too short for all of the text": found and seconds < letters / FASTEST,
        "too long for this text": found and seconds > 3 + letters / SLOWEST,
    }
    poor = {
        "too quiet, come closer or raise the input level": found and level < TOO_QUIET,
        "clipped, step back or lower the input level": is_clipped(samples),
    }
    faults = tuple(fault for fault, present in (partial | poor).items() if present)
    return Take(samples, level, faults, not any(partial.values()))


def _join(frames: Sequence[Floats]) -> Floats:
    return np.concatenate([np.zeros(0, np.float32), *frames])


class Session:
    """The dialogue over some prompts; what comes out does not depend on how the samples were cut.

    auto: recording begins at once, ends after a second of quiet that follows speech, and is kept if it is whole.
    seconds: a recording ends after so many, if not before.
    """

    def __init__(self, prompts: Sequence[str], auto: bool = False, seconds: float = 30.0) -> None:
        self._prompts, self._auto, self._limit = prompts, auto, round(seconds * SECOND)
        self._state, self._number = "over", 0  # ready, recording, asking, over
        self._rest = np.zeros(0, np.float32)
        self._room = deque[float](maxlen=10 * SECOND)  # levels, of which the lowest are the room
        self._frames, self._levels = list[Floats](), list[float]()
        self._take: Take  # what is asked about

    @property
    def over(self) -> bool:
        """Whether all is done or the user has quit."""
        return self._state == "over"

    @property
    def _text(self) -> str:
        return self._prompts[self._number - 1]

    def advance(self) -> list[Action]:
        """Go to the next prompt, at the beginning to the first."""
        if self._number == len(self._prompts):
            self._state = "over"
            return []
        self._state, self._number = "ready", self._number + 1
        return [Show(self._number, self._text), *(self._listen() if self._auto else [])]

    def key(self, key: str) -> list[Action]:
        """The user typed Enter (an empty string) or a letter before it; those without a meaning are ignored."""
        match self._state, key:
            case "ready", "":
                return self._listen()
            case "recording", "":
                return self._stop()
            case "asking", "":
                return [Keep(self._text, self._take.samples), *self.advance()]
            case "asking", "p":
                return [Play(self._take.samples)]
            case "recording" | "asking", "r":
                return self._listen()
            case "ready" | "recording" | "asking", "s":
                return self.advance()
            case _, "q":
                self._state = "over"
        return []

    def hear(self, samples: Floats) -> list[Action]:
        """The microphone heard this."""
        actions, self._rest = list[Action](), np.concatenate([self._rest, samples])
        while len(self._rest) >= FRAME:
            frame, self._rest = self._rest[:FRAME], self._rest[FRAME:]
            if self._state in ("ready", "recording"):
                self._room.append(loudness(frame))
            if self._state == "recording":
                actions += self._record(frame)
        return actions

    def lose(self, reason: str) -> list[Action]:
        """Audio is missing here: what was recorded before ends."""
        self._rest = self._rest[:0]
        if self._state == "recording" and self._auto and spoken(self._levels, self._floor()) is None:
            self._frames, self._levels = [], []  # nobody had begun to speak
            return []
        return self._stop(reason) if self._state == "recording" else []

    def _record(self, frame: Floats) -> list[Action]:
        self._frames.append(frame)
        self._levels.append(self._room[-1])
        begun, size = 0, len(self._frames)
        if self._auto:
            found = spoken(self._levels, self._floor())
            if found and size - found[1] >= SECOND:
                return self._stop()
            if found is None and size >= SECOND:  # nobody speaks yet
                del self._frames[: -2 * MARGIN], self._levels[: -2 * MARGIN]
            begun, size = found[0] if found else len(self._frames), len(self._frames)
        if size - begun >= self._limit:
            return self._stop()
        if size % 5:
            return []
        seconds = (size - begun) / SECOND
        return [Level(seconds, max(self._levels[-5:]), is_clipped(_join(self._frames)))]

    def _floor(self) -> float:
        return max(QUIETEST, float(np.percentile(self._room, 10))) if self._room else QUIETEST

    def _listen(self) -> list[Action]:
        self._state, self._frames, self._levels = "recording", [], []
        return [Listen()]

    def _stop(self, gap: str = "") -> list[Action]:
        self._take = judge(self._frames, self._levels, self._floor(), self._text, gap)
        if not self._auto:
            self._state = "asking"
            return [Judge(self._take, "ask")]
        if not self._take.whole:
            return [Judge(self._take, "again"), *self._listen()]
        return [Judge(self._take, "keep"), Keep(self._text, self._take.samples), *self.advance()]
