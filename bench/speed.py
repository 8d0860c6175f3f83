"""How fast the served path is on one core: one stream, many streams in a batch, start-up, memory; one command.

    python bench/speed.py [MODEL]

Every figure is measured in this run, on synthetic sound through the real recogniser; on a noisy machine trust ratios.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from streamer import engine, probe
from streamer.model import AcousticModel, find, find_lm, load

SECONDS = 30


def one_stream(model: AcousticModel) -> float:
    """CPU seconds per second of audio of a single stream, features to events."""
    rate = model.spec.features.sample_rate
    samples = probe.signal(SECONDS * rate, rate)
    recognizer = model.recognizer()
    started = time.process_time()
    for _ in engine.feed(model, recognizer, samples):
        pass
    return (time.process_time() - started) / SECONDS


def batched(model: AcousticModel, streams: int, seconds: int = 8) -> float:
    """CPU seconds per second of audio when the chunks of many streams go through the model together."""
    rate = model.spec.features.sample_rate
    samples = probe.signal(seconds * rate, rate)
    recognizers = [model.recognizer() for _ in range(streams)]
    started = time.process_time()
    for at in range(0, len(samples), rate):
        for recognizer in recognizers:
            recognizer.push(samples[at : at + rate])
        while engine.step(model, recognizers):
            pass
    return (time.process_time() - started) / seconds / streams


def first_caption(model: Path) -> float:
    """Seconds from process start to the first caption of the bundled sample, as a program that reads stdout sees it."""
    command = [sys.executable, "-m", "streamer.cli", "sample", "--no-server", "--partials", "--model", str(model)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = time.perf_counter() - started
        process.kill()
    return taken


def help_time() -> float:
    """Seconds `asr-stream --help` takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "streamer.cli", "--help"], check=True, capture_output=True)
    return time.perf_counter() - started


def ctrl_c() -> float:
    """Seconds from SIGINT to the end of a server that plays a file in real time."""
    command = [sys.executable, "-m", "streamer.cli", "sample", "--realtime", "--port", "0", "--partials"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.perf_counter()
        process.send_signal(signal.SIGINT)
        process.wait()
    assert process.returncode == 0
    return time.perf_counter() - started


def best(measure: Callable[[], float], times: int = 3) -> float:
    """The least of several runs: what the machine can do when nobody disturbs it."""
    return min(measure() for _ in range(times))


def main() -> None:
    """Measure and print a Markdown table."""
    path = find(sys.argv[1] if len(sys.argv) > 1 else None)
    model, helped = load(path), load(path, find_lm(None, path))
    alone, weighed = best(lambda: one_stream(model)), best(lambda: one_stream(helped))
    together = best(lambda: batched(model, 16))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    state = sum(np.asarray(value).nbytes for value in model.initial_state.values()) / 1024
    print(f"| {path.name} | |\n|---|---|")
    print(
        f"| CPU seconds per second of audio, one stream | {weighed:.4f} (so {1 / weighed:.0f} live streams on a core) |"
    )
    print(f"| the same, greedy (`--lm none`) | {alone:.4f} (so {1 / alone:.0f}) |")
    print(f"| greedy, 16 streams in a batch | {together:.4f} (so {1 / together:.0f}) |")
    print(f"| process start to first caption of a file | {best(lambda: first_caption(path)):.2f} s |")
    print(f"| `asr-stream --help` | {best(help_time):.2f} s |")
    print(f"| Ctrl-C to the end of the program, captioning and serving | {best(ctrl_c):.2f} s |")
    print(f"| memory of the process; network state of a stream | {memory:.0f} MB; {state:.0f} kB |")


if __name__ == "__main__":
    main()
