"""Sentences are shown, read aloud into the microphone, judged, and kept: a corpus of one's own voice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shlex
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TextIO

from streamer.devices import portaudio
from streamer.intake import Lost, SourceError
from streamer.microphone import read_microphone
from streamer.ring import Floats
from train.data import DataError
from train.reading import RATE, Action, Judge, Keep, Level, Listen, Play, Session, Show, Take
from train.text import normalise
from train.voice import Voice, read_prompts

Blocks = AsyncGenerator[Floats | Lost, None]


class Screen:
    """Does what a Session wants: tells the user, plays, and saves."""

    def __init__(self, voice: Voice, total: int, auto: bool, out: TextIO) -> None:
        self._voice, self._total, self._auto, self._out = voice, total, auto, out
        self._playing, self._second = False, 0

    def do(self, action: Action) -> None:
        """Carry out one action."""
        if self._playing and isinstance(action, Show | Listen):
            self._playing = False
            _stop_playing()
        match action:
            case Show(number, text):
                keys = "" if self._auto else "Enter starts, s skips, q quits"
                self._say(f"\n{number}/{self._total}  {text}", keys)
            case Listen():
                self._second = 0
                self._say("recording: speak, then be quiet" if self._auto else "recording: Enter stops")
            case Level():
                self._show(action)
            case Judge(take, then):
                self._judge(take, then)
            case Keep(text, samples):
                self._say(f"kept as {self._voice.keep(text, samples)}")
            case Play(samples):
                self._playing = _play(samples)
                self._say("playing" if self._playing else "it cannot be played back here")

    def _say(self, *lines: str) -> None:
        start = "\r\x1b[K" if self._out.isatty() else ""
        self._out.writelines(f"{start}{line}\n" for line in lines if line)
        self._out.flush()

    def _show(self, now: Level) -> None:
        bar = "=" * round(30 * min(max(1 + now.level / 60, 0), 1))
        line = f"[{bar:30s}] {now.level:4.0f} dBFS {now.seconds:5.1f} s{'  TOO LOUD' if now.clipped else ''}"
        if self._out.isatty():
            self._out.write(f"\r\x1b[K{line}")
            self._out.flush()
        elif int(now.seconds) > self._second:
            self._second = int(now.seconds)
            self._say(line)

    def _judge(self, take: Take, then: str) -> None:
        faults = "".join(f"; {fault}" for fault in take.faults)
        self._say(f"{len(take.samples) / RATE:.1f} s, {take.level:.0f} dBFS{faults}")
        if then == "again":
            self._say("once more, please")
        elif then == "ask":
            replay = "p plays it, " if _output_rate() else ""
            self._say(f"Enter keeps it, r records again, {replay}s skips, q quits without it")


def _output_rate() -> int:
    """The sample rate of the default loudspeaker, 0 when there is none."""
    try:
        sd = portaudio()
        with contextlib.suppress(sd.PortAudioError):
            return round(sd.query_devices(kind="output")["default_samplerate"])
    except SourceError:
        pass
    return 0


def _play(samples: Floats) -> bool:
    """Begin to play a recording; False when that is not possible."""
    import soxr

    if not (rate := _output_rate()):
        return False
    sd = portaudio()
    try:
        sd.play(soxr.resample(samples, RATE, rate), rate)
    except sd.PortAudioError:
        return False
    return True


def _stop_playing() -> None:
    sd = portaudio()
    with contextlib.suppress(sd.PortAudioError):
        sd.stop()


def read_keys(stdin: int, typed: Callable[[str], None]) -> None:
    """Call `typed` with what begins each line of a file descriptor, and at its end with "end"."""
    # Not sys.stdin: a thread that waits with its lock would make the interpreter fail when it exits.
    with contextlib.suppress(OSError), open(stdin, "rb", buffering=0, closefd=False) as lines:
        for line in lines:
            typed(line.decode(errors="replace").strip().lower()[:1])
    typed("end")


async def converse(session: Session, screen: Screen, source: Blocks, keys: asyncio.Queue[str]) -> None:
    """Hand what is heard and typed to the session, and what it wants to the screen, until it is over."""
    await anext(source)  # a microphone that cannot be opened says so before the first prompt
    heard, typed = asyncio.ensure_future(anext(source)), asyncio.ensure_future(keys.get())
    try:
        actions = session.advance()
        while True:
            for action in actions:
                screen.do(action)
            if session.over:
                return
            await asyncio.wait({heard, typed}, return_when=asyncio.FIRST_COMPLETED)
            if typed.done():
                key, typed = typed.result(), asyncio.ensure_future(keys.get())
                actions = session.key(key)
            else:
                item, heard = heard.result(), asyncio.ensure_future(anext(source))
                actions = session.lose(item.reason) if isinstance(item, Lost) else session.hear(item)
    finally:
        heard.cancel()
        typed.cancel()
        await asyncio.gather(heard, typed, return_exceptions=True)


async def _run(session: Session, screen: Screen, device: str | None, auto: bool) -> None:
    loop, keys = asyncio.get_running_loop(), asyncio.Queue[str]()

    def typed(key: str) -> None:
        if not (auto and key == "end"):  # then it goes on without a keyboard
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(keys.put_nowait, "q" if key == "end" else key)

    async with contextlib.aclosing(read_microphone(device, RATE)) as source:
        threading.Thread(target=read_keys, args=(0, typed), name="keys", daemon=True).start()
        await converse(session, screen, source, keys)


def record(
    texts: Path,
    folder: Path,
    speaker: str = "me",
    count: int | None = None,
    seconds: float = 30.0,
    auto: bool = False,
    device: str | None = None,
    seed: int = 1,
) -> None:
    """Have sentences of a text read aloud and add them to the corpus in `folder`; what was kept stays, come what may.

    count: so many of those that `speaker` has not read yet, in random order.  [default: all of them, in theirs]
    """
    voice = Voice(folder, speaker)
    prompts, left_out = read_prompts(texts)
    if left_out:
        print(f"{left_out} lines with digits are left out: write numbers as words")
    if count:
        random.Random(seed).shuffle(prompts)
    prompts = [prompt for prompt in prompts if normalise(prompt) not in voice.recorded][:count]
    session, screen = Session(prompts, auto, seconds), Screen(voice, len(prompts), auto, sys.stdout)
    try:
        if prompts:
            asyncio.run(_run(session, screen, device, auto))
        else:
            print(f"all sentences of {texts} are recorded already")
    except SourceError as error:
        raise DataError(str(error)) from None
    finally:
        if voice.clips:
            name = shlex.quote(str(folder))
            print(f"\n{voice.clips} clips, {voice.seconds / 60:.1f} minutes in {folder}")
            print(f"what comes next:  asr-train fit {name} --init MODEL --out RUN", flush=True)
