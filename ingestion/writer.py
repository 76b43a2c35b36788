"""The one way into ``raw.*``: a transaction per poll or per file, by COPY, safe to repeat.

Changes are written against what was in force at their own time, so that overlapping collectors, retries and late answers
add nothing that was already known.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from ingestion import statements
from ingestion.config import CpoConfig, OcpiPushFeed, StreamSettings
from ingestion.model import (
    KEPT,
    Asset,
    Contact,
    FeedError,
    Message,
    Outcome,
    Poll,
    Rejected,
    Told,
    cut,
    reference,
)
from ingestion.stream.mark import Mark, pack_things, unpack_things
from ingestion.times import EARLIEST, FUTURE_SKEW
from ingestion.told import Change, Life, Retold, changes_among, read_retold, write_retold
from warehouse.object_store import StoredObject

NAME_LIMIT = 500
"""Characters of a quarantined record's place; the key that finds it again cannot hold much more."""

_TURN = 0x5754
"""Key of the locks that say which collector of a stream or of files is at work; the second key is the feed's."""

RECEIPTS_KEPT = timedelta(days=7)
"""How long the answer to a request with an idempotency key is kept."""

TEMPORARY_TABLES = ("incoming_asset", "incoming_change", "incoming_contact", "incoming_rejected")

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass
class Written:
    """What one transaction added, and what it knew already."""

    assets: int = 0
    changes: int = 0
    contacts: int = 0
    quarantined: int = 0
    unknown: frozenset[str] = frozenset()
    """Identities of EVSEs that were told of and that nobody has described: quarantined."""

    def __add__(self, other: Written) -> Written:
        return Written(
            self.assets + other.assets,
            self.changes + other.changes,
            self.contacts + other.contacts,
            self.quarantined + other.quarantined,
            self.unknown | other.unknown,
        )

    def __sub__(self, other: Written) -> Written:
        return Written(
            self.assets - other.assets,
            self.changes - other.changes,
            self.contacts - other.contacts,
            self.quarantined - other.quarantined,
            self.unknown - other.unknown,
        )

    def __str__(self) -> str:
        return (
            f"{self.assets} asset versions, {self.changes} changes, {self.contacts} contacts, "
            f"{self.quarantined} quarantined"
        )


def register_feed(connection: psycopg.Connection, config: CpoConfig) -> int:
    """Write the feed's settings in force; return its key."""
    feed = config.feed
    with connection.transaction():
        row = connection.execute(
            """
            insert into raw.feed as known (
                feed_id, cpo_id, cpo_name, kind, protocol_version, status_profile, poll_seconds, liveness_seconds, ended_at
            )
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
            on conflict (feed_id) do update set
                cpo_name = excluded.cpo_name,
                kind = excluded.kind,
                protocol_version = excluded.protocol_version,
                status_profile = excluded.status_profile,
                poll_seconds = excluded.poll_seconds,
                liveness_seconds = excluded.liveness_seconds,
                ended_at = excluded.ended_at,
                settings_changed_at = case
                    when (known.liveness_seconds, known.ended_at)
                        is distinct from (excluded.liveness_seconds, excluded.ended_at)
                    then now() else known.settings_changed_at
                end
            returning feed_key
            """,
            (
                config.cpo_id,
                config.cpo_id,
                config.name,
                feed.kind,
                getattr(feed, "version", None),
                feed.status_profile,
                getattr(feed, "poll_seconds", None),
                feed.liveness_seconds,
                feed.ended_at,
            ),
        ).fetchone()
    assert row is not None
    return int(row[0])


