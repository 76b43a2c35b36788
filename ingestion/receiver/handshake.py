"""The OCPI registration, whichever side begins: who presents which token to whom.

They begin: with a token for registering they POST their credentials; we look at their versions with the token in them, keep both, and answer with a token for them.
We begin (`register`): with the token that the CPO gave us we look at their versions and POST ours; what they answer is kept.
Credentials are never quarantined: they hold a token.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import httpx
import psycopg

from ingestion import access
from ingestion.config import CpoConfig, OcpiFeed, secret
from ingestion.http import CONNECT_SECONDS, READ_SECONDS, HttpTransport, shown_url
from ingestion.model import FeedError
from ingestion.ocpi.client import OcpiClient, clean_token, token_spellings
from ingestion.receiver.locations import INVALID, SUCCESS, Reply
from ingestion.values import parse_json
from ingestion.writer import Writer
from warehouse.strict_yaml import ConfigError

OUR_ROLE = "NAP"
"""Our OCPI role: a national access point collects Locations of all CPOs."""
OUR_COUNTRY, OUR_PARTY, OUR_NAME = "AU", "EVC", "Charge@Large"

UNUSABLE_API, UNSUPPORTED_VERSION = 3001, 3002
_LONGEST_TOKEN = 255

Endpoints = list[dict[str, str]]


class UnsupportedVersionError(FeedError):
    """The other side does not offer the version that was agreed."""


class Handshake:
    """The credentials endpoint."""

    def __init__(self, tokens: Any, now: Callable[[], datetime]) -> None:
        self._tokens, self._now = tokens, now

    async def reply(
        self, config: CpoConfig, grant: access.Grant, method: str, body: bytes, presented: str, base: str
    ) -> Reply:
        """Answer GET, POST, PUT or DELETE of credentials. ``presented`` is the token of the request, as it was issued."""
        feed = config.feed
        assert isinstance(feed, OcpiFeed)
        is_registered = await self._tokens.in_database(
            lambda connection: access.is_registered(connection, config.cpo_id)
        )
        if method == "GET":
            return Reply(200, SUCCESS, data=our_credentials(feed.version, presented, base))
        may_change = is_registered and grant.purpose == "send"
        if method not in ("POST", "PUT", "DELETE") or (method == "POST") == may_change:
            allowed = "GET, PUT, DELETE" if may_change else "GET, POST"
            return Reply(405, 2000, "registered already" if may_change else "not registered", allowed)
        if method == "DELETE":
            await self._tokens.in_database(lambda connection: _unregister(connection, config.cpo_id, self._now()))
            await self._tokens.refresh()
            return Reply(200, SUCCESS)
        try:
            sent = parse_json(body)
        except ValueError:
            return Reply(400, INVALID, "the body is not JSON")
        try:
            token, url, roles = read_credentials(sent)
        except ValueError as error:
            return Reply(200, INVALID, str(error))
        try:
            endpoints = await asyncio.to_thread(discover, url, feed.version, token)
        except UnsupportedVersionError as error:
            return Reply(200, UNSUPPORTED_VERSION, str(error))
        except FeedError as error:
            return Reply(200, UNUSABLE_API, str(error))
        partner = access.Partner(feed.version, url, token, endpoints, roles)
        fresh = await self._tokens.in_database(lambda connection: _accept(connection, config, partner, self._now()))
        await self._tokens.refresh()
        return Reply(200, SUCCESS, data=our_credentials(feed.version, fresh, base))


def register(connection: psycopg.Connection, config: CpoConfig, base: str, now: Callable[[], datetime]) -> str:
    """Register with the CPO's platform (again, if we have), and keep what it answers; return what was done.

    ``base`` is our public address, at which the receiver must be running: the other side may ask it while it registers us.
    Raises ``FeedError``, ``ConfigError``.
    """
    feed = config.feed
    if not isinstance(feed, OcpiFeed):
        raise ConfigError(f"{config.cpo_id}: a feed of kind {feed.kind} has no OCPI registration")
    before = access.partner_of(connection, config.cpo_id)
    versions_url = before.versions_url if before else feed.versions_url
    if before is None and feed.token_secret is None:
        raise ConfigError(
            f"{config.cpo_id}: feed.token_secret must name the token that the CPO gave for the registration"
        )
    token = before.token if before else clean_token(secret(feed.token_secret or ""))
    endpoints = discover(versions_url, feed.version, token)
    url = next((one["url"] for one in endpoints if one["identifier"] == "credentials"), None)
    if url is None:
        raise FeedError(f"{shown_url(versions_url)}: version {feed.version} has no credentials endpoint")
    fresh = access.issue(connection, config.cpo_id, "send")
    try:
        answered, method = _send_credentials(
            url, feed.version, token, our_credentials(feed.version, fresh, base), bool(before)
        )
        their_token, their_url, roles = read_credentials(answered)
    except (FeedError, ValueError) as error:
        access.end(connection, access.digest_of(fresh), now())
        raise FeedError(f"{shown_url(url)}: {error}") from None
    with connection.transaction():
        partner = access.Partner(feed.version, their_url, their_token, endpoints, roles)
        access.keep_partner(connection, config.cpo_id, partner, now())
        access.retire_others(connection, config.cpo_id, fresh, now())
        Writer(connection, config).ask_for_full_list(now())
    return f"{config.cpo_id}: registered with {shown_url(their_url)} by {method}, version {feed.version}"


def our_credentials(version: str, token: str, base: str) -> dict[str, Any]:
    """Our credentials object in the shape of that version."""
    details = {"name": OUR_NAME}
    party = {"party_id": OUR_PARTY, "country_code": OUR_COUNTRY, "business_details": details}
    found = {"token": token, "url": f"{base}/ocpi/versions"}
    return {**found, **party} if version == "2.1.1" else {**found, "roles": [{"role": OUR_ROLE, **party}]}


def read_credentials(found: Any) -> tuple[str, str, list[dict[str, Any]]]:
    """Token, versions URL and roles of a credentials object of any version. Raises ``ValueError`` that names the field, and no token."""
    if not isinstance(found, dict):
        raise ValueError("credentials are not an object")
    token, url = found.get("token"), found.get("url")
    if not isinstance(token, str) or not 0 < len(token.strip()) <= _LONGEST_TOKEN:
        raise ValueError("token: is missing or no token")
    if not isinstance(url, str) or urlsplit(url.strip()).scheme not in ("http", "https"):
        raise ValueError("url: is missing or no HTTP address")
    roles = found.get("roles", [{"role": "CPO", **found}])
    if not isinstance(roles, list) or not roles:
        raise ValueError("roles: is no list of roles")
    kept = []
    for role in roles:
        party = [role.get(name) for name in ("role", "country_code", "party_id")] if isinstance(role, dict) else []
        if not party or not all(isinstance(value, str) and value for value in party):
            raise ValueError("roles: role, country_code or party_id is missing")
        kept.append(
            {name: role[name] for name in ("role", "country_code", "party_id", "business_details") if name in role}
        )
    return token.strip(), url.strip(), kept


def discover(versions_url: str, version: str, token: str) -> Endpoints:
    """The other side's endpoints of a version: identifier, role, url. Raises ``FeedError``, ``UnsupportedVersionError``."""
    transport = HttpTransport(secrets=token_spellings(token, version))
    try:
        client = OcpiClient(transport, versions_url, version, token)
        offered = client.data(versions_url, client.get(versions_url).body)
        for entry in offered if isinstance(offered, list) else []:
            if isinstance(entry, dict) and entry.get("version") == version:
                details_url = _absolute(versions_url, entry.get("url"))
                break
        else:
            raise UnsupportedVersionError(f"{shown_url(versions_url)}: does not offer version {version}")
        details = client.data(details_url, client.get(details_url).body)
        endpoints = details.get("endpoints") if isinstance(details, dict) else None
        if not isinstance(endpoints, list):
            raise FeedError(f"{shown_url(details_url)}: no list of endpoints")
        return [
            {
                "identifier": str(one.get("identifier")),
                "role": str(one.get("role") or "SENDER").upper(),
                "url": _absolute(details_url, one.get("url")),
            }
            for one in endpoints
            if isinstance(one, dict)
        ]
    finally:
        transport.close()


