"""Take the files that a CPO leaves in a folder or object store: each once, in the order of their own times.

A look lists what is there, and takes what has a receipt neither by name and time nor by content, in one transaction with its receipt. Files that list every
EVSE are polls at their own time: there one more file with the same content is one more contact. A file that cannot be taken is set aside below ``rejected/``
with a report beside it; it keeps no other waiting.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from ingestion.batch import Batch, Written
from ingestion.collector import Clock, SystemClock, next_on_grid
from ingestion.config import CpoConfig, FileDropFeed
from ingestion.files.records import FileDropError, Record, payload_of, read_records
from ingestion.mapping import resolve, translate_records, translate_status_records
from ingestion.model import Asset, FeedError, Message, Poll, Rejected, Told
from ingestion.times import EARLIEST, FUTURE_SKEW
from ingestion.values import payload_text
from ingestion.writer import Writer
from warehouse.connection import Role, connect, var_dir
from warehouse.object_store import ObjectStore, ObjectStoreError, StoredObject, open_store
from warehouse.strict_yaml import ConfigError

SETTLED = timedelta(seconds=10)
"""A file that changed within this time may still be written."""
UNFINISHED = (".part", ".partial", ".filepart", ".crdownload", ".tmp")
"""Ends of names of files that are still written."""
PACKED = (".gz", ".xz", ".bz2")
REJECTED = "rejected"
"""The folder of files that were refused."""
RECORDS_AT_A_TIME = 2_000
SHOWN_RECORDS = 20
"""Bad records that the report of a refused file shows."""

Report = Callable[[str], None]
Settled = dict[str, tuple[int, datetime, datetime]]
"""Of each path: size and time when it was last listed, and since when it has been listed so."""


@dataclass
class FileTotals:
    """What one window found."""

    looks: int = 0
    failed_looks: int = 0
    taken: int = 0
    repeated: int = 0
    refused: int = 0
    waiting: int = 0
    """Files that may still be written, at the last look."""
    written: Written = field(default_factory=Written)

    def failure(self) -> str | None:
        """Why the window was in vain, if it was."""
        is_vain = self.failed_looks and self.failed_looks == self.looks
        return f"none of {self.looks} looks succeeded; see above" if is_vain else None

    def __str__(self) -> str:
        return (
            f"{self.looks} looks ({self.failed_looks} failed): {self.taken} files taken, {self.repeated} repeated, {self.refused} refused, "
            f"{self.waiting} waiting; {self.written}"
        )


@dataclass(frozen=True, slots=True)
class _File:
    """A file that is ready: where it lies, and the time it speaks of (of ``record``: when it was modified)."""

    found: StoredObject
    at: datetime


def collect_files(config: CpoConfig, *, seconds: float, report: Report, clock: Clock | None = None) -> FileTotals:
    """Look every ``poll_seconds`` for ``seconds`` (at least once), on the clock's grid. Returns what was found.

    A look that fails is stored as a failed contact and reported; the window goes on.
    """
    if not isinstance(config.feed, FileDropFeed):
        raise ConfigError(f"{config.cpo_id}: a feed of kind {config.feed.kind} drops no files")
    clock = clock or SystemClock()
    end = clock.now() + timedelta(seconds=seconds)
    step = timedelta(seconds=config.feed.poll_seconds)
    totals = FileTotals()
    with connect(Role.INGEST) as connection:
        drop = _Drop(config.feed, Writer(connection, config), clock, totals, report)
        while True:
            drop.look()
            following = next_on_grid(clock.now(), step)
            if following >= end:
                return totals
            clock.wait_until(following)


class _Drop:
    """One feed's files."""

    def __init__(self, feed: FileDropFeed, writer: Writer, clock: Clock, totals: FileTotals, report: Report) -> None:
        self._feed, self._writer, self._clock = feed, writer, clock
        self._totals, self._report = totals, report
        self._listed: Settled = {}

    def look(self) -> None:
        """Take every file that waits; nothing while another window's look is at work."""
        if not self._writer.take_turn():
            return
        looked_at = self._clock.now()
        self._totals.looks += 1
        try:
            store = self._open()
            for file in self._ready(store, looked_at):
                self._take(store, file)
        except (FeedError, ObjectStoreError) as error:
            self._totals.failed_looks += 1
            self._totals.written += self._writer.write_failure(looked_at, self._clock.now(), str(error))
            self._report(f"{looked_at:%H:%M:%S} failed: {error}")
        finally:
            self._writer.give_up_turn()

    def _open(self) -> ObjectStore:
        parts = urlsplit(self._feed.url)
        # A folder that is not there is one that is not mounted: not to be made anew.
        if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
            raise FeedError(f"no such folder: {unquote(parts.path)}")
        return open_store(self._feed.url)

    def _ready(self, store: ObjectStore, now: datetime) -> list[_File]:
        """Files without a receipt that nobody writes any more, in the order of their times."""
        listed = [one for one in store.objects() if self._is_ours(one.path)]
        with_receipt = self._writer.file_receipts([one.path for one in listed])
        fresh = [one for one in listed if (one.path, one.byte_count, one.modified_at) not in with_receipt]
        before, self._listed = self._listed, {}
        ready = []
        for one in fresh:
            size, modified_at, since = before.get(one.path, (one.byte_count, one.modified_at, now))
            if (size, modified_at) != (one.byte_count, one.modified_at):
                since = now
            self._listed[one.path] = (one.byte_count, one.modified_at, since)
            # By the store's clock, or, should that be ahead of ours, by what we have seen.
            if now - one.modified_at >= SETTLED or now - since >= SETTLED:
                ready.append(one)
        self._totals.waiting = len(fresh) - len(ready)
        files = []
        for one in ready:
            try:
                files.append(_File(one, self._time_of(one)))
            except FileDropError as error:
                self._refuse(store, one, hashlib.sha256(store.get(one.path)).digest(), error)
        return sorted(files, key=lambda file: (file.at, file.found.path))

    def _is_ours(self, path: str) -> bool:
        parts = PurePosixPath(path).parts
        is_hidden = any(part.startswith(".") for part in parts) or path.casefold().endswith(UNFINISHED)
        return not is_hidden and parts[0] != REJECTED and fnmatchcase(parts[-1], self._feed.pattern)

    def _time_of(self, found: StoredObject) -> datetime:
        """The time that a file speaks of. Raises ``FileDropError``."""
        if self._feed.name_time is None:
            return found.modified_at
        name = PurePosixPath(found.path).name
        names = [name] + [name.removesuffix(ending) for ending in PACKED if name.endswith(ending)]
        for candidate in names:
            try:
                at = datetime.strptime(candidate, self._feed.name_time)  # noqa: DTZ007
            except ValueError:
                continue
            return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(self._feed.naive_time_zone))).astimezone(UTC)
        raise FileDropError(f"its name does not read as {self._feed.name_time}")

    def _take(self, store: ObjectStore, file: _File) -> None:
        """Take one file, or set it aside."""
        found, now = file.found, self._clock.now()
        folder = var_dir() / "file_drop"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            local = Path(temporary) / "file"
            try:
                downloaded = store.download(found.path, local)
            except FileNotFoundError:
                return
            if (downloaded.byte_count, downloaded.modified_at) != (found.byte_count, found.modified_at):
                # It has been written again since: the next look takes it.
                return
            with local.open("rb") as content:
                sha256 = hashlib.file_digest(content, "sha256").digest()
            try:
                if self._feed.observed_at != "record" and not EARLIEST <= file.at <= now + FUTURE_SKEW:
                    raise FileDropError(f"its time {file.at.isoformat()} cannot be")
                outcome, written = self._store(file, sha256, local, now)
            except FileDropError as error:
                self._refuse(store, found, sha256, error)
                return
        self._totals.written += written
        self._totals.taken += outcome == "taken"
        self._totals.repeated += outcome == "repeated"
        self._report(f"{found.path}: {outcome}: {written}")

    def _store(
        self, file: _File, sha256: bytes, local: Path, now: datetime
    ) -> tuple[Literal["taken", "repeated"], Written]:
        """Content and receipt in one transaction. Raises ``FileDropError`` when nothing of it can be taken."""
        with self._writer.transaction():
            earlier = self._writer.times_of_content(sha256)
            is_known = file.at in earlier if self._feed.is_complete else bool(earlier)
            if is_known:
                self._writer.keep_file_receipt(file.found, file.at, sha256, "repeated", None, now)
                return "repeated", Written()
            written = (
                self._store_list(file, sha256, local, now)
                if self._feed.is_complete
                else self._store_some(file, local, now)
            )
            self._writer.keep_file_receipt(file.found, file.at, sha256, "taken", None, now)
            return "taken", written

    def _store_list(self, file: _File, sha256: bytes, local: Path, now: datetime) -> Written:
        """A file that lists every EVSE: a poll at its time."""
        source = f"{self._feed.format} file"
        malformed: list[Rejected] = []

        def raws() -> Iterator[object]:
            for record in read_records(local, self._feed):
                if record.problem is None:
                    yield record.raw
                else:
                    malformed.append(_malformed(record, source))

        if self._feed.mapping is not None:
            read = translate_records(raws(), self._feed.mapping, self._feed, source)
            assets, statuses, rejected = read.assets, read.statuses, list(read.rejected)
            evse_count = read.evse_count
        else:
            assert self._feed.status_mapping is not None
            told = translate_status_records(raws(), self._feed.status_mapping, self._feed, source)
            found, unknown = resolve(told, self._writer.evses_by_id())
            assets, statuses = (), {ref: (one.word, one.updated_at) for ref, one in found}
            rejected = [*told.rejected, *unknown]
            evse_count = told.count
        if not statuses:
            raise FileDropError("lists no EVSE that can be read", malformed + rejected)
        poll = Poll(
            sha256,
            assets=assets,
            statuses=statuses,
            evse_count=evse_count,
            rejected=tuple(_in_file(malformed + rejected, file.found.path, self._numbers(local, rejected))),
        )
        try:
            written = self._writer.write_poll(poll, file.at, now)
        except FeedError as error:
            # Too short to be believed.
            raise FileDropError(str(error), rejected) from error
        assert written is not None
        return written

    def _numbers(self, local: Path, rejected: list[Rejected]) -> dict[str, int]:
        """Where the payloads of rejected records stand in the file: record numbers."""
        wanted = {one.payload for one in rejected}
        if not wanted:
            return {}
        texts = ((payload_text(record.raw), record.number) for record in read_records(local, self._feed))
        return {text: number for text, number in texts if text in wanted}

    def _store_some(self, file: _File, local: Path, now: datetime) -> Written:
        """A file that tells of some EVSEs: messages, some thousand records at a time."""
        records = read_records(local, self._feed)
        is_readable = False
        rejected: list[Rejected] = []
        with self._writer.batch() as batch:
            while chunk := list(islice(records, RECORDS_AT_A_TIME)):
                message = self._message(batch, chunk, file)
                # An EVSE that nobody has described yet is one that can be read.
                bad = [one for one in message.rejected if one.field != "evse_id"]
                is_readable = is_readable or len({one.record_ref for one in bad}) < len(chunk)
                rejected += bad[: SHOWN_RECORDS - len(rejected)]
                batch.add_messages([(message, now)])
            if not is_readable:
                raise FileDropError("holds no record that can be read", rejected)
        return batch.written

    def _message(self, batch: Batch, chunk: list[Record], file: _File) -> Message:
        path = file.found.path
        at = None if self._feed.observed_at == "record" else file.at
        assets: dict[tuple[str, str], Asset] = {}
        told: list[Told] = []
        rejected: list[Rejected] = []
        known = batch.evses_by_id() if self._feed.status_mapping is not None else {}
        for record in chunk:
            payload = payload_text(record.raw)
            bad: list[Rejected] = []
            if record.problem is not None:
                bad.append(_malformed(record, path))
            elif self._feed.mapping is not None:
                read = translate_records([record.raw], self._feed.mapping, self._feed, path)
                assets |= {(one.evse_ref, one.connector_ref): one for one in read.assets}
                statuses = [(ref, word, updated_at) for ref, (word, updated_at) in read.statuses.items()]
                bad += read.rejected
            else:
                assert self._feed.status_mapping is not None
                words = translate_status_records([record.raw], self._feed.status_mapping, self._feed, path)
                found, unknown = resolve(words, known)
                statuses = [(ref, one.word, one.updated_at) for ref, one in found]
                bad += [*words.rejected, *unknown]
            if record.problem is None:
                for ref, word, updated_at in statuses:
                    if at is None and updated_at is None:
                        bad.append(Rejected(path, ref, "updated_at", "no time: it is not known since when", payload))
                    else:
                        told.append(Told(ref, word, at or updated_at, payload))
            rejected += [replace(one, record_ref=f"record {record.number}: {one.record_ref}") for one in bad]
        is_whole_evse = self._feed.mapping is not None and self._feed.mapping.connectors is not None
        return Message(path, tuple(assets.values()), tuple(told), tuple(rejected), is_whole_evse)

    # What is refused

    def _refuse(self, store: ObjectStore, found: StoredObject, sha256: bytes, why: FileDropError) -> None:
        """Keep a receipt, move the file below ``rejected/``, and say why beside it."""
        now = self._clock.now()
        self._totals.refused += 1
        place = f"{REJECTED}/{sha256.hex()[:12]}/{found.path}"
        self._report(f"{found.path}: refused: {why}; see {store.locate(place)}")
        self._writer.keep_file_receipt(found, found.modified_at, sha256, "refused", str(why), now)
        explained = {
            "file": found.path,
            "sha256": sha256.hex(),
            "byte_count": found.byte_count,
            "refused_at": now.isoformat(),
            "why": str(why),
            "first_bad_records": [asdict(one) for one in why.rejected[:SHOWN_RECORDS]],
        }
        try:
            store.overwrite(f"{place}.report.json", json.dumps(explained, indent=2, ensure_ascii=False).encode())
            store.move(found.path, place)
        except ObjectStoreError as error:
            # It has its receipt: it stays where it is and is not looked at again.
            self._report(f"{found.path}: could not be set aside: {error}")


def _malformed(record: Record, source: str) -> Rejected:
    return Rejected(source, f"record {record.number}", None, record.problem or "", payload_of(record))


def _in_file(rejected: list[Rejected], path: str, numbers: dict[str, int]) -> Iterator[Rejected]:
    """Say in which file a record stood; its place in the quarantine is the same for each file, since each lists everything anew."""
    for one in rejected:
        number = numbers.get(one.payload)
        where = path if number is None else f"{path}, record {number}"
        yield replace(one, reason=f"{one.reason} ({where})")
