"""Which files of a folder or object store are a feed's, of what time one speaks, and what it says. Stores nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from ingestion.config import FileDropFeed
from ingestion.files.records import FileDropError, Record, payload_of, read_records
from ingestion.mapping import resolve, translate_records, translate_status_records
from ingestion.model import Asset, FeedError, Message, Poll, Rejected, Told
from ingestion.times import EARLIEST, FUTURE_SKEW
from ingestion.values import payload_text
from warehouse.object_store import ObjectStore, StoredObject, open_store

UNFINISHED = (".part", ".partial", ".filepart", ".crdownload", ".tmp")
"""Ends of names of files that are still written."""
PACKED = (".gz", ".xz", ".bz2")
REJECTED = "rejected"
"""The folder of files that were refused."""


def open_drop(feed: FileDropFeed) -> ObjectStore:
    """The place where the files are left. Raises ``FeedError``, ``ObjectStoreError``."""
    parts = urlsplit(feed.url)
    # A folder that is not there is one that is not mounted: not to be made anew.
    if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
        raise FeedError(f"no such folder: {unquote(parts.path)}")
    return open_store(feed.url)


def files_of(feed: FileDropFeed, store: ObjectStore) -> list[StoredObject]:
    """The feed's files, by path, but for those whose names say that they are still written. Raises ``ObjectStoreError``."""
    return [one for one in store.objects() if _is_ours(one.path, feed)]


def _is_ours(path: str, feed: FileDropFeed) -> bool:
    parts = PurePosixPath(path).parts
    is_hidden = any(part.startswith(".") for part in parts) or path.casefold().endswith(UNFINISHED)
    return not is_hidden and parts[0] != REJECTED and fnmatchcase(parts[-1], feed.pattern)


def time_of(found: StoredObject, feed: FileDropFeed) -> datetime:
    """The time that a file speaks of (of ``record``: when it was modified). Raises ``FileDropError``."""
    if feed.name_time is None:
        return found.modified_at
    name = PurePosixPath(found.path).name
    names = [name] + [name.removesuffix(ending) for ending in PACKED if name.endswith(ending)]
    for candidate in names:
        try:
            at = datetime.strptime(candidate, feed.name_time)  # noqa: DTZ007
        except ValueError:
            continue
        return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(feed.naive_time_zone))).astimezone(UTC)
    raise FileDropError(f"its name does not read as {feed.name_time}")


def must_be_possible(at: datetime, feed: FileDropFeed, now: datetime) -> None:
    """Raises ``FileDropError`` for a file of a time that cannot be."""
    if feed.observed_at != "record" and not EARLIEST <= at <= now + FUTURE_SKEW:
        raise FileDropError(f"its time {at.isoformat()} cannot be")


def read_list(local: Path, feed: FileDropFeed, known: Mapping[str, set[str]], sha256: bytes | None = None) -> Poll:
    """A file that lists every EVSE, as a poll. Raises ``FileDropError`` when it breaks off, or is not what it should be.

    ``known``: of `mapping.resolve`, where EVSEs are described elsewhere.
    """
    source = f"{feed.format} file"
    malformed: list[Rejected] = []

    def raws() -> Iterator[object]:
        for record in read_records(local, feed):
            if record.problem is None:
                yield record.raw
            else:
                malformed.append(_malformed(record, source))

    if feed.mapping is not None:
        read = translate_records(raws(), feed.mapping, feed, source)
        assets, statuses, rejected = read.assets, read.statuses, list(read.rejected)
        evse_count = read.evse_count
    else:
        assert feed.status_mapping is not None
        told = translate_status_records(raws(), feed.status_mapping, feed, source)
        found, unknown = resolve(told, known)
        assets, statuses = (), {ref: (one.word, one.updated_at) for ref, one in found}
        rejected = [*told.rejected, *unknown]
        evse_count = told.count
    return Poll(sha256, assets=assets, statuses=statuses, evse_count=evse_count, rejected=(*malformed, *rejected))


def read_some(
    records: Iterable[Record], path: str, at: datetime, feed: FileDropFeed, known: Mapping[str, set[str]]
) -> Message:
    """Records of a file that tells of some EVSEs, true at ``at`` where they have no time of their own; ``known`` as of `read_list`."""
    observed_at = None if feed.observed_at == "record" else at
    assets: dict[tuple[str, str], Asset] = {}
    told: list[Told] = []
    rejected: list[Rejected] = []
    for record in records:
        payload = payload_text(record.raw)
        bad: list[Rejected] = []
        if record.problem is not None:
            bad.append(_malformed(record, path))
        elif feed.mapping is not None:
            read = translate_records([record.raw], feed.mapping, feed, path)
            assets |= {(one.evse_ref, one.connector_ref): one for one in read.assets}
            statuses = [(ref, word, updated_at) for ref, (word, updated_at) in read.statuses.items()]
            bad += read.rejected
        else:
            assert feed.status_mapping is not None
            words = translate_status_records([record.raw], feed.status_mapping, feed, path)
            found, unknown = resolve(words, known)
            statuses = [(ref, one.word, one.updated_at) for ref, one in found]
            bad += [*words.rejected, *unknown]
        if record.problem is None:
            for ref, word, updated_at in statuses:
                if observed_at is None and updated_at is None:
                    bad.append(Rejected(path, ref, "updated_at", "no time: it is not known since when", payload))
                else:
                    told.append(Told(ref, word, observed_at or updated_at, payload))
        rejected += [replace(one, record_ref=f"record {record.number}: {one.record_ref}") for one in bad]
    is_whole_evse = feed.mapping is not None and feed.mapping.connectors is not None
    return Message(path, tuple(assets.values()), tuple(told), tuple(rejected), is_whole_evse)


def in_file(rejected: Iterable[Rejected], path: str, local: Path, feed: FileDropFeed) -> Iterator[Rejected]:
    """Say in which file a record stood, and where; its place in the quarantine is the same for each file, since each lists everything anew."""
    rejected = list(rejected)
    numbers = _numbers(local, feed, {one.payload for one in rejected})
    for one in rejected:
        number = numbers.get(one.payload)
        where = path if number is None else f"{path}, record {number}"
        yield replace(one, reason=f"{one.reason} ({where})")


def _numbers(local: Path, feed: FileDropFeed, payloads: set[str]) -> dict[str, int]:
    """Where records stand in the file, by their text: record numbers."""
    if not payloads:
        return {}
    texts = ((payload_text(record.raw), record.number) for record in read_records(local, feed))
    return {text: number for text, number in texts if text in payloads}


def _malformed(record: Record, source: str) -> Rejected:
    return Rejected(source, f"record {record.number}", None, record.problem or "", payload_of(record))
