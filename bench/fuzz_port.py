"""What is fuzzed through the port of a real server: HTTP requests, and WebSocket frames of sessions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from functools import cache

from hypothesis import strategies as st

from bench.fuzz import Target
from bench.fuzz_parsers import broken, objects
from streamer.admission import Admission
from streamer.hub import Hub
from streamer.model import find, load
from streamer.scheduler import Scheduler
from streamer.server import serve
from streamer.sessions import Limits, Sessions

TOKEN = "nobody-guesses-this"
ANSWER_SECONDS = 20.0
KNOWN = "assert not self.eof_sent"  # websockets 17, of bytes behind a request that is not answered yet; it hangs up
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)


class Complaints(logging.Handler):
    """Errors that were logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


class Served:
    """A server with sessions in a thread of its own, for as long as the process lives."""

    def __init__(self, token: str | None) -> None:
        self.port, self.complaints = 0, Complaints()
        logging.getLogger().addHandler(self.complaints)
        logging.getLogger("asr_stream").propagate = True
        self._token, self._up = token, threading.Event()
        threading.Thread(target=asyncio.run, args=(self._serve(),), daemon=True).start()
        if not self._up.wait(60):
            raise RuntimeError("the server did not start")

    async def _serve(self) -> None:
        admission = Admission(per_address=500)
        async with Scheduler(load(find(None))) as scheduler:
            sessions = Sessions(scheduler, admission, Limits(idle_seconds=5.0, patience_seconds=5.0))
            async with serve(Hub(), port=0, sessions=sessions, token=self._token, handshake_seconds=2) as address:
                self.port = address.port
                self._up.set()
                await asyncio.Event().wait()

    def answer(self, request: bytes, more: bytes = b"") -> bytes:
        """All that comes back to a request, and to more after it was answered with a WebSocket."""
        received = b""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_SECONDS) as sock,
            contextlib.suppress(ConnectionError),
        ):
            sock.sendall(request)
            if b"\r\n\r\n" not in request:  # it would wait for the rest
                sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(1 << 16):
                received += piece
                if more and b"\r\n\r\n" in received:
                    sock.sendall(more)
                    sock.shutdown(socket.SHUT_WR)
                    more = b""
        return received

    def check(self) -> None:
        """It still lives and has made no mistake since the last time."""
        healthy = self.answer(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
        assert status(healthy) == 200, healthy[:200]
        complaints, self.complaints.records = self.complaints.records, []
        assert all(KNOWN in complaint for complaint in complaints), complaints


@cache
def served(token: str | None) -> Served:
    return Served(token)


def status(answer: bytes) -> int:
    """The status of an HTTP response, 0 of none."""
    if not answer:
        return 0
    assert answer.startswith(b"HTTP/1.1 "), answer[:80]
    return int(answer[9:12])


def a_request_is_answered_and_opens_nothing_without_the_token(data: bytes) -> None:
    server = served(TOKEN)
    answer = server.answer(data.replace(b"PORT", str(server.port).encode()))
    code = status(answer)
    assert code in (0, 400, 401, 403, 404, 405, 414, 426, 431, 503) or (code == 200 and b"z" in data), answer[:200]
    server.check()


def a_session_hears_anything_and_the_server_goes_on(sent: tuple[str, bytes]) -> None:
    server = served(None)
    path, frames = sent
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{UPGRADE}\r\n"
    answer = server.answer(request.encode(), frames)
    assert status(answer) == 101, answer[:200]
    server.check()


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """HTTP requests, mostly whole; PORT stands for the server's."""
    method = draw(st.sampled_from(["GET", "GET", "GET", "POST", "HEAD", "PRI", "get", ""]))
    path = draw(st.one_of(_paths, st.tuples(_paths, st.text(max_size=30)).map("".join)))
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2", "HTTP/1.1 "]))
    host = draw(
        st.sampled_from(["127.0.0.1:PORT", "127.0.0.1:PORT", "localhost:PORT", "evil.example", "", "[::1]:PORT"])
    )
    headers = draw(st.lists(st.one_of(st.sampled_from(_HEADERS), st.text(max_size=40)), max_size=8))
    upgrade = draw(st.sampled_from(["", UPGRADE]))
    lines = [f"{method} {path} {version}", f"Host: {host}", *headers]
    return ("\r\n".join(lines) + "\r\n" + upgrade + "\r\n").encode("utf-8", "surrogatepass")


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A WebSocket frame, masked by zeros, with any bits set and sometimes a wrong length."""
    payload = draw(st.one_of(st.binary(max_size=300), _texts.map(lambda text: text.encode("utf-8", "surrogatepass"))))
    first = draw(
        st.one_of(st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x80, 0x00, 0x88, 0x89, 0x8A]), st.integers(0, 255))
    )
    length = draw(st.one_of(st.just(len(payload)), st.just(len(payload)), st.integers(0, 2**63 - 1)))
    mask = draw(st.sampled_from([0x80, 0x80, 0x80, 0]))
    if length < 126:
        head = bytes([first, mask | length])
    elif length < 1 << 16:
        head = bytes([first, mask | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, mask | 127]) + length.to_bytes(8, "big")
    return head + (bytes(4) if mask else b"") + payload


_paths = st.sampled_from(
    ["/", "/captions", "/recognize", "/healthz", "/readyz", "/metrics", "/overlay", "/x", "*", "//", "/?token=", "/%00"]
)
_HEADERS = [
    "Authorization: Bearer", "Authorization: Bearer wrong", "Origin: null", "Origin: https://evil.example",
    "Sec-WebSocket-Protocol: asr-stream, token.wrong", "Sec-WebSocket-Protocol: ,,,token.", "Content-Length: 5",
    "Transfer-Encoding: chunked", "Upgrade: h2c", "Connection: keep-alive", "Host: 127.0.0.1:PORT", "X: " + "y" * 9000,
    "Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Version: 8", "Expect: 100-continue",
]  # fmt: skip
_texts = st.one_of(
    objects("type", "sample_rate", "format", "hotwords", "pause_seconds", "config", "eof", "reset"),
    st.sampled_from(
        ['{"type":"end"}', '{"type":"config","format":"f32le"}', '{"config":{}}', '{"eof":1}', '{"reset":1}']
    ),
)
_conversations = st.lists(frames(), max_size=12).map(b"".join)

PORTS = {
    "http": Target(
        st.one_of(requests(), broken(requests()), st.binary(max_size=500)),
        a_request_is_answered_and_opens_nothing_without_the_token,
    ),
    "websocket": Target(
        st.tuples(
            st.sampled_from(["/recognize", "/", "/captions"]),
            st.one_of(_conversations, broken(_conversations)).filter(bool),
        ),
        a_session_hears_anything_and_the_server_goes_on,
    ),
}
