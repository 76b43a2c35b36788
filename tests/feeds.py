"""Small feeds, assets and polls for the tests of ``ingestion``, and what ``raw`` holds of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from ingestion.config import CpoConfig
from ingestion.model import Asset, Poll, Rejected, reference

START = datetime(2026, 10, 1, tzinfo=UTC)

TABLES = (
    "asset_version", "charger", "connector", "evse", "evse_latest", "feed", "feed_contact", "feed_profile",
    "quarantine", "site", "status_change",
)  # fmt: skip


def at(minutes: float) -> datetime:
    """Minutes after ``START``."""
    return START + timedelta(minutes=minutes)


def history_config(cpo_id: str, **feed: Any) -> CpoConfig:
    """A CPO that hands over files."""
    settings = {"kind": "history", "status_profile": "history", "liveness_seconds": 300, **feed}
    return CpoConfig.model_validate({"cpo_id": cpo_id, "name": cpo_id.title(), "feed": settings})


def polled_config(cpo_id: str, **feed: Any) -> CpoConfig:
    """A CPO whose feed is polled each minute."""
    settings = {
        "kind": "ocpi_pull",
        "version": "2.2.1",
        "versions_url": "http://localhost/versions",
        "party": "AU*ABC",
        "token_secret": "ABC_TOKEN",
        "poll_seconds": 60,
        "liveness_seconds": 300,
        "status_profile": "ocpi_2_2_1",
        **feed,
    }
    return CpoConfig.model_validate({"cpo_id": cpo_id, "name": cpo_id.title(), "feed": settings})


def pushed_config(cpo_id: str, **feed: Any) -> CpoConfig:
    """A CPO that pushes over OCPI and is reconciled each quarter hour."""
    settings = polled_config(cpo_id).feed.model_dump(exclude={"poll_seconds", "full_seconds"}) | {
        "kind": "ocpi_push",
        "reconcile_seconds": 900,
        "liveness_seconds": 2700,
        **feed,
    }
    return CpoConfig.model_validate({"cpo_id": cpo_id, "name": cpo_id.title(), "feed": settings})


def asset(evse_id: str, connector_id: str = "1", **values: Any) -> Asset:
    """One connector of one EVSE of one site."""
    described = Asset(
        site_ref=reference("S1"),
        site_id="S1",
        charger_ref=reference("S1", evse_id),
        charger_id=evse_id,
        evse_ref=reference("S1", evse_id),
        evse_id=evse_id,
        connector_ref=reference(connector_id),
        connector_id=connector_id,
        time_zone="Australia/Sydney",
    )
    return replace(described, **values)


def poll(words: dict[str, str], assets: tuple[Asset, ...] | None = None, rejected: tuple[Rejected, ...] = ()) -> Poll:
    """A complete answer: EVSE id to status word. Equal answers have equal bodies."""
    if assets is None:
        assets = tuple(asset(evse_id) for evse_id in words)
    return Poll(
        body_sha256=hashlib.sha256(repr((sorted(words.items()), assets)).encode()).digest(),
        assets=assets,
        statuses={reference("S1", evse_id): (word, None) for evse_id, word in words.items()},
        rejected=rejected,
    )


def changes_of(connection: psycopg.Connection, cpo_id: str) -> list[tuple[str, datetime, str | None]]:
    """All stored changes: EVSE id, observed_at, word; in order."""
    return connection.execute(
        """
        select split_part(evse_ref, '/', 2), observed_at, status_word
        from raw.status_change
        inner join raw.evse using (evse_key)
        inner join raw.feed on feed.feed_key = evse.feed_key
        where cpo_id = %s
        order by observed_at, evse_ref, change_key
        """,
        (cpo_id,),
    ).fetchall()


def count(connection: psycopg.Connection, table: str, cpo_id: str, condition: str = "true") -> int:
    """Rows of one feed in a raw table."""
    row = connection.execute(
        f"select count(*) from raw.{table} inner join raw.feed using (feed_key) where cpo_id = %s and {condition}",
        (cpo_id,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def whole_raw(connection: psycopg.Connection) -> dict[str, list[str]]:
    """Every row of every raw table as text, without what is moved by being seen again."""
    return {
        table: [
            text
            for (text,) in connection.execute(
                f"select (to_jsonb(it) - 'last_seen_at')::text from raw.{table} as it order by 1"
            )
        ]
        for table in TABLES
    }
