"""OCPI 2.2.1, sender side of Locations, with faults that can be switched on while it runs.

Statuses are those of now. The named faults of EVSEs happen here too; the gaps and absences of the history do
not: they are what ``POST /control/<feed>/fault`` is for.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol

import uvicorn
from fastapi import FastAPI, Header, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from simulator.history import OCPI_WORDS
from simulator.months import DAY_SECONDS, Span, rfc3339
from simulator.timeline import timeline
from simulator.world import Cpo, Evse, Site, World

PAGE_CAP = 20
"""A page never has more locations, whatever limit is asked for."""

Location = dict[str, Any]
Clock = Callable[[], datetime]


class Source(Protocol):
    """Whatever has locations to serve."""

    def locations(self, now: datetime) -> list[Location]:
        """Return all OCPI locations, always in the same order."""
        ...


@dataclass(frozen=True)
class Replay:
    """Locations from a file, the same at all times."""

    items: list[Location]

    @classmethod
    def of(cls, document: Any) -> Replay:
        """Accept a bare list, ``{"data": [...]}`` or ``{"items": [...]}``; else ``ValueError``."""
        items = document
        if isinstance(document, dict):
            items = document.get("data", document.get("items"))
        if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
            raise ValueError("holds no list of OCPI locations, bare or as 'data' or 'items'")
        return cls(items)

    def locations(self, now: datetime) -> list[Location]:
        """Return the file's locations."""
        return copy.deepcopy(self.items)


