"""An HTTP server that plays scripted answers over a real connection, and a script that plays an OCPI
sender."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ingestion.config import CpoConfig


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    form: dict[str, str] = field(default_factory=dict)


@dataclass
class Reply:
    """What to answer. ``cut_to``: send so many bytes of the body and hang up; ``hang_up``: send nothing at
    all."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut_to: int | None = None
    hang_up: bool = False


Route = Callable[[Request], Reply]


class ScriptedServer:
    """Serves ``routes`` (path to a function) on a free port of 127.0.0.1 and keeps what was asked."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: list[Request] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                form = {name: values[-1] for name, values in parse_qs(sent).items()}
                request = Request(parts.path, query, self.headers, form)
                outer.requests.append(request)
                route = outer.routes.get(parts.path, lambda _: Reply(b"nothing here", 404))
                reply = route(request)
                if reply.hang_up:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.status != 304:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if reply.status != 304:
                    self.wfile.write(reply.body[: reply.cut_to])
                if reply.cut_to is not None:
                    self.close_connection = True

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def asked(self, path: str) -> list[Request]:
        """The requests for one path so far."""
        return [request for request in self.requests if request.path == path]

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


LOCATIONS = "/ocpi/cpo/2.2.1/locations"


class OcpiScript:
    """A well-behaved OCPI 2.2.1 sender of ``items``; tests turn its knobs or wrap `page`."""

    def __init__(
        self, items: list[dict[str, Any]], page_cap: int = 50, *, total: bool = True, link: bool = True
    ) -> None:
        self.items = items
        self.page_cap = page_cap
        self.total = total
        self.link = link
        self.etags = False
        self.headers_on_304 = True
        self.authorizations: set[str] | None = None
        self.before_page: Callable[[Request], None] = lambda _: None
        self.after_page: Callable[[Request, Reply], Reply] = lambda _, reply: reply
        self._clock = itertools.count()
        self._url = ""

    def mount(self, server: ScriptedServer) -> OcpiScript:
        """Take the three addresses of a server."""
        self._url = server.url
        server.routes["/ocpi/versions"] = self._guarded(
            lambda _: envelope([{"version": v, "url": f"{self._url}/ocpi/{v}"} for v in ("2.1.1", "2.2.1")])
        )
        server.routes["/ocpi/2.2.1"] = self._guarded(
            lambda _: envelope(
                {
                    "version": "2.2.1",
                    "endpoints": [
                        {"identifier": "credentials", "role": "SENDER", "url": f"{self._url}/no"},
                        {"identifier": "locations", "role": "RECEIVER", "url": f"{self._url}/no"},
                        {"identifier": "locations", "role": "SENDER", "url": f"{self._url}{LOCATIONS}"},
                    ],
                }
            )
        )
        server.routes[LOCATIONS] = self._guarded(self.page)
        return self

    def _guarded(self, route: Route) -> Route:
        def guarded(request: Request) -> Reply:
            allowed = self.authorizations
            if allowed is not None and request.headers.get("Authorization") not in allowed:
                return Reply(b"who?", 401)
            return route(request)

        return guarded

    def page(self, request: Request) -> Reply:
        """One page, by offset and limit."""
        self.before_page(request)
        offset, limit = int(request.query["offset"]), min(int(request.query["limit"]), self.page_cap)
        if self.page_cap >= 10**6:
            limit = self.page_cap
        part = self.items[offset : offset + limit]
        reply = envelope(part, timestamp=f"2026-01-01T00:00:{next(self._clock) % 60:02}Z")
        if self.total:
            reply.headers["X-Total-Count"] = str(len(self.items))
        if self.link and offset + limit < len(self.items):
            following = f"{self._url}{LOCATIONS}?offset={offset + limit}&limit={limit}"
            reply.headers["Link"] = f'<{following}>; rel="next"'
        if self.etags:
            etag = f'"{hash(json.dumps(part))}"'
            if request.headers.get("If-None-Match") == etag:
                reply = Reply(b"", 304, reply.headers if self.headers_on_304 else {})
            reply.headers["ETag"] = etag
        return self.after_page(request, reply)


def envelope(data: Any, *, status_code: int = 1000, timestamp: str = "2026-01-01T00:00:00Z") -> Reply:
    """An OCPI answer."""
    document = {"data": data, "status_code": status_code, "status_message": "ok", "timestamp": timestamp}
    return Reply(json.dumps(document).encode(), 200, {"Content-Type": "application/json"})


def connector(connector_id: str = "1", /, **more: Any) -> dict[str, Any]:
    """A whole connector of 11.04 kW."""
    return {
        "id": connector_id,
        "standard": "IEC_62196_T2",
        "format": "SOCKET",
        "power_type": "AC_3_PHASE",
        "max_voltage": 230,
        "max_amperage": 16,
        "last_updated": "2026-01-01T00:00:00Z",
    } | more


def evse(uid: str = "E1", /, **more: Any) -> dict[str, Any]:
    """A whole EVSE with one connector."""
    return {
        "uid": uid,
        "evse_id": f"AU*ABC*{uid}",
        "status": "AVAILABLE",
        "connectors": [connector()],
        "last_updated": "2026-01-01T00:00:00Z",
    } | more


def location(
    location_id: str = "L1", /, *, evse_count: int = 1, connector_count: int = 1, **more: Any
) -> dict[str, Any]:
    """A whole Location of the feed's own party."""
    return {
        "country_code": "AU",
        "party_id": "ABC",
        "id": location_id,
        "publish": True,
        "name": f"Site {location_id}",
        "address": "1 Invented Road",
        "city": "Broken Hill",
        "postal_code": "2880",
        "state": "NSW",
        "country": "AUS",
        "coordinates": {"latitude": "-31.9505", "longitude": "141.4533"},
        "time_zone": "Australia/Broken_Hill",
        "evses": [
            evse(
                f"{location_id}-{number}",
                connectors=[connector(str(one + 1)) for one in range(connector_count)],
            )
            for number in range(1, evse_count + 1)
        ],
        "last_updated": "2026-01-01T00:00:00Z",
    } | more


def pull_config(url: str = "http://127.0.0.1:9", **feed: Any) -> CpoConfig:
    """Settings of a feed at ``url``."""
    settings = {
        "kind": "ocpi_pull",
        "version": "2.2.1",
        "versions_url": f"{url}/ocpi/versions",
        "party": "AU*ABC",
        "token_secret": "ABC_TOKEN",
        "poll_seconds": 60,
        "liveness_seconds": 300,
        "status_profile": "ocpi_2_2_1",
    } | feed
    return CpoConfig.model_validate({"cpo_id": "abc", "name": "ABC", "feed": settings})
