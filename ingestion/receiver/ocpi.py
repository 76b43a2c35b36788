"""OCPI 2.1.1, 2.2.1 and 2.3.0 as the CPO's platform calls it: versions, details, credentials, and the receiver of Locations.

What reached the OCPI layer is answered with HTTP 200 and a status_code, as the specification asks for; a body that is not JSON with 400, what does not exist
with 404, a token that is not good with 401. Paths and ids are case-insensitive; an id may be URL-escaped, also its slashes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from starlette.types import Receive, Scope, Send

from ingestion.access import Grant
from ingestion.config import CpoConfig, OcpiFeed, OcpiPushFeed
from ingestion.model import Rejected
from ingestion.receiver.commit import Committer, UnavailableError
from ingestion.receiver.feeds import LOG, PushFeeds
from ingestion.receiver.handshake import Handshake
from ingestion.receiver.locations import (
    FAILED,
    INVALID,
    Edit,
    InvalidPushError,
    Look,
    Refuse,
    Reply,
    Target,
)
from ingestion.receiver.web import (
    MAX_BODY_BYTES,
    RETRY_AFTER_SECONDS,
    BodyTooLargeError,
    SenderGoneError,
    Tokens,
    answer,
    headers_of,
    parse_body,
    presented_token,
    read_body,
)

CLIENT_ERROR = 2000
_LONGEST_ID = 255
_ECHOED = (b"x-request-id", b"x-correlation-id")
_SWAPPED = {
    b"ocpi-from-country-code": b"ocpi-to-country-code",
    b"ocpi-from-party-id": b"ocpi-to-party-id",
    b"ocpi-to-country-code": b"ocpi-from-country-code",
    b"ocpi-to-party-id": b"ocpi-from-party-id",
}


class Ocpi:
    """The ASGI application below ``/ocpi``."""

    def __init__(
        self, feeds: PushFeeds, tokens: Tokens, committer: Callable[[], Committer], now: Callable[[], datetime]
    ) -> None:
        self._feeds, self._tokens, self._committer, self._now = feeds, tokens, committer, now
        self._handshake = Handshake(tokens, now)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        received_at = self._now()
        more: list[tuple[bytes, bytes]] = []
        try:
            reply = await self._reply(scope, headers, receive)
        except BodyTooLargeError:
            reply = Reply(413, CLIENT_ERROR, f"the body is longer than {MAX_BODY_BYTES} bytes")
            # The rest of it is not read.
            more.append((b"connection", b"close"))
        except SenderGoneError:
            return
        except UnavailableError as error:
            reply = Reply(503, FAILED, f"not stored: {error}; try again later")
            more.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
        except Exception as error:  # noqa: BLE001 - the sender must be told in the words of OCPI
            LOG.error("%s %s: %s", scope["method"], _shown_path(scope), type(error).__name__)
            reply = Reply(500, FAILED, "not stored: our own failure")
        if reply.http == 405:
            more.append((b"allow", reply.data.encode()))
            reply = Reply(405, reply.code, reply.message)
        if reply.http == 401:
            more.append((b"www-authenticate", b"Token"))
        for name in _ECHOED:
            if name in headers:
                more.append((name, headers[name]))
        for name, swapped in _SWAPPED.items():
            if name in headers:
                more.append((swapped, headers[name]))
        await answer(send, reply.http, _envelope(reply, received_at), more)

    async def _reply(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> Reply:
        now = self._now()
        grant = await self._tokens.verify(headers, now)
        config = self._feeds.get(grant.feed_id) if grant else None
        if grant is None or config is None or not isinstance(config.feed, OcpiFeed):
            return Reply(401, CLIENT_ERROR, "the token is not good for OCPI here")
        parts = _parts(scope)
        if parts is None:
            return Reply(400, INVALID, "the path cannot be read")
        module = [part.casefold() for part in parts[1:3]]
        method: str = scope["method"]
        version = config.feed.version
        base = public_url(scope, headers)
        if module == ["versions"]:
            found = [{"version": version, "url": f"{base}/ocpi/{version}"}]
            return Reply(200, 1000, data=found) if method == "GET" else _not_allowed("GET")
        if not module or module[0] != version:
            return Reply(404, CLIENT_ERROR, f"there is nothing here; agreed is version {version}")
        if len(module) == 1:
            return Reply(200, 1000, data=_details(base, config.feed)) if method == "GET" else _not_allowed("GET")
        if module[1] == "credentials" and len(parts) == 3:
            body = await read_body(headers, receive)
            return await self._handshake.reply(config, grant, method, body, presented_token(headers, grant), base)
        if module[1] != "locations" or not 6 <= len(parts) <= 8 or not isinstance(config.feed, OcpiPushFeed):
            return Reply(404, CLIENT_ERROR, "there is nothing here")
        if grant.purpose != "send":
            return Reply(401, CLIENT_ERROR, "this token is good for the registration only")
        return await self._locations(config, config.feed, grant, method, parts[3:], scope, headers, receive, now)

    async def _locations(
        self,
        config: CpoConfig,
        feed: OcpiPushFeed,
        grant: Grant,
        method: str,
        ids: list[str],
        scope: Scope,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        now: datetime,
    ) -> Reply:
        if method not in ("GET", "PUT", "PATCH"):
            return _not_allowed("GET, PUT, PATCH")
        if any(not one.strip() or len(one) > _LONGEST_ID or not one.isprintable() for one in ids):
            return Reply(200, INVALID, "an id in the URL is empty, too long, or not printable")
        target = Target(*ids)
        if method == "GET":
            return await self._submit(config, Look(target, now))
        body = await read_body(headers, receive)
        source = _shown_path(scope)
        text = body.decode("utf-8", "replace")
        try:
            found = parse_body(body)
        except ValueError as error:
            reason = f"not JSON: {error}"
            return await self._refuse(config, source, target, None, reason, text, now, Reply(400, INVALID, reason))
        try:
            if not isinstance(found, dict):
                raise InvalidPushError(None, "the body is not an object")
            verb: Literal["PUT", "PATCH"] = "PUT" if method == "PUT" else "PATCH"
            edit = Edit(feed, target, verb, found, text, source, now)
        except InvalidPushError as error:
            reply = Reply(200, INVALID, str(error))
            return await self._refuse(config, source, target, error.field, error.reason, text, now, reply)
        return await self._submit(config, edit)

    async def _submit(self, config: CpoConfig, job: Any) -> Reply:
        reply: Reply = await self._committer().submit(config, job)
        return reply

    async def _refuse(
        self,
        config: CpoConfig,
        source: str,
        target: Target,
        field: str | None,
        reason: str,
        text: str,
        now: datetime,
        reply: Reply,
    ) -> Reply:
        return await self._submit(config, Refuse(Rejected(source, str(target), field, reason, text), reply, now))


def public_url(scope: Scope, headers: Mapping[bytes, bytes]) -> str:
    """The address at which a CPO finds us: ``RECEIVER_URL``, else the one it asked."""
    if own := os.environ.get("RECEIVER_URL"):
        return own.rstrip("/")
    return f"{scope['scheme']}://{headers.get(b'host', b'localhost').decode('latin-1')}"


def _details(base: str, feed: OcpiFeed) -> dict[str, Any]:
    role = {} if feed.version == "2.1.1" else {"role": "RECEIVER"}
    # Who is pulled registers with us, and pushes nothing.
    modules = ("credentials", "locations") if isinstance(feed, OcpiPushFeed) else ("credentials",)
    return {
        "version": feed.version,
        "endpoints": [{"identifier": name, **role, "url": f"{base}/ocpi/{feed.version}/{name}"} for name in modules],
    }


def _not_allowed(allowed: str) -> Reply:
    return Reply(405, CLIENT_ERROR, f"this method is not allowed here; allowed: {allowed}", allowed)


def _parts(scope: Scope) -> list[str] | None:
    """The path's parts, each unescaped by itself; ``None`` when one is not UTF-8."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
    try:
        parts = [unquote_to_bytes(part).decode("utf-8") for part in raw.partition(b"?")[0].split(b"/")[1:]]
    except UnicodeDecodeError:
        return None
    return parts[:-1] if parts[-1] == "" else parts


def _shown_path(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
    return raw.partition(b"?")[0].decode("latin-1")


def _envelope(reply: Reply, now: datetime) -> bytes:
    envelope = {
        "data": reply.data,
        "status_code": reply.code,
        "status_message": reply.message,
        "timestamp": f"{now:%Y-%m-%dT%H:%M:%SZ}",
    }
    return json.dumps(envelope, ensure_ascii=False).encode("utf-8", "replace")
