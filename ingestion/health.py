"""How each feed stands: what it told last, and whether it has been silent for too long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from ingestion.config import CpoConfig, HistoryFeed
from ingestion.settings import status_profiles

RECENT = timedelta(days=7)
"""How far back the last failure is looked for."""


class SilentFeedError(Exception):
    """A feed has told nothing for longer than its ``alert_after_minutes``."""


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """One feed as the collector knows it. ``registered_at``: when it was first collected from, or watched; ``None``: never.

    The counts are of now: records that still stand in the quarantine, EVSEs in a word that no profile maps, EVSEs that vanished.
    """

    cpo_id: str
    registered_at: datetime | None
    last_contact_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_failure: str | None = None
    open_quarantine_count: int = 0
    unmapped_words: tuple[str, ...] = ()
    vanished_count: int = 0


def read_health(connection: psycopg.Connection, config: CpoConfig, now: datetime) -> FeedHealth:
    """Look up how a feed stands, by role ``ingest``."""
    row = connection.execute(
        """
        select
            feed.feed_key,
            feed.registered_at,
            coalesce(
                life.last_contact_at,
                (
                    select max(contact.contact_until) from raw.feed_contact as contact
                    where contact.feed_key = feed.feed_key and contact.outcome in ('complete', 'alive')
                )
            ),
            failure.contact_from,
            failure.detail,
            (
                select count(*) from raw.quarantine as record
                where record.feed_key = feed.feed_key and record.gone_at is null and record.resolved_at is null
            ),
            (
                select count(*) from raw.evse_latest as latest
                where latest.feed_key = feed.feed_key and latest.status_word is null
            )
        from raw.feed as feed
        left join raw.feed_life as life on life.feed_key = feed.feed_key
        left join lateral (
            select contact.contact_from, contact.detail from raw.feed_contact as contact
            where contact.feed_key = feed.feed_key and contact.outcome = 'failed' and contact.contact_from > %(since)s
            order by contact.contact_from desc limit 1
        ) as failure on true
        where feed.feed_id = %(feed_id)s
        """,
        {"feed_id": config.cpo_id, "since": now - RECENT},
    ).fetchone()
    if row is None:
        return FeedHealth(config.cpo_id, registered_at=None)
    words = connection.execute(
        """
        select distinct status_profile, lower(status_word) from raw.evse_latest
        where feed_key = %s and status_word is not null order by 2
        """,
        (row[0],),
    ).fetchall()
    return FeedHealth(
        cpo_id=config.cpo_id,
        registered_at=row[1],
        last_contact_at=row[2],
        last_failed_at=row[3],
        last_failure=row[4],
        open_quarantine_count=row[5],
        unmapped_words=tuple(word for profile, word in words if word not in status_profiles().get(profile, {})),
        vanished_count=row[6],
    )


def is_watched(config: CpoConfig, now: datetime) -> bool:
    """Whether silence of this feed means anything: it sends by itself or is asked, and has not ended."""
    ended_at = config.feed.ended_at
    return not isinstance(config.feed, HistoryFeed) and (ended_at is None or now < ended_at)


def silence(health: FeedHealth, config: CpoConfig, now: datetime) -> str | None:
    """Say why a feed counts as silent; ``None``: it does not. One that nobody expects anything of yet is not silent."""
    limit = timedelta(minutes=config.feed.alert_after_minutes)
    last = health.last_contact_at
    since = last or health.registered_at
    if not is_watched(config, now) or since is None or now - since <= limit:
        return None
    if last is None:
        said = f"{config.cpo_id}: no contact since it was first expected, at {since:%Y-%m-%d %H:%M:%S%z}"
    else:
        said = (
            f"{config.cpo_id}: silent for {(now - last) // timedelta(minutes=1)} minutes (more than "
            f"{config.feed.alert_after_minutes}), last contact at {last:%Y-%m-%d %H:%M:%S%z}"
        )
    if health.last_failed_at is not None and (last is None or health.last_failed_at > last):
        said += f"; last failure at {health.last_failed_at:%Y-%m-%d %H:%M:%S%z}: {health.last_failure}"
    return f"{said}. See 'A feed is silent' in docs/runbook.md"


def describe(health: FeedHealth, config: CpoConfig, now: datetime) -> str:
    """One line for people."""
    if health.last_contact_at is None:
        heard = "no contact yet" if health.registered_at else "not expected yet"
    else:
        minutes = (now - health.last_contact_at) // timedelta(minutes=1)
        heard = f"last contact {health.last_contact_at:%Y-%m-%d %H:%M:%S%z}, {minutes} minutes ago"
    state = "SILENT" if silence(health, config, now) else "ok" if is_watched(config, now) else "not watched"
    words = f" ({', '.join(health.unmapped_words)})" if health.unmapped_words else ""
    return (
        f"{config.cpo_id}: {state}, {heard}; {health.open_quarantine_count} quarantined, "
        f"{len(health.unmapped_words)} unmapped words{words}, {health.vanished_count} EVSEs vanished"
    )
