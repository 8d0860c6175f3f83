"""Which microphones there are: PortAudio's input devices, and the one that a user means."""

from __future__ import annotations

from typing import Any, NamedTuple

from streamer.intake import SourceError


class Device(NamedTuple):
    """An input device under the number that PortAudio gives it; `name` ends in its host API."""

    number: int
    name: str
    channels: int
    default_rate: int
    is_default: bool


def list_devices() -> list[Device]:
    """All devices that can record; SourceError when PortAudio is missing or broken."""
    sd = portaudio()
    try:
        apis = [api["name"] for api in sd.query_hostapis()]
        found = [device for device in sd.query_devices() if device["max_input_channels"] > 0]
        default = sd.default.device[0]
    except sd.PortAudioError as error:
        raise SourceError(f"PortAudio cannot list its devices ({error}): check that the sound system works") from None
    return [
        Device(
            device["index"],
            f"{device['name']}, {apis[device['hostapi']]}",
            device["max_input_channels"],
            round(device["default_samplerate"]),
            device["index"] == default,
        )
        for device in found
    ]


def choose(device: int | str | None, devices: list[Device]) -> Device:
    """The device that is meant by an index, a part of a name or None; SourceError when it is none or several."""
    if not devices:
        raise SourceError(
            "no microphone was found: connect one (`asr-stream --list-devices` shows it) or give a sound file"
        )
    if device is None:
        matches = [candidate for candidate in devices if candidate.is_default]
    elif isinstance(device, int) or device.isdecimal():
        matches = [candidate for candidate in devices if candidate.number == int(device)]
    else:
        wanted = device.casefold()
        exact = [d for d in devices if wanted in (d.name.casefold(), d.name.rpartition(", ")[0].casefold())]
        matches = exact or [d for d in devices if wanted in d.name.casefold()]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        which = "default microphone" if device is None else f"microphone {device!r}"
        raise SourceError(f"there is no {which}: choose one that `asr-stream --list-devices` shows with --device")
    several = "; ".join(f"{match.number} is {match.name}" for match in matches)
    raise SourceError(f"{device!r} fits several microphones: choose one by its number ({several})")


def portaudio() -> Any:
    """The sounddevice module; SourceError when it or the library beneath it is not there."""
    try:
        import sounddevice
    except ImportError:
        raise SourceError("the microphone needs sounddevice: install it with `pip install sounddevice`") from None
    except OSError:
        raise SourceError(
            "PortAudio is missing: install it with `sudo apt-get install libportaudio2` (Debian, Ubuntu), "
            "`sudo dnf install portaudio` (Fedora) or `brew install portaudio` (macOS)"
        ) from None
    except Exception as error:  # a PortAudioError, whose class cannot be named since its module failed to load
        raise SourceError(f"PortAudio cannot start ({error}): check that the sound system works") from None
    return sounddevice
