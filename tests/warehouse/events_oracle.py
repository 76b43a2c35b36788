"""Outages, sessions and suspects by walking through what every second was: nothing of the SQL in it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tests.warehouse.oracle import Scenario, heard, walk
from warehouse.connection import REPOSITORY

NOT_KNOWN = ("unknown", "missing")


class Run(NamedTuple):
    """Equal seconds in a row: [start, end) in epoch seconds."""

    start: int
    end: int
    status: str
    word: str | None


@dataclass
class Outage:
    """One outage of one EVSE under one rule-set. ``end``: after the last second known to be down."""

    evse_id: str
    rule_set: str
    start: int
    end: int
    down: int
    statuses: list[str]
    words: list[str]
    known_before: int | None
    seen_at: int | None = None
    next_status: str | None = None


@dataclass
class Session:
    """One session of one EVSE. ``end``: after its last second."""

    evse_id: str
    start: int
    end: int
    charging: int
    idle: int
    begins_after_gap: bool
    known_before: int | None
    ends_in_gap: bool = False
    seen_at: int | None = None


@dataclass
class Events:
    """All of one feed."""

    outages: list[Outage] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    # kind, EVSE, from, until (None: open)
    suspects: list[tuple[str, str | None, int, int | None]] = field(default_factory=list)
    # EVSE, local date, in service for a second at least
    served: set[tuple[str, date]] = field(default_factory=set)


def classes() -> dict[str, dict[str, str]]:
    """Rule-set to status to class, from the seed."""
    found: dict[str, dict[str, str]] = {}
    with (REPOSITORY / "dbt_project" / "seeds" / "rule_set_statuses.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["rule_set"], {})[row["status"]] = row["class"]
    return found


def last_heard(scenario: Scenario, evse_id: str, second: int) -> int:
    """Second in which feed or EVSE spoke last before ``second`` began."""
    contacts = [min(contact.end, second) for contact in scenario.contacts if contact.start < second]
    own = [c.at for c in scenario.changes if c.evse_id == evse_id and c.at < second and c.word != "missing"]
    return int(max(contacts + own))


def midnight(zone: ZoneInfo, day: date) -> int:
    """First second of a local day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def local_date(zone: ZoneInfo, second: int) -> date:
    """Local day of a second."""
    return datetime.fromtimestamp(second, UTC).astimezone(zone).date()


def outages_of(evse_id: str, runs: list[Run], rule_set: str, class_of: dict[str, str]) -> Iterator[Outage]:
    """Go through an EVSE's time and note when it goes down, and when it is seen not to be down any more."""
    current: Outage | None = None
    measured_until: int | None = None
    for run in runs:
        verdict = class_of[run.status]
        if verdict == "not_measured":
            continue
        is_same = current is not None and (current.end == run.start or current.statuses[-1] == run.status)
        if current is not None and not (verdict == "down" and is_same):
            current.seen_at, current.next_status = run.start, run.status
            yield current
            current = None
        if verdict == "down":
            assert run.word is not None
            if current is None:
                current = Outage(evse_id, rule_set, run.start, run.end, 0, [], [], measured_until)
            current.end = run.end
            current.down += run.end - run.start
            current.statuses.append(run.status)
            if run.word not in current.words:
                current.words.append(run.word)
        measured_until = run.end
    if current is not None:
        yield current


def sessions_of(evse_id: str, runs: list[Run]) -> Iterator[Session]:
    """Go through an EVSE's time and note when it charges, and how long it is idle right after."""
    current: Session | None = None
    before: str | None = None
    known_until: int | None = None
    for run in runs:
        goes_on = current is not None and (
            (run.status == "charging" and before == "charging")
            or (run.status == "finishing" and before in ("charging", "finishing"))
        )
        if current is not None and run.status in NOT_KNOWN and before in ("charging", "finishing"):
            current.ends_in_gap = True
        if current is not None and run.status not in NOT_KNOWN and not goes_on:
            current.seen_at = run.start
            yield current
            current = None
        if current is None and run.status == "charging":
            after_gap = before is None or before in NOT_KNOWN
            current = Session(evse_id, run.start, run.start, 0, 0, after_gap, known_until)
        if current is not None and run.status in ("charging", "finishing"):
            current.end = run.end
            if run.status == "charging":
                current.charging += run.end - run.start
            else:
                current.idle += run.end - run.start
        if run.status not in NOT_KNOWN:
            known_until = run.end
        before = run.status
    if current is not None:
        yield current


