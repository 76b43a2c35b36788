"""OCPI 2.1.1, 2.2.1 and 2.3.0, sender side of Locations: versions, details, pages, deltas."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request
from starlette.responses import Response

from simulator.months import rfc3339
from simulator.ocpi_objects import VERSIONS, location_in, tokens_in
from simulator.serving import Feed, feed_of, page_of, to_json
from simulator.sources import Location

NAME = "ocpi"


def router(feeds: Mapping[str, Feed]) -> APIRouter:
    """Make the routes: feed ``x`` begins at ``/x/ocpi/versions``."""
    routes = APIRouter()

    @routes.get("/{name}/ocpi/versions")
    async def versions(name: str, request: Request, authorization: Annotated[str | None, Header()] = None) -> Response:
        feed = feed_of(feeds, name)
        # Whoever asks for the versions may write the token as any of them wants it.
        if refused := await refuse(feed, None, authorization):
            return refused
        offered = ["9.9"] if feed.board.spoils("unknown_version", NAME) else versions_of(feed)
        url = str(request.base_url)
        return answer(feed, [{"version": version, "url": f"{url}{name}/ocpi/{version}"} for version in offered])

    @routes.get("/{name}/ocpi/{version}")
    async def details(
        name: str, version: str, request: Request, authorization: Annotated[str | None, Header()] = None
    ) -> Response:
        feed = known(feeds, name, version)
        if refused := await refuse(feed, version, authorization):
            return refused
        base = f"{request.base_url}{name}/ocpi/{version}"
        return answer(feed, {"version": version, "endpoints": endpoints(version, base)})

    @routes.get("/{name}/ocpi/{version}/locations")
    async def locations(
        name: str,
        version: str,
        request: Request,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int | None, Query(gt=0)] = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        authorization: Annotated[str | None, Header()] = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        feed = known(feeds, name, version)
        if refused := await refuse(feed, version, authorization):
            return refused
        if feed.board.spoils("status_3000", NAME):
            return answer(feed, [], 3000, "Generic server error")
        found = [place for place in feed.locations(NAME) if _is_updated_within(place, date_from, date_to)]
        size = min(limit or feed.page_cap, feed.page_cap)

        def next_url(following: int) -> str:
            return str(request.url.include_query_params(offset=following, limit=size))

        page = page_of(feed, NAME, found, offset, size, next_url)
        items = [location_in(version, place) for place in page.items]
        headers = {
            "X-Total-Count": str(page.total),
            "X-Limit": str(feed.page_cap),
            "ETag": f'"{hashlib.sha256(to_json([page.total, items])).hexdigest()[:32]}"',
        }
        if page.link is not None:
            headers["Link"] = page.link
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return answer(feed, items, headers=headers)

    return routes


def versions_of(feed: Feed) -> tuple[str, ...]:
    """Return the versions that a feed speaks: objects of 2.1.1 name no party, so a hub has nothing to say in it."""
    return VERSIONS if len(feed.source.parties) == 1 else VERSIONS[1:]


def known(feeds: Mapping[str, Feed], name: str, version: str) -> Feed:
    """Return a feed that speaks a version, or answer 404."""
    feed = feed_of(feeds, name)
    if version not in versions_of(feed) or feed.board.spoils("unknown_version", NAME):
        raise HTTPException(404, f"no OCPI {version} here")
    return feed


def endpoints(version: str, base: str) -> list[dict[str, str]]:
    """Return the modules of a version; 2.1.1 knows no roles."""
    if version == "2.1.1":
        return [{"identifier": module, "url": f"{base}/{module}"} for module in ("credentials", "locations")]
    return [
        {"identifier": "credentials", "role": "RECEIVER", "url": f"{base}/credentials"},
        {"identifier": "locations", "role": "SENDER", "url": f"{base}/locations"},
    ]


async def refuse(feed: Feed, version: str | None, authorization: str | None) -> Response | None:
    """Return what keeps any request from its answer: a fault, or a wrong token.

    A token is raw in 2.1.1 and base64 since 2.2. Once a partner is registered, only the token of its registration counts.
    """
    if refused := await feed.refuse(NAME):
        return refused
    raw, decoded = tokens_in(authorization)
    offered = [raw, decoded] if version is None else [raw] if version == "2.1.1" else [decoded]
    good = feed.partner.our_token if feed.partner else feed.token
    if good not in offered or feed.board.spoils("token_refused", NAME):
        return answer(feed, None, 2001, "Authorization header is missing or its token is wrong", http_status=401)
    return None


def answer(
    feed: Feed,
    data: Any,
    status_code: int = 1000,
    message: str = "Success",
    *,
    http_status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Put data into OCPI's envelope."""
    body = {"data": data, "status_code": status_code, "status_message": message}
    body["timestamp"] = rfc3339(int(feed.clock().timestamp()))
    return feed.answer(NAME, to_json(body), http_status, headers)


def _is_updated_within(location: Location, date_from: datetime | None, date_to: datetime | None) -> bool:
    """Whether last_updated is in ``[date_from, date_to)``; times without a zone are UTC."""
    if date_from is None and date_to is None:
        return True
    updated = _aware(datetime.fromisoformat(location["last_updated"]))
    return (date_from is None or updated >= _aware(date_from)) and (date_to is None or updated < _aware(date_to))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
