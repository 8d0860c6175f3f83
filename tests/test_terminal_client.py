from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from test_hub import GAP, HELLO, final, hub_of, partial
from waiting import asynchronous, until

from streamer.hub import Hub
from streamer.server import serve

SCRIPT = Path(__file__).parent.parent / "clients" / "terminal.py"


@asynccontextmanager
async def terminal(*arguments: str, stdout: Any = PIPE) -> AsyncIterator[Process]:
    """The client as its own program, started where none of our packages can be imported."""
    command = [sys.executable, str(SCRIPT), *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=stdout, stderr=PIPE, stdin=DEVNULL, cwd="/")
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line(stream: asyncio.StreamReader | None) -> str:
    assert stream
    return (await stream.readline()).decode().rstrip("\n")


async def outcome(process: Process) -> tuple[int, str, str]:
    """Exit code and what was still to be read from stdout and stderr."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out or b"").decode(), err.decode()


@asynchronous
async def test_piped_it_prints_each_final_as_a_line_at_once_and_remarks_to_stderr() -> None:
    hub = hub_of(HELLO, final(0, "what was said before"), partial(1, "not yet"))
    async with serve(hub, port=0) as address, terminal(address.url) as process:
        assert await line(process.stderr) == "[listening to microphone (en)]"
        assert await line(process.stdout) == "what was said before"
        for event in (partial(1, "not yet final"), GAP, final(1, "now it is")):
            hub.publish(event)
        assert await line(process.stdout) == "now it is"
        assert await line(process.stderr) == "[1.0 s of audio missing: overload]"
        process.send_signal(signal.SIGINT)
        assert await outcome(process) == (0, "", "")


@asynchronous
async def test_on_a_terminal_partials_rewrite_one_line_and_dim_what_may_change() -> None:
    hub = hub_of(HELLO)
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    seen = bytearray()
    asyncio.get_running_loop().add_reader(ours, lambda: seen.extend(os.read(ours, 4096)))
    async with serve(hub, port=0) as address, terminal(f"127.0.0.1:{address.port}", stdout=theirs) as process:
        await until(lambda: hub.subscribers == 1)
        hub.publish(partial(0, "good eve"))
        await until(lambda: b"\r\x1b[K\x1b[2mgood eve\x1b[0m" in seen)
        hub.publish(final(0, "good evening"))
        await until(lambda: seen.endswith(b"\r\x1b[Kgood evening\r\n"))
        hub.publish(partial(1, "x" * 500))
        await until(lambda: seen.endswith(b"\x1b[0m") and b"x" in seen)
        assert seen.count(b"x") < 80  # more would wrap, and then the line could not be rewritten
        process.send_signal(signal.SIGINT)
        assert (await outcome(process))[0] == 0
    asyncio.get_running_loop().remove_reader(ours)
    os.close(ours)
    os.close(theirs)


@asynchronous
async def test_it_reconnects_and_prints_nothing_twice() -> None:
    hub = hub_of(HELLO, final(0, "before"), GAP)
    async with serve(hub, port=0) as address:
        port = address.port
        client = terminal(address.url)
        process = await client.__aenter__()
        assert await line(process.stdout) == "before"
    hub.publish(final(1, "while away"))
    async with serve(hub, port=port):
        assert await line(process.stdout) == "while away"
        again = hub_of(HELLO, final(0, "before"))  # the same words in a new stream are news
    async with serve(again, port=port):
        assert await line(process.stdout) == "before"
        process.send_signal(signal.SIGINT)
        code, out, err = await outcome(process)
    assert (code, out) == (0, "")
    assert "trying again" in err
    assert err.count("listening to") == 2
    assert err.count("missing") == 1
    await client.__aexit__(None, None, None)


@asynchronous
async def test_control_characters_never_reach_the_terminal() -> None:
    hub = hub_of(HELLO, final(0, "a\x1b]0;title\x07b"))
    async with serve(hub, port=0) as address, terminal(address.url) as process:
        assert await line(process.stdout) == "a]0;titleb"


@asynchronous
async def test_a_closed_pipe_is_no_error() -> None:
    hub = hub_of(HELLO)
    reading, writing = os.pipe()
    async with serve(hub, port=0) as address, terminal(address.url, stdout=writing) as process:
        os.close(writing)
        os.close(reading)
        await line(process.stderr)
        hub.publish(final(0))
        assert await outcome(process) == (0, "", "")


@asynchronous
async def test_an_address_where_nobody_answers_is_one_sentence_and_a_failure() -> None:
    async with serve(Hub(), port=0) as address:
        free = address.port
    async with terminal(f"ws://127.0.0.1:{free}") as process:
        code, out, err = await outcome(process)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "Connection refused" in err


@pytest.mark.parametrize("address", ["ftp://127.0.0.1", "ws://", "ws://127.0.0.1:port", "ws://127.0.0.1:99999", ""])
def test_a_nonsense_address_is_one_sentence_and_a_failure(address: str) -> None:
    async def story() -> None:
        async with terminal(address) as process:
            code, out, err = await outcome(process)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert "is not an address" in err

    asyncio.run(story())


@asynchronous
async def test_a_server_that_refuses_is_quoted() -> None:
    async with serve(Hub(), port=0, max_clients=0) as address, terminal(address.url) as process:
        code, out, err = await outcome(process)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "places are taken" in err


@asynchronous
async def test_something_that_is_no_caption_server_is_one_sentence_and_a_failure() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")  # to close with a request unread would reset the connection
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, terminal(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as process:
        code, out, err = await outcome(process)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "no caption server" in err
