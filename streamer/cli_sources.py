"""What the options of `asr-stream` say of what it listens to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streamer.daemon import Source


def refuse_contradictions(audio: tuple[str, ...], mic: bool, device: str | None, rate: int | None, form: str) -> None:
    """UsageError when these do not say what to listen to."""
    if mic and audio:
        raise click.UsageError("give either --mic or files, not both")
    if device is not None and not mic:
        raise click.UsageError("--device chooses a microphone: give --mic with it")
    if "-" in audio and rate is None:
        raise click.UsageError("standard input needs its sample rate: for example --rate 16000")
    if rate is not None and "-" not in audio:
        raise click.UsageError("--rate tells the rate of standard input: give - with it; files know their own")
    if form in ("srt", "vtt") and len(audio) > 1:
        raise click.UsageError(f"--format {form} holds the captions of one source: run it once for every file")


def microphone(device: str | None) -> Source:
    """What a microphone hears."""
    from streamer.daemon import Source
    from streamer.sources import read_microphone

    return Source(
        "microphone" if device is None else f"microphone {device}", lambda rate: read_microphone(device, rate)
    )


def file_source(name: str, stdin_rate: int | None, realtime: bool) -> Source:
    """What a file holds, the bundled sample, or standard input."""
    from streamer.daemon import Source
    from streamer.sources import read_file, read_stdin

    if name == "-":
        return Source("standard input", lambda rate: read_stdin(stdin_rate or rate, rate))
    path = name
    if name == "sample" and not Path(name).exists():
        from streamer.model import MODELS

        path = str(MODELS / "sample.opus")
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # a file name may be any bytes
    return Source(shown, lambda rate: read_file(path, rate, realtime))


def show_devices() -> None:
    """List the microphones; ClickException when there are none."""
    from streamer.intake import SourceError
    from streamer.sources import list_devices

    try:
        devices = list_devices()
    except SourceError as error:
        raise click.ClickException(str(error)) from None
    if not devices:
        raise click.ClickException("no microphone was found: connect one, or give a sound file instead")
    for device in devices:
        mark = "*" if device.is_default else " "
        click.echo(f"{mark} {device.number:2d}  {device.name}  ({device.channels} channels, {device.default_rate} Hz)")
