"""JSON of the CPO's own making: one list, or two that are joined by id; in pages of five kinds; behind four kinds of authentication."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from simulator.serving import Feed, Page, feed_of, page_of, to_json
from simulator.sources import Location

NAME = "rest"
PAGINGS = ("none", "page", "offset", "cursor", "link")
LISTS = ("stations", "points", "statuses")
"""``stations`` hold everything; ``points`` (a record each, without status) and ``statuses`` are joined by ``ref``."""

EXPIRES_SECONDS = 60


def router(feeds: Mapping[str, Feed]) -> APIRouter:
    """Make the routes ``/x/rest/<paging>/<list>`` and ``/x/oauth/token``."""
    routes = APIRouter()

    @routes.get("/{name}/rest/{paging}/{which}")
    async def listed(name: str, paging: str, which: str, request: Request) -> Response:
        feed = feed_of(feeds, name)
        if paging not in PAGINGS or which not in LISTS:
            raise HTTPException(404, f"lists are /{name}/rest/{{{','.join(PAGINGS)}}}/{{{','.join(LISTS)}}}")
        if refused := await refuse(feed, NAME, request):
            return refused
        stations = [station(place) for place in feed.locations(NAME)]
        return _answer(feed, request, paging, which, stations if which == "stations" else flat(stations, which))

    @routes.post("/{name}/oauth/token")
    async def token(name: str, request: Request) -> Response:
        """OAuth 2.0 client credentials: client id is the feed's name, in the form or as basic authentication."""
        feed = feed_of(feeds, name)
        if refused := await feed.refuse(NAME):
            return refused
        form = {key: values[0] for key, values in parse_qs((await request.body()).decode()).items()}
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if basic := _basic(request.headers.get("authorization", "")):
            client_id, secret = basic
        if form.get("grant_type") != "client_credentials":
            return Response(to_json({"error": "unsupported_grant_type"}), 400, media_type="application/json")
        if client_id != name or not secrets.compare_digest(secret.encode(), feed.token.encode()):
            return Response(to_json({"error": "invalid_client"}), 401, media_type="application/json")
        access_token = secrets.token_urlsafe(24)
        feed.access_tokens[access_token] = feed.clock() + timedelta(seconds=EXPIRES_SECONDS)
        granted = {"access_token": access_token, "token_type": "Bearer", "expires_in": EXPIRES_SECONDS}
        return Response(to_json(granted), media_type="application/json")

    return routes


async def refuse(feed: Feed, protocol: str, request: Request) -> Response | None:
    """Return what keeps a request from its answer: a fault, or a token that is wrong or nowhere to be found."""
    if refused := await feed.refuse(protocol):
        return refused
    if is_let_in(feed, protocol, request.headers, request.query_params):
        return None
    return Response(to_json({"error": "unauthorized"}), 401, {"WWW-Authenticate": "Bearer"}, "application/json")


def is_let_in(feed: Feed, protocol: str, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """Whether the token is in ``X-Api-Key``, as bearer, as basic authentication of the feed's name, or in ``?api_key=``."""
    if feed.board.spoils("token_refused", protocol):
        return False
    authorization = headers.get("authorization", "")
    offered = [headers.get("x-api-key", ""), query.get("api_key", ""), authorization.removeprefix("Bearer ")]
    if (basic := _basic(authorization)) and basic[0] == feed.name:
        offered.append(basic[1])
    return any([feed.is_known(token) for token in offered if token])


def station(place: Location) -> dict[str, Any]:
    """Write a location as a station: kW instead of W, names of its own."""
    coordinates = place.get("coordinates") or {}
    return {
        "code": place.get("id"),
        "network": f"{place.get('country_code')}*{place.get('party_id')}",
        "title": place.get("name"),
        "street": place.get("address"),
        "town": place.get("city"),
        "zip": place.get("postal_code"),
        "region": place.get("state"),
        "nation": place.get("country"),
        "lat": coordinates.get("latitude"),
        "lng": coordinates.get("longitude"),
        "tz": place.get("time_zone"),
        "points": None if place.get("evses") is None else [_point(evse) for evse in place["evses"]],
    }


def _point(evse: dict[str, Any]) -> dict[str, Any]:
    plugs = evse.get("connectors")
    return {
        "ref": evse.get("uid"),
        "label": evse.get("evse_id"),
        "state": evse.get("status"),
        "changed": evse.get("last_updated"),
        "plugs": None if plugs is None else [_plug(connector) for connector in plugs],
    }


def _plug(connector: dict[str, Any]) -> dict[str, Any]:
    watts = connector.get("max_electric_power")
    return {
        "no": connector.get("id"),
        "type": connector.get("standard"),
        "kw": None if watts is None else watts / 1000,
        "volts": connector.get("max_voltage"),
        "amps": connector.get("max_amperage"),
        "current": connector.get("power_type"),
    }


def flat(stations: list[dict[str, Any]], which: str) -> list[dict[str, Any]]:
    """Write stations as one of two lists: points without their status, or statuses."""
    points = [(place, point) for place in stations for point in place["points"] or []]
    if which == "statuses":
        return [{key: point[key] for key in ("ref", "state", "changed")} for _, point in points]
    return [
        {key: value for key, value in place.items() if key != "points"}
        | {key: value for key, value in point.items() if key not in ("state", "changed")}
        for place, point in points
    ]


def _answer(feed: Feed, request: Request, paging: str, which: str, items: list[dict[str, Any]]) -> Response:
    query = request.query_params
    size = max(1, min(_number(query, "size" if paging == "page" else "limit", feed.page_cap), feed.page_cap))
    number = max(1, _number(query, "page", 1)) if paging == "page" else None
    offset = _number(query, "offset", 0) if paging == "offset" else _offset_of(query.get("cursor"))

    def next_url(following: int) -> str:
        return str(request.url.include_query_params(cursor=_cursor(following)))

    if paging == "none" and not feed.board.spoils("empty_data", NAME):
        page = Page(items, len(items), None, None)
    else:
        page = page_of(feed, NAME, items, offset, size, next_url, number=number)
    body: dict[str, Any] = {"meta": {"total": page.total}, which: page.items}
    if paging == "cursor":
        more = page.following is not None
        body["meta"] |= {"next": _cursor(page.following or 0) if more else None}
        body["meta"] |= {"next_url": next_url(page.following or 0) if more else None}
    headers = {"Link": page.link} if paging == "link" and page.link is not None else {}
    return feed.answer(NAME, to_json(body), headers=headers)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdigit():
        raise HTTPException(400, f"{name} must be a number")
    return int(text)


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(f"from:{offset}".encode()).decode()


def _offset_of(cursor: str | None) -> int:
    if not cursor:
        return 0
    try:
        return int(base64.urlsafe_b64decode(cursor).decode().removeprefix("from:"))
    except ValueError:
        raise HTTPException(400, "cursor is none of ours") from None


def _basic(authorization: str) -> tuple[str, str] | None:
    """Return user and password of a basic authentication."""
    if not authorization.startswith("Basic "):
        return None
    try:
        user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
    except ValueError:
        return None
    return user, password
