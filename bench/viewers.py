"""What viewers cost a relay: `python -m bench.viewers redis://127.0.0.1:6379/0 1000`, with a Redis server of your own.

Starts a relay, as many viewers, and a publisher of the bundled sample in real time.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections import Counter

from websockets.asyncio.client import ClientConnection, connect

PROGRAM = [sys.executable, "-m", "streamer.cli"]
HANDSHAKES = 20  # at a time


async def main(broker: str, count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * count + 100)), hard))
    topic = f"{broker}#bench-{os.getpid()}"
    command = [*PROGRAM, "relay", "--subscribe", topic, "--port", "0", "--max-viewers", str(count)]
    relay = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert relay.stderr is not None
    found = re.search(r"http://(\S+)", relay.stderr.readline())
    assert found, "the relay did not begin"
    seen = await watch(f"ws://{found.group(1)}/captions", count, topic)
    relay.send_signal(signal.SIGTERM)
    _, _, used = os.wait4(relay.pid, 0)
    for kind in ("final", "partial"):
        counts = [viewer[kind] for viewer in seen]
        print(f"{count} viewers got {min(counts)} to {max(counts)} {kind}s each in 18 s of speech")
    print(f"the relay: {used.ru_utime + used.ru_stime:.1f} s of CPU in all, {used.ru_maxrss / 1024:.0f} MB of memory")


async def watch(url: str, count: int, topic: str) -> list[Counter[str]]:
    """How many messages of each type every viewer got of the sample."""
    seen: list[Counter[str]] = [Counter() for _ in range(count)]
    places = asyncio.Semaphore(HANDSHAKES)

    async def join() -> ClientConnection:
        async with places:
            return await connect(url, proxy=None, compression=None, max_queue=None)

    async def look(number: int, viewer: ClientConnection) -> None:
        async for message in viewer:
            seen[number][json.loads(message)["type"]] += 1

    viewers = await asyncio.gather(*(join() for _ in range(count)))
    looking = [asyncio.create_task(look(*each)) for each in enumerate(viewers)]
    talk = [*PROGRAM, "sample", "--realtime", "--no-server", "--publish", topic]
    speaking = await asyncio.create_subprocess_exec(*talk, stdout=subprocess.DEVNULL)
    await speaking.wait()
    for viewer in viewers:
        await (await viewer.ping())  # whose answer comes after everything before it
    for task in looking:
        task.cancel()
    await asyncio.gather(*looking, return_exceptions=True)
    return seen


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
