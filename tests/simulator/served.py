"""A simulator that is served, and how tests ask it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from simulator.quick import QuickSource
from simulator.server import build_app, serve_in_thread
from simulator.sources import Hub, Party, Source

QUICK = QuickSource(seed=3, evse_count=24, mean_seconds=1)
OTHER = QuickSource(seed=4, evse_count=12, mean_seconds=1, party=Party("AU", "OTH", "Other Charge"))
SOURCES: dict[str, Source] = {"quick": QUICK, "hub": Hub((QUICK, OTHER))}
TOKENS = {"quick": "quick-secret", "hub": "hub-secret"}
NOON = datetime(2026, 10, 14, 2, 0, 0, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Simulator:
    """Asks a served simulator."""

    url: str
    name: str = "quick"

    def get(self, path: str, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        return httpx.get(f"{self.url}/{self.name}/{path}", headers=headers, params=params, timeout=10)

    def ocpi(
        self, path: str, version: str = "2.2.1", method: str = "GET", token: str | None = None, **more: Any
    ) -> httpx.Response:
        headers = authorization(version, token or TOKENS[self.name])
        return httpx.request(method, f"{self.url}/{self.name}/ocpi/{path}", headers=headers, timeout=10, **more)

    def rest(self, path: str, **params: Any) -> httpx.Response:
        return self.get(f"rest/{path}", {"X-Api-Key": TOKENS[self.name]}, **params)

    def switch(self, name: str, **fault: Any) -> None:
        self.control("POST", "fault", name=name, **fault)

    def switch_off(self) -> None:
        self.control("DELETE", "fault")

    def control(self, method: str, errand: str, /, **body: Any) -> Any:
        answer = httpx.request(method, f"{self.url}/control/{self.name}/{errand}", json=body or None, timeout=10)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def log(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.control("GET", "log")
        return found


def authorization(version: str, token: str) -> dict[str, str]:
    text = token if version == "2.1.1" else base64.b64encode(token.encode()).decode()
    return {"Authorization": f"Token {text}"}


@contextmanager
def simulator(clock: Clock | None = None) -> Iterator[Simulator]:
    app = build_app(SOURCES, TOKENS, clock) if clock else build_app(SOURCES, TOKENS)
    with serve_in_thread(app) as url:
        yield Simulator(url)
