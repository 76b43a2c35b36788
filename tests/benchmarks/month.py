"""A made-up month of status changes and contact, for benchmarks: the figures of a whole country's chargers, made in seconds.

Ten feeds, each polled once a minute at its own second; an EVSE changes about 16 times a day; now and then a feed does not answer for a while. One feed has virtual EVSEs:
of each two, one is told out of order while the other is charging. Every time is that of a poll, so that the changes and contact here say the same as one observation a minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import psycopg

from ingestion.config import CpoConfig
from ingestion.model import Asset, reference
from ingestion.writer import Writer

FEED_COUNT = 10
VIRTUAL_FEED = 0
LIVENESS_SECONDS = 300
CHANGES_A_DAY = 16.8
GAPS_A_MONTH = 8
EVSES_PER_CHARGER, EVSES_PER_SITE = 2, 6
ZONES = ("Australia/Sydney", "Australia/Perth", "Australia/Lord_Howe", "Australia/Broken_Hill")
PROFILE = "ocpi_2_2_1"
# The first two take turns; one of the others comes instead of one change in twenty-five.
WORDS = ("AVAILABLE", "CHARGING", "OUTOFORDER", "BLOCKED", "RESERVED", "INOPERATIVE", "UNKNOWN")
CHARGING, OUT_OF_ORDER = WORDS.index("CHARGING"), WORDS.index("OUTOFORDER")
OUTCOMES = ("failed", "complete")
# Postgres counts microseconds from here.
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
ROWS_AT_ONCE = 200_000

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Told:
    """What one feed told. ``place`` (of the EVSE in its feed), ``minute`` and ``word`` (place in `WORDS`) are parallel, in order of time."""

    feed: int
    answered: Flags
    """By minute."""
    place: Numbers
    minute: Numbers
    word: Numbers


@dataclass(frozen=True)
class Month:
    """``evses_per_feed`` EVSEs in each feed, from ``start`` on for ``minutes``. The same numbers give the same month."""

    evses_per_feed: int
    start: datetime
    minutes: int

    @cached_property
    def told(self) -> list[Told]:
        """By feed."""
        return [self._told(feed) for feed in range(FEED_COUNT)]

    def _told(self, feed: int) -> Told:
        chance = np.random.default_rng(feed)
        answered = np.ones(self.minutes, dtype=bool)
        for begin in chance.integers(1, self.minutes, GAPS_A_MONTH * self.minutes // 43_200 + 1):
            answered[begin : begin + chance.integers(3, 240)] = False
        has_changed = chance.random((self.evses_per_feed, self.minutes), dtype=np.float32) < CHANGES_A_DAY / 1440
        has_changed &= answered
        has_changed[:, 0] = True
        if feed == VIRTUAL_FEED:
            has_changed[1::2] = has_changed[: self.evses_per_feed // 2 * 2 : 2]
        place, minute = np.nonzero(has_changed)
        word = np.arange(len(place)) % 2
        is_other = chance.random(len(word)) < 0.04
        word[is_other] = chance.integers(2, len(WORDS), is_other.sum())
        if feed == VIRTUAL_FEED:
            word = has_changed.cumsum(axis=1)[place, minute] % 2
            word[(place % 2 == 1) & (word == CHARGING)] = OUT_OF_ORDER
        order = np.argsort(minute, kind="stable")
        return Told(feed, answered, place[order], minute[order], word[order])

    def polled_at(self, feed: int, minute: Numbers) -> Numbers:
        """When the feed was asked, in microseconds from `EPOCH`; never at a full second."""
        return (self.start - EPOCH) // timedelta(microseconds=1) + (minute * 60 + feed * 5) * SECOND + SECOND // 4


def zone_of(place: int) -> str:
    """Time zone of the site of an EVSE, by the EVSE's place in its feed."""
    return ZONES[place // EVSES_PER_SITE % len(ZONES)]


def _config(feed: int) -> CpoConfig:
    settings = {
        "kind": "ocpi_pull", "version": "2.2.1", "versions_url": "http://localhost/versions", "party": "AU*ABC",
        "token_secret": "ABC_TOKEN", "poll_seconds": 60, "liveness_seconds": LIVENESS_SECONDS, "status_profile": PROFILE,
        "virtual_evses": feed == VIRTUAL_FEED,
    }  # fmt: skip
    return CpoConfig.model_validate({"cpo_id": f"feed_{feed}", "name": f"Feed {feed}", "feed": settings})


def _asset(place: int, valid_from: datetime) -> Asset:
    site, charger, evse = f"S{place // EVSES_PER_SITE}", f"C{place // EVSES_PER_CHARGER}", f"E{place}"
    return Asset(
        site_ref=reference(site), site_id=site, charger_ref=reference(site, charger), charger_id=charger,
        evse_ref=reference(site, evse), evse_id=evse, connector_ref="1", connector_id="1",
        time_zone=zone_of(place), state="NSW", postcode="2000", valid_from=valid_from,
    )  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """Keys in the warehouse: by feed, and by feed and place."""

    feeds: list[int]
    evses: list[Numbers]


def describe(connection: psycopg.Connection, month: Month) -> Keys:
    """Register the feeds and describe their EVSEs."""
    keys = Keys([], [])
    assets = [_asset(place, month.start) for place in range(month.evses_per_feed)]
    for feed in range(FEED_COUNT):
        writer = Writer(connection, _config(feed))
        with writer.batch() as batch:
            batch.add_assets(assets, month.start, is_whole_evse=False)
            known = batch.evse_keys()
        keys.feeds.append(writer.feed_key)
        keys.evses.append(np.array([known[asset.evse_ref] for asset in assets]))
    return keys


def store(connection: psycopg.Connection, month: Month, keys: Keys, minutes: range) -> int:
    """Load by binary COPY what was told in these minutes, each row recorded a second after it was true; return how many changes."""
    tables = {
        "raw.status_change (evse_key, feed_key, observed_at, received_at, recorded_at, status_profile, status_word)": (
            lambda told: _changes(month, keys, told, minutes),
            [word.encode() for word in WORDS],
        ),
        "raw.feed_contact (feed_key, contact_from, contact_until, received_at, recorded_at, outcome)": (
            lambda told: _contacts(month, keys, told, minutes),
            [outcome.encode() for outcome in OUTCOMES],
        ),
    }
    last = month.start + timedelta(minutes=minutes.stop)
    with connection.transaction():
        connection.execute("select raw.ensure_partitions(%s, %s)", (month.start, last))
        for table, (rows_of, words) in tables.items():
            pieces = [rows_of(told) for told in month.told]
            # Else it would turn the bytes of numbers round to the machine's own order.
            rows = np.concatenate(pieces, dtype=pieces[0].dtype)
            rows.sort(order="at", kind="stable")
            with connection.cursor().copy(f"copy {table} from stdin (format binary)") as copy:
                for piece in _as_copied(rows, words):
                    copy.write(piece)
    return sum(int(_within(told.minute, minutes).sum()) for told in month.told)


def _within(minute: Numbers, minutes: range) -> Flags:
    is_within: Flags = (minute >= minutes.start) & (minute < minutes.stop)
    return is_within


# One row as COPY wants it: how many columns, then each with its length before it. The last one, a word, follows later: its length differs.


def _row_type(columns: Sequence[tuple[str, str]]) -> np.dtype[np.void]:
    described = [("at", "<i8"), ("word", "<i8"), ("column_count", ">i2")]
    for name, kind in columns:
        described += [(f"{name}_length", ">i4"), (name, kind)]
    return np.dtype(described)


def _filled(columns: Sequence[tuple[str, str, object]], at: Numbers, word: Numbers) -> npt.NDArray[np.void]:
    kinds = _row_type([(name, kind) for name, kind, _ in columns])
    rows = np.zeros(len(at), dtype=kinds)
    rows["at"], rows["word"], rows["column_count"] = at, word, len(columns) + 1
    for name, kind, values in columns:
        rows[f"{name}_length"], rows[name] = np.dtype(kind).itemsize, values
    return rows


def _changes(month: Month, keys: Keys, told: Told, minutes: range) -> npt.NDArray[np.void]:
    chosen = _within(told.minute, minutes)
    at = month.polled_at(told.feed, told.minute[chosen])
    columns = [
        ("evse_key", ">i4", keys.evses[told.feed][told.place[chosen]]), ("feed_key", ">i2", keys.feeds[told.feed]),
        ("observed_at", ">i8", at), ("received_at", ">i8", at + SECOND // 2), ("recorded_at", ">i8", at + SECOND),
        ("status_profile", f"S{len(PROFILE)}", PROFILE.encode()),
    ]  # fmt: skip
    return _filled(columns, at, told.word[chosen])


def _contacts(month: Month, keys: Keys, told: Told, minutes: range) -> npt.NDArray[np.void]:
    at = month.polled_at(told.feed, np.array(minutes))
    columns = [
        ("feed_key", ">i2", keys.feeds[told.feed]), ("contact_from", ">i8", at), ("contact_until", ">i8", at),
        ("received_at", ">i8", at + SECOND // 2), ("recorded_at", ">i8", at + SECOND),
    ]  # fmt: skip
    return _filled(columns, at, told.answered[minutes.start : minutes.stop].astype(np.int64))


def _as_copied(rows: npt.NDArray[np.void], words: Sequence[bytes]) -> Iterator[bytes]:
    """The bytes of a binary COPY; each row's last column is its word."""
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    unsent = rows.dtype.fields["column_count"][1]  # type: ignore[index]
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        piece = rows[begin : begin + ROWS_AT_ONCE]
        fixed = piece.view(np.uint8).reshape(len(piece), -1)[:, unsent:]
        lengths = np.array([fixed.shape[1] + 4 + len(word) for word in words])[piece["word"]]
        begins = np.cumsum(lengths) - lengths
        out = np.empty(lengths.sum(), dtype=np.uint8)
        for number, word in enumerate(words):
            chosen = np.flatnonzero(piece["word"] == number)
            ending = np.frombuffer(len(word).to_bytes(4, "big") + word, dtype=np.uint8)
            whole = np.hstack([fixed[chosen], np.broadcast_to(ending, (len(chosen), len(ending)))])
            out[begins[chosen][:, None] + np.arange(whole.shape[1])] = whole
        yield out.tobytes()
    yield (-1).to_bytes(2, "big", signed=True)
