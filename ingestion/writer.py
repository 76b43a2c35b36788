"""The one way into ``raw.*``: a transaction per poll or per file, by COPY, safe to repeat.

Changes are written against what was in force at their own time, so that overlapping collectors, retries and late answers
add nothing that was already known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

import psycopg
from psycopg.pq import TransactionStatus

from ingestion import statements
from ingestion.batch import Batch, Written, storable
from ingestion.config import CpoConfig, OcpiPushFeed, StreamSettings
from ingestion.model import (
    Contact,
    FeedError,
    Message,
    Outcome,
    Poll,
    cut,
)
from ingestion.stream.mark import Mark, unpack_things
from warehouse.object_store import StoredObject

_TURN = 0x5754
"""Key of the locks that say which collector of a stream or of files is at work; the second key is the feed's."""


def register_feed(connection: psycopg.Connection, config: CpoConfig) -> int:
    """Write the feed's settings in force; return its key."""
    feed = config.feed
    with connection.transaction():
        row = connection.execute(
            """
            insert into raw.feed as known (
                feed_id, cpo_id, cpo_name, kind, protocol_version, status_profile, poll_seconds, liveness_seconds, ended_at,
                has_virtual_evses
            )
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            on conflict (feed_id) do update set
                cpo_name = excluded.cpo_name,
                kind = excluded.kind,
                protocol_version = excluded.protocol_version,
                status_profile = excluded.status_profile,
                poll_seconds = excluded.poll_seconds,
                liveness_seconds = excluded.liveness_seconds,
                ended_at = excluded.ended_at,
                has_virtual_evses = excluded.has_virtual_evses,
                settings_changed_at = case
                    when (known.liveness_seconds, known.ended_at, known.has_virtual_evses)
                        is distinct from (excluded.liveness_seconds, excluded.ended_at, excluded.has_virtual_evses)
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
                feed.virtual_evses,
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
                [Contact(contact_from, contact_until, outcome, contact_until, detail=detail and storable(detail[:500]))]
            )
            if outcome is Outcome.LOST:
                batch.live_on(contact_until, contact_until, is_anew=True)
            else:
                batch.live_on(contact_from, contact_until)
        return batch.written

    def write_failure(self, contact_at: datetime, received_at: datetime, detail: str) -> Written:
        """Store that the feed was asked and did not answer in full."""
        with self.batch() as batch:
            detail = storable(detail[:500])
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
                    detail and storable(cut(detail)), received_at,
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
                insert into raw.feed_life as known (feed_key, reconcile_wanted_at) values (%(feed_key)s, %(at)s)
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
