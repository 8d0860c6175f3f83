"""The plain HTTP half of the server: the door every request comes through, the pages, health and metrics."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from streamer.access import NO_TOKEN, Access, Refusal, knows_token, refuse_stranger
from streamer.admission import Admission
from streamer.connection import Connection
from streamer.hub import Hub
from streamer.metrics import expose
from streamer.tally import Tally

CAPTIONS, SESSIONS, HEALTH, READY, METRICS = "/captions", "/recognize", "/healthz", "/readyz", "/metrics"
PROBES = (HEALTH, READY)  # whoever reaches the server may ask whether it lives


@dataclass(frozen=True, slots=True)
class Site:
    """What answers come from: `pages` maps a path to its HTML and Content-Security-Policy, `scripts` one to code."""

    hub: Hub
    access: Access
    max_clients: int
    admission: Admission | None
    tally: Tally
    pages: dict[str, tuple[bytes, str]]
    scripts: dict[str, bytes]


def load_site(hub: Hub, access: Access, max_clients: int, admission: Admission | None, tally: Tally) -> Site:
    """Read the pages from the `clients` package, and what /metrics needs: importing it takes too long for later."""
    with contextlib.suppress(ImportError):
        import prometheus_client  # noqa: F401
    pages = {"/": _load_page("index.html", admission is not None), "/overlay": _load_page("overlay.html")}
    scripts = {f"/{name}": _read(name).encode() for name in ("captions.js", "microphone.js")}
    return Site(hub, access, max_clients, admission, tally, pages, scripts)


def answer(site: Site, connection: Connection, request: Request) -> Response | None:
    """The response to an HTTP request, or None to go on with the WebSocket handshake."""
    path = request.path.partition("?")[0]
    known = knows_token(site.access, request)
    refusal = refuse_stranger(site.access, request, connection.reached_at)
    if refusal is None and not known and path not in (*PROBES, *site.scripts):  # scripts are no secret
        refusal = NO_TOKEN
    if refusal:
        return _refuse(site, refusal)
    if request.method != "GET":
        body = "" if request.method == "HEAD" else "Only GET is understood here.\n"
        return _respond(HTTPStatus.METHOD_NOT_ALLOWED, body, Allow="GET")
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
        health = _health(site, connection) if known else {"status": "ok"}
        return _respond(HTTPStatus.OK, json.dumps(health), "application/json")
    if path == READY:
        unready = _unready(site)
        return _respond(HTTPStatus.SERVICE_UNAVAILABLE if unready else HTTPStatus.OK, f"{unready or 'Ready.'}\n")
    if path == METRICS:
        return _metrics(site, connection)
    if path == CAPTIONS:
        return _refuse_viewer(site, connection)
    if path == SESSIONS or (upgrade and site.admission):  # vosk-server's clients use any path
        return _refuse_session(site, connection)
    sessions = ", the WebSocket /recognize" if site.admission else ""
    here = f"/, /overlay, /captions.js, /healthz, /readyz, /metrics{sessions}"
    return _respond(HTTPStatus.NOT_FOUND, f"Here are {here} and the WebSocket /captions.\n")


def _health(site: Site, connection: Connection) -> dict[str, Any]:
    hello = json.loads(site.hub.hello.data) if site.hub.hello else None
    health = {"status": "ok", "clients": len(connection.server.connections), "hello": hello}
    if site.admission is None:
        return health
    return health | {"sessions": site.admission.sessions, "places": site.admission.places}


def _unready(site: Site) -> str | None:
    """Why new clients had better go elsewhere, in one sentence."""
    if site.admission is not None:
        return site.admission.unready()
    if site.hub.closed:
        return "The captions have ended."
    return None if site.hub.hello else "No audio has come yet."


def _metrics(site: Site, connection: Connection) -> Response:
    tally, admission = site.tally, site.admission
    whole = tally.work_seconds / tally.audio_seconds if tally.audio_seconds else 0.0
    cost = whole if admission is None else admission.cost or 0.0
    gauges = {
        "clients": ("WebSockets that are open, of captions and sessions.", float(len(connection.server.connections))),
        "real_time_factor": ("Seconds that a second of audio costs, with all that belongs to it, of late.", cost),
    }
    if admission is not None:
        gauges["sessions_open"] = ("Sessions now.", float(admission.sessions))
        gauges["session_places"] = ("Sessions that the machine can keep up with.", float(admission.places))
    try:
        page, content_type = expose(tally, gauges)
    except ImportError:
        told = "prometheus-client is not installed: type  pip install 'asr-stream[metrics]'\n"
        return _respond(HTTPStatus.NOT_IMPLEMENTED, told)
    return _respond(HTTPStatus.OK, page, content_type)


def _refuse(site: Site, refusal: Refusal) -> Response:
    site.tally.refusals[refusal.kind] += 1
    more = {"WWW_Authenticate": "Bearer"} if refusal.status == HTTPStatus.UNAUTHORIZED else {}
    return _respond(refusal.status, refusal.reason, **more)


def _refuse_viewer(site: Site, connection: Connection) -> Response | None:
    requests = (other.request for other in connection.server.connections)
    viewers = sum(request is not None and request.path.partition("?")[0] == CAPTIONS for request in requests)
    if viewers < site.max_clients:
        return None
    reason = f"All {site.max_clients} places are taken: try again later.\n"
    return _refuse(site, Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "viewers", reason))


def _refuse_session(site: Site, connection: Connection) -> Response | None:
    if site.admission is None:
        return _respond(HTTPStatus.NOT_FOUND, "This server takes no audio: start it with --serve.\n")
    reason = site.admission.refusal(connection.address)
    return _refuse(site, Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "sessions", reason + "\n")) if reason else None


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
