"""What the test of every feed kind needs: a served quick world, collectors and a receiver as processes, and what raw holds of it all."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import yaml

from simulator.quick import QuickSource
from simulator.server import build_app, serve_in_thread
from simulator.sources import Hub, Party, Source, words_at
from tests.waiting import until
from warehouse.connection import REPOSITORY, Role, connect

QUICK = QuickSource(seed=11, evse_count=24, mean_seconds=2)
OTHER = QuickSource(seed=12, evse_count=12, mean_seconds=2, party=Party("AU", "OTH", "Other Charge"))
SOURCES: dict[str, Source] = {"quick": QUICK, "hub": Hub((QUICK, OTHER))}
SECRETS = {"quick": "quick-secret", "hub": "hub-secret"}

CREDENTIALS_KEY = "bG9jYWwtb25seS1sb2NhbC1vbmx5LWxvY2FsLW9ubHk="

GRID_SECONDS = 2
"""Lists are polled this often and show the state of the grid's last time, so that what a poll saw is known from when it was made."""

POINT = {"evse_id": "ref", "status": "state", "updated_at": "changed"}
MAPPING: dict[str, Any] = {
    "sites": "stations",
    "site": {"site_id": "code", "site_name": "title", "latitude": "lat", "longitude": "lng", "time_zone": "tz"},
    "evses": "points",
    "evse": POINT,
    "connectors": "plugs",
    "connector": {"connector_id": "no", "power": {"path": "kw", "unit": "kW"}},
}
STATUSES = {"items": "updates", **POINT}
HEADER = {"kind": "header", "name": "X-Api-Key", "secret": "QUICK_TOKEN"}


class Row(NamedTuple):
    """A stored change."""

    at: datetime
    evse_ref: str
    word: str | None


class Poll(NamedTuple):
    """A stored complete contact, and until when its answer may have been made."""

    at: datetime
    received_at: datetime


def on_grid(moment: datetime) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() // GRID_SECONDS * GRID_SECONDS, UTC)


def grid_clock() -> datetime:
    return on_grid(datetime.now(UTC))


