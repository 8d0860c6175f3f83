"""Who may come in: the names the server goes by, the pages that may use it, a token, TLS; see docs/protocol.md."""

from __future__ import annotations

import hmac
import ipaddress
import re
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request
from websockets.typing import Subprotocol

SUBPROTOCOL, TOKEN_PREFIX = (
    Subprotocol("asr-stream"),
    "token.",
)  # what a browser offers, which can send no header of its own
TOKEN_FORM = re.compile(r"[A-Za-z0-9._~-]{8,200}")  # fits into a header, a query and a subprotocol as it is


class AccessError(Exception):
    """A token or a certificate cannot be used; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of the door; `host` is where the server listens, `origins` are allowed besides its own."""

    host: str
    origins: frozenset[str] = frozenset()
    token: str | None = None
    tls: ssl.SSLContext | None = None


class Refusal(NamedTuple):
    """Why a request may not come in: a word to count it by, and a sentence."""

    status: HTTPStatus
    kind: str
    reason: str


def authority(name: str, port: int, tls: bool = False) -> str:
    """A host and a port as they stand in a URL."""
    name = f"[{name}]" if ":" in name else name
    return name if port == (443 if tls else 80) else f"{name}:{port}"


def refuse_stranger(access: Access, request: Request, local_address: tuple[str, int]) -> Refusal | None:
    """Why a request may not come in: another site's name that resolves to here, or another site's page in a browser."""
    address, port = local_address
    tls = access.tls is not None
    own = {authority(name, port, tls) for name in ("localhost", "127.0.0.1", "::1", access.host.lower(), address)}
    hosts = own | {urlsplit(origin).netloc for origin in access.origins} - {""}
    if [host.lower() in hosts for host in request.headers.get_all("Host")] != [True]:
        reason = "Open this server by its own address, or allow the origin you open it by.\n"
        return Refusal(HTTPStatus.FORBIDDEN, "host", reason)
    origins = {f"{'https' if tls else 'http'}://{name}" for name in own} | access.origins
    if not all(origin.lower() in origins for origin in request.headers.get_all("Origin")):
        reason = "Pages from elsewhere may not use this server unless their origin is allowed.\n"
        return Refusal(HTTPStatus.FORBIDDEN, "origin", reason)
    return None


def knows_token(access: Access, request: Request) -> bool:
    """Whether a request brings the token, if there is one; how long this takes does not tell how much was right."""
    if access.token is None:
        return True
    token = access.token.encode()
    return any(hmac.compare_digest(given.encode(errors="surrogatepass"), token) for given in _tokens(request))


NO_TOKEN = Refusal(
    HTTPStatus.UNAUTHORIZED,
    "token",
    "This server wants its token: add ?token= and the token to the address, or send it as Authorization: Bearer.\n",
)


def _tokens(request: Request) -> Iterator[str]:
    """What a request offers as a token, by each of the three ways."""
    for value in request.headers.get_all("Authorization"):
        scheme, _, given = value.partition(" ")
        if scheme.lower() == "bearer":
            yield given.strip()
    yield from parse_qs(request.path.partition("?")[2]).get("token", ())
    for value in request.headers.get_all("Sec-WebSocket-Protocol"):
        for offered in map(str.strip, value.split(",")):
            if offered.startswith(TOKEN_PREFIX):
                yield offered.removeprefix(TOKEN_PREFIX)


def choose_subprotocol(_: object, offered: Iterable[Subprotocol]) -> Subprotocol | None:
    """The answer to a client's subprotocols, which never repeats a token."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


def load_token(text: str | None, file: Path | None) -> str | None:
    """The token, from where it was given; AccessError when it is unfit."""
    if text is None and file is None:
        return None
    if text is not None and file is not None:
        raise AccessError("give the token once: --token, ASR_STREAM_TOKEN or --token-file")
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AccessError(f"{file} cannot be read ({error}): give --token-file a file with the token") from None
    if not TOKEN_FORM.fullmatch(text or ""):
        raise AccessError(
            "the token must be 8 to 200 letters, digits or any of -._~ : take that of `openssl rand -hex 16`"
        )
    return text


def load_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What a server needs to speak TLS, from PEM files; AccessError names what is wrong with them."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise AccessError("TLS needs two files: give both --tls-cert and --tls-key")
    for path in (cert, key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise AccessError(f"{path} cannot be read ({error.strerror}): give a file in PEM") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def no_passphrase() -> str:
        raise AccessError(f"{key} is locked by a passphrase: unlock it with `openssl pkey -in {key} -out FILE`")

    try:
        context.load_cert_chain(cert, key, no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise AccessError(
                f"{key} does not belong to the certificate {cert}: give the two that were made together"
            ) from None
        raise AccessError(
            f"{cert} and {key} are not a certificate and its key in PEM: give --tls-cert and --tls-key"
        ) from None
    return context


def exposure(host: str, token: str | None, tls: ssl.SSLContext | None, sessions: bool) -> str | None:
    """What others could do to a server that listens beyond this machine, and the remedy; None when all is closed."""
    if is_loopback(host) or (token and tls):
        return None
    dangers = []
    if not token:
        able = "read the captions and send audio" if sessions else "read the captions"
        dangers.append(f"whoever reaches it may {able} (give --token-file)")
    if tls is None:
        dangers.append("what is sent can be read on the way (give --tls-cert and --tls-key, or put a proxy before it)")
    return f"{host} is open to other machines: " + ", and ".join(dangers)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
