"""The options of `asr-stream` that say who may use the server, for how long, and what is logged of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click

FILE = click.Path(path_type=Path, dir_okay=False)
SECONDS = click.FloatRange(min=0, min_open=True)

_OPTIONS = (
    click.option("--token", envvar="ASR_STREAM_TOKEN", show_envvar=True, help="Let in only who knows this word."),
    click.option("--token-file", type=FILE, help="A file with the token, so that no list of processes shows it."),
    click.option("--tls-cert", type=FILE, help="Speak TLS with this certificate (PEM, with those it rests on)."),
    click.option("--tls-key", type=FILE, help="The key of the certificate (PEM)."),
    click.option(
        "--max-idle", type=SECONDS, default=3600, show_default=True, help="Seconds without audio in a session."
    ),
    click.option(
        "--max-speed",
        type=click.FloatRange(1),
        help="Times real time that a session's audio is taken.  [default: as fast as there is time]",
    ),
    click.option("--log-json", is_flag=True, help="Log JSON on stderr, one object a line."),
    click.option("--log-text", is_flag=True, help="Log what the clients of sessions say, too."),
)


class Failure(click.ClickException):
    """What ends the program is told in the log, whatever its format."""

    def show(self, file: IO[Any] | None = None) -> None:
        logging.getLogger("asr_stream").error("%s", self.message)


def serve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add these options to a command, which gets them by name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def open_door(host: str, sessions: bool, options: dict[str, Any], vosk_rate: int) -> dict[str, Any]:
    """What these options make of a daemon's Listen; Failure when a token or certificate cannot be used."""
    import math

    from streamer.access import AccessError, exposure, load_tls, load_token
    from streamer.sessions import Limits

    try:
        token = load_token(options["token"], options["token_file"])
        tls = load_tls(options["tls_cert"], options["tls_key"])
    except AccessError as error:
        raise Failure(str(error)) from None
    if danger := exposure(host, token, tls, sessions):
        logging.getLogger("asr_stream").warning("%s", danger)
    speed, idle = options["max_speed"] or math.inf, options["max_idle"]
    limits = Limits(mute_seconds=idle, max_speed=speed, vosk_rate=vosk_rate)
    return {"token": token, "tls": tls, "limits": limits, "log_text": options["log_text"]}
