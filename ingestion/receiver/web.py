"""What every request to the receiver shares: its body within limits, its token, its answer."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
from starlette.types import Receive, Scope, Send

from ingestion import access
from ingestion.receiver.commit import UnavailableError
from ingestion.values import parse_json
from warehouse.connection import Role, WarehouseNotFoundError, connect

LOG = logging.getLogger("ingestion.receiver")

MAX_BODY_BYTES = 4 * 1024 * 1024
"""How long a pushed body may be."""

MAX_DEPTH = 32
"""How deep a pushed body may be nested."""

RETRY_AFTER_SECONDS = 5
"""What a sender is asked to wait when nothing can be stored."""

REFRESH_SECONDS = 2.0
"""Time between looks into the table of tokens: a token that was revoked is good for no longer than this."""

_MISS_SECONDS = 0.2
_USE_SECONDS = 60.0

Returned = TypeVar("Returned")


class BodyTooLargeError(Exception):
    """The body is longer than ``MAX_BODY_BYTES``; it was not read to its end."""


class SenderGoneError(Exception):
    """The sender hung up before its body had arrived."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Headers by lower-case name; of one that is repeated the last."""
    return dict(scope["headers"])


async def read_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The whole body. Raises ``BodyTooLargeError``, ``SenderGoneError``."""
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise BodyTooLargeError
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise SenderGoneError
        part: bytes = event.get("body", b"")
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLargeError
        if not event.get("more_body"):
            return bytes(body)


def parse_body(body: bytes) -> Any:
    """Parse a pushed body. Raises ``ValueError`` for what is not JSON, is nested too deep, or holds a number that is none."""
    document = parse_json(body)
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth >= MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
            waiting += [(child, depth + 1) for child in (value.values() if isinstance(value, dict) else value)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("holds a number beyond all bounds")
    return document


async def answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Send a JSON answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


class Tokens:
    """The tokens that are good, looked up again every few seconds, so that a request needs no query."""

    def __init__(self, open_connection: Callable[[], psycopg.Connection] = lambda: connect(Role.INGEST)) -> None:
        self._open = open_connection
        self._connection: psycopg.Connection | None = None
        self._grants: tuple[access.Grant, ...] = ()
        self._known: dict[str, access.Grant] = {}
        self._used: dict[bytes, datetime] = {}
        self._looked_at = float("-inf")
        self._noted_at = time.monotonic()
        self._lock = asyncio.Lock()
        self.is_database_there = False
        """Whether the database answered when it was last asked."""

    async def keep_fresh(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self, unless_since: float = float("inf")) -> None:
        """Look now, unless somebody has looked since; what was known stays when the database does not answer."""
        async with self._lock:
            if self._looked_at >= unless_since:
                return
            used, self._used = self._used, {}
            is_time = time.monotonic() - self._noted_at > _USE_SECONDS
            try:
                self._grants = await asyncio.to_thread(self._load, used if is_time else {})
            except (psycopg.Error, OSError, WarehouseNotFoundError) as error:
                if self.is_database_there:
                    LOG.error("the database is away: %s", type(error).__name__)
                self.is_database_there, is_time = False, False
            else:
                self.is_database_there = True
            if is_time:
                self._noted_at = time.monotonic()
            else:
                self._used = used | self._used
            self._known.clear()
            self._looked_at = time.monotonic()

    async def verify(self, headers: Mapping[bytes, bytes], now: datetime) -> access.Grant | None:
        """The grant of the token in the Authorization header, with whichever scheme it came."""
        header = headers.get(b"authorization", b"").decode("latin-1")
        grant = self._known.get(header)
        if grant is None:
            scheme, _, presented = header.strip().partition(" ")
            if scheme.casefold() not in ("token", "bearer"):
                return None
            grant = access.find_grant(presented, self._grants, now)
            if grant is None:
                # It may have been issued a moment ago. However many are wrong, the table is not asked more often.
                asked_at = time.monotonic()
                await asyncio.sleep(max(0.0, _MISS_SECONDS - (asked_at - self._looked_at)))
                await self.refresh(asked_at)
                grant = access.find_grant(presented, self._grants, now)
            if grant is None:
                return None
            self._known[header] = grant
        if not grant.is_valid(now):
            return None
        self._used[grant.digest] = now
        return grant

    async def in_database(self, work: Callable[[psycopg.Connection], Returned]) -> Returned:
        """Run ``work`` on the connection, in a thread. Raises ``UnavailableError`` when the database does not answer."""
        async with self._lock:
            try:
                return await asyncio.to_thread(self._with_connection, work)
            except (psycopg.OperationalError, OSError, WarehouseNotFoundError) as error:
                raise UnavailableError("the database does not answer") from error

    def close(self) -> None:
        """Give back the connection."""
        if self._connection is not None:
            self._connection.close()

    def _load(self, used: dict[bytes, datetime]) -> tuple[access.Grant, ...]:
        def work(connection: psycopg.Connection) -> tuple[access.Grant, ...]:
            if used:
                access.note_use(connection, used)
            return access.grants(connection)

        return self._with_connection(work)

    def _with_connection(self, work: Callable[[psycopg.Connection], Returned]) -> Returned:
        if self._connection is None or self._connection.closed:
            self._connection = self._open()
        return work(self._connection)


def presented_token(headers: Mapping[bytes, bytes], grant: access.Grant) -> str:
    """The token that was presented, in the spelling in which it was issued."""
    presented = headers.get(b"authorization", b"").decode("latin-1").strip().partition(" ")[2]
    return next(token for token in access.spellings(presented) if access.digest_of(token) == grant.digest)


def utc_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)
