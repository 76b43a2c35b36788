"""Who may send to the receiver, and with what token we ask a partner.

Our tokens are stored as SHA-256 only (they are long random texts, so no salt); a partner's are encrypted by the key of secret ``CREDENTIALS_KEY``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import psycopg
from cryptography.fernet import Fernet, InvalidToken
from psycopg.types.json import Jsonb

from ingestion.config import secret
from warehouse.strict_yaml import ConfigError

Purpose = Literal["register", "send"]
"""``register``: good for the OCPI registration alone, and ended by it."""

TOKEN_BYTES = 32
"""Of randomness in a token that we issue."""

ROTATION_OVERLAP = timedelta(seconds=60)
"""How long a token that was replaced is still good, for requests that are on their way."""

CREDENTIALS_KEY = "CREDENTIALS_KEY"
"""Name of the secret that encrypts partners' tokens: 32 bytes in URL-safe base64."""

_LONGEST_TOKEN = 1024


@dataclass(frozen=True, slots=True)
class Grant:
    """One token that is good: for which feed, for what, until when. ``digest`` is its SHA-256."""

    digest: bytes
    feed_id: str
    purpose: Purpose
    valid_until: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it is still good."""
        return self.valid_until is None or now < self.valid_until


@dataclass(frozen=True, slots=True)
class Partner:
    """The other side of an OCPI registration. ``token`` is what we present to it."""

    version: str
    versions_url: str
    token: str
    endpoints: list[dict[str, str]]
    roles: list[dict[str, Any]]


def digest_of(token: str) -> bytes:
    """What is stored of a token; blanks and line ends around it do not count."""
    return hashlib.sha256(token.strip().encode("utf-8", "surrogatepass")).digest()


def spellings(presented: str) -> Iterable[str]:
    """The tokens that a header's value may mean: as it stands, and read as base64 (OCPI since 2.2)."""
    presented = presented.strip()
    yield presented
    try:
        yield base64.b64decode(presented + "=" * (-len(presented) % 4), validate=True).decode("utf-8").strip()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return


def find_grant(presented: str, grants: Iterable[Grant], now: datetime) -> Grant | None:
    """The grant of a presented token, raw or base64; takes as long for a wrong one as for a right one."""
    if not presented or len(presented) > _LONGEST_TOKEN:
        return None
    found = None
    digests = [digest_of(token) for token in spellings(presented) if token]
    for grant in grants:
        for digest in digests:
            if hmac.compare_digest(digest, grant.digest) and grant.is_valid(now):
                found = grant
    return found


# Tokens that a CPO sends us


def issue(connection: psycopg.Connection, feed_id: str, purpose: Purpose) -> str:
    """Make a token for a feed and return it: the only time that it can be read."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with connection.transaction():
        connection.execute(
            "insert into access.sender_token (token_sha256, feed_id, purpose) values (%s, %s, %s)",
            (digest_of(token), feed_id, purpose),
        )
    return token


def end(connection: psycopg.Connection, digest: bytes, at: datetime) -> None:
    """Let one token end at ``at`` (or earlier, if it would)."""
    with connection.transaction():
        connection.execute(
            "update access.sender_token set valid_until = least(valid_until, %s) where token_sha256 = %s", (at, digest)
        )


def rotate(connection: psycopg.Connection, feed_id: str, now: datetime) -> str:
    """Issue a sending token in place of the feed's others."""
    with connection.transaction():
        token = issue(connection, feed_id, "send")
        retire_others(connection, feed_id, token, now)
    return token


def retire_others(connection: psycopg.Connection, feed_id: str, token: str, now: datetime) -> None:
    """End the feed's tokens but this one: those that send after ``ROTATION_OVERLAP``, those that only register at once."""
    with connection.transaction():
        connection.execute(
            """
            update access.sender_token set
                valid_until = least(valid_until, case purpose when 'register' then %(now)s else %(later)s end)
            where feed_id = %(feed_id)s and token_sha256 <> %(digest)s
            """,
            {"now": now, "later": now + ROTATION_OVERLAP, "feed_id": feed_id, "digest": digest_of(token)},
        )


def revoke(connection: psycopg.Connection, feed_id: str, now: datetime) -> int:
    """End every token of a feed now; return how many were still good."""
    with connection.transaction():
        return connection.execute(
            """
            update access.sender_token set valid_until = %(now)s
            where feed_id = %(feed_id)s and (valid_until is null or valid_until > %(now)s)
            """,
            {"now": now, "feed_id": feed_id},
        ).rowcount


