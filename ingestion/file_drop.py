"""Take the files that a CPO leaves in a folder or object store: each once, in the order of their own times.

A look lists what is there, and takes what has a receipt neither by name and time nor by content, in one transaction with its receipt. Files that list every
EVSE are polls at their own time: there one more file with the same content is one more contact. A file that cannot be taken is set aside below ``rejected/``
with a report beside it; it keeps no other waiting.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Literal

from ingestion.batch import Written
from ingestion.collector import Clock, SystemClock, next_on_grid
from ingestion.config import CpoConfig, FileDropFeed
from ingestion.files.reading import (
    REJECTED,
    files_of,
    in_file,
    must_be_possible,
    open_drop,
    read_list,
    read_some,
    time_of,
)
from ingestion.files.records import FileDropError, read_records
from ingestion.model import FeedError, Rejected
from ingestion.writer import Writer
from warehouse.connection import Role, connect, var_dir
from warehouse.object_store import ObjectStore, ObjectStoreError, StoredObject
from warehouse.strict_yaml import ConfigError

SETTLED = timedelta(seconds=10)
"""A file that changed within this time may still be written."""
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
            store = open_drop(self._feed)
            for file in self._ready(store, looked_at):
                self._take(store, file)
        except (FeedError, ObjectStoreError) as error:
            self._totals.failed_looks += 1
            self._totals.written += self._writer.write_failure(looked_at, self._clock.now(), str(error))
            self._report(f"{looked_at:%H:%M:%S} failed: {error}")
        finally:
            self._writer.give_up_turn()

    def _ready(self, store: ObjectStore, now: datetime) -> list[_File]:
        """Files without a receipt that nobody writes any more, in the order of their times."""
        listed = files_of(self._feed, store)
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
                files.append(_File(one, time_of(one, self._feed)))
            except FileDropError as error:
                self._refuse(store, one, hashlib.sha256(store.get(one.path)).digest(), error)
        return sorted(files, key=lambda file: (file.at, file.found.path))

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
                must_be_possible(file.at, self._feed, now)
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
        known = {} if self._feed.mapping is not None else self._writer.evses_by_id()
        poll = read_list(local, self._feed, known, sha256)
        if not poll.statuses:
            raise FileDropError("lists no EVSE that can be read", poll.rejected)
        located = tuple(in_file(poll.rejected, file.found.path, local, self._feed))
        try:
            written = self._writer.write_poll(replace(poll, rejected=located), file.at, now)
        except FeedError as error:
            # Too short to be believed.
            raise FileDropError(str(error), poll.rejected) from error
        assert written is not None
        return written

    def _store_some(self, file: _File, local: Path, now: datetime) -> Written:
        """A file that tells of some EVSEs: messages, some thousand records at a time."""
        records = read_records(local, self._feed)
        is_readable = False
        rejected: list[Rejected] = []
        with self._writer.batch() as batch:
            while chunk := list(islice(records, RECORDS_AT_A_TIME)):
                known = {} if self._feed.mapping is not None else batch.evses_by_id()
                message = read_some(chunk, file.found.path, file.at, self._feed, known)
                # An EVSE that nobody has described yet is one that can be read.
                bad = [one for one in message.rejected if one.field != "evse_id"]
                is_readable = is_readable or len({one.record_ref for one in bad}) < len(chunk)
                rejected += bad[: SHOWN_RECORDS - len(rejected)]
                batch.add_messages([(message, now)])
            if not is_readable:
                raise FileDropError("holds no record that can be read", rejected)
        return batch.written

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
