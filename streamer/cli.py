"""The command `asr-stream`: parse, build, run; nothing else. Heavy imports wait until they are needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from streamer.cli_serve import (
    Failure,
    door_options,
    open_door,
    refuse_to_serve,
    refuse_to_share,
    session_limits,
    session_options,
    wyoming_place,
)
from streamer.cli_sources import file_source, microphone, refuse_contradictions, show_devices
from streamer.command import share
from streamer.journal import start_log

HELP = """Live captions from a microphone, sound files, standard input or clients.

\b
  asr-stream --mic                        captions of what the microphone hears
  asr-stream talk.wav                     a file, as fast as possible
  asr-stream sample --realtime            the bundled sample through the live path
  arecord -t raw -f S16_LE -r 16000 | asr-stream - --rate 16000
  asr-stream --serve                      what clients send over WebSockets, each for itself
  asr-stream --wyoming tcp://127.0.0.1:10300    what Home Assistant sends
  asr-stream relay --help                 captions that another asr-stream publishes

Captions go to stdout and, over a WebSocket, to any client; the address of the caption page is printed on stderr.
"""


class _Command(click.Command):
    """The command, and behind the first word `relay` another one; a file of that name is ./relay."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] != ["relay"]:
            return super().make_context(info_name, args, parent, **extra)
        from streamer.cli_relay import relay

        return relay.make_context(f"{info_name} relay", args[1:], parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


@click.command(cls=_Command, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("audio", nargs=-1, metavar="[FILE]... | - | sample")
@click.option("--mic", is_flag=True, help="Listen to a microphone.")
@click.option(
    "--device", metavar="N|NAME", help="Which microphone: a number or part of a name.  [default: the system's]"
)
@click.option("--list-devices", is_flag=True, help="List the microphones and exit.")
@click.option("--rate", type=click.IntRange(1000, 384_000), help="Sample rate of s16le on standard input.")
@click.option("--realtime", is_flag=True, help="Play files at the speed they were spoken.")
@click.option("--model", "model_name", metavar="PATH|NAME", help="An .onnx file, or the name of a shipped model.")
@click.option("--lm", "lm_name", metavar="PATH|none", help="A language model.  [default: the .lm beside the model]")
@click.option("--hotwords", type=click.Path(path_type=Path), help="A list of words and names to listen for.")
@click.option(
    "--pause", type=click.FloatRange(0.1, 10), default=0.4, show_default=True, help="Seconds that end a caption."
)
@click.option("--check", is_flag=True, help="Check the model file against its own probe and exit.")
@click.option("--format", "form", type=click.Choice(["text", "jsonl", "srt", "vtt"]), default="text", show_default=True)
@click.option("--partials", is_flag=True, help="Print partials too when stdout is not a terminal.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to serve the captions.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes any free port.")
@click.option("--allow-origin", multiple=True, metavar="URL", help="Let this web page use the server too.")
@click.option(
    "--publish",
    metavar="URL",
    envvar="ASR_STREAM_PUBLISH",
    show_envvar=True,
    help="Tell relays too: redis://HOST:PORT/DB#NAME",
)
@click.option("--no-server", is_flag=True, help="Do not serve; stdout only.")
@click.option("--serve", is_flag=True, help="Recognise what clients send too, until stopped.")
@click.option("--max-sessions", type=click.IntRange(1), default=500, show_default=True, help="Clients at a time.")
@click.option("--max-sessions-per-address", type=click.IntRange(1), default=100, show_default=True)
@click.option(
    "--vosk-rate",
    type=click.IntRange(4000, 192_000),
    default=8000,
    show_default=True,
    help="Sample rate of vosk clients that give none.",
)
@click.option(
    "--wyoming", metavar="tcp://HOST:PORT", callback=wyoming_place, help="Serve Home Assistant there; implies --serve."
)
@click.option("--workers", type=click.IntRange(1), help="With --serve: so many processes share the port.")
@session_options
@door_options
@click.option("-v", "--verbose", is_flag=True, help="Log more on stderr.")
@click.version_option(package_name="asr-stream")
def main(
    audio: tuple[str, ...],
    mic: bool,
    device: str | None,
    list_devices: bool,
    rate: int | None,
    realtime: bool,
    model_name: str | None,
    lm_name: str | None,
    hotwords: Path | None,
    pause: float,
    check: bool,
    form: str,
    partials: bool,
    host: str,
    port: int,
    allow_origin: tuple[str, ...],
    publish: str | None,
    no_server: bool,
    serve: bool,
    max_sessions: int,
    max_sessions_per_address: int,
    vosk_rate: int,
    wyoming: tuple[str, int] | None,
    workers: int | None,
    verbose: bool,
    **guard: Any,
) -> None:
    start_log(verbose, guard["log_json"])
    serve = serve or wyoming is not None
    if list_devices:
        return show_devices()
    if not check:
        refuse_contradictions(audio, mic, device, rate, form)
        refuse_to_serve(audio, mic, serve, no_server)
        refuse_to_share(audio, mic, serve, wyoming, workers)
        if publish is not None and not (mic or audio):
            raise click.UsageError("--publish tells what is heard here: give --mic or files with it")
    import asyncio

    from streamer.broker import BrokerError, parse
    from streamer.handover import Door
    from streamer.intake import SourceError
    from streamer.model import ModelError, find, find_lm, load
    from streamer.server import ServerError

    try:
        door = Door.from_environment() if workers else None
        if workers and door is None and not check:
            return share(workers, host, port)
        path = find(model_name)
        model = load(path, None if check else find_lm(lm_name, path), None if check else hotwords)
        if check:
            from streamer.probe import check as recompute

            return click.echo(recompute(model))
        from streamer.admission import Admission
        from streamer.daemon import Listen, run
        from streamer.endpoint import Endpointing
        from streamer.output import OutputError, Printer

        sources = [microphone(device)] if mic else [file_source(name, rate, realtime) for name in audio]
        printer = Printer(sys.stdout, form, partials)  # type: ignore[arg-type]  # click.Choice gives a str
        shares = workers or 1
        admission = Admission(-(-max_sessions // shares), -(-max_sessions_per_address // shares)) if serve else None
        listen = None
        if not no_server:
            token, tls = open_door(host, guard, serve, warns=door is None or door.announces)
            limits = session_limits(guard, vosk_rate)
            listen = Listen(host, port, allow_origin, admission, limits, door, token, tls, guard["log_text"], wyoming)
        try:
            endpointing = Endpointing(pause_seconds=pause)
            topic = parse(publish) if publish is not None else None
            asyncio.run(run(model, sources, printer, listen, mic or realtime, endpointing, topic))
        except OutputError as error:
            raise Failure(str(error)) from None
    except (SourceError, ModelError, ServerError, BrokerError) as error:
        raise Failure(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        _close_stdout()


def _close_stdout() -> None:
    """A reader that has gone is no error: without this the interpreter would complain while it exits."""
    import os

    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
