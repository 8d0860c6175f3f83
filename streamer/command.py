"""What `asr-stream` and `asr-stream relay` share."""

from __future__ import annotations

import sys

from streamer.cli_serve import Failure


def share(workers: int, host: str, port: int) -> None:
    """Run so many processes of this command line on one port."""
    import asyncio

    from streamer.workers import WorkerError, run_workers

    try:
        asyncio.run(run_workers(workers, host, port))
    except WorkerError as error:
        if error.explained:
            sys.exit(1)
        raise Failure(str(error)) from None
