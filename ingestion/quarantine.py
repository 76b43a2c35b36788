"""Records that could not be taken: list them, explain one, read them again after a mapping was mended, or dismiss them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from ingestion.batch import Batch, Written
from ingestion.config import CpoConfig
from ingestion.model import KEPT, Translated, is_cut
from ingestion.told import Change
from ingestion.writer import Writer

Retranslate = Callable[[str, str | None, CpoConfig, Mapping[str, set[str]]], Translated]
"""Read a payload with its context again, by the feed's present settings, given which EVSEs carry an id. Raises ``ValueError`` when that can't be done."""


class NotReplayableError(Exception):
    """A record can't be read again; the message says why, and what to do instead."""


@dataclass(frozen=True)
class Record:
    """A row of ``raw.quarantine``."""

    quarantine_key: int
    feed_id: str
    source: str
    record_ref: str
    field: str | None
    reason: str
    payload: str
    context: str | None
    occurrence: int
    is_from_poll: bool
    first_seen_at: datetime
    last_seen_at: datetime
    gone_at: datetime | None
    resolved_at: datetime | None
    resolution: str | None

    @property
    def line(self) -> str:
        """The record in one line, for a list."""
        state = self.resolution or ("open" if self.gone_at is None else "gone")
        place = " ".join(part for part in (self.source, self.record_ref, self.field) if part)
        return f"{self.quarantine_key}  {self.last_seen_at:%Y-%m-%d %H:%M:%S}  {self.feed_id}  {state}  {place}: {self.reason}"


_COLUMNS = """quarantine_key, feed_id, source, record_ref, field, reason, payload, context, occurrence, is_from_poll,
    first_seen_at, last_seen_at, gone_at, resolved_at, resolution"""


def find(
    connection: psycopg.Connection,
    *,
    cpo_id: str | None = None,
    keys: Iterable[int] = (),
    is_unresolved: bool = False,
    most: int | None = None,
) -> list[Record]:
    """Quarantined records, the one seen last first; ``keys``: these only."""
    with connection.cursor(row_factory=class_row(Record)) as cursor:
        return cursor.execute(
            f"""
            select {_COLUMNS}
            from raw.quarantine inner join raw.feed using (feed_key)
            where feed_id = coalesce(%(cpo_id)s, feed_id)
                and (%(keys)s::bigint[] = '{{}}' or quarantine_key = any(%(keys)s))
                and (resolved_at is null or not %(is_unresolved)s)
            order by last_seen_at desc, quarantine_key desc
            limit %(most)s
            """,
            {"cpo_id": cpo_id, "keys": list(keys), "is_unresolved": is_unresolved, "most": most},
        ).fetchall()


def explain(
    connection: psycopg.Connection, record: Record, config: CpoConfig, retranslate: Retranslate
) -> Iterator[str]:
    """Say in lines what stood where and why it was not taken, and what reading it again would do now."""
    yield record.line
    seen = f"seen from {record.first_seen_at:%Y-%m-%d %H:%M:%S} to {record.last_seen_at:%Y-%m-%d %H:%M:%S} UTC"
    yield f"  {seen}, occurrence {record.occurrence}"
    if record.gone_at is not None:
        yield f"  the full list of {record.gone_at:%Y-%m-%d %H:%M:%S} UTC did not hold it like this any more"
    if record.resolved_at is not None:
        yield f"  {record.resolution} at {record.resolved_at:%Y-%m-%d %H:%M:%S} UTC"
    for name, text in (("payload", record.payload), ("context", record.context)):
        if text is not None:
            yield f"  {name}:"
            yield from (f"    {line}" for line in _pretty(text).splitlines())
    with Writer(connection, config).batch() as batch:
        known = batch.evses_by_id()
    try:
        translated = _read_again(record, config, retranslate, known)
    except NotReplayableError as reason:
        yield f"  replay: {reason}"
        return
    for rejected in translated.rejected:
        yield f"  replay: is still rejected: {rejected.field or 'record'}: {rejected.reason}"
    for evse_ref, (word, _) in translated.statuses.items():
        yield f"  replay: would store {evse_ref} as {word} since {record.first_seen_at:%Y-%m-%d %H:%M:%S} UTC"


