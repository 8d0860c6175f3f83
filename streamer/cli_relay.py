"""The command `asr-stream relay`: parse, build, run; nothing else."""

from __future__ import annotations

import sys
from typing import Any

import click

from streamer.cli_serve import Failure, door_options, open_door
from streamer.command import share
from streamer.journal import start_log

HELP = """Serve captions that another asr-stream publishes through a Redis server.

\b
  asr-stream --mic --publish redis://broker.example.org:6379/0      where the microphone is
  asr-stream relay --subscribe redis://broker.example.org:6379/0    on any number of other machines

Viewers find the same caption page and the same WebSocket as at the first one.
"""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--subscribe",
    metavar="URL",
    required=True,
    envvar="ASR_STREAM_SUBSCRIBE",
    show_envvar=True,
    help="What --publish was given: redis://HOST:PORT/DB#NAME",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to serve the captions.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes any free port.")
@click.option("--allow-origin", multiple=True, metavar="URL", help="Let this web page use the server too.")
@click.option("--max-viewers", type=click.IntRange(1), default=2000, show_default=True, help="Viewers at a time.")
@click.option("--workers", type=click.IntRange(1), help="So many processes share the port and the viewers.")
@door_options
@click.option("-v", "--verbose", is_flag=True, help="Log more on stderr.")
def relay(
    subscribe: str,
    host: str,
    port: int,
    allow_origin: tuple[str, ...],
    max_viewers: int,
    workers: int | None,
    verbose: bool,
    **guard: Any,
) -> None:
    import asyncio

    from streamer.broker import BrokerError, parse
    from streamer.handover import Door
    from streamer.relay import Reach, run_relay
    from streamer.server import ServerError

    start_log(verbose, guard["log_json"])
    try:
        topic = parse(subscribe)
        door = Door.from_environment() if workers else None
        if workers and door is None:
            return share(workers, host, port)
        token, tls = open_door(host, guard, sessions=False, warns=door is None or door.announces)
        reach = Reach(host, port, allow_origin, -(-max_viewers // (workers or 1)), door, token, tls)
        asyncio.run(run_relay(topic, reach))
    except (BrokerError, ServerError) as error:
        raise Failure(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(130)
