"""The plain HTTP half of the server: the door every request comes through, the pages, the health check."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from streamer.admission import Admission
from streamer.hub import Hub

CAPTIONS, SESSIONS, HEALTH = "/captions", "/recognize", "/healthz"


@dataclass(frozen=True, slots=True)
class Site:
    """What answers come from: `pages` maps a path to its HTML and Content-Security-Policy, `scripts` one to code."""

    hub: Hub
    host: str
    origins: frozenset[str]
    max_clients: int
    admission: Admission | None
    pages: dict[str, tuple[bytes, str]]
    scripts: dict[str, bytes]


def load_site(
    hub: Hub, host: str, allowed_origins: Iterable[str], max_clients: int, admission: Admission | None = None
) -> Site:
    """Read the pages from the `clients` package; origins are compared in lower case."""
    pages = {"/": _load_page("index.html", admission is not None), "/overlay": _load_page("overlay.html")}
    scripts = {f"/{name}": _read(name).encode() for name in ("captions.js", "microphone.js")}
    origins = frozenset(origin.lower().rstrip("/") for origin in allowed_origins)
    return Site(hub, host, origins, max_clients, admission, pages, scripts)


def answer(site: Site, connection: ServerConnection, request: Request) -> Response | None:
    """The response to an HTTP request, or None to go on with the WebSocket handshake."""
    refusal = _refusal(site, connection, request)
    if refusal:
        return _respond(HTTPStatus.FORBIDDEN, refusal)
    if request.method != "GET":
        body = "" if request.method == "HEAD" else "Only GET is understood here.\n"
        return _respond(HTTPStatus.METHOD_NOT_ALLOWED, body, Allow="GET")
    path = request.path.partition("?")[0]
    upgrade = "websocket" in ",".join(request.headers.get_all("Upgrade")).lower()
    if path in site.pages and not (path == "/" and upgrade and site.admission):
        html, policy = site.pages[path]
        authority = request.headers["Host"]
        policy += f"; connect-src 'self' ws://{authority} wss://{authority}"  # for older Safari 'self' is HTTP only
        return _respond(HTTPStatus.OK, html, "text/html; charset=utf-8", Content_Security_Policy=policy)
    if path in site.scripts:
        origins = request.headers.get_all("Origin")  # which have been let in
        allowed = {"Access_Control_Allow_Origin": origins[0]} if origins else {}
        return _respond(HTTPStatus.OK, site.scripts[path], "text/javascript; charset=utf-8", Vary="Origin", **allowed)
    if path == HEALTH:
        return _respond(HTTPStatus.OK, json.dumps(_health(site, connection)), "application/json")
    if path == CAPTIONS:
        return _refuse_viewer(site, connection)
    if path == SESSIONS or (upgrade and site.admission):  # vosk-server's clients use any path
        return _refuse_session(site, connection)
    sessions = ", the WebSocket /recognize" if site.admission else ""
    return _respond(
        HTTPStatus.NOT_FOUND, f"Here are /, /overlay, /captions.js, /healthz{sessions} and the WebSocket /captions.\n"
    )


def _health(site: Site, connection: ServerConnection) -> dict[str, Any]:
    hello = json.loads(site.hub.hello.data) if site.hub.hello else None
    health = {"status": "ok", "clients": len(connection.server.connections), "hello": hello}
    if site.admission is None:
        return health
    return health | {"sessions": site.admission.sessions, "places": site.admission.places}


def _refuse_viewer(site: Site, connection: ServerConnection) -> Response | None:
    sessions = site.admission.sessions if site.admission else 0
    if len(connection.server.connections) - sessions < site.max_clients:
        return None
    return _respond(HTTPStatus.SERVICE_UNAVAILABLE, f"All {site.max_clients} places are taken: try again later.\n")


def _refuse_session(site: Site, connection: ServerConnection) -> Response | None:
    if site.admission is None:
        return _respond(HTTPStatus.NOT_FOUND, "This server takes no audio: start it with --serve.\n")
    refusal = site.admission.refusal(connection.remote_address[0])
    return _respond(HTTPStatus.SERVICE_UNAVAILABLE, refusal + "\n") if refusal else None


def authority(name: str, port: int) -> str:
    """A host and a port as they stand in a URL."""
    name = f"[{name}]" if ":" in name else name
    return name if port == 80 else f"{name}:{port}"


def _refusal(site: Site, connection: ServerConnection, request: Request) -> str | None:
    """Why a request may not come in: another site's name that resolves to here, or another site's page in a browser."""
    address, port = connection.local_address[:2]
    own = {authority(name, port) for name in ("localhost", "127.0.0.1", "::1", site.host.lower(), address)}
    hosts = own | {urlsplit(origin).netloc for origin in site.origins} - {""}
    if [host.lower() in hosts for host in request.headers.get_all("Host")] != [True]:
        return "Open this server by its own address, or allow the origin you open it by.\n"
    origins = {f"http://{name}" for name in own} | site.origins
    if not all(origin.lower() in origins for origin in request.headers.get_all("Origin")):
        return "Pages from elsewhere may not use this server unless their origin is allowed.\n"
    return None


def _read(name: str) -> str:
    return resources.files("clients").joinpath("page", name).read_text("utf-8")


def _load_page(name: str, sessions: bool = False) -> tuple[bytes, str]:
    """A page and a policy by which only this server's scripts and the styles written in it work.

    A page that may open sessions is told so by its first tag.
    """
    html = _read(name)
    if sessions:
        html = html.replace("<html ", "<html data-sessions ", 1)

    def hashes(tag: str) -> str:
        bodies = re.findall(rf"<{tag}(?: [^>]*)?>(.*?)</{tag}>", html, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return html.encode(), (
        f"default-src 'none'; script-src 'self' {hashes('script')}; style-src {hashes('style')}; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


def _respond(
    status: HTTPStatus, body: str | bytes, content_type: str = "text/plain; charset=utf-8", **more: str
) -> Response:
    data = body if isinstance(body, bytes) else body.encode()
    headers = {
        "Connection": "close",
        "Content-Length": str(len(data)),
        "Content-Type": content_type,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    return Response(status.value, status.phrase, Headers(headers), data)
