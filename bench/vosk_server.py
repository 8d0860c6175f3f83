"""vosk-server's WebSocket server (its asr_server.py, Apache-2.0, in short), for a load to compare with.

    python bench/vosk_server.py MODEL PORT

Needs the packages vosk and websockets. A pool of as many threads as it has cores decodes, as there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import vosk
from websockets.asyncio.server import ServerConnection, serve


def decode(recognizer: vosk.KaldiRecognizer, message: str | bytes) -> tuple[str, bool]:
    """The answer to a message, and whether it is the last."""
    if isinstance(message, str):
        return recognizer.FinalResult(), True
    return (recognizer.Result() if recognizer.AcceptWaveform(message) else recognizer.PartialResult()), False


async def main() -> None:
    """Serve until stopped."""
    vosk.SetLogLevel(-1)
    model = vosk.Model(sys.argv[1])
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    async def talk(socket: ServerConnection) -> None:
        rate, recognizer, last = 8000.0, None, False
        async for message in socket:
            if isinstance(message, str) and "config" in message:
                rate = float(json.loads(message)["config"].get("sample_rate", rate))
                continue
            recognizer = recognizer or vosk.KaldiRecognizer(model, rate)
            answer, last = await asyncio.get_running_loop().run_in_executor(pool, decode, recognizer, message)
            await socket.send(answer)
            if last:
                return

    async with serve(talk, "127.0.0.1", int(sys.argv[2]), compression=None):
        print("ready", file=sys.stderr, flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