class Writer:
    """Writes one feed's batches. Holds no state that the database does not hold."""

    def __init__(self, connection: psycopg.Connection, config: CpoConfig) -> None:
        self._connection = connection
        self._feed = config.feed
        self._profile = config.feed.status_profile
        self._liveness_seconds = config.feed.liveness_seconds
        self._is_told_beside = isinstance(config.feed, OcpiPushFeed | StreamSettings)
        self._known_profiles: set[str] = set()
        self.feed_key = register_feed(connection, config)
        with connection.transaction():
            connection.execute(statements.TEMPORARY_TABLES)

    @contextmanager
    def batch(self, status_profile: str | None = None) -> Iterator[Batch]:
        """One transaction (or a part of one that is open) that no other writer of this feed overlaps."""
        is_within = self._connection.info.transaction_status != TransactionStatus.IDLE
        with self._connection.transaction():
            self._connection.execute("select pg_advisory_xact_lock(%s, %s)", (0x5752, self.feed_key))
            profile = status_profile or self._profile
            if profile not in self._known_profiles:
                self._connection.execute(
                    "insert into raw.feed_profile (feed_key, status_profile) values (%s, %s) on conflict do nothing",
                    (self.feed_key, profile),
                )
            yield Batch(self._connection, self.feed_key, profile, self._liveness_seconds, is_within_another=is_within)
        self._known_profiles.add(profile)

    def write_poll(self, poll: Poll, contact_at: datetime, received_at: datetime) -> Written | None:
        """Store one complete answer: assets that are new or differ, changes against the state at ``contact_at``, and the contact.

        An EVSE that had a status and is not in a full answer becomes absent (``status_word`` null). Stores nothing and returns ``None``
        for an unchanged answer when the last one stored was another, or something else was told since. Raises ``FeedError`` for a list that is too
        short to be believed.
        """
        with self.batch() as batch:
            if poll.is_unchanged:
                if batch.last_body(contact_at) != poll.body_sha256:
                    return None
            else:
                if poll.evse_count is not None:
                    self._must_not_shrink(poll.evse_count, batch.present_count())
                batch.add_assets(poll.assets, received_at, is_whole_evse=True)
                # What is told by itself while the list is read may be newer than the list.
                told_since = contact_at if self._is_told_beside else None
                batch.add_states(poll.statuses, contact_at, received_at, is_full=poll.is_full, told_since=told_since)
                batch.keep_documents(poll.documents, received_at, told_since=told_since)
            batch.add_rejected(poll.rejected, contact_at, is_from_poll=True)
            if poll.is_full and not poll.is_unchanged:
                batch.close_rejected(contact_at)
            batch.add_contacts(
                [
                    Contact(
                        contact_from=contact_at,
                        contact_until=contact_at,
                        outcome=Outcome.COMPLETE,
                        received_at=received_at,
                        evse_count=len(poll.statuses) if poll.is_full and not poll.is_unchanged else None,
                        body_sha256=poll.body_sha256,
                    )
                ]
            )
            batch.live_on(contact_at, contact_at, is_complete=True)
        return batch.written

    def _must_not_shrink(self, listed: int, present: int) -> None:
        ratio = getattr(self._feed, "max_shrink_ratio", 1)
        if listed < present * (1 - ratio):
            raise FeedError(
                f"a list of {listed} EVSEs where {present} were present is not believed: more than feed.max_shrink_ratio ({ratio:g}) would be gone;"
                " if it is true, raise that for one poll"
            )

    def write_messages(self, messages: Iterable[tuple[Message, datetime]], *, is_contact: bool = True) -> Written:
        """Store messages, each with the time at which it was received, in one transaction.

        ``is_contact``: their arrival proves contact; otherwise the stretch in which they came is written by `write_stretch`.
        """
        with self.batch() as batch:
            batch.add_messages(messages, is_contact=is_contact)
        return batch.written

    def write_stretch(
        self,
        contact_from: datetime,
        contact_until: datetime,
        outcome: Outcome,
        detail: str | None = None,
        *,
        mark: Mark | None = None,
    ) -> Written:
        """Store a stretch of a stream: held (``ALIVE``), or a time in which messages may have been lost (``LOST``)."""
        with self.batch() as batch:
            if mark is not None:
                batch.keep_mark(mark)
            batch.add_contacts(
                [
                    Contact(
                        contact_from, contact_until, outcome, contact_until, detail=detail and _storable(detail[:500])
                    )
                ]
            )
            if outcome is Outcome.LOST:
                batch.live_on(contact_until, contact_until, is_anew=True)
            else:
                batch.live_on(contact_from, contact_until)
        return batch.written

    def write_failure(self, contact_at: datetime, received_at: datetime, detail: str) -> Written:
        """Store that the feed was asked and did not answer in full."""
        with self.batch() as batch:
            detail = _storable(detail[:500])
            batch.add_contacts([Contact(contact_at, contact_at, Outcome.FAILED, received_at, detail=detail)])
        return batch.written

    def transaction(self) -> AbstractContextManager[object]:
        """One transaction around several calls: all of them are stored, or none."""
        return self._connection.transaction()

    def file_receipts(self, paths: list[str]) -> set[tuple[str, int, datetime]]:
        """Path, bytes and time of the files among these paths that were looked at before."""
        rows = self._connection.execute(
            "select path, byte_count, modified_at from raw.file_receipt where feed_key = %s and path = any(%s)",
            (self.feed_key, paths),
        ).fetchall()
        self._connection.commit()
        return set(rows)

    def times_of_content(self, content_sha256: bytes) -> set[datetime]:
        """The times that files with this content spoke of, of those that were taken. Within a transaction."""
        rows = self._connection.execute(
            """
            select observed_at from raw.file_receipt
            where feed_key = %s and content_sha256 = %s and outcome = 'taken'
            """,
            (self.feed_key, content_sha256),
        ).fetchall()
        return {observed_at for (observed_at,) in rows}

    def keep_file_receipt(
        self,
        found: StoredObject,
        observed_at: datetime,
        content_sha256: bytes,
        outcome: str,
        detail: str | None,
        received_at: datetime,
    ) -> None:
        """Note that a file was taken, refused (with the reason), or repeats one that was taken."""
        with self._connection.transaction():
            self._connection.execute(
                """
                insert into raw.file_receipt (
                    feed_key, path, content_sha256, modified_at, byte_count, observed_at, outcome, detail, received_at
                )
                values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
                """,
                (
                    self.feed_key, found.path, content_sha256, found.modified_at, found.byte_count, observed_at, outcome,
                    detail and _storable(cut(detail)), received_at,
                ),
            )  # fmt: skip

    def take_turn(self) -> bool:
        """Whether this connection is now the only one that writes what the feed streams or drops; until it is given up or closed."""
        row = self._connection.execute("select pg_try_advisory_lock(%s, %s)", (_TURN, self.feed_key)).fetchone()
        self._connection.commit()
        assert row is not None
        return bool(row[0])

    def give_up_turn(self) -> None:
        """Let the next collector of the stream write."""
        self._connection.execute("select pg_advisory_unlock(%s, %s)", (_TURN, self.feed_key))
        self._connection.commit()

    def evses_by_id(self) -> dict[str, set[str]]:
        """As of `Batch.evses_by_id`."""
        with self.batch() as batch:
            return batch.evses_by_id()

    def mark(self) -> Mark | None:
        """Where the last collector of the stream stopped writing."""
        row = self._connection.execute(
            "select held_until, things, event_id from raw.stream_mark where feed_key = %s",
            (self.feed_key,),
        ).fetchone()
        self._connection.commit()
        return None if row is None else Mark(row[0], unpack_things(row[1]), row[2])

    def last_complete(self, before: datetime, *, is_full: bool = False) -> datetime | None:
        """When, within a day, the feed last told the state of every EVSE, by whichever collector; ``is_full``: by listing all of them."""
        row = self._connection.execute(
            """
            select max(contact_from) from raw.feed_contact
            where feed_key = %(feed_key)s and outcome = 'complete'
                and contact_from < %(before)s and contact_from > %(before)s - interval '1 day'
                and (body_sha256 is not null or not %(is_full)s)
            """,
            {"feed_key": self.feed_key, "before": before, "is_full": is_full},
        ).fetchone()
        self._connection.commit()
        return None if row is None else row[0]

    def ask_for_full_list(self, at: datetime) -> None:
        """Leave word for the feed's collector that a full list is wanted now."""
        with self._connection.transaction():
            self._connection.execute(
                """
                insert into raw.feed_life as known (
                    feed_key, alive_from, alive_until, last_contact_at, reconcile_wanted_at
                )
                values (%(feed_key)s, %(at)s, %(at)s, %(at)s, %(at)s)
                on conflict (feed_key) do update set reconcile_wanted_at = greatest(known.reconcile_wanted_at, %(at)s)
                """,
                {"feed_key": self.feed_key, "at": at},
            )

    def full_list_wanted_at(self) -> datetime | None:
        """When somebody last asked for a full list."""
        row = self._connection.execute(
            "select reconcile_wanted_at from raw.feed_life where feed_key = %s", (self.feed_key,)
        ).fetchone()
        self._connection.commit()
        return None if row is None else row[0]


class Batch:
    """The statements of one transaction. Made by `Writer.batch`.

    Its temporary tables belong to the connection and are empty between transactions: a small one does not pay for making and planning them anew.
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        feed_key: int,
        status_profile: str,
        liveness_seconds: int,
        *,
        is_within_another: bool = False,
    ) -> None:
        self._connection = connection
        self._feed_key = feed_key
        self._profile = status_profile
        self._liveness_seconds = liveness_seconds
        self._used = set(TEMPORARY_TABLES) if is_within_another else set()
        self.written = Written()

    def last_body(self, before: datetime) -> bytes | None:
        """Hash of the latest complete answer stored before ``before``, by whichever collector; ``None`` when something was told since."""
        row = self._connection.execute(
            """
            select contact.body_sha256
            from (
                select contact_from, body_sha256 from raw.feed_contact
                where feed_key = %(feed_key)s and outcome = 'complete'
                    and contact_from < %(before)s and contact_from > %(before)s - interval '1 day'
                order by contact_from desc limit 1
            ) as contact
            where not exists (
                select from raw.evse_latest as latest
                where latest.feed_key = %(feed_key)s and latest.observed_at > contact.contact_from
            )
            """,
            {"feed_key": self._feed_key, "before": before},
        ).fetchone()
        return None if row is None or row[0] is None else bytes(row[0])

    def present_count(self) -> int:
        """How many EVSEs of the feed have a status now."""
        row = self._connection.execute(
            "select count(*) from raw.evse_latest where feed_key = %s and status_word is not null", (self._feed_key,)
        ).fetchone()
        assert row is not None
        return int(row[0])

    def evse_keys(self) -> dict[str, int]:
        """All EVSEs of the feed: identity to key."""
        rows = self._connection.execute(
            "select evse_ref, evse_key from raw.evse where feed_key = %s", (self._feed_key,)
        )
        return dict(rows.fetchall())

    def evses_by_id(self, evse_ids: Iterable[str] | None = None) -> dict[str, set[str]]:
        """Case-folded ``evse_id`` to the identities that carry it; of all EVSEs, or of ``evse_ids`` alone."""
        found: dict[str, set[str]] = {}
        rows = self._connection.execute(
            """
            select distinct lower(trim(asset.evse_id)), evse.evse_ref
            from raw.asset_version as asset
            inner join raw.evse as evse on evse.evse_key = asset.evse_key
            where asset.feed_key = %(feed_key)s
                and (%(evse_ids)s::text[] is null or lower(trim(asset.evse_id)) = any(%(evse_ids)s))
            """,
            {
                "feed_key": self._feed_key,
                "evse_ids": None if evse_ids is None else [evse_id.strip().lower() for evse_id in evse_ids],
            },
        )
        for evse_id, evse_ref in rows:
            found.setdefault(evse_id.casefold(), set()).add(evse_ref)
        return found

    def add_assets(self, assets: Iterable[Asset], received_at: datetime, *, is_whole_evse: bool) -> None:
        """Store each description that differs from the one in force at its time.

        With ``is_whole_evse`` a connector that is missing from an EVSE described by ``assets`` is stored as not listed any more.
        """
        assets = list(assets)
        if not assets:
            return
        self._clear("incoming_asset")
        with self._connection.cursor().copy(
            "copy incoming_asset (position, site_ref, charger_ref, evse_ref, connector_ref, valid_from, document,"
            " content_sha256) from stdin"
        ) as copy:
            for position, asset in enumerate(assets):
                document, digest = _describe(asset)
                copy.write_row(
                    (
                        position,
                        asset.site_ref,
                        asset.charger_ref,
                        asset.evse_ref,
                        asset.connector_ref,
                        asset.valid_from or received_at,
                        document,
                        digest,
                    )
                )
        for kind in ("site", "charger", "evse"):
            self._connection.execute(
                f"""
                insert into raw.{kind} (feed_key, {kind}_ref)
                select %s, {kind}_ref from incoming_asset group by {kind}_ref order by min(position)
                on conflict do nothing
                """,
                (self._feed_key,),
            )
        self._connection.execute(
            """
            insert into raw.connector (evse_key, connector_ref)
            select evse.evse_key, incoming.connector_ref
            from incoming_asset as incoming
            inner join raw.evse as evse on evse.feed_key = %s and evse.evse_ref = incoming.evse_ref
            group by evse.evse_key, incoming.connector_ref
            order by min(incoming.position)
            on conflict do nothing
            """,
            (self._feed_key,),
        )
        added = self._connection.execute(
            statements.INSERT_ASSETS, {"feed_key": self._feed_key, "received_at": received_at}
        )
        self.written.assets += added.rowcount
        if is_whole_evse:
            unlisted = self._connection.execute(
                statements.UNLIST_CONNECTORS, {"feed_key": self._feed_key, "received_at": received_at}
            )
            self.written.assets += unlisted.rowcount

    def add_states(
        self,
        statuses: dict[str, tuple[str, datetime | None]],
        contact_at: datetime,
        received_at: datetime,
        *,
        is_full: bool,
        told_since: datetime | None = None,
    ) -> None:
        """Store what a complete answer changed: words that differ from the state at ``contact_at`` and, if it lists every EVSE, those that are gone.

        An EVSE of which something was received since ``told_since`` is left as it is.
        """
        known: dict[int, str | None] = dict(
            self._connection.execute(statements.STATE_AT, {"feed_key": self._feed_key, "at": contact_at}).fetchall()
        )
        keys = self.evse_keys()
        by_key = {keys[evse_ref]: status for evse_ref, status in statuses.items()}
        changes = [
            Change(key, contact_at, word, received_at, updated_at)
            for key, (word, updated_at) in by_key.items()
            if key not in known or known[key] != word
        ]
        if is_full:
            changes += [
                Change(key, contact_at, None, received_at, None)
                for key, word in known.items()
                if key not in by_key and word is not None
            ]
        if told_since is not None:
            told = {
                key
                for (key,) in self._connection.execute(
                    "select evse_key from raw.evse_latest where feed_key = %s and received_at >= %s",
                    (self._feed_key, told_since),
                )
            }
            changes = [change for change in changes if change.evse_key not in told]
        self.add_changes(changes)

    def add_told(self, told: Iterable[tuple[Told, str, datetime]]) -> None:
        """Store what messages told (with their source and time of receipt): words that differ from the state at their time.

        A word that is told again is stored when nothing else shows that it still holds: after a gap, before any complete contact. Else its time is
        remembered, so that a message that comes late holds no longer than it did. A time that cannot be is noted and
        replaced by that of receipt. An EVSE that nobody described is quarantined.
        """
        told = list(told)
        if not told:
            return
        keys: dict[str, int] = dict(
            self._connection.execute(
                "select evse_ref, evse_key from raw.evse where feed_key = %s and evse_ref = any(%s)",
                (self._feed_key, list({one.evse_ref for one, _, _ in told})),
            ).fetchall()
        )
        row = self._connection.execute(
            "select alive_from, complete_from from raw.feed_life where feed_key = %s", (self._feed_key,)
        ).fetchone()
        life = None if row is None else Life(*row)
        rows: list[Change] = []
        rejected: list[tuple[Rejected, datetime]] = []
        for one, source, received_at in told:
            observed_at = one.observed_at or received_at
            if not EARLIEST <= observed_at <= received_at + FUTURE_SKEW:
                reason = f"{KEPT}with the time of receipt: {observed_at.isoformat()} is " + (
                    "in the future" if observed_at > received_at else f"before {EARLIEST:%Y-%m-%d}"
                )
                rejected.append((Rejected(source, one.evse_ref, "observed_at", reason, one.payload), received_at))
                observed_at = received_at
            key = keys.get(one.evse_ref)
            if key is None:
                reason = "this EVSE is not described yet"
                context = json.dumps({"told": _document(one)})
                rejected.append((Rejected(source, one.evse_ref, "evse_id", reason, one.payload, context), received_at))
            else:
                rows.append(Change(key, observed_at, one.status_word, received_at, one.observed_at))
        self.written.unknown |= {one.evse_ref for one, _, _ in told if one.evse_ref not in keys}
        for record, received_at in rejected:
            self.add_rejected([record], received_at)
        stored, retold = self._told_before(rows)
        changes: list[Change] = []
        told_again: dict[int, list[Retold]] = {}
        by_key: dict[int, list[Change]] = {}
        for row in rows:
            by_key.setdefault(row.evse_key, []).append(row)
        for key, news in by_key.items():
            before = retold.get(key, [])
            added, again = changes_among(stored.get(key, ()), before, news, life)
            changes += added
            if again != before:
                told_again[key] = again
        self.add_changes(changes)
        if told_again:
            documents = [json.dumps(write_retold(again)) for again in told_again.values()]
            self._connection.execute(statements.REMEMBER_RETOLD, {"evse_keys": list(told_again), "retold": documents})

    def _told_before(
        self, rows: Iterable[Change]
    ) -> tuple[dict[int, list[tuple[datetime, str | None]]], dict[int, list[Retold]]]:
        """What is stored of the EVSEs of ``rows`` since the first time in them, with what was in force then; and what was told again of them."""
        first: dict[int, datetime] = {}
        for row in rows:
            first[row.evse_key] = min(row.observed_at, first.get(row.evse_key, row.observed_at))
        stored: dict[int, list[tuple[datetime, str | None]]] = {}
        for key, observed_at, word in self._connection.execute(
            statements.STORED_SINCE, {"evse_keys": list(first), "times": list(first.values())}
        ):
            stored.setdefault(key, []).append((observed_at, word))
        retold = self._connection.execute(
            "select evse_key, retold from raw.evse_latest where evse_key = any(%s) and retold <> '[]'", (list(first),)
        )
        return stored, {key: read_retold(document) for key, document in retold}

    def add_messages(self, messages: Iterable[tuple[Message, datetime]], *, is_contact: bool = True) -> None:
        """Store messages, each with the time at which it was received; ``is_contact`` as of `Writer.write_messages`."""
        messages = list(messages)
        if is_contact and messages:
            arrivals = sorted(
                {received_at.replace(microsecond=0) for _, received_at in messages} - {self._last_contact()}
            )
            self.add_contacts(Contact(at, at, Outcome.ALIVE, at) for at in arrivals)
            for at in arrivals:
                self.live_on(at, at)
        for message, received_at in messages:
            self.add_assets(message.assets, received_at, is_whole_evse=message.is_whole_evse)
            self.add_rejected(message.rejected, received_at)
        self.add_told((told, message.source, received_at) for message, received_at in messages for told in message.told)

    def _last_contact(self) -> datetime | None:
        row = self._connection.execute(
            "select last_contact_at from raw.feed_life where feed_key = %s", (self._feed_key,)
        ).fetchone()
        return None if row is None else row[0]

    def known_evses(self, evse_refs: Iterable[str]) -> set[str]:
        """Which of these identities somebody has described."""
        rows = self._connection.execute(
            "select evse_ref from raw.evse where feed_key = %s and evse_ref = any(%s)",
            (self._feed_key, list(evse_refs)),
        )
        return {evse_ref for (evse_ref,) in rows}

    def documents(self, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        """The Locations that are kept of these places (party and location id, each as of `reference`)."""
        wanted = list(set(places))
        if not wanted:
            return {}
        rows = self._connection.execute(
            """
            select kept.party, kept.location_ref, kept.document
            from raw.ocpi_location as kept
            inner join unnest(%s::text[], %s::text[]) as wanted (party, location_ref) using (party, location_ref)
            where kept.feed_key = %s
            """,
            ([party for party, _ in wanted], [location_ref for _, location_ref in wanted], self._feed_key),
        )
        return {(party, location_ref): document for party, location_ref, document in rows}

    def receipt(self, idempotency_key: str) -> tuple[bytes, dict[str, Any]] | None:
        """SHA-256 of the request that was answered under this key, and the answer."""
        row = self._connection.execute(
            "select request_sha256, response from raw.push_receipt where feed_key = %s and idempotency_key = %s",
            (self._feed_key, idempotency_key),
        ).fetchone()
        return None if row is None else (bytes(row[0]), row[1])

    def keep_receipt(
        self, idempotency_key: str, request_sha256: bytes, response: dict[str, Any], received_at: datetime
    ) -> None:
        """Keep the answer to a request for as long as somebody may ask again: `RECEIPTS_KEPT`."""
        self._connection.execute(
            "delete from raw.push_receipt where feed_key = %s and received_at < %s",
            (self._feed_key, received_at - RECEIPTS_KEPT),
        )
        self._connection.execute(
            """
            insert into raw.push_receipt (feed_key, idempotency_key, request_sha256, response, received_at)
            values (%s, %s, %s, %s, %s)
            """,
            (self._feed_key, idempotency_key, request_sha256, Jsonb(response), received_at),
        )

    def keep_mark(self, mark: Mark) -> None:
        """Keep where the writing of a stream stands."""
        self._connection.execute(
            """
            insert into raw.stream_mark (feed_key, held_until, things, event_id)
            values (%s, %s, %s, %s)
            on conflict (feed_key) do update set
                held_until = excluded.held_until, things = excluded.things, event_id = excluded.event_id
            """,
            (self._feed_key, mark.held_until, pack_things(mark.things), mark.event_id),
        )

    def keep_documents(
        self,
        documents: Iterable[tuple[str, str, dict[str, Any]]],
        received_at: datetime,
        *,
        told_since: datetime | None = None,
    ) -> None:
        """Keep Locations as they are now (party, location id, object); one that was told since ``told_since`` stays."""
        with self._connection.cursor() as cursor:
            cursor.executemany(
                """
                insert into raw.ocpi_location as known (feed_key, party, location_ref, document, received_at)
                values (%s, %s, %s, %s, %s)
                on conflict (feed_key, party, location_ref) do update set
                    document = excluded.document, received_at = excluded.received_at
                where known.document is distinct from excluded.document
                    and known.received_at < coalesce(%s::timestamptz, 'infinity')
                """,
                [
                    (self._feed_key, reference(party), reference(location_id), Jsonb(document), received_at, told_since)
                    for party, location_id, document in documents
                ],
            )

    def live_on(
        self, sign_from: datetime, sign_until: datetime, *, is_complete: bool = False, is_anew: bool = False
    ) -> None:
        """Prolong the feed's life by a sign of it. ``is_anew``: what was known before says nothing of what holds now."""
        self._connection.execute(
            statements.LIVE_ON,
            {
                "feed_key": self._feed_key,
                "sign_from": sign_from,
                "sign_until": sign_until,
                "is_complete": is_complete,
                "is_anew": is_anew,
                "liveness": self._liveness_seconds,
            },
        )

    def state_at(self, evse_key: int, at: datetime) -> tuple[datetime | None, str | None]:
        """When the word in force at ``at`` was told, and the word (``None``: absent); (``None``, ``None``) when nothing was told until then."""
        row = self._connection.execute(
            """
            select observed_at, status_word from raw.status_change
            where evse_key = %s and observed_at <= %s order by observed_at desc, change_key desc limit 1
            """,
            (evse_key, at),
        ).fetchone()
        return (None, None) if row is None else (row[0], row[1])

    def add_changes(self, changes: Iterable[Change], *, is_seen_by_polls: bool = False) -> None:
        """Store changes; one that is known already adds nothing.

        One that is older than a poll stored before ends at that poll, where what the poll told differs: that is stored again. Not with
        ``is_seen_by_polls``: then the polls told this very word, and only could not be read.
        """
        self._clear("incoming_change")
        with self._connection.cursor().copy(
            "copy incoming_change (evse_key, observed_at, status_word, received_at, source_updated_at) from stdin"
        ) as copy:
            for change in changes:
                copy.write_row(change)
        self._connection.execute(statements.DELETE_KNOWN_CHANGES)
        if not is_seen_by_polls:
            self._keep_what_polls_told()
        self._ensure_partitions("incoming_change", "observed_at", "observed_at")
        row = self._connection.execute(
            """
            with added as (
                insert into raw.status_change (
                    evse_key, observed_at, feed_key, status_word, status_profile, received_at, source_updated_at
                )
                select evse_key, observed_at, %s, status_word, %s, received_at, source_updated_at
                from incoming_change
                order by observed_at, position
                on conflict do nothing
                returning *
            ),

            -- Of what was stored, not of what was told: a change that is known already is no later than before.
            latest as (
                insert into raw.evse_latest as known (
                    evse_key, feed_key, status_word, status_profile, observed_at, received_at
                )
                select distinct on (evse_key)
                    evse_key, feed_key, status_word, status_profile, observed_at, received_at
                from added
                order by evse_key, observed_at desc, change_key desc
                on conflict (evse_key) do update set
                    status_word = excluded.status_word,
                    status_profile = excluded.status_profile,
                    observed_at = excluded.observed_at,
                    received_at = excluded.received_at
                where excluded.observed_at >= known.observed_at
            )

            select count(*) from added
            """,
            (self._feed_key, self._profile),
        ).fetchone()
        assert row is not None
        self.written.changes += row[0]

    def _keep_what_polls_told(self) -> None:
        polls = self._connection.execute(statements.INSERT_LATER_POLLS, {"feed_key": self._feed_key})
        if polls.rowcount:
            self._connection.execute(statements.REPEAT_WHAT_POLLS_TOLD)
            self._connection.execute("delete from later_poll")

    def add_contacts(self, contacts: Iterable[Contact]) -> None:
        """Store contacts; one that is known already adds nothing."""
        contacts = list(contacts)
        if not contacts:
            return
        self._clear("incoming_contact")
        with self._connection.cursor().copy("copy incoming_contact from stdin") as copy:
            for contact in contacts:
                copy.write_row(
                    (
                        contact.contact_from,
                        contact.contact_until,
                        contact.outcome.value,
                        contact.evse_count,
                        contact.body_sha256,
                        contact.detail,
                        contact.received_at,
                    )
                )
        self._ensure_partitions("incoming_contact", "contact_from", "contact_until")
        added = self._connection.execute(
            """
            insert into raw.feed_contact (
                feed_key, contact_from, contact_until, outcome, evse_count, body_sha256, detail, received_at
            )
            select %s, contact_from, contact_until, outcome, evse_count, body_sha256, detail, received_at
            from incoming_contact
            order by contact_from, contact_until
            on conflict do nothing
            """,
            (self._feed_key,),
        )
        self.written.contacts += added.rowcount

    def add_rejected(self, rejected: Iterable[Rejected], seen_at: datetime, *, is_from_poll: bool = False) -> None:
        """Quarantine records; one that still stands where it stood only moves its ``last_seen_at``."""
        rejected = list(rejected)
        if not rejected:
            return
        self._clear("incoming_rejected")
        with self._connection.cursor().copy(
            "copy incoming_rejected (source, record_ref, field, reason, payload, payload_sha256, context) from stdin"
        ) as copy:
            for record in rejected:
                copy.write_row(
                    (
                        _storable(record.source[:NAME_LIMIT]),
                        _storable(record.record_ref[:NAME_LIMIT]),
                        None if record.field is None else _storable(record.field[:NAME_LIMIT]),
                        _storable(cut(record.reason)),
                        _storable(cut(record.payload)),
                        hashlib.sha256(record.payload.encode("utf-8", "surrogatepass")).digest(),
                        None if record.context is None else _storable(cut(record.context)),
                    )
                )
        row = self._connection.execute(
            statements.STORE_REJECTED, {"feed_key": self._feed_key, "at": seen_at, "is_from_poll": is_from_poll}
        ).fetchone()
        assert row is not None
        self.written.quarantined += row[0]

    def close_rejected(self, contact_at: datetime) -> None:
        """Say of records of earlier full lists that are not rejected in this one that they are gone."""
        self._connection.execute(statements.CLOSE_REJECTED, {"feed_key": self._feed_key, "at": contact_at})

    def _clear(self, table: str) -> None:
        """Empty a temporary table that this transaction has used."""
        if table in self._used:
            self._connection.execute(f"truncate {table}")
        self._used.add(table)

    def _ensure_partitions(self, table: str, first: str, last: str) -> None:
        self._connection.execute(
            f"select raw.ensure_partitions(min({first}), max({last})) from {table} having count(*) > 0"
        )


def _storable(text: str) -> str:
    """Put U+FFFD where a character stood that no text of the database can hold: NUL, or half of a surrogate pair."""
    return _UNSTORABLE.sub("\ufffd", text)


def _document(told: Told) -> dict[str, str | None]:
    """What was told of an EVSE that nobody described, to be stored once somebody has."""
    observed_at = None if told.observed_at is None else told.observed_at.isoformat()
    return {"evse_ref": told.evse_ref, "status_word": told.status_word, "observed_at": observed_at}


_DESCRIBED = tuple(sorted(described.name for described in fields(Asset) if described.name != "valid_from"))


def _describe(asset: Asset) -> tuple[str, bytes]:
    """JSON document and hash of everything a description says, without when it became true."""
    document = {name: getattr(asset, name) for name in _DESCRIBED}
    document["power_kw"] = None if asset.power_kw is None else format(asset.power_kw.normalize(), "f")
    document["commissioned_on"] = None if asset.commissioned_on is None else asset.commissioned_on.isoformat()
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return text, hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
