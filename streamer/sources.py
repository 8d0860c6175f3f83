"""Where audio comes from: files, standard input and microphones as async iterators of blocks at the model's rate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import stat
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from streamer.devices import Device, list_devices
from streamer.intake import Intake, Lost, SourceError
from streamer.microphone import read_microphone
from streamer.ring import Floats

if TYPE_CHECKING:
    import soundfile

__all__ = ["Device", "Lost", "SourceError", "list_devices", "read_file", "read_microphone", "read_stdin"]

log = logging.getLogger("asr_stream")


async def read_file(path: str, sample_rate: int, realtime: bool = False) -> AsyncGenerator[Floats | Lost, None]:
    """A sound file as blocks; in `realtime` each comes when its last sample would have been spoken, never earlier."""
    loop = asyncio.get_running_loop()
    begun, delivered = loop.time(), 0
    with contextlib.closing(_decode(path, sample_rate)) as blocks:
        for block in blocks:
            pieces = max(1, len(block) * 50 // sample_rate) if realtime else 1  # of 20 to 40 ms
            for piece in np.array_split(block, pieces):
                delivered += len(piece)
                due = begun + delivered / sample_rate if realtime else 0.0
                await asyncio.sleep(max(0.0, due - loop.time()))
                yield piece


def _decode(path: str, sample_rate: int) -> Generator[Floats, None, None]:
    """The blocks of a sound file, half a second each, as fast as they can be read.

    SourceError after what could be read when the file ends before its time.
    """
    frames = 0
    with _open(path) as file, _parse(file, path) as sound:
        rate = sound.samplerate
        intake = Intake(path, rate, sample_rate)
        for samples in _frames(sound):
            frames += len(samples)
            yield from intake.push(samples)
        yield from intake.flush()
        declared = _declared_frames(sound)
        unread = os.fstat(file.fileno()).st_size - file.tell()
        is_mp3 = sound.format == "MP3"
    if not frames:
        raise SourceError(f"{path} contains no audio: record or convert it again")
    if is_mp3 and unread > 1 << 14:
        # libsndfile ends where it guesses the end to be, which it cannot without an index when the bit rate varies.
        log.warning("%s: only the first %.2f seconds could be read; %s", path, frames / rate, _conversion(path))
    elif frames + rate // 10 < declared:
        early = f"{path} ends early: {frames / rate:.2f} of {declared / rate:.2f} seconds are there and were heard"
        if not is_mp3:
            raise SourceError(f"{early}; copy or record it again")
        log.warning("%s, if its header is right", early)  # whose count is an estimate


def _open(path: str) -> BinaryIO:
    """The file; SourceError says why it cannot be opened."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise SourceError(f"{path} is a folder: give a sound file inside it")
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path} is not a regular file: pipe its audio into standard input instead")
        if not status.st_size:
            raise SourceError(f"{path} is empty: record or convert it again")
        return open(path, "rb")
    except FileNotFoundError:
        raise SourceError(f"there is no file {path}: check the path") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): check its permissions") from None


def _parse(file: BinaryIO, path: str) -> soundfile.SoundFile:
    """The file as a sound that is read from its beginning to its end."""
    import soundfile

    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name that ends in .raw, which has no header
        raise SourceError(
            f"{path} is not a sound file that can be read (wav, flac, ogg, opus, mp3): {_conversion(path)}"
        ) from None
    # After each read soundfile seeks to where it already is, unless it cannot; that makes libsndfile's MP3 and Opus
    # decoders lose their place, which is heard as a click at every block.
    sound.seekable = lambda: False
    return sound


def _conversion(path: str) -> str:
    return f"convert it with `ffmpeg -i {path} converted.wav`"


def _frames(sound: soundfile.SoundFile) -> Iterator[Floats]:
    """Samples [n, channels] until the file ends or its data is damaged; each array overwrites the one before."""
    import soundfile

    buffer = np.empty((max(1, min(sound.samplerate // 2, 1 << 16)), sound.channels), np.float32)
    while True:
        buffer.fill(0)
        try:
            samples = sound.read(out=buffer)
        except soundfile.LibsndfileError:
            # A cut FLAC file. libsndfile has filled the buffer as far as it came, without saying how far that is.
            heard = np.flatnonzero(buffer.any(axis=1))
            yield buffer[: heard[-1] + 1 if len(heard) else 0]
            return
        if not len(samples):
            return
        yield samples


def _declared_frames(sound: soundfile.SoundFile) -> int:
    """How many frames the header promises, 0 if it does not say.

    libsndfile corrects the count of a WAV file to what is there, and keeps the promise in its log only.
    """
    correction = re.search(r"^data : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if correction is None:
        return int(sound.frames) if sound.frames < 1 << 62 else 0
    declared, actual = (int(size) for size in correction.groups())
    unknown = declared >= 0x7FFF0000  # what programs write that do not know yet how long the file becomes
    return 0 if unknown or not actual else int(sound.frames) * declared // actual


async def read_stdin(rate: int, sample_rate: int, descriptor: int = 0) -> AsyncGenerator[Floats | Lost, None]:
    """Signed 16-bit little-endian mono samples from standard input as blocks, until it ends; nothing is dropped."""
    _refuse_terminal(descriptor)
    intake = Intake("standard input", rate, sample_rate)
    take = _start_reading(descriptor, size=max(2, rate))  # half a second
    data = await take()
    if not data:
        raise SourceError("standard input contained no audio: see whether the program that writes into it failed")
    if data.startswith(b"RIFF"):
        raise SourceError(
            "standard input begins with a WAV header: send bare samples (`arecord -t raw`, `ffmpeg -f s16le`)"
        )
    tail = b""
    while data:
        data = tail + data
        whole = len(data) // 2 * 2
        tail = data[whole:]
        samples = np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32768)
        for block in intake.push(samples):
            yield block
        data = await take()
    if tail:
        log.warning("standard input ended in the middle of a sample: its last byte is ignored")
    for block in intake.flush():
        yield block


def _refuse_terminal(descriptor: int) -> None:
    if os.isatty(descriptor):
        raise SourceError(
            "standard input is a terminal: pipe s16le samples into it (`ffmpeg -i talk.mp4 -f s16le -ac 1 -`)"
        )


def _start_reading(descriptor: int, size: int) -> Callable[[], Awaitable[bytes]]:
    """A function that waits for the next bytes of a descriptor of any kind, at most `size`, and returns b"" at its end.

    A daemon thread reads the bare descriptor: event loops can watch neither regular files nor Windows pipes, an
    executor's thread would be joined at exit while it still waits for input, and so would the lock of sys.stdin.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    room = threading.Semaphore(2)  # a slow reader slows the writer; nothing piles up here

    def pump() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed while this thread waited for input
            chunk: bytes | OSError = b"unread"
            while isinstance(chunk, bytes) and chunk:
                room.acquire()
                try:
                    chunk = os.read(descriptor, size)
                except OSError as error:
                    chunk = error
                loop.call_soon_threadsafe(arrived.put_nowait, chunk)

    async def take() -> bytes:
        chunk = await arrived.get()
        room.release()
        if isinstance(chunk, OSError):
            raise SourceError(f"standard input cannot be read ({chunk.strerror}): pipe s16le samples into it")
        return chunk

    threading.Thread(target=pump, name="stdin", daemon=True).start()
    return take