def grants(connection: psycopg.Connection) -> tuple[Grant, ...]:
    """Every token that is not over by the database's clock."""
    with connection.transaction():
        rows = connection.execute(
            """
            select token_sha256, feed_id, purpose, valid_until from access.sender_token
            where valid_until is null or valid_until > now()
            """
        ).fetchall()
    return tuple(Grant(bytes(digest), feed_id, purpose, until) for digest, feed_id, purpose, until in rows)


def note_use(connection: psycopg.Connection, used: dict[bytes, datetime]) -> None:
    """Store when tokens were last presented."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "update access.sender_token set last_used_at = greatest(last_used_at, %s) where token_sha256 = %s",
            [(at, digest) for digest, at in used.items()],
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """A token as people see it. ``mark``: the first digits of its SHA-256."""

    mark: str
    feed_id: str
    purpose: Purpose
    created_at: datetime
    valid_until: datetime | None
    last_used_at: datetime | None


def listed(connection: psycopg.Connection, feed_id: str | None = None) -> list[Listed]:
    """All tokens ever issued, or those of one feed; the newest first."""
    with connection.transaction():
        rows = connection.execute(
            """
            select left(encode(token_sha256, 'hex'), 8), feed_id, purpose, created_at, valid_until, last_used_at
            from access.sender_token where feed_id = coalesce(%s, feed_id) order by created_at desc, token_sha256
            """,
            (feed_id,),
        ).fetchall()
    return [Listed(*row) for row in rows]


# Tokens that we send to a partner


def partner_of(
    connection: psycopg.Connection, feed_id: str, find_secret: Callable[[str], str] = secret
) -> Partner | None:
    """The other side of a feed's registration; ``None`` when there is none. Raises ``ConfigError`` when its token cannot be decrypted."""
    with connection.transaction():
        row = connection.execute(
            "select version, versions_url, token_encrypted, endpoints, roles from access.partner where feed_id = %s",
            (feed_id,),
        ).fetchone()
    if row is None:
        return None
    version, versions_url, encrypted, endpoints, roles = row
    try:
        token = _fernet(find_secret).decrypt(bytes(encrypted)).decode("utf-8")
    except InvalidToken:
        raise ConfigError(
            f"secret {CREDENTIALS_KEY}: is not the key that the token of {feed_id}'s partner was encrypted with"
        ) from None
    return Partner(version, versions_url, token, endpoints, roles)


def keep_partner(connection: psycopg.Connection, feed_id: str, partner: Partner, now: datetime) -> None:
    """Store the other side of a registration in place of the one before."""
    encrypted = _fernet().encrypt(partner.token.encode("utf-8"))
    with connection.transaction():
        connection.execute(
            """
            insert into access.partner (
                feed_id, version, versions_url, token_encrypted, roles, endpoints, registered_at
            )
            values (%s, %s, %s, %s, %s, %s, %s)
            on conflict (feed_id) do update set
                version = excluded.version,
                versions_url = excluded.versions_url,
                token_encrypted = excluded.token_encrypted,
                roles = excluded.roles,
                endpoints = excluded.endpoints,
                registered_at = excluded.registered_at
            """,
            (
                feed_id,
                partner.version,
                partner.versions_url,
                encrypted,
                Jsonb(partner.roles),
                Jsonb(partner.endpoints),
                now,
            ),
        )


def is_registered(connection: psycopg.Connection, feed_id: str) -> bool:
    """Whether the feed's other side has registered, or we with it."""
    with connection.transaction():
        return connection.execute("select from access.partner where feed_id = %s", (feed_id,)).fetchone() is not None


def forget_partner(connection: psycopg.Connection, feed_id: str) -> None:
    """Remove the other side of a registration."""
    with connection.transaction():
        connection.execute("delete from access.partner where feed_id = %s", (feed_id,))


def _fernet(find_secret: Callable[[str], str] = secret) -> Fernet:
    try:
        return Fernet(find_secret(CREDENTIALS_KEY))
    except ValueError:
        raise ConfigError(f"secret {CREDENTIALS_KEY}: must be 32 bytes in URL-safe base64") from None
