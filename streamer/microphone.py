"""The microphone as an async iterator of blocks that survives overruns and unplugging."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from streamer.devices import Device, choose, list_devices, portaudio
from streamer.intake import Intake, Lost, SourceError
from streamer.ring import Floats, Overrun, Ring

log = logging.getLogger("asr_stream")

RING_SECONDS = 10
FIRST_SECONDS = 10.0  # a sound server may take more than a second to wake a source
SILENCE_SECONDS = 2.0  # a driver that has not called for so long has lost its device
CLOSE_SECONDS = 1.0  # closing takes some milliseconds
RETRY_SECONDS = 2.0  # PortAudio announces no new devices, so it must be asked again


async def read_microphone(device: int | str | None, sample_rate: int) -> AsyncGenerator[Floats | Lost, None]:
    """Blocks from a microphone, for ever; Lost stands where audio is missing, also while the device is unplugged.

    `device` is an index, a part of a name or None for the default; SourceError when it cannot be opened at first.
    """
    loop = asyncio.get_running_loop()
    capture = _open(device, sample_rate)
    if isinstance(device, int) or (device is not None and device.isdecimal()):
        # After replugging another device may have this number, and ALSA another number in the name.
        device = capture.device.name.partition(" (hw:")[0]
    heard_at, away, stuck = loop.time(), False, False
    while True:
        try:
            while await capture.heard():
                if away:
                    log.info("the microphone is back: %s", capture.device.name)
                    yield Lost(round((loop.time() - heard_at) * sample_rate), "the microphone was away")
                heard_at, away = loop.time(), False
                for item in capture.drain():
                    yield item
        finally:
            stuck = not capture.close() or stuck
        if not away:
            for item in capture.lost(0, "the microphone was unplugged"):
                yield item
        away = True
        capture = await _reopen(device, sample_rate, look_for_devices=not stuck)


async def _reopen(device: int | str | None, sample_rate: int, look_for_devices: bool) -> _Capture:
    """Try until the device can be opened; to look for new devices would wait for ever on a stream that is stuck."""
    sd = portaudio()
    while True:
        await asyncio.sleep(RETRY_SECONDS)
        with contextlib.suppress(sd.PortAudioError, SourceError):
            if look_for_devices:
                # PortAudio looks only when it is initialised. That blocks the event loop for about 0.1 s; another
                # thread would not do, since Windows wants all calls to come from one.
                with contextlib.suppress(sd.PortAudioError):
                    sd._terminate()
                sd._initialize()
            return _open(device, sample_rate)


def _open(device: int | str | None, sample_rate: int) -> _Capture:
    """Start recording at the model's rate or, where the device refuses that, at its own."""
    sd = portaudio()
    chosen = choose(device, list_devices())
    # Windows' mixer converts rates only if asked to.
    settings = sd.WasapiSettings(auto_convert=True) if chosen.name.endswith("WASAPI") else None
    refusal = None
    for rate, channels in [(sample_rate, 1), (chosen.default_rate, 1), (chosen.default_rate, chosen.channels)]:
        capture = _Capture(chosen, rate, sample_rate)
        try:
            capture.stream = sd.InputStream(
                samplerate=rate,
                channels=channels,
                device=chosen.number,
                dtype="float32",
                callback=capture.write,
                finished_callback=capture.end,
                extra_settings=settings,
            )
            capture.stream.start()
        except sd.PortAudioError as error:
            capture.close()
            refusal = error
        else:
            log.info("listening to %s at %d Hz", chosen.name, rate)
            return capture
    raise SourceError(f"the microphone {chosen.name} cannot be opened ({refusal}): {_ADVICE}")


_ADVICE = "close what else uses it, choose one that `asr-stream --list-devices` shows, or give a sound file instead"


class _Capture:
    """An open stream: PortAudio's thread writes into a ring and the event loop reads from it."""

    def __init__(self, device: Device, rate: int, sample_rate: int) -> None:
        self.device = device
        self.stream: Any = None
        self._rate, self._sample_rate = rate, sample_rate
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._ring = Ring(RING_SECONDS * rate)
        self._overflows: deque[int] = deque()  # the positions before which the operating system dropped audio
        self._ended = False
        self._position = 0
        self._intake = Intake(device.name, rate, sample_rate)

    def write(self, samples: Floats, frames: int, time: object, status: Any) -> None:
        """PortAudio calls this in its own thread with samples [frames, channels]."""
        if status.input_overflow and self._ring.written:
            self._overflows.append(self._ring.written)
        self._ring.write(samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1))
        self._wake()

    def end(self) -> None:
        """PortAudio calls this in its own thread when the stream has stopped, for whatever reason."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._woken.set)

    async def heard(self) -> bool:
        """Wait until there is audio to drain; False when there will be none any more."""
        if not self._ended:
            try:
                async with asyncio.timeout(SILENCE_SECONDS if self._ring.written else FIRST_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                return self._woken.is_set()
            self._woken.clear()
        return not self._ended or self._position < self._ring.written

    def drain(self) -> Iterator[Floats | Lost]:
        """What was heard since the last time, in blocks of at most half a second."""
        while self._position < (written := self._ring.written):
            if self._pass_overflows():
                yield from self.lost(0, "overrun: the operating system dropped audio")
            end = min(written, self._position + self._rate // 2)
            if self._overflows:
                end = min(end, self._overflows[0])
            try:
                samples = self._ring.read(self._position, end)
            except Overrun as overrun:
                # To skip more than is overwritten makes one gap of what would become many.
                end = max(overrun.oldest, written - self._ring.capacity // 2)
                missing = (end - self._position) * self._sample_rate // self._rate
                self._position = end
                self._pass_overflows()
                yield from self.lost(missing, "overrun: the recogniser could not keep up")
            else:
                self._position = end
                yield from self._intake.push(samples)

    def _pass_overflows(self) -> bool:
        """Forget the overflows that lie behind; whether there were any."""
        passed = False
        while self._overflows and self._overflows[0] <= self._position:
            self._overflows.popleft()
            passed = True
        return passed

    def lost(self, samples: int, reason: str) -> Iterator[Floats | Lost]:
        """The last audio before a gap, which the resampler still holds, and the gap."""
        log.warning("%s: %s", self.device.name, reason)
        yield from self._intake.flush()
        yield Lost(samples, reason)

    def close(self) -> bool:
        """Stop listening at once; False when the driver does not let go of the stream and it had to be abandoned.

        A sound server that dies can leave libpulse in a deadlock, and the daemon must not hang with it.
        """
        if self.stream is None:
            return True
        closer = threading.Thread(target=self.stream.close, name="closer", daemon=True)
        closer.start()
        closer.join(CLOSE_SECONDS)
        if closer.is_alive():
            log.warning("%s does not let go of its stream, which is abandoned", self.device.name)
            atexit.unregister(portaudio()._exit_handler)  # it would wait for the stream when the program ends
        return not closer.is_alive()
