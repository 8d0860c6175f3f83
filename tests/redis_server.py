"""A real Redis server in a temporary folder, which can be killed and started again; it forgets everything."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REDIS = shutil.which("redis-server")
MISSING = None if REDIS else "needs Redis: apt-get install redis-server"


class Redis:
    """A server behind a Unix socket, or on a TCP port of this machine."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port
        self.socket = folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{port}/0" if port else f"unix://{self.socket}"
        self._process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        """Start it; returns when it accepts connections."""
        assert REDIS is not None
        where = ["--port", str(self.port), "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        command = [REDIS, *where, "--save", "", "--appendonly", "no", "--daemonize", "no", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "ready to accept connections" in line.lower():
                return
        raise AssertionError("".join(said))

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextmanager
def redis_server(folder: Path, port: int = 0) -> Iterator[Redis]:
    """A running server."""
    redis = Redis(folder, port)
    redis.start()
    try:
        yield redis
    finally:
        redis.kill()
