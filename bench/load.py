"""How many live sessions one core holds: realistic clients against this server and, if there, against Vosk's.

    python -m bench.load CORPORA [--vosk MODEL --python PEERS-PYTHON] [--clients 50,100,...] [--cycles 10000]
    python -m bench.load CORPORA --soak MINUTES --clients N [--model FULL-PRECISION.onnx]
    python -m bench.load CORPORA --rush SESSIONS --clients N

The server runs on the first core with one model thread, the clients in processes of their own on the others. They play
clips of the test split in real time, in packets of 20 to 100 ms of random size, session after session. The number of
clients grows until the 95th percentile of added latency passes 300 ms: for `vosk` clients the time from a packet to its
answer, for `/recognize` the time from the packet that causes an event to the event. Of the sessions of `/recognize` it
tells how many heard other finals than from a server that has nothing else to do: none of a model in full precision
(int8 scales depend on batch-mates).

A soak lets N clients of `/recognize` speak for long, and tells the memory every minute.
A rush lets N clients send clips as fast as they are taken, so that memory that grows with sessions is seen soon.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.runs import ROOT, table
from bench.servers import Server, ours, vosk
from bench.visits import cycle, rush
from streamer import engine
from streamer.events import Final, Partial
from streamer.model import AcousticModel, find, load
from train import recordings

LIMIT_SECONDS = 0.3  # of added latency, 95th percentile
CLIENTS_PER_PROCESS = 100
WARM_UP_SECONDS, WARM_UP_SHARE = 25.0, 0.6  # of the whole, if that is less
RATE = 16000
BLOCK = 320  # samples between which the cause of an event is looked for


def heard_alone(model: AcousticModel, samples: np.ndarray) -> dict[str, Any]:
    """Each partial and final of a clip that is alone, and after how many samples it comes, and the text of all finals.

    What comes at the end of the clip is not among the events.
    """
    recognizer = model.recognizer()
    events, finals = [], []
    for at in range(0, len(samples), BLOCK):
        for event in engine.feed(model, recognizer, samples[at : at + BLOCK]):
            if isinstance(event, Partial | Final):
                kind = "final" if isinstance(event, Final) else "partial"
                events.append((min(at + BLOCK, len(samples)), f"{kind} {event.text}"))
                finals += [event.text] * isinstance(event, Final)
    finals += [event.text for event in engine.finish(model, recognizer) if isinstance(event, Final)]
    return {"events": events, "finals": finals}


def write_clips(corpora: Path, folder: Path, count: int, model: AcousticModel) -> None:
    """Clips for the clients, of three to twelve seconds."""
    written = 0
    chosen = recordings.choose([corpora], "test", 4 * count)
    for _, samples in recordings.read(chosen, RATE, "clips"):
        if written < count and 3 * RATE <= len(samples) <= 12 * RATE:
            pcm = np.round(samples * 32767).clip(-32768, 32767).astype("<i2")
            (folder / f"{written:03d}.raw").write_bytes(pcm.tobytes())
            heard = heard_alone(model, pcm.astype(np.float32) / 32768)
            (folder / f"{written:03d}.json").write_text(json.dumps(heard))
            written += 1


def press(server: Server, clients: int, seconds: float, clips: Path) -> dict[str, Any]:
    """Let so many clients speak and gather what they heard."""
    others = ",".join(map(str, range(1, os.cpu_count() or 1))) or "0"
    warm_up = min(WARM_UP_SECONDS, WARM_UP_SHARE * seconds)
    began = time.monotonic()
    processes = []
    for n, at in enumerate(range(0, clients, CLIENTS_PER_PROCESS)):
        count = min(CLIENTS_PER_PROCESS, clients - at)
        arguments = [server.url, server.protocol, count, seconds, warm_up, clips, n]
        command = ["taskset", "-c", others, sys.executable, ROOT / "bench" / "speakers.py", *arguments]
        processes.append(subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True))
    time.sleep(warm_up)
    before, since = server.cpu_seconds(), time.monotonic()
    while (left := began + seconds - 1 - time.monotonic()) > 0:
        time.sleep(min(left, 60))
        if seconds > 300:
            passed = (time.monotonic() - began) / 60
            print(f"{passed:.0f} minutes: {server.memory_mb():.1f} MB", file=sys.stderr, flush=True)
    memory, busy = server.memory_mb(), (server.cpu_seconds() - before) / (time.monotonic() - since)
    total: dict[str, Any] = {"memory_mb": memory, "busy": busy, "late": 0.0}
    for process in processes:
        told, _ = process.communicate()
        for key, value in json.loads(told.splitlines()[-1]).items():
            total[key] = max(total[key], value) if key == "late" else total.get(key, type(value)()) + value
    return total


def _ms(delays: Sequence[float], percent: float) -> str:
    return f"{1000 * float(np.percentile(delays, percent)):.0f}" if delays else "–"


def climb(server: Server, steps: Sequence[int], seconds: float, clips: Path) -> tuple[list[list[object]], int]:
    """A row for each number of clients until it is too many, and how many were held."""
    idle, rows, held = server.memory_mb(), [], 0
    for clients in steps:
        found = press(server, clients, seconds, clips)
        slow = not found["answers"] or np.percentile(found["answers"], 95) > LIMIT_SECONDS
        rows.append(
            [server.name, clients, found["refused"], found["failed"]]
            + [_ms(found["answers"], p) for p in (50, 95, 99)]
            + [_ms(found["finals"], p) for p in (50, 95)]
            + [
                f"{100 * found['wrong'] / found['checked']:.1f}" if found["checked"] else "–",
                f"{100 * found['busy']:.0f}",
                f"{(found['memory_mb'] - idle) / clients:.2f}",
                f"{1000 * found['late']:.0f}",
            ]
        )
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
        if slow or found["refused"] or found["failed"]:
            break
        held = clients
    return rows, held


def soak(server: Server, clients: int, seconds: float, clips: Path) -> str:
    """What so long a load did."""
    found = press(server, clients, seconds, clips)
    return (
        f"{clients} clients, {found['checked']} sessions, {found['audio_seconds'] / 3600:.1f} hours of audio: "
        f"{found['wrong']} with other finals than alone, {found['refused']} refused, {found['failed']} failed; "
        f"added latency {_ms(found['answers'], 50)} ms, 95 %: {_ms(found['answers'], 95)}, "
        f"99.9 %: {_ms(found['answers'], 99.9)}; CPU {100 * found['busy']:.0f} %, {found['memory_mb']:.1f} MB"
    )


HEADS = (
    "server,clients,refused,failed,added ms 50 %,95 %,99 %,final ms 50 %,95 %,"
    "other finals than alone %,CPU %,MB a session,sent late ms"
)


def main() -> None:
    """Load each server and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--clients", default="50,100,150,200,250,300,350,400")
    parser.add_argument("--vosk", help="its model")
    parser.add_argument("--vosk-clients", default="2,4,6,8,10")
    parser.add_argument("--python", default=sys.executable, help="where vosk is installed")
    parser.add_argument("--seconds", type=float, default=45.0, help="of which 25, at most 60 %%, are to warm up")
    parser.add_argument("--cycles", type=int, default=0, help="let so many clients come and go, too")
    parser.add_argument("--model", type=Path, default=find(None))
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES", help="nothing but this")
    parser.add_argument("--rush", type=int, default=0, metavar="SESSIONS", help="nothing but this")
    options = parser.parse_args()
    steps = [int(n) for n in options.clients.split(",")]
    with tempfile.TemporaryDirectory() as place:
        clips = Path(place)
        write_clips(options.corpora, clips, 60, load(options.model))
        if options.soak or options.rush:
            with ours("recognize", options.model) as server:
                if options.rush:
                    print(rush(server, options.rush, steps[0], clips))
                else:
                    print(soak(server, steps[0], 60 * options.soak, clips))
            return
        rows, told = list[list[object]](), list[str]()
        for protocol in ("recognize", "vosk"):
            with ours(protocol, options.model) as server:
                if options.cycles and protocol == "recognize":
                    told.append(cycle(server, options.cycles))
                more, held = climb(server, steps, options.seconds, clips)
                rows += more
                told.append(f"{server.name}: {held} sessions held")
        if options.vosk:
            with vosk(options.python, options.vosk) as server:
                more, held = climb(server, [int(n) for n in options.vosk_clients.split(",")], options.seconds, clips)
                rows += more
                told.append(f"{server.name}: {held} sessions held")
    table(HEADS.split(","), rows)
    print("\n".join(told))


if __name__ == "__main__":
    main()
