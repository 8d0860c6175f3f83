"""Who may come in: tokens by three ways, TLS, and a warning to who opens the server to others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate
from test_hub import HELLO, hub_of
from test_server import captions, fetch
from test_sessions import VOICES, expected, spoken
from waiting import asynchronous
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from streamer.access import AccessError, exposure, load_tls, load_token
from streamer.admission import Admission
from streamer.hub import Hub
from streamer.model import load
from streamer.scheduler import Scheduler
from streamer.server import Address, serve
from streamer.sessions import Sessions

TOKEN = "correct-horse~battery_1"
HERE = Path(__file__).parent


def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


@asynchronous
async def test_without_the_token_nothing_is_open_but_the_probes() -> None:
    hub = hub_of(HELLO)
    async with serve(hub, port=0, token=TOKEN) as address:
        for path in ("/", "/overlay", "/captions", "/recognize", "/metrics", "/elsewhere", "/?token=wrong", "/?token="):
            status, headers, body = await fetch(address, path)
            assert (status, headers["www-authenticate"], body.count(".")) == (401, "Bearer", 1), path
        assert json.loads((await fetch(address, "/healthz"))[2]) == {"status": "ok"}  # not what is being listened to
        assert (await fetch(address, "/readyz"))[2] == "Ready.\n"
        for options in (
            {},
            {"subprotocols": ["asr-stream", "token.wrong"]},
            {"additional_headers": {"Authorization": "Bearer x"}},
        ):
            with pytest.raises(InvalidStatus) as refused:
                await captions(address, **options)  # type: ignore[arg-type]
            assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/captions?token=" + TOKEN, {}),
        ("/captions?size=2&token=" + TOKEN.replace("~", "%7E"), {}),
        ("/captions", {"additional_headers": {"Authorization": f"Bearer {TOKEN}"}}),
        ("/captions", {"additional_headers": {"Authorization": f"bearer  {TOKEN}"}}),
        ("/captions", {"subprotocols": ["asr-stream", f"token.{TOKEN}"]}),
    ],
)
def test_who_brings_the_token_comes_in(path: str, options: dict[str, Any]) -> None:
    @asynchronous
    async def story() -> None:
        async with serve(hub_of(HELLO), port=0, token=TOKEN) as address:
            url = address.url.replace("http", "ws") + path
            async with connect(url, proxy=None, **options) as client:
                assert json.loads(await client.recv())["type"] == "hello"
                assert client.subprotocol == ("asr-stream" if "subprotocols" in options else None)
            assert (await fetch(address, f"/metrics?token={TOKEN}"))[0] != 401
            assert "hello" in (await fetch(address, f"/healthz?token={TOKEN}"))[2]

    story()


@asynchronous
async def test_the_token_opens_the_door_to_no_page_from_elsewhere() -> None:
    async with serve(hub_of(HELLO), port=0, token=TOKEN) as address:
        assert (await fetch(address, f"/?token={TOKEN}", Host="evil.example"))[0] == 403
        assert (await fetch(address, f"/?token={TOKEN}", Origin="https://evil.example"))[0] == 403


@asynchronous
async def test_a_session_needs_the_token_too(streaming: Path) -> None:
    model = load(streaming)
    async with Scheduler(model) as scheduler:
        sessions = Sessions(scheduler, Admission())
        async with serve(Hub(), port=0, sessions=sessions, token=TOKEN) as address:
            ws = address.url.replace("http", "ws")
            for path in ("/recognize", "/"):
                with pytest.raises(InvalidStatus):
                    await connect(ws + path, proxy=None)
            async with connect(f"{ws}/recognize?token={TOKEN}", proxy=None) as client:
                assert (await spoken(client, VOICES[0]))[1:] == expected(model, VOICES[0])
            async with connect(f"{ws}/?token={TOKEN}", proxy=None) as client:
                await client.send(bytes(1600))
                assert json.loads(await client.recv()) == {"partial": ""}


@pytest.mark.parametrize("token", ["", "short", "with a space", "x" * 201, "naïve-token", "comma,token"])
def test_a_token_that_would_not_fit_everywhere_is_refused(token: str, tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="8 to 200 letters"):
        load_token(token, None)
    (tmp_path / "token").write_text(token)
    with pytest.raises(AccessError, match="8 to 200 letters"):
        load_token(None, tmp_path / "token")


def test_a_token_comes_from_one_place(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert load_token(None, tmp_path / "token") == TOKEN == load_token(TOKEN, None)
    assert load_token(None, None) is None
    with pytest.raises(AccessError, match="give the token once"):
        load_token(TOKEN, tmp_path / "token")
    with pytest.raises(AccessError, match="gone cannot be read"):
        load_token(None, tmp_path / "gone")


@asynchronous
async def test_over_tls_the_server_is_its_own_origin_by_https_only(certificate: tuple[Path, Path]) -> None:
    async with serve(hub_of(HELLO), port=0, tls=load_tls(*certificate)) as address:
        assert address.url == f"https://127.0.0.1:{address.port}"
        url = f"wss://localhost:{address.port}/captions"
        trust = trusting(certificate)
        async with connect(url, ssl=trust, proxy=None, origin=f"https://localhost:{address.port}") as client:  # type: ignore[arg-type]
            assert json.loads(await client.recv())["type"] == "hello"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, ssl=trust, proxy=None, origin=f"http://localhost:{address.port}")  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
        reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{address.port}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""  # without TLS there is no answer
        writer.close()


def test_files_that_are_no_certificate_and_key_are_refused_in_a_sentence(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate
    other = make_certificate(tmp_path / "other.pem")
    locked = make_certificate(tmp_path / "locked.pem", "-passout", "pass:secret")
    (tmp_path / "junk").write_text("junk")
    for files, told in (
        ((cert, None), "give both --tls-cert and --tls-key"),
        ((tmp_path / "gone", key), "gone cannot be read (No such file or directory)"),
        ((tmp_path / "junk", key), "are not a certificate and its key in PEM"),
        ((cert, tmp_path / "junk"), "are not a certificate and its key in PEM"),
        ((cert, other.with_suffix(".key")), "does not belong to the certificate"),
        ((locked, locked.with_suffix(".key")), "is locked by a passphrase"),
    ):
        with pytest.raises(AccessError) as refused:
            load_tls(*files)
        assert told in str(refused.value)


def test_who_opens_the_server_to_others_is_told_what_that_means(certificate: tuple[Path, Path]) -> None:
    tls = load_tls(*certificate)
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert exposure(host, None, None, True) is None
    assert exposure("0.0.0.0", TOKEN, tls, True) is None
    both = exposure("0.0.0.0", None, None, True) or ""
    assert "send audio" in both
    assert "--token-file" in both
    assert "--tls-cert" in both
    assert "send audio" not in (exposure("192.0.2.1", None, tls, False) or "")
    assert "--token" not in (exposure("::", TOKEN, None, True) or "")


def test_a_default_port_is_left_out_of_a_url_by_its_scheme() -> None:
    assert Address("::1", 443, tls=True).url == "https://[::1]"
    assert Address("::1", 443).url == "http://[::1]:443"
    assert Address("0.0.0.0", 80).url == "http://127.0.0.1"
