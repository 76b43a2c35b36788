"""What the exclusion register takes out of down time, against a walk through every second of it."""

from __future__ import annotations

import csv
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion.model import Contact, Outcome, reference
from ingestion.told import Change
from ingestion.writer import Writer
from register.exclusions import COLUMNS, load
from tests.feeds import asset, history_config
from tests.warehouse.reading import rows_of
from warehouse.connection import REPOSITORY, Role, connect
from warehouse.transform import transform

pytestmark = pytest.mark.usefixtures("warehouse")

# A month's end, and the night in which New South Wales and Lord Howe Island put their clocks forward.
START = datetime(2026, 9, 29, tzinfo=UTC)
END = datetime(2026, 10, 5, 18, tzinfo=UTC)
ZONES = {
    "A": "Australia/Sydney",
    "B": "Australia/Lord_Howe",
    "C": "Australia/Perth",
    "D": "Australia/Broken_Hill",
}
WORDS = ("available", "charging", "out_of_order", "out_of_order", "inoperative", "unavailable", "blocked", "unknown")
CATEGORIES = (
    "scheduled_maintenance",
    "utility_interruption",
    "communication_outage",
    "vehicle_fault",
    "vandalism",
    "natural_disaster",
)
# Hours that a rule-set lets a category exclude a month; None: no cap.
CAPS: dict[tuple[str, int], dict[str, float | None]] = {
    ("nevi_680_116", 1): dict.fromkeys(CATEGORIES),
    ("capped", 3): {"scheduled_maintenance": None, "vandalism": 10.5, "vehicle_fault": 4, "natural_disaster": 0},
}
EXCLUDABLE = {
    ("nevi_680_116", 1): {"unavailable", "out_of_order", "inoperative"},
    ("capped", 3): {"out_of_order", "inoperative"},
}


@dataclass(frozen=True)
class Entry:
    """An entry of the register as it was said last."""

    exclusion_id: str
    evse_id: str
    excluded_from: datetime
    excluded_until: datetime
    category: str
    decision: str


def write(changes: list[tuple[str, str, datetime]], contacts: list[tuple[datetime, datetime]]) -> None:
    now = datetime.now(UTC)
    with (
        connect(Role.INGEST) as connection,
        Writer(connection, history_config("wattle", ended_at=END)).batch() as batch,
    ):
        batch.add_assets(
            [
                asset(evse_id, site_ref=f"s-{evse_id}", site_id=f"S-{evse_id}", time_zone=zone, valid_from=START)
                for evse_id, zone in ZONES.items()
            ],
            now,
            is_whole_evse=False,
        )
        keys = batch.evse_keys()
        batch.add_changes(Change(keys[reference("S1", evse_id)], at, word, now, None) for evse_id, word, at in changes)
        batch.add_contacts(Contact(since, until, Outcome.ALIVE, now) for since, until in contacts)


