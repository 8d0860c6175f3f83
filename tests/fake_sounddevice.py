"""A sounddevice module without PortAudio: tests plug devices in, speak into them and pull them out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest


def device(name: str, channels: int = 1, rate: float = 48000.0, api: int = 0) -> dict[str, Any]:
    return {"name": name, "hostapi": api, "max_input_channels": channels, "default_samplerate": rate}


class PortAudioError(Exception):
    """What sounddevice raises."""


class Stream:
    """An input stream whose callbacks the test makes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.started = self.closed = False
        self._callback: Callable[..., None] = settings["callback"]

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        self.closed = True

    def speak(self, samples: Any, overflow: bool = False) -> None:
        """Deliver samples [n] or [n, channels] as PortAudio would."""
        indata = np.asarray(samples, np.float32).reshape(-1, self.settings["channels"])
        self._callback(indata, len(indata), None, SimpleNamespace(input_overflow=overflow))

    def unplug(self) -> None:
        self.settings["finished_callback"]()


class FakeSounddevice(ModuleType):
    """`plugged` is what is connected; as in PortAudio, only _initialize after _terminate looks at it."""

    PortAudioError = PortAudioError

    def __init__(self, *devices: dict[str, Any]) -> None:
        super().__init__("sounddevice")
        self.plugged = list(devices)
        self.apis = [{"name": "ALSA"}, {"name": "Windows WASAPI"}]
        self.default = SimpleNamespace(device=[0, 0])
        self.streams: list[Stream] = []
        self.refuse: Callable[[dict[str, Any]], bool] = lambda settings: False
        self._devices: list[dict[str, Any]] | None = None
        self._initialize()

    def _initialize(self) -> None:
        if self._devices is None:
            self._devices = [found | {"index": number} for number, found in enumerate(self.plugged)]

    def _terminate(self) -> None:
        self._devices = None

    def plug(self, *devices: dict[str, Any]) -> None:
        """Start anew with these devices."""
        self.plugged = list(devices)
        self._terminate()
        self._initialize()

    def _exit_handler(self) -> None:
        self._terminate()

    def query_devices(self) -> list[dict[str, Any]]:
        if self._devices is None:
            raise PortAudioError("PortAudio not initialized")
        return self._devices

    def query_hostapis(self) -> list[dict[str, Any]]:
        return self.apis

    def WasapiSettings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def InputStream(self, **settings: Any) -> Stream:
        if self.refuse(settings):
            raise PortAudioError("Invalid sample rate")
        self.streams.append(Stream(settings))
        return self.streams[-1]


def install(monkeypatch: pytest.MonkeyPatch, *devices: dict[str, Any]) -> FakeSounddevice:
    """Make `import sounddevice` give a fake with these devices."""
    fake = FakeSounddevice(*devices)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake
