"""What one transaction stores in ``raw.*``: descriptions, changes, contact, what could not be taken. By COPY, safe to repeat."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from ingestion import statements
from ingestion.model import (
    KEPT,
    Asset,
    Contact,
    Message,
    Outcome,
    Rejected,
    Told,
    cut,
    reference,
)
from ingestion.stream.mark import Mark, pack_things
from ingestion.times import EARLIEST, FUTURE_SKEW
from ingestion.told import Change, Life, Retold, changes_among, read_retold, write_retold

NAME_LIMIT = 500
"""Characters of a quarantined record's place; the key that finds it again cannot hold much more."""

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
            "select alive_from, complete_from from raw.feed_life where feed_key = %s and alive_from is not null",
            (self._feed_key,),
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
                        storable(record.source[:NAME_LIMIT]),
                        storable(record.record_ref[:NAME_LIMIT]),
                        None if record.field is None else storable(record.field[:NAME_LIMIT]),
                        storable(cut(record.reason)),
                        storable(cut(record.payload)),
                        hashlib.sha256(record.payload.encode("utf-8", "surrogatepass")).digest(),
                        None if record.context is None else storable(cut(record.context)),
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


def storable(text: str) -> str:
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