@dataclass
class Kinds:
    """One feed of one kind, and the processes that collect it."""

    url: str
    folder: Path
    name: str = "quick"
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def write_config(self, **feed: Any) -> None:
        """Write the CPO's file."""
        settings = {"status_profile": "ocpi_2_2_1", "liveness_seconds": 60, **feed}
        document = {"cpo_id": self.name, "name": self.name.title(), "feed": settings}
        (self.folder / f"{self.name}.yml").write_text(yaml.safe_dump(document), encoding="utf-8")

    def run(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Begin ``python -m ingestion ...``."""
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ingestion", *arguments],
                cwd=REPOSITORY,
                env={
                    **os.environ,
                    "CPO_CONFIG_DIR": str(self.folder),
                    "CREDENTIALS_KEY": CREDENTIALS_KEY,
                    **{f"{name.upper()}_TOKEN": token for name, token in SECRETS.items()},
                    **environment,
                },
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def collect(self, seconds: float) -> subprocess.Popen[bytes]:
        """Begin a window of collection."""
        return self.run("collect", "--cpo", self.name, "--seconds", str(seconds))

    def log(self) -> str:
        return (self.folder / "log.txt").read_text(encoding="utf-8")

    def control(self, method: str, errand: str, /, **body: Any) -> Any:
        answer = httpx.request(method, f"{self.url}/control/{self.name}/{errand}", json=body or None, timeout=20)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def suffer(self, faults: Iterable[dict[str, Any]], each_seconds: float = 0.7) -> None:
        """Have one fault after the other, with time between them to recover."""
        for fault in faults:
            self.control("POST", "fault", **fault)
            time.sleep(each_seconds)
            self.control("DELETE", "fault")
            time.sleep(each_seconds / 2)

    def collect_through(
        self, faults: list[dict[str, Any]], each_seconds: float = 0.7, settling_seconds: float = 0
    ) -> None:
        """Collect in three windows: the second begins before the first ends and is killed, the third follows after a while.

        ``settling_seconds``: how long what is there may wait until it is taken.
        """
        half = len(faults) // 2
        trouble = each_seconds * 1.5
        first = self.collect(4 + trouble * half + settling_seconds)
        until(lambda: bool(self.contacts("complete", "alive")), 30)
        self.suffer(faults[:half], each_seconds)
        second = self.collect(120)
        assert first.wait(timeout=60) == 0, self.log()
        self.suffer(faults[half:], each_seconds)
        time.sleep(2 + settling_seconds)
        second.send_signal(signal.SIGKILL)
        second.wait()
        time.sleep(1)
        third = self.collect(6 + settling_seconds)
        assert third.wait(timeout=60) == 0, self.log()

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with connect(Role.INGEST) as connection:
            return connection.execute(sql, parameters).fetchall()

    def rows(self) -> list[Row]:
        """All stored changes, in order of their time."""
        sql = """
            select observed_at, evse_ref, status_word from raw.status_change
            inner join raw.evse using (evse_key) inner join raw.feed on feed.feed_key = evse.feed_key
            where cpo_id = %s order by observed_at, change_key
        """
        return [Row(*row) for row in self.query(sql, self.name)]

    def received(self) -> dict[Row, datetime]:
        """When each stored change was received."""
        sql = """
            select observed_at, evse_ref, status_word, min(received_at) from raw.status_change
            inner join raw.evse using (evse_key) inner join raw.feed on feed.feed_key = evse.feed_key
            where cpo_id = %s group by 1, 2, 3
        """
        return {Row(*row): received_at for *row, received_at in self.query(sql, self.name)}

    def contacts(self, *outcomes: str) -> list[tuple[datetime, datetime]]:
        """Stored contacts of these outcomes."""
        sql = """
            select contact_from, contact_until from raw.feed_contact inner join raw.feed using (feed_key)
            where cpo_id = %s and outcome = any(%s) order by 1
        """
        try:
            return self.query(sql, self.name, list(outcomes))  # type: ignore[return-value]
        except psycopg.errors.UndefinedTable:
            return []

    def polls(self) -> list[Poll]:
        sql = """
            select contact_from, received_at from raw.feed_contact inner join raw.feed using (feed_key)
            where cpo_id = %s and outcome = 'complete' order by 1
        """
        return [Poll(*row) for row in self.query(sql, self.name)]

    def files_taken(self) -> list[str]:
        """Names of the dropped files that were taken."""
        rows = self.query("select path from raw.file_receipt where outcome = 'taken' order by 1")
        return [Path(path).name for (path,) in rows]

    def quarantined(self) -> list[tuple[str, str, str]]:
        return self.query("select record_ref, field, reason from raw.quarantine order by 1")  # type: ignore[return-value]


@contextmanager
def kinds(folder: Path, name: str = "quick", *, is_gridded: bool = False) -> Iterator[Kinds]:
    """Serve the quick world; what was started is ended."""
    app = build_app(SOURCES, SECRETS, grid_clock, page_cap=2) if is_gridded else build_app(SOURCES, SECRETS)
    with serve_in_thread(app) as url:
        running = Kinds(url, folder, name)
        try:
            yield running
        finally:
            for process in running.processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()


def own(ref: str) -> str:
    """Identity in raw: the feed's own party has none in front."""
    return ref.removeprefix("au*qck/")


def fold(states: Iterable[tuple[datetime, str, str]], before: dict[str, str] | None = None) -> list[Row]:
    """Keep what differs from the word before."""
    latest: dict[str, str] = dict(before or {})
    kept = []
    for at, ref, word in sorted(states):
        if latest.get(ref) != word:
            kept.append(Row(at, ref, word))
        latest[ref] = word
    return kept


def per_evse(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.evse_ref].append(row)
    return dict(found)


def unlike(rows: list[Row], expected: list[Row]) -> list[str]:
    """How what is stored differs from what is expected, in lines."""
    found, wanted = Counter(rows), Counter(expected)
    lines = [(row.at, f"lost: {row.at:%H:%M:%S.%f} {row.evse_ref} {row.word}") for row in (wanted - found).elements()]
    lines += [(row.at, f"more: {row.at:%H:%M:%S.%f} {row.evse_ref} {row.word}") for row in (found - wanted).elements()]
    return [line for _, line in sorted(lines)]


def seen_by_polls(source: Source, polls: list[Poll], rows: list[Row]) -> list[Row]:
    """What polls saw change, when each answer was made at the grid's time before it.

    An answer that took retries beyond the grid's next time may be of any of the times since: of those, the one that ``rows`` agree with.
    While an EVSE was absent and came back later, nothing was seen of it.
    """
    latest: dict[str, str | None] = {}
    seen: list[Row] = []
    absent = absences(rows)
    for poll in polls:
        stored = {row for row in rows if row.at == poll.at}
        gone = {ref: None for ref, since, until_ in absent if since <= poll.at < until_}
        made_at = on_grid(poll.at)
        saw = changed(latest, words_at(source, made_at) | gone, poll.at)
        while {*saw} != stored and made_at < on_grid(poll.received_at):
            made_at += timedelta(seconds=GRID_SECONDS)
            saw = changed(latest, words_at(source, made_at) | gone, poll.at)
        seen += saw
        latest |= {row.evse_ref: row.word for row in saw}
    return seen


def absences(rows: list[Row]) -> list[tuple[str, datetime, datetime]]:
    """When EVSEs were absent: from a row without a word to the next row of the EVSE."""
    return [
        (ref, row.at, following.at)
        for ref, of_evse in per_evse(rows).items()
        for row, following in itertools.pairwise(of_evse)
        if row.word is None
    ]


def changed(before: dict[str, str | None], words: dict[str, str | None], at: datetime) -> list[Row]:
    """Rows of those whose word differs from before."""
    return [Row(at, own(ref), word) for ref, word in sorted(words.items()) if before.get(own(ref)) != word]


class Event(NamedTuple):
    """What a protocol may have told: an EVSE's word, with its own time or (``is_timed`` false) that of its being sent."""

    at: datetime
    evse_ref: str
    word: str
    is_timed: bool = True


LATE = timedelta(seconds=1)
"""By how much a time of receipt may be later than the time of what was received."""


def logged(feed: Kinds, *outcomes: str) -> list[Event]:
    """What the simulator's log says it told with one of these outcomes; told with a time far in the future it has no time of its own."""
    found = []
    for line in feed.control("GET", "log"):
        if line["outcome"] in outcomes:
            # The log is written after the sending: what was sent may have been received before.
            changed_at = datetime.fromisoformat(line["changed_at"])
            told_at = datetime.fromisoformat(line["told_at"]) if line["told_at"] else None
            is_timed = told_at is not None and told_at <= changed_at + timedelta(minutes=2)
            at = told_at if is_timed and told_at else changed_at
            found.append(Event(at, line["evse_ref"], line["word"], is_timed))
    return found


def truth_until(until_: datetime, source: QuickSource = QUICK, minutes: float = 5) -> list[Event]:
    """Everything that really changed in the minutes before."""
    return [
        Event(change.at, change.evse_ref, change.word)
        for change in source.changes(until_ - timedelta(minutes=minutes), until_)
    ]


def held(feed: Kinds) -> list[tuple[datetime, datetime]]:
    """When a stream was held, without the edges: there a message may have been sent and not received, or received and not written."""
    edge = timedelta(seconds=0.5)
    joined: list[tuple[datetime, datetime]] = []
    for start, end in feed.contacts("alive"):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return [(start + edge, end - edge) for start, end in joined]


FAULT_WORDS = frozenset({"OUTOFORDER", "OCCUPIED_MAYBE"})
"""What EVSEs are said to be by the faults of words: also in a list, while they are on."""


def said_by(poll: Poll, source: Source = QUICK) -> dict[str, set[str]]:
    """What a full list may have said of each EVSE, having been made between its being asked for and its receipt."""
    before, after = words_at(source, poll.at - LATE), words_at(source, poll.received_at)
    return {ref: {before[ref], after[ref], words_at(source, poll.at)[ref], *FAULT_WORDS} for ref in before}


def findings(
    feed: Kinds, told: list[Event], possible: list[Event], lists: Iterable[Poll] = (), source: Source = QUICK
) -> list[str]:
    """What is wrong with the rows: nothing when each of ``told`` is there exactly once, or was in force already, and everything else is ``possible`` or in a list.

    A word told with a time that cannot be, or without one, stands at its receipt, up to ``LATE`` later. A word may stand twice where the earlier of the two was
    told later.
    """
    found: list[str] = []
    rows, received = feed.rows(), feed.received()
    listed = {poll.at: said_by(poll, source) for poll in lists}
    stored, events, certain = per_evse(rows), per_evse_events([*told, *possible]), per_evse_events(told)
    for ref in sorted({*stored, *certain}):
        used: set[Event] = set()
        for before, row in zip([None, *stored.get(ref, [])], stored.get(ref, []), strict=False):
            if before is not None and before.word == row.word and received[before] <= received[row]:
                found.append(f"repeated: {row}, after {before}")
            matches = [one for one in events.get(ref, []) if one not in used and one.word == row.word]
            match = next((one for one in matches if one.is_timed and one.at == row.at), None)
            match = match or next((one for one in matches if timedelta(0) <= row.at - one.at <= LATE), None)
            if match is not None:
                used.add(match)
            elif row.word not in listed.get(row.at, {}).get(ref, set()):
                found.append(f"from nowhere: {row}")
        for event in certain.get(ref, []):
            in_force = [row.word for row in stored.get(ref, []) if row.at <= event.at]
            if event not in used and (not in_force or in_force[-1] != event.word):
                found.append(f"lost: {event}")
    return found


def per_evse_events(events: Iterable[Event]) -> dict[str, list[Event]]:
    grouped: dict[str, set[Event]] = defaultdict(set)
    for event in events:
        grouped[event.evse_ref].add(event)
    return {ref: sorted(found) for ref, found in grouped.items()}
