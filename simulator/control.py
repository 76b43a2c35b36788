"""``/control``: faults on and off, pushes and files begun and ended, the truth, and the log of what was told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict

from simulator.credentials import OcpiError, receiver_of, register
from simulator.dropping import DropOrder, drop
from simulator.pushing import PushOrder, find_receiver, push_ocpi, push_rest
from simulator.quick import moment_text
from simulator.serving import Feed, feed_of, party_text
from simulator.sources import words_at
from simulator.switchboard import FAULTS, HELD, FaultSwitch


class Registration(BaseModel):
    """What ``POST /control/<feed>/register`` takes: the receiver's versions, its registration token, and the version."""

    model_config = ConfigDict(extra="forbid")

    url: str
    token: str
    version: str = "2.2.1"


class Errands:
    """What a feed does by itself in the background: at most one push and one drop."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    def begin(self, feed: str, errand: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin an errand in the place of one of its name."""
        self.end(feed, errand)
        self._tasks[feed, errand] = asyncio.create_task(work, name=f"{feed} {errand}")

    def end(self, feed: str, errand: str) -> None:
        """End an errand at once."""
        if task := self._tasks.pop((feed, errand), None):
            task.cancel()

    def state(self, feed: str, errand: str) -> str:
        """Say how an errand stands: ``off``, ``running``, or what it failed of."""
        task = self._tasks.get((feed, errand))
        if task is None:
            return "off"
        if not task.done():
            return "running"
        return "ended" if task.cancelled() else f"failed: {task.exception()!r}"


def router(feeds: Mapping[str, Feed]) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(prefix="/control")
    errands = Errands()

    @routes.get("/faults")
    async def catalogue() -> list[dict[str, Any]]:
        return [kind._asdict() for kind in FAULTS.values()]

    @routes.get("/{name}/fault")
    async def faults_on(name: str) -> list[FaultSwitch]:
        return feed_of(feeds, name).board.listed()

    @routes.post("/{name}/fault")
    async def switch_on(name: str, fault: FaultSwitch) -> FaultSwitch:
        feed = feed_of(feeds, name)
        if fault.name == "disconnect":
            feed.close_code = fault.code
            feed.generations.update([fault.protocol] if fault.protocol else HELD)
        if fault.name != "disconnect" or fault.requests is not None:
            feed.board.switch_on(fault)
        return fault

    @routes.delete("/{name}/fault", status_code=204)
    async def switch_off(name: str, fault: str | None = None) -> None:
        """Switch off one fault (``?fault=down``), or all."""
        feed_of(feeds, name).board.switch_off(fault)

    @routes.get("/{name}/changes")
    async def changes(name: str, since: datetime, until: datetime) -> list[dict[str, str]]:
        """Tell the truth: what changed in ``(since, until]``."""
        if since.tzinfo is None or until.tzinfo is None:
            raise HTTPException(422, "since and until must have a zone")
        return [
            {
                "at": moment_text(change.at),
                "party": party_text(change.party),
                "evse_ref": change.evse_ref,
                "word": change.word,
            }
            for change in feed_of(feeds, name).source.changes(since, until)
        ]

    @routes.get("/{name}/words")
    async def words(name: str, at: datetime | None = None) -> dict[str, str]:
        """Tell the truth: the word of every EVSE at a time (now)."""
        feed = feed_of(feeds, name)
        return words_at(feed.source, at or feed.clock())

    @routes.get("/{name}/log")
    async def log(name: str) -> list[dict[str, Any]]:
        """Tell what was said, message by message, faults and all."""
        return feed_of(feeds, name).logged()

    @routes.post("/{name}/register", status_code=204)
    async def registered(name: str, registration: Registration, request: Request) -> None:
        feed = feed_of(feeds, name)
        try:
            await register(feed, _own_url(request, name), registration.url, registration.token, registration.version)
        except OcpiError as error:
            raise HTTPException(502, error.message) from error

    @routes.get("/{name}/partner")
    async def partner(name: str) -> dict[str, Any]:
        """Tell who is registered, tokens and all: none of them is worth anything elsewhere."""
        found = feed_of(feeds, name).partner
        return {} if found is None else asdict(found)

    @routes.post("/{name}/push", status_code=204)
    async def push(name: str, order: PushOrder, request: Request) -> None:
        """Begin to push (one receiver at a time)."""
        feed = feed_of(feeds, name)
        if order.kind == "rest":
            if order.url is None or order.token is None:
                raise HTTPException(422, "a push of observations needs url and token")
            errands.begin(name, "push", push_rest(feed, order))
            return
        try:
            partner = await find_receiver(feed, order, _own_url(request, name))
            receiver_of(partner)
        except OcpiError as error:
            raise HTTPException(502, error.message) from error
        errands.begin(name, "push", push_ocpi(feed, order, partner))

    @routes.post("/{name}/drop", status_code=204)
    async def dropped(name: str, order: DropOrder) -> None:
        """Begin to leave files in a folder."""
        errands.begin(name, "drop", drop(feed_of(feeds, name), order))

    @routes.get("/{name}/{errand}")
    async def state(name: str, errand: str) -> dict[str, str]:
        feed_of(feeds, name)
        if errand not in ("push", "drop"):
            raise HTTPException(404, "a feed has: changes, drop, fault, log, partner, push, register, words")
        return {"state": errands.state(name, errand)}

    @routes.delete("/{name}/{errand}", status_code=204)
    async def end(name: str, errand: str) -> None:
        """End a push or a drop."""
        feed_of(feeds, name)
        errands.end(name, errand)

    return routes


def _own_url(request: Request, name: str) -> str:
    return f"{request.base_url}{name}/ocpi/versions"