@dataclass(frozen=True)
class WorldSource:
    """The locations of one simulated CPO."""

    world: World
    cpo: Cpo

    def locations(self, now: datetime) -> list[Location]:
        """Return every site with the statuses of ``now``."""
        at = int(now.timestamp())
        evses = self.world.evses(self.cpo.cpo_id, Span(at, at + 1))
        return [
            self._location(site, [self._evse(evse, at) for evse in evses if evse.site == site])
            for site in self.world.sites
            if site.cpo_id == self.cpo.cpo_id
        ]

    def _location(self, site: Site, evses: list[dict[str, Any]]) -> Location:
        return {
            "country_code": self.cpo.country_code,
            "party_id": self.cpo.party_id,
            "id": site.site_id,
            "publish": True,
            "name": site.name,
            "address": site.address,
            "city": site.suburb,
            "postal_code": site.postcode,
            "state": site.state,
            "country": "AUS",
            "coordinates": {"latitude": f"{site.latitude:.4f}", "longitude": f"{site.longitude:.4f}"},
            "evses": evses,
            "operator": {"name": self.cpo.name},
            "time_zone": site.time_zone,
            "last_updated": max(evse["last_updated"] for evse in evses),
        }

    def _evse(self, evse: Evse, at: int) -> dict[str, Any]:
        # Looking back no further than yesterday's start, last_updated also moves once a day for no reason,
        # as that of real feeds does.
        last = timeline(self.world, evse, Span((at // DAY_SECONDS - 1) * DAY_SECONDS, at + 1))[-1]
        updated = rfc3339(last.at)
        return {
            "uid": evse.uid,
            "evse_id": evse.emi3_id,
            "status": OCPI_WORDS[last.status],
            "connectors": [
                {
                    "id": connector.connector_id,
                    "standard": connector.standard,
                    "format": connector.connector_format,
                    "power_type": connector.power_type,
                    "max_voltage": connector.max_voltage,
                    "max_amperage": connector.max_amperage,
                    "last_updated": rfc3339(evse.described_since),
                }
                | (
                    {"max_electric_power": connector.max_electric_power_w}
                    if connector.max_electric_power_w is not None
                    else {}
                )
                for connector in evse.connectors
            ],
            "last_updated": updated,
        }


class FaultSwitch(BaseModel):
    """What ``POST /control/<feed>/fault`` takes."""

    model_config = ConfigDict(extra="forbid")

    name: Literal[
        "down",
        "error_500",
        "rate_limited",
        "slow",
        "status_3000",
        "truncated",
        "non_advancing_page",
        "missing_evse",
        "bad_object",
    ]
    requests: int | None = Field(default=None, gt=0)
    """How many requests it spoils; without it all, until it is switched off."""
    seconds: float = Field(default=30, ge=0)
    """``slow``: how long to wait before the answer. ``rate_limited``: the Retry-After."""
    uid: str | None = None
    """``missing_evse``, ``bad_object``: which EVSE (default: the first)."""
    variant: Literal["connection", "json", "without_uid", "null_status"] | None = None
    """``truncated``: the connection ends early (default), or the JSON does in a whole answer.
    ``bad_object``: the EVSE is without uid (default), or its status is null."""


class _Feed:
    """One served feed: its source, its token and the faults switched on."""

    def __init__(self, source: Source, token: str) -> None:
        self.source = source
        self.authorization = "Token " + base64.b64encode(token.encode()).decode()
        self.faults: dict[str, FaultSwitch] = {}

    def spoiled_by(self, name: str) -> FaultSwitch | None:
        """Return the fault if it is on, and count it as used."""
        fault = self.faults.get(name)
        if fault is not None and fault.requests is not None:
            fault.requests -= 1
            if fault.requests == 0:
                del self.faults[name]
        return fault


class _CutShort(Response):
    """Promises its whole body and sends half: the server then ends the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})


def utc_now() -> datetime:
    """Return the time of day: the clock outside of tests."""
    return datetime.now(UTC)


def build_app(
    sources: Mapping[str, Source], tokens: Mapping[str, str], clock: Clock = utc_now, page_cap: int = PAGE_CAP
) -> FastAPI:
    """Build the server; ``tokens`` has one per source. Feed ``x`` begins at ``/x/ocpi/versions``."""
    feeds = {name: _Feed(source, tokens[name]) for name, source in sources.items()}
    app = FastAPI(openapi_url=None)

    def feed_of(name: str) -> _Feed:
        if name not in feeds:
            raise HTTPException(404, f"no feed '{name}' here, there are: {', '.join(feeds)}")
        return feeds[name]

    def envelope(data: Any, status_code: int = 1000, message: str = "Success") -> bytes:
        body = {"data": data, "status_code": status_code, "status_message": message}
        return _json(body | {"timestamp": rfc3339(int(clock().timestamp()))})

    def answer(content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        return Response(content, status, headers, media_type="application/json")

    async def refuse(feed: _Feed, authorization: str | None) -> Response | None:
        """Return what keeps any request from its answer: a fault, or a wrong token."""
        if slow := feed.spoiled_by("slow"):
            await asyncio.sleep(slow.seconds)
        if feed.spoiled_by("down"):
            return Response("Service Unavailable", 503, {"Connection": "close"})
        if feed.spoiled_by("error_500"):
            return Response("Internal Server Error", 500)
        if limit := feed.spoiled_by("rate_limited"):
            return Response("Too Many Requests", 429, {"Retry-After": f"{limit.seconds:.0f}"})
        if not secrets.compare_digest((authorization or "").encode(), feed.authorization.encode()):
            return answer(envelope(None, 2001, "Authorization header is missing or its token is wrong"), 401)
        return None

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "feeds": list(feeds)}

    @app.get("/{name}/ocpi/versions")
    async def versions(name: str, request: Request, authorization: Annotated[str | None, Header()] = None) -> Response:
        if refused := await refuse(feed_of(name), authorization):
            return refused
        return answer(envelope([{"version": "2.2.1", "url": f"{request.base_url}{name}/ocpi/2.2.1"}]))

    @app.get("/{name}/ocpi/2.2.1")
    async def details(name: str, request: Request, authorization: Annotated[str | None, Header()] = None) -> Response:
        if refused := await refuse(feed_of(name), authorization):
            return refused
        url = f"{request.base_url}{name}/ocpi/2.2.1/locations"
        endpoint = {"identifier": "locations", "role": "SENDER", "url": url}
        return answer(envelope({"version": "2.2.1", "endpoints": [endpoint]}))

    @app.get("/{name}/ocpi/2.2.1/locations")
    async def locations(
        name: str,
        request: Request,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(gt=0)] = page_cap,
        authorization: Annotated[str | None, Header()] = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        feed = feed_of(name)
        if refused := await refuse(feed, authorization):
            return refused
        if feed.spoiled_by("status_3000"):
            return answer(envelope([], 3000, "Generic server error"))
        found = feed.source.locations(clock())
        if fault := feed.spoiled_by("missing_evse"):
            _without_evse(found, fault.uid)
        if fault := feed.spoiled_by("bad_object"):
            _with_bad_evse(found, fault.uid, fault.variant)
        size = min(limit, page_cap)
        stuck = feed.spoiled_by("non_advancing_page")
        page = found[:size] if stuck else found[offset : offset + size]
        following = offset if stuck else offset + size
        headers = {
            "X-Total-Count": str(len(found)),
            "X-Limit": str(page_cap),
            "ETag": f'"{hashlib.sha256(_json([len(found), page])).hexdigest()[:32]}"',
        }
        if following < len(found):
            url = request.url.include_query_params(offset=following, limit=size)
            headers["Link"] = f'<{url}>; rel="next"'
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        body = envelope(page)
        if fault := feed.spoiled_by("truncated"):
            if fault.variant == "json":
                return answer(body[: len(body) // 2], headers=headers)
            return _CutShort(body, headers=headers, media_type="application/json")
        return answer(body, headers=headers)

    @app.get("/control/{name}/fault")
    async def faults_on(name: str) -> list[FaultSwitch]:
        return list(feed_of(name).faults.values())

    @app.post("/control/{name}/fault")
    async def switch_on(name: str, fault: FaultSwitch) -> FaultSwitch:
        feed_of(name).faults[fault.name] = fault
        return fault

    @app.delete("/control/{name}/fault", status_code=204)
    async def switch_off(name: str, fault: str | None = None) -> None:
        """Switch off one fault (``?fault=down``), or all."""
        faults = feed_of(name).faults
        for switched_on in [fault] if fault else list(faults):
            faults.pop(switched_on, None)

    return app


@contextmanager
def serve_in_thread(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serve on 127.0.0.1 (a free port unless told one) while the block runs; gives the base URL.

    Raises ``RuntimeError`` when the server does not come up within 20 seconds.
    """
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="critical", timeout_graceful_shutdown=1, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="simulator", daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError(f"the simulator did not start on port {port}")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _chosen(locations: list[Location], uid: str | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return an EVSE by its uid, or the first one, with the list that it is in."""
    for location in locations:
        for evse in location.get("evses") or []:
            if uid is None or evse.get("uid") == uid:
                return location["evses"], evse
    raise HTTPException(500, f"a fault names EVSE '{uid}', which is not here")


def _without_evse(locations: list[Location], uid: str | None) -> None:
    evses, evse = _chosen(locations, uid)
    evses.remove(evse)


def _with_bad_evse(locations: list[Location], uid: str | None, variant: str | None) -> None:
    _, evse = _chosen(locations, uid)
    if variant == "null_status":
        evse["status"] = None
    else:
        del evse["uid"]
