"""The options that say what is served, to whom, for how long, and what is logged of it."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from ssl import SSLContext
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from streamer.sessions import Limits

FILE = click.Path(path_type=Path, dir_okay=False)
SECONDS = click.FloatRange(min=0, min_open=True)

_DOOR = (
    click.option("--token", envvar="ASR_STREAM_TOKEN", show_envvar=True, help="Let in only who knows this word."),
    click.option("--token-file", type=FILE, help="A file with the token, so that no list of processes shows it."),
    click.option("--tls-cert", type=FILE, help="Speak TLS with this certificate (PEM, with those it rests on)."),
    click.option("--tls-key", type=FILE, help="The key of the certificate (PEM)."),
    click.option("--log-json", is_flag=True, help="Log JSON on stderr, one object a line."),
)
_SESSIONS = (
    click.option(
        "--max-idle", type=SECONDS, default=3600, show_default=True, help="Seconds without audio in a session."
    ),
    click.option(
        "--max-speed",
        type=click.FloatRange(1),
        help="Times real time that a session's audio is taken.  [default: as fast as there is time]",
    ),
    click.option("--log-text", is_flag=True, help="Log what the clients of sessions say, too."),
)

Command = Callable[..., Any]


class Failure(click.ClickException):
    """What ends the program is told in the log, whatever its format."""

    def show(self, file: IO[Any] | None = None) -> None:
        logging.getLogger("asr_stream").error("%s", self.message)


def door_options(command: Command) -> Command:
    """Add the options of who may come in to a command, which gets them by name."""
    return _add(_DOOR, command)


def session_options(command: Command) -> Command:
    """Add the options of what a session may do."""
    return _add(_SESSIONS, command)


def _add(options: tuple[Callable[[Command], Command], ...], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def open_door(host: str, options: dict[str, Any], sessions: bool, warns: bool) -> tuple[str | None, SSLContext | None]:
    """The token and the TLS that these options ask for; Failure when they cannot be used.

    Where the server is open to other machines this is said, if it `warns`.
    """
    from streamer.access import AccessError, exposure, load_tls, load_token

    if os.environ.get("ASR_STREAM_TOKEN") == "":  # click takes it for none at all, which would open the door
        raise Failure("the environment variable ASR_STREAM_TOKEN is empty: give it the token, or unset it")
    try:
        token = load_token(options["token"], options["token_file"])
        tls = load_tls(options["tls_cert"], options["tls_key"])
    except AccessError as error:
        raise Failure(str(error)) from None
    danger = exposure(host, token, tls, sessions)
    if danger and warns:
        logging.getLogger("asr_stream").warning("%s", danger)
    return token, tls


def session_limits(options: dict[str, Any], vosk_rate: int) -> Limits:
    """The bounds of sessions that these options ask for."""
    from streamer.sessions import Limits

    speed = options["max_speed"] or math.inf
    return Limits(mute_seconds=options["max_idle"], max_speed=speed, vosk_rate=vosk_rate)


def wyoming_place(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Host and port of --wyoming; BadParameter."""
    from urllib.parse import urlsplit

    if value is None:
        return None
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:  # brackets that do not match, a port that is none
        host, port = None, None
    if host is None or port is None or value.lower() != f"tcp://{parts.netloc.lower()}":
        raise click.BadParameter("give it as tcp://HOST:PORT, for example tcp://127.0.0.1:10300")
    return host, port


def refuse_to_serve(audio: tuple[str, ...], mic: bool, serve: bool, no_server: bool) -> None:
    """UsageError when there is nothing to hear, or nowhere to serve it."""
    if not (mic or audio or serve):
        raise click.UsageError(
            "nothing to listen to: give --mic, a sound file, or - for standard input, or --serve for what clients send"
        )
    if serve and no_server:
        raise click.UsageError("--serve needs the server: leave out --no-server")


def refuse_to_share(
    audio: tuple[str, ...], mic: bool, serve: bool, wyoming: tuple[str, int] | None, workers: int | None
) -> None:
    """UsageError when what is to be served cannot be shared out to --workers."""
    import socket

    if workers and wyoming is not None:
        raise click.UsageError("--wyoming is served by one process: leave out --workers")
    if workers and (mic or audio or not serve):
        raise click.UsageError("--workers shares out the clients of --serve: give --serve, and neither --mic nor files")
    if workers and not hasattr(socket, "send_fds"):
        raise click.UsageError("--workers hands connections from process to process, which this system cannot")
