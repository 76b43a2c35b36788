"""What a feed's settings make of its answer, without storing anything: for whoever adds a CPO."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.collector import SystemClock
from ingestion.config import (
    CpoConfig,
    FileDropFeed,
    HistoryFeed,
    OcpiPullFeed,
    OcpiPushFeed,
    RestPullFeed,
    RestPushFeed,
    StreamSettings,
)
from ingestion.feeds import Stream, open_polled, open_stream
from ingestion.mapping import (
    NoListError,
    join,
    records,
    refs_by_id,
    resolve,
    translate_records,
    translate_status_records,
)
from ingestion.model import Asset, FeedError, Poll, Rejected, Status, Translated
from ingestion.settings import status_profiles
from ingestion.stream.pace import Pace
from ingestion.values import parse_json
from warehouse.strict_yaml import ConfigError

if TYPE_CHECKING:
    from ingestion.stream.listener import Event


def findings(config: CpoConfig, seconds: float) -> Iterator[str]:
    """Ask the feed once, listen to it for ``seconds``, or read its newest file; lines for people.

    Raises ``FeedError`` when it does not answer in full, ``ConfigError`` when it is not one that can be asked.
    """
    feed = config.feed
    if isinstance(feed, RestPushFeed):
        raise ConfigError(
            f"{config.cpo_id}: a feed of kind rest_push is not asked, it posts. Try it with `python -m ingestion tokens issue --cpo {config.cpo_id}` and"
            " `python -m ingestion serve`: the answer to a post has a verdict for each record (see docs/push.md)"
        )
    if isinstance(feed, HistoryFeed):
        raise ConfigError(
            f"{config.cpo_id}: a feed of kind history is not asked, its files are handed over. Try them with `python -m ingestion import-history --cpo"
            f" {config.cpo_id}`: it stores what can be taken, and says what cannot (see docs/history-files.md)"
        )
    if isinstance(feed, StreamSettings):
        yield from _listen(config, feed, seconds)
    elif isinstance(feed, FileDropFeed):
        yield from _read_newest(config, feed)
    else:
        yield from describe(config, _ask_once(config))
    if isinstance(feed, OcpiPushFeed):
        yield (
            f"this is the full list by which the feed is reconciled; try what it pushes with `python -m ingestion register --cpo {config.cpo_id}` while"
            " `python -m ingestion serve` runs (see docs/push.md)"
        )


def _ask_once(config: CpoConfig) -> Poll:
    """Raises ``FeedError`` when the feed does not answer in full."""
    feed = open_polled(config)
    try:
        return feed.poll()
    finally:
        feed.close()


class _AsTold(Mapping[str, set[str]]):
    """Every id is that of one EVSE: nothing here says which there are, where they are described another way."""

    def __getitem__(self, evse_id: str) -> set[str]:
        return {evse_id}

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _listen(config: CpoConfig, feed: StreamSettings, seconds: float) -> Iterator[str]:
    """Listen, and say what was heard."""
    from ingestion.stream.frames import FrameReader
    from ingestion.stream.listener import Broke, Heard

    asked, events = _hear(config, seconds)
    reader = FrameReader(feed)
    messages = [reader.read(event.frame.data) for event in events if isinstance(event, Heard)]
    every = [said for message in messages for said in message]
    lists = sum(said.list_sha256 is not None for said in every)
    empty = sum(not (said.described.evse_count or said.described.rejected or said.statuses.count) for said in every)
    yield (
        f"{config.cpo_id}: {len(messages)} messages in {seconds:g} s"
        + (f", {lists} of them with every EVSE (snapshot_when)" if feed.snapshot_when is not None else "")
        + f", {empty} of them without anything that is read"
    )
    for event in events:
        if isinstance(event, Broke):
            yield f"the connection broke: {event.reason}"
    described = [asked, *(said.described for said in every)]
    assets = {(one.evse_ref, one.connector_ref): one for read in described for one in read.assets}
    known = _AsTold() if feed.mapping is None else refs_by_id(assets.values())
    statuses: dict[str, Status] = {**asked.statuses}
    rejected: list[Rejected] = [*asked.rejected]
    for said in every:
        found, unknown = resolve(said.statuses, known)
        statuses |= said.described.statuses | {ref: (one.word, one.updated_at) for ref, one in found}
        rejected += [*said.described.rejected, *said.statuses.rejected, *unknown]
    yield from describe(config, Poll(None, assets=tuple(assets.values()), statuses=statuses, rejected=tuple(rejected)))


def _hear(config: CpoConfig, seconds: float) -> tuple[Translated, list[Event]]:
    """Connect, ask for the list that the file names, and hear what is told for ``seconds``. Raises ``FeedError``."""
    from ingestion.stream.listener import Connected, Listener, Refused

    pace = Pace()
    clock = SystemClock()
    stream = open_stream(config, clock.now, pace)
    listener = Listener(stream.feed, clock.now, pace, "")
    listener.start()
    try:
        events = listener.buffer.take(2 * pace.open_seconds, 1)
        for event in events:
            if isinstance(event, Refused):
                raise FeedError(event.reason)
        asked = _list_of(stream)
        events += listener.buffer.take(seconds, sys.maxsize)
    finally:
        listener.stop()
        stream.close()
    if listener.crash is not None:
        raise listener.crash
    if not any(isinstance(event, Connected) for event in events):
        raise FeedError(f"no connection within {2 * pace.open_seconds:g} s")
    return asked, events


def _list_of(stream: Stream) -> Translated:
    """What is asked for beside the stream: every EVSE with its status, or what the EVSEs are, or nothing. Raises ``FeedError``."""
    if stream.snapshot is not None:
        poll = stream.snapshot()
        return Translated(poll.assets, poll.statuses, poll.rejected)
    return stream.describe() if stream.describe is not None else Translated()


def _read_newest(config: CpoConfig, feed: FileDropFeed) -> Iterator[str]:
    """Read the file that was modified last, and leave it where it is."""
    from ingestion.files.reading import files_of, must_be_possible, open_drop, read_list, read_some, time_of
    from ingestion.files.records import FileDropError, read_records
    from warehouse.object_store import ObjectStoreError

    known = _AsTold()
    try:
        store = open_drop(feed)
        found = max(files_of(feed, store), key=lambda one: (one.modified_at, one.path), default=None)
        if found is None:
            raise FeedError(f"{store.locate('')}: no file that is like {feed.pattern}")
        try:
            at = time_of(found, feed)
            must_be_possible(at, feed, datetime.now(UTC))
            with tempfile.TemporaryDirectory() as folder:
                local = Path(folder) / "file"
                store.download(found.path, local)
                if feed.is_complete:
                    poll = read_list(local, feed, known)
                else:
                    message = read_some(read_records(local, feed), found.path, at, feed, known)
                    statuses = {told.evse_ref: (told.status_word, told.observed_at) for told in message.told}
                    poll = Poll(None, assets=message.assets, statuses=statuses, rejected=message.rejected)
        except (FileDropError, FileNotFoundError) as error:
            raise FeedError(f"{store.locate(found.path)}: {error}") from error
    except ObjectStoreError as error:
        raise FeedError(str(error)) from error
    when = "the times of its records" if feed.observed_at == "record" else at.isoformat()
    yield f"{config.cpo_id}: {store.locate(found.path)}, which tells of {when}"
    yield from describe(config, poll)


def read_files(config: CpoConfig, files: Sequence[Path]) -> Poll:
    """Read a captured answer as the feed's own: of statuses that stand apart, descriptions first. Raises ``ConfigError``."""
    feed = config.feed
    if isinstance(feed, RestPullFeed):
        wanted = 1 if feed.status_mapping is None else 2
        if len(files) != wanted:
            raise ConfigError(
                f"{config.cpo_id}: name {wanted} file(s): " + ("the list", "descriptions, then statuses")[wanted - 1]
            )
        made = translate_records(_list(files[0], feed.mapping.sites), feed.mapping, feed, files[0].name)
        if feed.status_mapping is not None:
            items = _list(files[1], feed.status_mapping.items)
            made = join(made, translate_status_records(items, feed.status_mapping, feed, files[1].name))
    elif isinstance(feed, OcpiPullFeed):
        from ingestion.ocpi.translate import translate_locations

        made = Translated()
        for file in files:
            told = translate_locations(_list(file, "data || items || @"), feed, file.name)
            made = Translated(made.assets + told.assets, made.statuses | told.statuses, made.rejected + told.rejected)
    else:
        raise ConfigError(f"{config.cpo_id}: files of a feed of kind {feed.kind} cannot be tried")
    return Poll(None, assets=made.assets, statuses=made.statuses, rejected=made.rejected)


