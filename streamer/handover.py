"""A connection's way from the process that accepted it to the one that serves it, over a Unix socket between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import Any

READY, CLOSED = b"r", b"c"  # what the serving end says
VARIABLE = "ASR_STREAM_DOOR"  # in the environment of a worker: the Door that it serves


def hand_over(channel: socket.socket, connection: int) -> None:
    """Give an accepted connection (its file descriptor) to the Door at the other end; OSError when it takes none."""
    socket.send_fds(channel, [b"\0"], [connection])


class Door(socket.socket):
    """A listening socket, as far as asyncio can tell, for which another process accepts; when that dies, this ends too.

    It says READY when it begins to listen. `port` is where the other process listens, and `announces` whether this one
    tells the user.
    """

    def __init__(self, descriptor: int, port: int, announces: bool) -> None:
        super().__init__(fileno=descriptor)
        self.port, self.announces = port, announces

    @classmethod
    def from_environment(cls) -> Door | None:
        """The one that this process was started for, if it is a worker."""
        value = os.environ.get(VARIABLE)
        if not value:
            return None
        descriptor, port, announces = map(int, value.split(","))
        return cls(descriptor, port, bool(announces))

    def listen(self, backlog: int = 0) -> None:
        """Say that connections are welcome; no more of them wait than fit into the channel."""
        self.send(READY)

    def accept(self) -> tuple[socket.socket, Any]:
        """A connection and its address; BlockingIOError when none waits, ConnectionAbortedError when it has gone."""
        try:
            said, descriptors, _, _ = socket.recv_fds(self, 1, 1)
        except ConnectionResetError:
            said = b""
        if not said:  # whoever accepts has died
            asyncio.get_running_loop().remove_reader(self)
            os.kill(os.getpid(), signal.SIGTERM)
            raise BlockingIOError
        if not descriptors:  # this process has no more file descriptors
            self.send(CLOSED)
            raise ConnectionAbortedError
        connection = _Connection(self, descriptors[0])
        try:
            return connection, connection.getpeername()
        except OSError:
            connection.close()
            raise ConnectionAbortedError from None

    def getsockname(self) -> Any:
        """Host and port of the socket that accepts."""
        return "", self.port


class _Connection(socket.socket):
    """A connection that was handed over, which tells the other end when it is closed."""

    def __init__(self, door: Door, descriptor: int) -> None:
        super().__init__(fileno=descriptor)
        self._door = door

    def close(self) -> None:
        if self.fileno() >= 0:
            with contextlib.suppress(OSError):  # nobody counts any more
                self._door.send(CLOSED)
        super().close()
