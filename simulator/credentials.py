"""OCPI registration, both ways: a client registers with a feed, and a feed registers with a receiver."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import Response

from simulator.ocpi import answer, known, refuse
from simulator.ocpi_objects import authorization as authorization_header
from simulator.ocpi_objects import credentials_in
from simulator.serving import Feed, Partner

TIMEOUT_SECONDS = 10


class Credentials(BaseModel):
    """What the other side posts: one party at the top in 2.1.1, roles since 2.2."""

    model_config = ConfigDict(extra="ignore")

    token: str
    url: str
    roles: list[dict[str, Any]] | None = None
    country_code: str | None = None
    party_id: str | None = None
    business_details: dict[str, Any] | None = None

    def parties(self) -> list[dict[str, Any]]:
        """Return its roles. Raises ``ValueError`` when it names none."""
        if self.roles:
            return self.roles
        if not self.country_code or not self.party_id:
            raise ValueError("names no party")
        return [{"role": "EMSP", "country_code": self.country_code, "party_id": self.party_id}]


@dataclass
class OcpiError(Exception):
    """What the other side did wrong, as an OCPI status code."""

    status_code: int
    message: str


def router(feeds: Mapping[str, Feed]) -> APIRouter:
    """Make the routes of ``/x/ocpi/<version>/credentials``.

    POST takes the feed's own token, and gives one of this registration: from then on no other counts, until DELETE.
    """
    routes = APIRouter()

    @routes.api_route("/{name}/ocpi/{version}/credentials", methods=["GET", "POST", "PUT", "DELETE"])
    async def credentials(
        name: str, version: str, request: Request, authorization: Annotated[str | None, Header()] = None
    ) -> Response:
        feed = known(feeds, name, version)
        if refused := await refuse(feed, version, authorization):
            return refused
        is_registered = feed.partner is not None
        url = f"{request.base_url}{name}/ocpi/versions"
        if request.method == "POST" if is_registered else request.method in ("PUT", "DELETE"):
            said = "registered already: PUT updates" if is_registered else "not registered: POST registers"
            return answer(feed, None, 2000, said, http_status=405)
        if request.method == "DELETE":
            feed.partner = None
            return answer(feed, None)
        if request.method != "GET":
            try:
                feed.partner = await _partner(version, await request.body())
            except OcpiError as error:
                return answer(feed, None, error.status_code, error.message)
        token = feed.partner.our_token if feed.partner else feed.token
        return answer(feed, credentials_in(version, token, url, feed.source.parties))

    return routes


async def register(feed: Feed, own_url: str, versions_url: str, token: str, version: str) -> Partner:
    """Register a feed with a receiver whose registration token is ``token``. Raises ``OcpiError``."""
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
        endpoints = await _discover(client, versions_url, token, version)
        url = _endpoint(endpoints, "credentials", None)
        ours = secrets.token_urlsafe(24)
        # The receiver asks for our versions with the new token while it answers.
        before, feed.partner = feed.partner, Partner(version, token, ours, versions_url, endpoints)
        try:
            offered = credentials_in(version, ours, own_url, feed.source.parties)
            data = await _ask(client, "POST", url, version, token, offered)
            theirs = Credentials.model_validate(data)
        except ValidationError as error:
            feed.partner = before
            raise OcpiError(3001, f"{url}: answers with no credentials") from error
        except OcpiError:
            feed.partner = before
            raise
    feed.partner = Partner(version, theirs.token, ours, theirs.url, endpoints, theirs.roles or [])
    return feed.partner


def receiver_of(partner: Partner) -> str:
    """Return where a partner receives locations. Raises ``OcpiError``."""
    return _endpoint(partner.endpoints, "locations", "RECEIVER")


async def discover(versions_url: str, token: str, version: str) -> Partner:
    """Find a receiver's endpoints with a token that is agreed on already. Raises ``OcpiError``."""
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
        endpoints = await _discover(client, versions_url, token, version)
    return Partner(version, token, "", versions_url, endpoints)


async def _partner(version: str, body: bytes) -> Partner:
    """Read posted credentials and look at the other side's versions, as the specification wants. Raises ``OcpiError``."""
    try:
        theirs = Credentials.model_validate_json(body)
        roles = theirs.parties()
    except ValueError as error:
        raise OcpiError(2001, f"credentials: {str(error).splitlines()[0]}") from error
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
        endpoints = await _discover(client, theirs.url, theirs.token, version)
    return Partner(version, theirs.token, secrets.token_urlsafe(24), theirs.url, endpoints, roles)


async def _discover(client: httpx.AsyncClient, versions_url: str, token: str, version: str) -> list[dict[str, Any]]:
    offered = await _ask(client, "GET", versions_url, version, token)
    urls = [entry["url"] for entry in offered if entry.get("version") == version]
    if not urls:
        raise OcpiError(3002, f"{versions_url} does not offer {version}")
    details = await _ask(client, "GET", urls[0], version, token)
    return list(details["endpoints"])


def _endpoint(endpoints: list[dict[str, Any]], module: str, role: str | None) -> str:
    for endpoint in endpoints:
        if endpoint.get("identifier") == module and (role is None or endpoint.get("role", role) == role):
            return str(endpoint["url"])
    raise OcpiError(3003, f"no endpoint {module} {role or ''}".strip())


async def _ask(
    client: httpx.AsyncClient, method: str, url: str, version: str, token: str, body: dict[str, Any] | None = None
) -> Any:
    """Return the data of an OCPI answer. Raises ``OcpiError`` 3001 for anything but success."""
    try:
        got = await client.request(
            method, url, json=body, headers={"Authorization": authorization_header(version, token)}
        )
        envelope = got.json()
        if got.is_success and 1000 <= envelope["status_code"] < 2000:
            return envelope["data"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise OcpiError(3001, f"{method} {url}: {type(error).__name__}") from error
    raise OcpiError(3001, f"{method} {url}: HTTP {got.status_code}, OCPI {envelope.get('status_code')}")
