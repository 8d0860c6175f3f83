"""What goes wrong around a server, from the network to the disk; in test_sessions.py are those of a single session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from test_cli_serve import VOICE, server, spoken, stopped
from test_server import captions
from test_sessions import END, VOICES, config, everything, expected, serving, speaking
from test_sessions import spoken as spoken_by
from tiny_model import babble
from waiting import asynchronous, stuck_client, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from streamer.access import load_tls
from streamer.hub import Hub
from streamer.model import AcousticModel, load
from streamer.server import serve

UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
EMPTY_FRAGMENT, EMPTY_CONTINUATION = b"\x02\x80\0\0\0\0", b"\x00\x80\0\0\0\0"  # masked with zeros
PING = b"\x89\xfd\0\0\0\0" + bytes(125)


@pytest.fixture(scope="module")
def tiny(streaming: Any) -> AcousticModel:
    return load(streaming)


async def raw(port: int, path: str = "/recognize") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket by hand, after its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{UPGRADE}".encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def test_a_reader_of_the_log_who_pauses_holds_up_nothing(streaming: Path) -> None:
    with server(streaming) as (process, url):
        for _ in range(800):  # more lines than a pipe holds
            with connect(url, proxy=None):
                pass
        assert "final" in [event["type"] for event in spoken(url)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


@asynchronous
async def test_a_wrong_rate_is_heard_as_it_was_declared(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _), speaking(address) as client:
        await client.send(config(sample_rate=8000))  # it is 16000
        assert (await spoken_by(client, VOICES[0]))[1:] == expected(tiny, VOICES[0], 8000)
        assert client.close_code == 1000


@asynchronous
async def test_floats_that_are_huge_or_infinite_end_nothing(tiny: AcousticModel) -> None:
    samples = np.tile(np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45], "<f4"), 8000)
    async with serving(tiny) as (address, _), speaking(address) as client:
        await client.send(config(format="f32le", sample_rate=44100))
        await client.send(samples.tobytes() + b"\x7f")  # and a part of a sample
        await client.send(END)
        await everything(client)
        assert client.close_code == 1000


@asynchronous
async def test_who_does_not_say_what_it_wants_is_parted_with() -> None:
    async with serve(Hub(), port=0, handshake_seconds=0.1) as address:
        for beginning in (b"", b"GET / HTTP/1.1\r\nHost:", b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
            writer.write(beginning)
            await reader.read()
            writer.close()


@asynchronous
async def test_who_does_not_finish_its_tls_handshake_is_parted_with(certificate: tuple[Path, Path]) -> None:
    tls = load_tls(*certificate)
    async with serve(Hub(), port=0, tls=tls, handshake_seconds=0.1) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


def test_an_unfinished_tls_handshake_delays_no_end(streaming: Path, certificate: tuple[Path, Path]) -> None:
    tls = ["--tls-cert", certificate[0], "--tls-key", certificate[1]]
    with server(streaming, *tls) as (process, url), socket.create_connection(("127.0.0.1", port_of(url))):
        spoken(url, ssl=ssl.create_default_context(cafile=str(certificate[0])))  # so that the silent one was accepted
        stopped(process)


@asynchronous
async def test_a_message_of_endless_fragments_is_ended(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, sessions):
        reader, writer = await raw(address.port)
        writer.write(EMPTY_FRAGMENT + EMPTY_CONTINUATION * 2000)
        assert b"a message of more than 1000 fragments" in await reader.read()
        writer.close()
        await until(lambda: sessions.tally.endings == {"too_large": 1})


@asynchronous
async def test_who_pings_for_ever_and_never_reads_fills_no_memory() -> None:
    hub = Hub()
    async with serve(hub, port=0) as address:
        sock = await stuck_client(address.port, "/captions")
        await until(lambda: hub.subscribers == 1)

        async def flood() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await asyncio.get_running_loop().sock_sendall(sock, PING * 1000)

        flooding = asyncio.create_task(flood())
        await until(lambda: hub.subscribers == 0)
        await flooding
        sock.close()


@asynchronous
async def test_a_wall_clock_that_jumps_changes_nothing(tiny: AcousticModel, monkeypatch: pytest.MonkeyPatch) -> None:
    days = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: (-1) ** next(days) * 86400.0 * next(days))
    async with serving(tiny) as (address, _), speaking(address) as client, captions(address):
        assert (await spoken_by(client, VOICES[1]))[1:] == expected(tiny, VOICES[1])


def test_sigterm_while_clients_send_as_fast_as_they_can_gives_all_their_finals(streaming: Path) -> None:
    with server(streaming) as (process, url), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(url, proxy=None)) for _ in range(5)]
        heard: list[list[str]] = [[] for _ in clients]

        def listen(client: ClientConnection, kinds: list[str]) -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    kinds.append(json.loads(client.recv())["type"])

        def send(client: ClientConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    client.send(VOICE)

        threads = [threading.Thread(target=listen, args=pair) for pair in zip(clients, heard, strict=True)]
        threads += [threading.Thread(target=send, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        while not all("final" in kinds for kinds in heard):
            threads[0].join(0.01)
        stopped(process)
        for thread in threads:
            thread.join()
        assert [client.close_code for client in clients] == [1001] * 5
        assert [kinds[-1] for kinds in heard] == ["final"] * 5


# The program, in which whoever asks for pauses of 5 seconds has a recogniser that never comes to its end.
STUCK = """
import asyncio, functools
from streamer import sessions
finish = sessions.Session.finish
async def never(session):
    await (asyncio.Event().wait() if session._config.pause_seconds == 5 else finish(session))