def _list(file: Path, expression: str) -> list[object]:
    try:
        return records(parse_json(file.read_bytes()), expression)
    except NoListError as error:
        raise ConfigError(f"{file}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: is not JSON: {error}") from error


def describe(config: CpoConfig, poll: Poll) -> Iterator[str]:
    """Lines for people: counts, words and what the profile makes of them, what was rejected and why, the first record as it was read."""
    assets = poll.assets
    counted = (
        ("sites", {a.site_ref for a in assets}),
        ("chargers", {a.charger_ref for a in assets}),
        ("EVSEs", {a.evse_ref for a in assets}),
        ("connectors", {(a.evse_ref, a.connector_ref) for a in assets}),
    )
    yield f"{config.cpo_id}: " + ", ".join(f"{len(found)} {name}" for name, found in counted)
    profile = config.feed.status_profile
    meanings = status_profiles()[profile]
    yield f"statuses, by profile {profile}:"
    for word, count in Counter(word for word, _ in poll.statuses.values()).most_common():
        meaning = meanings.get(word.strip().casefold(), "NOT IN THE PROFILE, counts as unknown")
        yield f"  {count:>6}  {word} -> {meaning}"
    silent = len({a.evse_ref for a in assets} - poll.statuses.keys())
    if silent:
        yield f"  {silent:>6}  described without a status -> missing"
    yield f"rejected, or noted: {len(poll.rejected)}"
    places = defaultdict(list)
    for one in poll.rejected:
        places[one.source, one.field or "the record", one.reason].append(one.record_ref)
    for (source, field, reason), refs in sorted(places.items(), key=lambda item: -len(item[1])):
        yield f"  {len(refs):>6}  {source} {field}: {reason}; the first is {refs[0]}"
    yield from _first(assets, poll)


def _first(assets: Sequence[Asset], poll: Poll) -> Iterator[str]:
    if not assets:
        yield "no EVSE is described here" if poll.statuses else "no record could be read"
        return
    yield "the first record, as it is read:"
    for name, value in asdict(assets[0]).items():
        if value is not None and not name.endswith("_ref"):
            yield f"  {name}: {value}"
    word, updated_at = poll.statuses.get(assets[0].evse_ref, (None, None))
    yield f"  status: {word}" + (f", since {updated_at.isoformat()}" if updated_at else "")