def zombies_of(
    runs: list[Run], zone: ZoneInfo, open_at: int | None, days: int, ratio: float
) -> Iterator[tuple[int, int | None]]:
    """Stretches of whole local days on which it was nothing but available, as far as is known."""
    for is_idle, group in groupby(runs, key=lambda run: run.status in ("available", *NOT_KNOWN)):
        stretch = list(group)
        whole = []
        day = local_date(zone, stretch[0].start)
        while midnight(zone, day) < stretch[-1].end:
            if midnight(zone, day) >= stretch[0].start and midnight(zone, day + timedelta(1)) <= stretch[-1].end:
                whole.append(day)
            day += timedelta(1)
        if not is_idle or len(whole) < days:
            continue
        first, last = midnight(zone, whole[0]), midnight(zone, whole[-1] + timedelta(1))
        available = sum(
            max(0, min(run.end, last) - max(run.start, first)) for run in stretch if run.status == "available"
        )
        if available >= ratio * (last - first):
            yield first, None if stretch[-1].end == open_at else last


def frozen_stretches(
    scenario: Scenario, open_at: int | None, hours: int, evse_count: int
) -> Iterator[tuple[int, int | None]]:
    """Stretches of complete contact in which nothing changed."""
    contact = heard(scenario)
    changed = {int(change.at) - scenario.start for change in scenario.changes}
    is_complete = False
    since: int | None = None
    for second in range(scenario.end - scenario.start + 1):
        ends = second == scenario.end - scenario.start
        lost = contact.lost_until.get(second)
        if ends or not contact.is_alive[second] or lost is not None:
            is_complete = False
        was_cut = not is_complete
        if not ends and any(lost is None or at >= lost for at in contact.complete_at.get(second, ())):
            is_complete = True
        if since is not None and (was_cut or second in changed):
            start = since + scenario.start
            first_told: dict[str, float] = {}
            for change in sorted(scenario.changes, key=lambda c: c.at):
                if change.word != "missing":
                    first_told.setdefault(change.evse_id, change.at)
            told = sum(int(at) <= start for at in first_told.values())
            if second - since >= hours * 3600 and told >= evse_count:
                yield start, None if second + scenario.start == open_at else second + scenario.start
            since = None
        if is_complete and since is None:
            since = second


def events_of(
    scenario: Scenario,
    *,
    has_ended: bool,
    zombie_days: int,
    zombie_ratio: float,
    flap_count: int,
    frozen_hours: int,
    frozen_evses: int,
) -> Events:
    """All events of a feed up to the scenario's end: that of the feed, or else the cut-off, at which they stay open."""
    open_at = None if has_ended else scenario.end
    events = Events()
    runs_of: dict[str, list[Run]] = {}
    for (evse_id, day, status, word), seconds in groupby(
        walk(scenario), key=lambda second: (second.evse_id, second.local_date, second.status, second.word)
    ):
        ats = [second.at for second in seconds]
        runs_of.setdefault(evse_id, []).append(Run(ats[0], ats[-1] + 1, status, word))
        if status not in ("planned", "removed"):
            events.served.add((evse_id, day))
    for evse_id, runs in runs_of.items():
        zone = ZoneInfo(scenario.time_zones[evse_id])
        begun: Counter[tuple[str, date]] = Counter()
        for rule_set, class_of in classes().items():
            for outage in outages_of(evse_id, runs, rule_set, class_of):
                events.outages.append(outage)
                begun[rule_set, local_date(zone, outage.start)] += 1
        events.sessions += sessions_of(evse_id, runs)
        for start, end in zombies_of(runs, zone, open_at, zombie_days, zombie_ratio):
            events.suspects.append(("zombie", evse_id, start, end))
        for day in {day for (_, day), count in begun.items() if count >= flap_count}:
            over = midnight(zone, day + timedelta(1))
            events.suspects.append(
                ("flapping", evse_id, midnight(zone, day), over if has_ended or over <= scenario.end else None)
            )
    for start, end in frozen_stretches(scenario, open_at, frozen_hours, frozen_evses):
        events.suspects.append(("frozen_feed", None, start, end))
    return events