def _absolute(base: str, url: object) -> str:
    """An address that an answer named; where we asked by https, the token never leaves it for http."""
    try:
        followed = urljoin(base, url.strip()) if isinstance(url, str) and url.strip() else ""
        parts, ours = urlsplit(followed), urlsplit(base)
    except ValueError:
        raise FeedError(f"{shown_url(base)}: names an address that cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FeedError(f"{shown_url(base)}: names no HTTP address")
    if ours.scheme == "https" and parts.scheme == "http":
        if parts.hostname != ours.hostname:
            raise FeedError(f"{shown_url(base)}: names {shown_url(followed)}, which would send the token in clear")
        return parts._replace(scheme="https", netloc=ours.netloc).geturl()
    return followed


def _send_credentials(url: str, version: str, token: str, body: dict[str, Any], is_known: bool) -> tuple[Any, str]:
    """POST or PUT our credentials; the other of the two when that is not allowed (405). Raises ``FeedError`` without any secret."""
    methods: tuple[Literal["POST", "PUT"], ...] = ("PUT", "POST") if is_known else ("POST", "PUT")
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    status, method = 0, methods[0]
    with httpx.Client(timeout=timeout) as client:
        for method in methods:
            for spelling in token_spellings(token, version):
                try:
                    answered = client.request(
                        method,
                        url,
                        content=json.dumps(body),
                        headers={"Authorization": f"Token {spelling}", "Content-Type": "application/json"},
                    )
                except httpx.HTTPError as error:
                    # Without its cause, which may quote headers.
                    raise FeedError(f"{method}: {type(error).__name__}") from None
                status = answered.status_code
                if status != 401:
                    break
            if status != 405:
                break
    if status not in (200, 201):
        raise FeedError(f"{method}: HTTP {status}")
    try:
        envelope = parse_json(answered.content)
    except ValueError:
        raise FeedError(f"{method}: the answer is not JSON") from None
    code = envelope.get("status_code") if isinstance(envelope, dict) else None
    if not str(code).startswith("1"):
        raise FeedError(f"{method}: OCPI status_code {str(code)[:20]}")
    return envelope.get("data"), method


def _accept(connection: psycopg.Connection, config: CpoConfig, partner: access.Partner, now: datetime) -> str:
    """Keep a partner that registered with us; return the token that it is to present from now on."""
    with connection.transaction():
        access.keep_partner(connection, config.cpo_id, partner, now)
        Writer(connection, config).ask_for_full_list(now)
        return access.rotate(connection, config.cpo_id, now)


def _unregister(connection: psycopg.Connection, feed_id: str, now: datetime) -> None:
    with connection.transaction():
        access.forget_partner(connection, feed_id)
        access.revoke(connection, feed_id, now)
