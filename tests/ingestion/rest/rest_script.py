"""A made-up CPO's own JSON, played by a scripted server, and the settings that read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ingestion.config import CpoConfig, RestPullFeed
from ingestion.http import HttpTransport
from ingestion.rest.pull import RestPull
from tests.ingestion.ocpi.scripted_server import Reply, Request, ScriptedServer

SECRETS = {"ABC_KEY": "s3cret/+key"}
ASSETS, STATUSES = "/v1/ports", "/v1/states"


def port(port_id: str, state: str | None = "free", **more: Any) -> dict[str, Any]:
    """A flat record: an EVSE with its site and its one connector."""
    told = {"id": port_id, "site": "S1", "lat": -33.87, "lon": 151.21, "kw": 50, **more}
    return told if state is None else {**told, "state": state}


def ports(count: int, state: str | None = "free") -> list[dict[str, Any]]:
    return [port(f"P{number}", state) for number in range(1, count + 1)]


def rest_config(url: str, **more: Any) -> CpoConfig:
    """Settings of a feed whose list is under ``items``."""
    feed = {
        "kind": "rest_pull",
        "poll_seconds": 60,
        "liveness_seconds": 300,
        "status_profile": "history",
        "assets": {"url": f"{url}{ASSETS}"},
        "mapping": {
            "sites": "items",
            "site": {"site_id": "site", "latitude": "lat", "longitude": "lon"},
            "evse": {"evse_id": "id", "status": "state"},
            "connector": {"power": {"path": "kw", "unit": "kW"}},
        },
        **more,
    }
    return CpoConfig.model_validate({"cpo_id": "abc", "name": "ABC", "feed": feed})


def paged_config(url: str, paging: dict[str, Any], **more: Any) -> CpoConfig:
    return rest_config(url, assets={"url": f"{url}{ASSETS}", "paging": paging}, **more)


def pair_config(url: str, **assets: Any) -> CpoConfig:
    """Settings of a feed whose statuses stand apart."""
    told = rest_config(url).feed
    assert isinstance(told, RestPullFeed)
    mapping = told.mapping.model_dump(exclude_none=True)
    del mapping["evse"]["status"]
    return rest_config(
        url,
        assets={"url": f"{url}{ASSETS}", **assets},
        mapping=mapping,
        statuses={"url": f"{url}{STATUSES}"},
        status_mapping={"items": "states", "evse_id": "id", "status": "state", "updated_at": "at"},
    )


def pull(config: CpoConfig, monotonic: Callable[[], float] = lambda: 0.0) -> RestPull:
    """The feed, without pauses between tries."""
    return RestPull(config, SECRETS.__getitem__, HttpTransport(backoff_seconds=0), monotonic)


def find_secret(name: str) -> str:
    return SECRETS[name]


def reply(document: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(json.dumps(document).encode(), status, {"Content-Type": "application/json", **headers})


def serve(server: ScriptedServer, items: list[Any], path: str = ASSETS, name: str = "items") -> None:
    """Answer the whole list."""
    server.routes[path] = lambda _: reply({name: items})


class Pages:
    """Serves ``items`` in pages of ``size`` in one of the ways of paging; ``tamper`` may change an answer."""

    def __init__(self, items: list[Any], size: int, kind: str) -> None:
        self.items, self.size, self.kind = items, size, kind
        self.url = ""
        self.tamper: Callable[[Request, dict[str, Any]], dict[str, Any]] = lambda _, document: document

    def mount(self, server: ScriptedServer) -> Pages:
        self.url = server.url
        server.routes[ASSETS] = self.answer
        return self

    def answer(self, request: Request) -> Reply:
        query = request.query
        start = {
            "page": lambda: (int(query.get("page", 1)) - 1) * self.size,
            "offset": lambda: int(query.get("offset", 0)),
            "cursor": lambda: int(query.get("after", "c0")[1:]),
            "link": lambda: int(query.get("from", 0)),
        }[self.kind]()
        following = start + self.size if start + self.size < len(self.items) else None
        document: dict[str, Any] = {"items": self.items[start : start + self.size], "total": len(self.items)}
        headers = {}
        if self.kind == "cursor":
            document["next"] = None if following is None else f"c{following}"
            document["next_url"] = None if following is None else f"{ASSETS}?after=c{following}"
        if self.kind == "link" and following is not None:
            headers["Link"] = f'<{self.url}{ASSETS}?from={following}>; rel="next"'
        return reply(self.tamper(request, document), 200, **headers)
