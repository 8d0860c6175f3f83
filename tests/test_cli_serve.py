"""The options that guard the server, on the real program: token, TLS, limits, logs."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from test_cli import PROGRAM, fails
from test_sessions import alone, expected
from tiny_model import babble
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from streamer.model import load

TOKEN = "a-token-for-tests"
SPEECH = (babble(16000 * 4) * 32767).astype("<i2")
VOICE = SPEECH.tobytes()


@contextmanager
def server(
    streaming: Path,
    *options: object,
    prefix: Sequence[str] = (),
    program: Sequence[str] = PROGRAM,
    stdin: int | None = None,
    stdout: IO[str] | int | None = None,
    **surroundings: str,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program with --serve on a free port, and the address of its sessions."""
    command = [*prefix, *program, "--serve", "--model", str(streaming), "--port", "0", *map(str, options)]
    pipes: dict[str, Any] = {"stdin": stdin, "stdout": stdout, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, env=os.environ | surroundings) as process:
        assert process.stderr is not None
        try:
            yield process, _sessions_url(process)
        finally:
            process.kill()


def _sessions_url(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"wss?://[^\s\"]+/recognize", line):
            return found.group()
    raise AssertionError("the server did not start")


def spoken(url: str, **options: Any) -> list[dict[str, Any]]:
    """What a session of VOICE hears."""
    with connect(url, proxy=None, **options) as client:
        client.send(VOICE)
        client.send('{"type":"end"}')
        return [json.loads(message) for message in client]


def test_an_empty_token_opens_no_door(streaming: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_STREAM_TOKEN", "")
    assert "ASR_STREAM_TOKEN is empty" in fails("--serve", "--model", streaming, "--port", "0")


def stopped(process: subprocess.Popen[str]) -> list[str]:
    """The lines of the log from now until the program has ended as it was asked to."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    return log.splitlines()


def test_a_token_may_come_from_the_environment_or_a_file(streaming: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    for options, surroundings in (([], {"ASR_STREAM_TOKEN": TOKEN}), (["--token-file", tmp_path / "token"], {})):
        with server(streaming, *options, **surroundings) as (_, url):
            with pytest.raises(InvalidStatus) as refused:
                spoken(url)
            assert refused.value.response.status_code == 401
            assert spoken(f"{url}?token={TOKEN}")[-1]["type"] == "final"


def test_sessions_over_tls_need_its_two_files(streaming: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with server(streaming, "--tls-cert", cert, "--tls-key", key) as (_, url):
        assert url.startswith("wss://")
        trust = ssl.create_default_context(cafile=str(cert))
        assert spoken(url, ssl=trust)[-1]["type"] == "final"
    assert "give both --tls-cert and --tls-key" in fails("--serve", "--model", streaming, "--tls-cert", cert)
    assert "cannot be read" in fails("--serve", "--model", streaming, "--tls-cert", "gone", "--tls-key", key)
    assert "8 to 200 letters" in fails("--serve", "--model", streaming, "--token", "short")


def test_who_opens_the_server_to_others_is_warned(streaming: Path) -> None:
    command = [*PROGRAM, "--serve", "--model", str(streaming), "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "0.0.0.0 is open to other machines" in process.stderr.readline()
        process.kill()


def test_the_log_is_json_with_the_name_of_each_session_and_none_of_its_words(streaming: Path) -> None:
    with server(streaming, "--log-json") as (process, url):
        hello, *_, final = spoken(url)
        with connect(url, proxy=None) as client:
            bad = json.loads(client.recv())["stream"]
            client.send("nonsense")
            assert json.loads(client.recv())["type"] == "error"
        lines = [json.loads(line) for line in stopped(process)]
    about = [line for line in lines if line.get("session") == hello["stream"]]
    begins, ends = about
    assert begins["message"].endswith(" begins")
    assert " ends after 4 s of audio, at most " in ends["message"]
    assert (begins["address"], begins["protocol"]) == ("127.0.0.1", "recognize")
    assert ends["audio_seconds"] == 4
    assert ends["lag_seconds"] >= 0
    refused = next(line for line in lines if line.get("how") == "message")
    assert (refused["session"], refused["code"]) == (bad, 1008)
    assert "is not JSON" in refused["reason"]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    assert final["text"] not in json.dumps(lines)


def test_viewers_hear_the_source_and_nothing_of_the_sessions_beside_it(streaming: Path) -> None:
    model = load(streaming)
    speech = (babble(16000 * 8, 1) * 32767).astype("<i2")
    said = alone(model, speech)
    with (
        server(streaming, "-", "--rate", 16000, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as (process, url),
        connect(url.replace("recognize", "captions"), proxy=None) as viewer,
    ):
        assert process.stdin is not None
        process.stdin.buffer.write(speech[: 16000 * 5].tobytes())
        process.stdin.flush()
        heard = [json.loads(viewer.recv()) for _ in range(2)]
        session = spoken(url)  # in the middle of what the source says
        process.stdin.buffer.write(speech[16000 * 5 :].tobytes())
        process.stdin.close()
        process.stdin = None
        while heard[-1] != said[-1]:
            heard.append(json.loads(viewer.recv()))
        stopped(process)
        heard += [json.loads(message) for message in viewer]
    assert (heard[0]["type"], heard[0]["source"]) == ("hello", "standard input")
    whole = iter(said)
    assert all(message in whole for message in heard[1:])  # in this order; some partials are conflated
    finals = [message for message in said if message["type"] == "final"]
    assert [message for message in heard[1:] if message["type"] == "final"] == finals
    assert len(finals) > 1
    assert [message for message in session if message["type"] == "final"] == expected(model, SPEECH) != []


def test_the_log_has_what_was_said_when_asked_to(streaming: Path) -> None:
    with server(streaming, "--log-json", "--log-text") as (process, url):
        hello, *events = spoken(url)
        lines = [json.loads(line) for line in stopped(process)]
    finals = [event["text"] for event in events if event["type"] == "final"]
    assert [line["text"] for line in lines if "text" in line] == finals != []
    assert all(line["session"] == hello["stream"] for line in lines if "text" in line)


def test_what_ends_the_program_is_json_too(streaming: Path, tmp_path: Path) -> None:
    told = fails(tmp_path / "gone.wav", "--model", streaming, "--no-server", "--log-json")
    assert (json.loads(told)["level"], "there is no file" in json.loads(told)["message"]) == ("error", True)


def test_a_session_that_is_silent_for_too_long_is_closed(streaming: Path) -> None:
    with server(streaming, "--max-idle", 0.1) as (_, url), connect(url, proxy=None) as client:
        assert [json.loads(client.recv())["type"] for _ in range(2)] == ["hello", "error"]
        with pytest.raises(ConnectionClosedError, match="no message was sent for"):
            client.recv()
