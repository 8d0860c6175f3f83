"""Microphones are listed and chosen by number or name, and every way to fail says what to do."""

from __future__ import annotations

import sys

import fake_sounddevice
import pytest
from fake_sounddevice import device

from streamer.devices import Device, choose, list_devices
from streamer.intake import SourceError

BUILT_IN = Device(0, "Built-in Microphone, ALSA", 2, 44100, True)
HEADSET = Device(3, "USB Headset: Audio (hw:1,0), ALSA", 1, 48000, False)
CAMERA = Device(4, "USB Camera, ALSA", 1, 16000, False)
DEVICES = [BUILT_IN, HEADSET, CAMERA]


def test_only_devices_that_can_record_are_listed(monkeypatch):
    fake = fake_sounddevice.install(
        monkeypatch, device("Speaker", channels=0), device("Headset", 1, 44100.0), device("Array", 4, 48000.0, api=1)
    )
    fake.default.device = [2, 0]
    assert list_devices() == [
        (1, "Headset, ALSA", 1, 44100, False),
        (2, "Array, Windows WASAPI", 4, 48000, True),
    ]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, BUILT_IN),
        (3, HEADSET),
        ("4", CAMERA),
        ("usb head", HEADSET),
        ("CAMERA", CAMERA),
        ("Built-in Microphone", BUILT_IN),
        ("usb camera, alsa", CAMERA),
    ],
)
def test_a_device_is_meant_by_its_number_or_by_part_of_its_name(wanted, chosen):
    assert choose(wanted, DEVICES) == chosen


def test_a_whole_name_beats_a_part_of_another():
    default, sysdefault = Device(0, "default, ALSA", 2, 48000, True), Device(1, "sysdefault, ALSA", 2, 48000, False)
    assert choose("default", [sysdefault, default]) == default


def test_a_name_that_fits_several_devices_is_refused_with_their_numbers():
    with pytest.raises(SourceError) as caught:
        choose("usb", DEVICES)
    assert str(caught.value) == (
        "'usb' fits several microphones: choose one by its number "
        "(3 is USB Headset: Audio (hw:1,0), ALSA; 4 is USB Camera, ALSA)"
    )


@pytest.mark.parametrize("wanted", [1, "1", "banana"])
def test_an_unknown_device_is_named(wanted):
    with pytest.raises(SourceError, match=rf"no microphone '?{wanted}'?: choose one that `asr-stream --list-devices`"):
        choose(wanted, DEVICES)


def test_a_missing_default_is_told_from_a_missing_microphone():
    with pytest.raises(SourceError, match="there is no default microphone: choose one"):
        choose(None, [HEADSET])
    with pytest.raises(SourceError, match=r"no microphone was found: connect one .* or give a sound file"):
        choose(None, [])


def test_missing_portaudio_is_refused_with_the_package_to_install(monkeypatch, tmp_path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match="PortAudio is missing: install it with `sudo apt-get install libportaudio2`"):
        list_devices()


def test_a_broken_sound_system_is_refused_with_its_own_words(monkeypatch, tmp_path):
    (tmp_path / "sounddevice.py").write_text(
        "class PortAudioError(Exception): pass\nraise PortAudioError('Error initializing PortAudio')"
    )
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=r"PortAudio cannot start \(Error initializing PortAudio\): check"):
        list_devices()


def test_devices_that_cannot_be_listed_are_refused_with_portaudios_own_words(monkeypatch):
    fake = fake_sounddevice.install(monkeypatch)

    def fail():
        raise fake.PortAudioError("Internal error")

    monkeypatch.setattr(fake, "query_devices", fail)
    with pytest.raises(SourceError, match=r"PortAudio cannot list its devices \(Internal error\): check"):
        list_devices()


def test_a_missing_sounddevice_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SourceError, match="install it with `pip install sounddevice`"):
        list_devices()