def enter(folder: Path, entries: list[Entry]) -> None:
    """Hand entries over, decided by a second person."""
    file = folder / "exclusions.csv"
    with file.open("w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        for entry in entries:
            decided = {} if entry.decision == "pending" else {"decided_by": "Kim", "decided_at": "2026-10-06T00:00:00Z"}
            writer.writerow(
                {
                    "exclusion_id": entry.exclusion_id, "cpo_id": "wattle", "evse_id": entry.evse_id,
                    "excluded_from": entry.excluded_from.isoformat(), "excluded_until": entry.excluded_until.isoformat(),
                    "category": entry.category, "evidence": "a photograph", "entered_by": "Pat",
                    "entered_at": "2026-10-05T00:00:00Z", "decision": entry.decision, **decided,
                }
            )  # fmt: skip
    with connect(Role.REGISTRAR) as connection:
        loaded = load(connection, file, datetime.now(UTC))
    assert loaded.problems == []


@pytest.fixture
def capped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A rule-set with caps beside those that are there: rows of seeds, no SQL."""
    project = tmp_path / "dbt_project"
    shutil.copytree(REPOSITORY / "dbt_project", project)
    monkeypatch.setattr("warehouse.transform.PROJECT", project)
    seeds = project / "seeds"
    with (seeds / "rule_set_statuses.csv").open(encoding="utf-8") as file:
        statuses = [row for row in csv.DictReader(file) if row["rule_set"] == "nevi_680_116"]
    with (seeds / "rule_set_statuses.csv").open("a", encoding="utf-8") as file:
        for row in statuses:
            excludable = str(row["status"] in EXCLUDABLE["capped", 3]).lower()
            file.write(f"capped,3,{row['status']},{row['class']},{row['is_in_use']},{excludable}\n")
    with (seeds / "rule_sets.csv").open("a", encoding="utf-8") as file:
        file.write("capped,3,not_down_over_measured,0.95,ge,0,with caps\n")
    with (seeds / "rule_set_exclusions.csv").open("a", encoding="utf-8") as file:
        for category, cap in CAPS["capped", 3].items():
            file.write(f"capped,3,{category},{'' if cap is None else cap}\n")


def random_instant(chance: random.Random) -> datetime:
    return START + timedelta(seconds=chance.randrange(int((END - START).total_seconds())), milliseconds=700)


def random_entry(chance: random.Random, exclusion_id: str) -> Entry:
    begin = chance.choice((random_instant(chance), datetime(2026, 9, 30, 14, tzinfo=UTC)))
    length = timedelta(seconds=chance.choice((1, 600, 20_000, 90_000, 300_000)))
    decision = chance.choice(("approved", "approved", "approved", "pending", "rejected"))
    return Entry(exclusion_id, chance.choice(list(ZONES)), begin, begin + length, chance.choice(CATEGORIES), decision)


def spans() -> dict[str, list[tuple[int, int, str, date]]]:
    """(from, until, status, local date) of each EVSE in order of time, epoch seconds."""
    found: dict[str, list[tuple[int, int, str, date]]] = {}
    with connect(Role.TRANSFORM) as connection:
        for evse_id, since, until, status, local_date in connection.execute(
            "select evse_id, extract(epoch from span_from)::bigint, extract(epoch from span_until)::bigint, status, local_date"
            " from intermediate.int_evse__status_span inner join marts.dim_evse using (evse_key) order by 1, 2"
        ):
            found.setdefault(evse_id, []).append((since, until, status, local_date))
    return found


def walk(entries: list[Entry]) -> Iterator[tuple[str, date, str, str, int, str, bool]]:
    """Each second that an entry covers: EVSE, local date, status, rule-set, version, entry, and whether it is excluded."""
    for evse_id, of_evse in spans().items():
        for (rule_set, version), caps in CAPS.items():
            ranked = sorted(
                (
                    (caps[entry.category] is not None, int(entry.excluded_from.timestamp()), entry.exclusion_id, entry)
                    for entry in entries
                    if entry.evse_id == evse_id and entry.decision == "approved" and entry.category in caps
                ),
                key=lambda item: item[:3],
            )
            used: Counter[tuple[int, str]] = Counter()
            for since, until, status, local_date in of_evse:
                if status not in EXCLUDABLE[rule_set, version]:
                    continue
                for second in range(since, until):
                    owner = next(
                        (e for _, _, _, e in ranked if int(e.excluded_from.timestamp()) <= second < int(e.excluded_until.timestamp())),
                        None,
                    )  # fmt: skip
                    if owner is None:
                        continue
                    cap, use = caps[owner.category], (local_date.month, owner.category)
                    is_excluded = cap is None or used[use] < cap * 3600
                    used[use] += 1
                    yield evse_id, local_date, status, rule_set, version, owner.exclusion_id, is_excluded


def excluded() -> tuple[Counter[Any], Counter[Any]]:
    """Seconds covered, and excluded, as the warehouse has them."""
    covered: Counter[Any] = Counter()
    taken: Counter[Any] = Counter()
    with connect(Role.TRANSFORM) as connection:
        for *key, covered_seconds, seconds in connection.execute(
            "select evse_id, local_date, status, rule_set, rule_set_version, exclusion_id, covered_seconds, seconds"
            " from intermediate.int_evse__excluded_daily inner join marts.dim_evse using (evse_key)"
        ):
            covered[tuple(key)] += covered_seconds
            taken[tuple(key)] += seconds
    return covered, +taken


MARTS = ("dim_exclusion", "fct_exclusion_effect", "fct_evse_uptime_daily", "fct_group_uptime_yearly")


def as_it_stands() -> list[Any]:
    return [*excluded(), *(rows_of(mart) for mart in MARTS)]


@pytest.mark.usefixtures("capped")
def test_excluded_time_equals_a_walk_through_every_second_however_entries_and_statuses_arrive(tmp_path: Path) -> None:
    chance = random.Random(11)
    changes = [(evse_id, chance.choice(WORDS), random_instant(chance)) for evse_id in ZONES for _ in range(60)]
    changes += [(evse_id, "out_of_order", START) for evse_id in ZONES]
    entries: dict[str, Entry] = {}
    runs = []
    taken: Counter[Any] = Counter()
    first: list[Any] = []
    for part in range(4):
        # The last time the register alone has something new.
        if part < 3:
            write(changes[part::3], [(START, END - timedelta(hours=30)), (END - timedelta(hours=29), END)])
        # New entries, and others for which something else is said now: an EVSE, a time, a category, a decision.
        if part < 3:
            said = [f"X-{number}" for number in range(part * 25, part * 25 + 25)]
            said += chance.sample(sorted(entries), k=part * 10)
            entries |= {exclusion_id: random_entry(chance, exclusion_id) for exclusion_id in said}
        else:
            # One that excluded something is now a second of another EVSE: only what it said before tells where it was.
            evse_id, _, _, _, _, moved = next(key for key in sorted(+taken) if key[1].day == 30)
            elsewhere = next(other for other in ZONES if other != evse_id)
            said = [moved]
            entries[moved] = replace(
                entries[moved], evse_id=elsewhere, excluded_from=END - timedelta(seconds=1), excluded_until=END
            )
        enter(tmp_path, [entries[exclusion_id] for exclusion_id in said])
        runs.append(transform())
        covered: Counter[Any] = Counter()
        taken = Counter()
        for *key, is_excluded in walk(list(entries.values())):
            covered[tuple(key)] += 1
            taken[tuple(key)] += is_excluded
        assert len(covered) > 20 * min(part + 1, 3)
        assert excluded() == (covered, +taken)
        first = first or [as_it_stands()]
    assert [run.is_full_refresh for run in runs] == [True, False, False, False]
    # Caps were used up, in each of the two months, and an entry of a capped category counted in part.
    cut = covered - taken
    assert {(key[1].month, key[3]) for key in cut} == {(9, "capped"), (10, "capped")}
    assert any(0 < taken[key] < covered[key] for key in cut)

    # The entries say what they did, and the marts count it.
    effects = {
        (entry, rule_set, version): (covered_seconds, seconds)
        for entry, rule_set, version, covered_seconds, seconds in rows_of(
            "fct_exclusion_effect", "exclusion_id, rule_set, rule_set_version, covered_seconds, excluded_seconds"
        )
    }
    assert len(effects) == len(entries) * 5
    for key in effects:
        of_entry = [one for one in covered if (one[5], *one[3:5]) == key]
        assert effects[key] == (sum(covered[one] for one in of_entry), sum(taken[one] for one in of_entry))
    accepted = dict(rows_of("fct_exclusion_effect", "exclusion_id, is_accepted", "rule_set = 'capped'"))
    assert accepted == {
        entry.exclusion_id: entry.decision == "approved" and entry.category in CAPS["capped", 3]
        for entry in entries.values()
    }
    daily = rows_of(
        "fct_evse_uptime_daily inner join marts.dim_evse using (evse_key)",
        "evse_id, local_date, rule_set, down_seconds, excluded_seconds, unavailable_seconds + out_of_order_seconds + inoperative_seconds"
        " + unknown_seconds",
        "rule_set in ('nevi_680_116', 'capped')",
    )
    assert len(daily) == 2 * 4 * 8
    for evse_id, local_date, rule_set, down_seconds, excluded_seconds, told_down_seconds in daily:
        expected = sum(
            seconds for key, seconds in taken.items() if (*key[:2], key[3]) == (evse_id, local_date, rule_set)
        )
        assert (excluded_seconds, down_seconds) == (expected, told_down_seconds - expected)

    last = as_it_stands()
    transform(full_refresh=True, as_of=runs[-1].as_of)
    assert as_it_stands() == last
    # What held at the first run's cut-off still holds for that cut-off.
    transform(full_refresh=True, as_of=runs[0].as_of)
    assert [as_it_stands()] == first


def test_an_open_load_of_the_register_holds_the_cut_off_back(tmp_path: Path) -> None:
    write([("A", "out_of_order", START)], [(START, END)])
    transform()
    with connect(Role.REGISTRAR) as slow:
        row = slow.execute("select now(), max(evse_key) from raw.asset_version").fetchone()
        assert row is not None
        assert transform().as_of <= row[0]
    enter(tmp_path, [Entry("X", "A", START, START + timedelta(minutes=1), "vandalism", "approved")])
    transform()
    assert rows_of("fct_exclusion_effect", "excluded_seconds", "rule_set = 'nevi_680_116'") == [(60,)]
