"""`asr-stream --serve --workers`: the real program, its workers, and what becomes of their clients."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_cli import PROGRAM, address, fails
from tiny_model import babble
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from streamer.workers import LONGEST_WAIT_SECONDS, wait_seconds

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in Linux's /proc")

VOICE = (babble(16000 * 2) * 32767).astype("<i2").tobytes()


@pytest.fixture
def model(streaming: Path, tmp_path: Path) -> Path:
    """A model of this test's own, to be broken."""
    return Path(shutil.copy(streaming, tmp_path / "tiny.onnx"))


@pytest.fixture
def server(model: Path) -> Iterator[subprocess.Popen[str]]:
    """A server of two workers."""
    command = [*PROGRAM, "--serve", "--workers", "2", "--model", str(model), "--port", "0", "--max-sessions", "4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.send_signal(signal.SIGTERM)
    process.communicate()


def told(server: subprocess.Popen[str]) -> str:
    """The next line on stderr that is not about a session."""
    assert server.stderr is not None
    return next(line for line in server.stderr if re.match("asr-stream: (worker|clients|.*ONNX)", line))


def begun(server: subprocess.Popen[str]) -> str:
    """The URL for sessions, when both workers are ready."""
    url = f"ws://{address(server)}/recognize"
    assert [told(server) for _ in range(2)] == [
        f"asr-stream: clients may speak at {url}\n",
        "asr-stream: worker 2 is ready\n",
    ]
    return url


def workers(server: subprocess.Popen[str]) -> list[int]:
    """The process ids of the workers."""
    return [int(pid) for pid in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]


def ports(pid: int) -> set[int]:
    """The local ports that other ends of this process's connections have."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(line[2].split(":")[1], 16) for line in lines if line[9] in inodes}


def speak(client: ClientConnection) -> None:
    """Send two seconds and wait until some of it was heard."""
    client.send(VOICE)
    while json.loads(client.recv())["type"] != "partial":
        pass


def last(client: ClientConnection) -> str:
    """The type of the last message."""
    return str([json.loads(message)["type"] for message in client][-1])


def test_when_a_worker_is_killed_the_others_sessions_go_on_and_it_is_replaced(server: subprocess.Popen[str]) -> None:
    url = begun(server)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(url)) for _ in range(4)]
        for client in clients:
            speak(client)
        first, second = workers(server)
        of_first = [client for client in clients if client.local_address[1] in ports(first)]
        of_second = [client for client in clients if client.local_address[1] in ports(second)]
        assert (len(of_first), len(of_second)) == (2, 2)
        os.kill(first, signal.SIGKILL)
        for client in of_first:
            with pytest.raises(ConnectionClosedError):
                last(client)
        assert re.search(r"worker \d was ended by SIGKILL: another one is started", told(server))
        for client in of_second:
            client.send(VOICE)
            client.send('{"type":"end"}')
            assert last(client) == "final"
        assert re.search(r"worker \d is ready", told(server))
        for client in [stack.enter_context(connect(url)) for _ in range(4)]:
            speak(client)
    assert first not in workers(server)
    assert second in workers(server)


def test_a_worker_that_dies_again_and_again_is_started_after_growing_waits(
    server: subprocess.Popen[str], model: Path
) -> None:
    url = begun(server)
    with connect(url) as client:
        speak(client)
        model.write_bytes(b"junk")
        (killed,) = [pid for pid in workers(server) if client.local_address[1] not in ports(pid)]
        os.kill(killed, signal.SIGKILL)
        said = "".join(told(server) for _ in range(5))
        assert "was ended by SIGKILL: another one is started" in said
        waits = re.findall(r"ended with status 1(?:, \d times in a row)?: another one is started in (\S*) s", said)
        first, second = map(float, waits)
        assert second == 2 * first
        assert said.count("is not an ONNX model") == 2
        client.send('{"type":"end"}')
        assert last(client) == "final"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_every_session_of_every_worker_its_finals(
    server: subprocess.Popen[str], number: signal.Signals
) -> None:
    url = begun(server)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(url)) for _ in range(4)]
        for client in clients:
            speak(client)
        pids = workers(server)
        server.send_signal(number)
        assert [last(client) for client in clients] == ["final"] * 4
    server.communicate(timeout=30)
    assert server.returncode == 0
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_when_the_process_that_accepts_is_killed_the_workers_end_in_order(server: subprocess.Popen[str]) -> None:
    with connect(begun(server)) as client:
        speak(client)
        server.kill()
        assert last(client) == "final"
    assert server.stderr is not None
    assert "Traceback" not in server.stderr.read()  # which ends when the last worker has


def test_workers_need_clients_to_share_and_a_first_one_that_begins(model: Path, tmp_path: Path) -> None:
    assert "give --serve, and neither --mic nor files" in fails("--workers", 2, "--mic")
    assert "give --serve, and neither --mic nor files" in fails("--workers", 2, "--serve", "sample")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    command = [*PROGRAM, "--serve", "--workers", "2", "--port", "0", "--model", str(tmp_path / "junk.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n"), "is not an ONNX model" in done.stderr) == (1, 1, True), (
        done.stderr
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} is in use" in fails("--serve", "--workers", 2, "--model", model, "--port", port)


def test_the_wait_before_another_worker_grows_up_to_a_bound() -> None:
    assert [wait_seconds(lives) for lives in range(5)] == [0, 0.5, 1, 2, 4]
    assert wait_seconds(100) == LONGEST_WAIT_SECONDS