sessions.Session.finish = never
sessions.Limits = functools.partial(sessions.Limits, grace_seconds=1)
from streamer.cli import main
main()
"""


def test_sigterm_cuts_who_does_not_come_to_its_end_and_the_others_get_their_finals(streaming: Path) -> None:
    with (
        server(streaming, "--log-json", program=[sys.executable, "-c", STUCK]) as (process, url),
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(connect(url, proxy=None)) for _ in range(3)]
        clients[0].send(config(pause_seconds=5))
        heard: list[list[str]] = [[] for _ in clients]
        for client, kinds in zip(clients, heard, strict=True):
            client.send(VOICE[:40_000])
            while "partial" not in kinds:
                kinds.append(json.loads(client.recv())["type"])

        def listen(client: ClientConnection, kinds: list[str]) -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    kinds.append(json.loads(client.recv())["type"])

        threads = [threading.Thread(target=listen, args=pair) for pair in zip(clients, heard, strict=True)]
        for thread in threads:
            thread.start()
        log = [json.loads(line) for line in stopped(process)]
        for thread in threads:
            thread.join()
    assert [client.close_code for client in clients] == [1001] * 3
    assert [kinds[-1] for kinds in heard] == ["partial", "final", "final"]
    assert sum(" ends after " in line["message"] for line in log) == 3
    assert not [line for line in log if line["level"] != "info"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_captions_go_on_for_clients_when_the_disk_of_stdout_is_full(streaming: Path, tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, babble(16000 * 60), 16000)
    with (
        Path("/dev/full").open("w") as full,
        server(streaming, path, "--realtime", stdout=full) as (process, url),
        connect(url.replace("recognize", "captions"), proxy=None) as client,
    ):
        assert process.stderr is not None
        assert "captions cannot be written" in process.stderr.readline()
        while json.loads(client.recv())["type"] != "final":
            pass
        assert not [line for line in stopped(process) if "cannot be written" in line]  # it was told once


def test_a_log_that_can_no_longer_be_written_stops_nothing(streaming: Path) -> None:
    with server(streaming, "--log-json") as (process, url):
        assert process.stderr is not None
        process.stderr.close()
        assert spoken(url)[-1]["type"] == "final"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_when_file_descriptors_run_out_open_sessions_go_on_and_new_ones_come_later(streaming: Path) -> None:
    with server(streaming, prefix=["bash", "-c", 'ulimit -n 48; exec "$@"', "-"]) as (process, url):
        assert process.stderr is not None
        with connect(url, proxy=None) as client:
            client.recv()
            crowd = [socket.create_connection(("127.0.0.1", port_of(url))) for _ in range(60)]
            while "out of system resource" not in process.stderr.readline():
                pass
            client.send(json.dumps({"type": "config", "sample_rate": 8000}))  # which has to load a library
            client.send(VOICE)
            client.send(END)
            assert [json.loads(message) for message in client][-1]["type"] == "final"
        for sock in crowd:
            sock.close()
        assert spoken(url)[-1]["type"] == "final"
        stopped(process)
