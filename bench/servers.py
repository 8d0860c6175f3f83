"""The servers that are put under load, each in a process of its own on the first core."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.runs import ROOT


@dataclass(frozen=True, slots=True)
class Server:
    """A server under load: its address, process and what it is called."""

    name: str
    url: str
    protocol: str
    pid: int

    def cpu_seconds(self) -> float:
        """CPU time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Resident memory of the process."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0


@contextlib.contextmanager
def ours(protocol: str, model: Path) -> Iterator[Server]:
    """This server with greedy decoding, on the first core."""
    command = ["taskset", "-c", "0", sys.executable, "-m", "streamer.cli", "--serve", "--port", "0", "--lm", "none"]
    command += ["--model", str(model.resolve())]
    command += ["--max-sessions", "5000", "--max-sessions-per-address", "5000"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "clients may speak" in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()  # its log, or it would wait for its reader
        url = line.split()[-1]
        url = url if protocol == "recognize" else url.removesuffix("/recognize")
        try:
            yield Server(f"asr-stream, {protocol}", url, protocol, process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def vosk(python: str, model: str) -> Iterator[Server]:
    """vosk-server on the first core."""
    port = 27000 + os.getpid() % 1000
    command = ["taskset", "-c", "0", python, str(ROOT / "bench" / "vosk_server.py"), model, str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        if not any("ready" in line for line in process.stderr):
            sys.exit("vosk-server did not start: are vosk and websockets installed there?")
        try:
            yield Server("Vosk small, vosk", f"ws://127.0.0.1:{port}", "vosk", process.pid)
        finally:
            process.terminate()