def replay(
    connection: psycopg.Connection,
    config: CpoConfig,
    records: Iterable[Record],
    retranslate: Retranslate,
    now: datetime,
    report: Callable[[str], None],
) -> Written:
    """Read records again, each in a transaction of its own, and store what can be taken now, for the time in which they stood there.

    A record that is rejected again stays, and is reported with the reason of now.
    """
    writer = Writer(connection, config)
    total = Written()
    for record in sorted(records, key=lambda record: (record.first_seen_at, record.quarantine_key)):
        try:
            with writer.batch() as batch:
                _replay(batch, record, config, retranslate)
                resolve(connection, [record.quarantine_key], "replayed", now)
        except NotReplayableError as reason:
            report(f"{record.quarantine_key} stays: {reason}")
            continue
        report(f"{record.quarantine_key} replayed: {batch.written}")
        total += batch.written
    return total


def _replay(batch: Batch, record: Record, config: CpoConfig, retranslate: Retranslate) -> None:
    """Store what a record says. Raises ``NotReplayableError`` when it can't be taken."""
    translated = _read_again(record, config, retranslate, batch.evses_by_id())
    if translated.rejected and not translated.statuses:
        rejected = translated.rejected[0]
        raise NotReplayableError(f"{rejected.field or 'record'}: {rejected.reason}")
    batch.add_assets(translated.assets, record.first_seen_at, is_whole_evse=False)
    keys = batch.evse_keys()
    unknown = [evse_ref for evse_ref in translated.statuses if evse_ref not in keys]
    if unknown:
        raise NotReplayableError(f"nobody has described {', '.join(unknown)} yet")
    for evse_ref, (word, told_at) in translated.statuses.items():
        _store(batch, record, keys[evse_ref], word, told_at)


def resolve(connection: psycopg.Connection, keys: Iterable[int], resolution: str, now: datetime) -> int:
    """Mark records as done; return how many were open."""
    done = connection.execute(
        "update raw.quarantine set resolved_at = %s, resolution = %s where quarantine_key = any(%s) and resolved_at is null",
        (now, resolution, list(keys)),
    )
    return done.rowcount


def _store(batch: Batch, record: Record, evse_key: int, word: str, told_at: datetime | None) -> None:
    """Store the word for the time in which it stood there: from the first full list that held it to the first that did not."""
    if not record.is_from_poll:
        batch.add_changes([Change(evse_key, told_at or record.first_seen_at, word, record.first_seen_at, told_at)])
        return
    changes = [Change(evse_key, record.first_seen_at, word, record.first_seen_at, told_at)]
    if record.gone_at is not None:
        observed_at, before = batch.state_at(evse_key, record.gone_at)
        # Otherwise something was told of it since, which ends what is stored now.
        if observed_at is None or observed_at <= record.first_seen_at:
            changes.append(Change(evse_key, record.gone_at, before, record.gone_at, None))
    # The polls in this time told this very word: nothing of them is to be repeated.
    batch.add_changes(changes, is_seen_by_polls=True)


def _read_again(
    record: Record, config: CpoConfig, retranslate: Retranslate, known: Mapping[str, set[str]]
) -> Translated:
    if record.resolved_at is not None:
        raise NotReplayableError(f"it was {record.resolution} already")
    if record.reason.startswith(KEPT):
        raise NotReplayableError(
            "the record itself went in, only this field is missing or was replaced; nothing is to be replayed"
        )
    if is_cut(record.payload) or (record.context is not None and is_cut(record.context)):
        raise NotReplayableError("its payload was too long to be kept whole; wait for the feed to tell it again")
    try:
        told = json.loads(record.context or "{}").get("told")
        if told is not None:
            observed_at = told["observed_at"] and datetime.fromisoformat(told["observed_at"])
            return Translated((), {told["evse_ref"]: (told["status_word"], observed_at)}, ())
        return retranslate(record.payload, record.context, config, known)
    except ValueError as error:
        raise NotReplayableError(f"it can't be read again: {error}") from error


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
