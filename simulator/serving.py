"""What every protocol shares: a feed with its tokens, its faults and its log, and answers that can be spoiled."""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import json
import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from simulator import spoiling
from simulator.quick import moment_text
from simulator.sources import Change, Location, Party, Source
from simulator.switchboard import Switchboard

Clock = Callable[[], datetime]

PAGE_CAP = 20
"""A page never has more locations, whatever limit is asked for."""

CAPPED = 3
"""Items of a page under the fault ``capped_page``, unless its ``size`` says otherwise."""

LOG_LIMIT = 200_000
"""Messages that a feed's log remembers."""

_MEGABYTE = 1_000_000


def utc_now() -> datetime:
    """Return the time of day: the clock outside of tests."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Sent:
    """A line of a feed's log: one change as it was told. ``outcome``: ``sent``, the HTTP status of a push, or why there is none."""

    protocol: str
    message: int
    """Number of the message that held it; a message sent twice has two."""
    evse_ref: str
    party: str
    word: str
    changed_at: str
    """When it really changed."""
    told_at: str | None
    """What the message said of when it changed."""
    sent_at: str
    outcome: str


@dataclass
class Partner:
    """The other side of an OCPI registration: with what it asks us, and we it."""

    version: str
    their_token: str
    our_token: str
    versions_url: str
    endpoints: list[dict[str, Any]]
    roles: list[dict[str, Any]] = field(default_factory=list)


class Feed:
    """One served feed."""

    def __init__(self, name: str, source: Source, token: str, clock: Clock = utc_now, page_cap: int = PAGE_CAP) -> None:
        self.name = name
        self.source = source
        self.token = token
        self.clock = clock
        self.page_cap = page_cap
        self.board = Switchboard()
        self.partner: Partner | None = None
        self.access_tokens: dict[str, datetime] = {}
        """OAuth 2.0 access tokens, and until when they are good."""
        self.log: deque[Sent] = deque(maxlen=LOG_LIMIT)
        self.messages = 0
        self.generations: Counter[str] = Counter()
        """Per protocol: connections that began in an earlier one are ended."""
        self.close_code = 1011

    def locations(self, protocol: str, at: datetime | None = None) -> list[Location]:
        """Return the locations of now, with what spoils them."""
        return spoiling.spoil(self.source.locations(at or self.clock()), self.board, protocol)

    def is_known(self, token: str) -> bool:
        """Whether a token is the feed's own, or an access token that is still good."""
        good = [self.token, *(known for known, until in self.access_tokens.items() if until > self.clock())]
        return any([secrets.compare_digest(token.encode(), known.encode()) for known in good])

    def record(self, protocol: str, told: list[tuple[Change, str, datetime | None]], outcome: str) -> None:
        """Write to the log what one message told: changes, each with the word and time as told."""
        self.messages += 1
        for change, word, told_at in told:
            self.log.append(
                Sent(
                    protocol=protocol,
                    message=self.messages,
                    evse_ref=change.evse_ref,
                    party=party_text(change.party),
                    word=word,
                    changed_at=moment_text(change.at),
                    told_at=None if told_at is None else moment_text(told_at),
                    sent_at=moment_text(self.clock()),
                    outcome=outcome,
                )
            )

    def logged(self) -> list[dict[str, Any]]:
        """Return the log as JSON."""
        return [asdict(line) for line in self.log]

    async def refuse(self, protocol: str) -> Response | None:
        """Return what keeps a request from its answer, before its token is looked at."""
        if slow := self.board.spoils("slow", protocol):
            await asyncio.sleep(slow.wait)
        if self.board.spoils("down", protocol):
            return Response("Service Unavailable", 503, {"Connection": "close"})
        if self.board.spoils("error_500", protocol):
            return Response("Internal Server Error", 500)
        if limit := self.board.spoils("rate_limited", protocol):
            # Whatever the feed's clock says, the date is one of the observer's.
            later = email.utils.format_datetime(utc_now() + timedelta(seconds=limit.wait), usegmt=True)
            return Response(
                "Too Many Requests", 429, {"Retry-After": later if limit.variant == "date" else f"{limit.wait:.0f}"}
            )
        return None

    def answer(
        self, protocol: str, content: bytes, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return a JSON answer, with what spoils its body."""
        said = dict(headers or {})
        media_type = "application/json"
        if self.board.spoils("html", protocol):
            return Response("<!doctype html><title>Sign in</title><h1>Please sign in</h1>", 200, media_type="text/html")
        if self.board.spoils("depth_bomb", protocol):
            return Response(b"[" * 100_000 + b"]" * 100_000, 200, media_type=media_type)
        if huge := self.board.spoils("huge_body", protocol):
            padding = b'{"padding": "' + b"x" * ((huge.size or 50) * _MEGABYTE) + b'", '
            content = padding + content[1:]
        if self.board.spoils("wrong_content_type", protocol):
            media_type = "text/html"
        if fault := self.board.spoils("truncated", protocol):
            if fault.variant == "connection":
                return _CutShort(content, status, said, media_type=media_type)
            content = content[: len(content) // 2]
        if self.board.spoils("gzip", protocol):
            content = gzip.compress(content)
            said["Content-Encoding"] = "gzip"
        return Response(content, status, said, media_type=media_type)


class _CutShort(Response):
    """Promises its whole body and sends half: the server then ends the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})


@dataclass(frozen=True)
class Page:
    """A page of a list: its items, what was asked of it, and where the next one begins (``None``: there is none)."""

    items: list[Any]
    total: int
    following: int | None
    link: str | None
    """What its Link header says, when there is a next page and the header is not left out."""


def page_of(
    feed: Feed,
    protocol: str,
    items: list[Any],
    offset: int,
    size: int,
    next_url: Callable[[int], str],
    *,
    number: int | None = None,
) -> Page:
    """Cut a page out of a list, with what spoils pages. ``next_url`` gives the URL of the page at an offset.

    With ``number`` it is the page of that number (from 1), wherever pages of this size begin.
    """
    board = feed.board
    total = len(items)
    if empty := board.spoils("empty_data", protocol):
        return Page([], 0 if empty.variant == "zero" else total, None, None)
    capped = board.spoils("capped_page", protocol)
    held = min(size, capped.size or CAPPED) if capped else size
    if number is not None:
        offset = (number - 1) * held
    stuck = board.spoils("non_advancing_page", protocol)
    cut = items[:held] if stuck else items[offset : offset + held]
    following = offset if stuck else offset + held
    if following >= total:
        return Page(cut, total, None, None)
    link: str | None = f'<{next_url(following)}>; rel="next"'
    if capped and capped.variant == "no_link":
        link = None
    elif bad := board.spoils("bad_link", protocol):
        link = spoiling.bad_link(next_url(following), bad.variant or "")
    return Page(cut, total, following, link)


def feed_of(feeds: Mapping[str, Feed], name: str) -> Feed:
    """Return a feed by its name, or answer 404."""
    if name not in feeds:
        raise HTTPException(404, f"no feed '{name}' here, there are: {', '.join(feeds)}")
    return feeds[name]


def party_text(party: Party) -> str:
    """Write a party as ``AU*BAN``."""
    return f"{party.country_code}*{party.party_id}"


def to_json(value: Any) -> bytes:
    """Write compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
