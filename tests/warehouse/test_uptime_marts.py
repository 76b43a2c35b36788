"""Every uptime mart, at every level and over every period, against fractions worked out in Python from the daily fact and the seeds."""

from __future__ import annotations

import csv
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import dict_row

from register.exclusions import COLUMNS, load
from tests.warehouse.test_marts_equal_the_oracle import START, deliver, random_scenario
from warehouse.connection import REPOSITORY, Role, connect
from warehouse.transform import transform

SCENARIO_COUNT = 10
NEVI = "nevi_680_116"

# What an entry takes out of a day: (EVSE, day, status) to seconds, under nevi_680_116.
Excluded = Counter[tuple[int, date, str]]


def seed(name: str) -> list[dict[str, str]]:
    with (REPOSITORY / "dbt_project" / "seeds" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


RULE_SETS = {(row["rule_set"], int(row["rule_set_version"])): row for row in seed("rule_sets")}
CLASSES = {
    (row["rule_set"], int(row["rule_set_version"]), row["status"]): row["class"] for row in seed("rule_set_statuses")
}


@dataclass
class World:
    """The daily fact, what it is excluded of, and who stands where."""

    days: dict[int, dict[date, Counter[str]]] = field(default_factory=lambda: defaultdict(dict))
    excluded: Excluded = field(default_factory=Counter)
    evses: dict[int, dict[str, Any]] = field(default_factory=dict)


def read(sql: str, role: Role = Role.ANALYST) -> list[dict[str, Any]]:
    with connect(role) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql).fetchall()  # type: ignore[call-overload, no-any-return]


def exclude_some(folder: Path, chance: random.Random) -> None:
    """Entries that overlap each other, of both decisions, over the down time of some EVSEs."""
    rows = []
    for number, evse in enumerate(
        read("select cpo_id, evse_id from marts.dim_evse inner join marts.dim_cpo using (cpo_key)")
    ):
        for part in range(3):
            start = datetime.fromtimestamp(START + chance.randrange(0, 200_000), UTC)
            rows.append(
                {
                    "exclusion_id": f"{number}-{part}",
                    **evse,
                    "excluded_from": start.isoformat(),
                    "excluded_until": (start + timedelta(seconds=chance.randrange(1, 100_000))).isoformat(),
                    "category": chance.choice(("vandalism", "natural_disaster")),
                    "evidence": "photograph",
                    "entered_by": "Ann",
                    "entered_at": "2026-10-20T00:00:00Z",
                    "decision": chance.choice(("approved", "approved", "rejected")),
                    "decided_by": "Bob",
                    "decided_at": "2026-10-21T00:00:00Z",
                }
            )
    path = folder / "exclusions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [name for name in COLUMNS if name not in ("site_id", "note")])
        writer.writeheader()
        writer.writerows(rows)
    with connect(Role.REGISTRAR) as connection:
        assert load(connection, path, datetime.now(UTC)).new == len(rows)


def approved_seconds() -> dict[int, set[int]]:
    """Every second that an approved entry covers, per EVSE."""
    covered: dict[int, set[int]] = defaultdict(set)
    for row in read("select * from marts.dim_exclusion where decision = 'approved'"):
        covered[row["evse_key"]].update(
            range(int(row["excluded_from"].timestamp()), int(row["excluded_until"].timestamp()))
        )
    return covered


@pytest.fixture(scope="module")
def world(module_warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("scenarios")
    for number in range(SCENARIO_COUNT):
        scenario = random_scenario(number)
        deliver(scenario, folder, scenario.changes, scenario.contacts, scenario.losses)
    transform()
    # The entries come later: an increment must find what they touch.
    exclude_some(folder, random.Random(3))
    assert not transform().is_full_refresh
    made = World()
    for row in read("select * from marts.fct_evse_status_daily"):
        made.days[row["evse_key"]].setdefault(row["local_date"], Counter())[row["status"]] = row["seconds"]
    covered = approved_seconds()
    excludable = {
        row["status"] for row in seed("rule_set_statuses") if row["is_excludable"] == "true" and row["rule_set"] == NEVI
    }
    for span in read("select * from intermediate.int_evse__status_span", Role.TRANSFORM):
        if span["status"] in excludable:
            seconds = range(int(span["span_from"].timestamp()), int(span["span_until"].timestamp()))
            count = len(covered[span["evse_key"]].intersection(seconds))
            made.excluded[span["evse_key"], span["local_date"], span["status"]] += count
    made.evses = {
        row["evse_key"]: row
        for row in read(
            "select evse.*, site.state, cpo.cpo_id from marts.dim_evse as evse inner join marts.dim_site as site using (site_key)"
            " inner join marts.dim_cpo as cpo on cpo.cpo_key = evse.cpo_key"
        )
    }
    assert len(made.days) > 20
    assert sum(made.excluded.values()) > 10_000
    return made


def ratio(numerator: Fraction, denominator: Fraction) -> Fraction | None:
    return numerator / denominator if denominator else None


def figures(rule: tuple[str, int], told: Counter[str], excluded: int) -> dict[str, Fraction | int | None]:
    """The figures of a pool by the formulas of docs/uptime.md."""
    by_class: Counter[str] = Counter()
    for status, seconds in told.items():
        by_class[CLASSES[*rule, status]] += seconds
    total = sum(told.values())
    unknown = {status: told[status] for status in ("unknown", "missing")}

    def headline(up: int, down: int, not_measured: int) -> Fraction | None:
        measured = Fraction(total - not_measured)
        if RULE_SETS[rule]["formula"] == "up_over_measured":
            return ratio(Fraction(up), measured)
        return ratio(measured - down, measured)

    up, not_measured = by_class["up"], by_class["not_measured"]
    down = by_class["down"] - excluded
    forced = {
        name: sum(count for status, count in unknown.items() if CLASSES[*rule, status] == name)
        for name in ("up", "down", "not_measured")
    }
    base = (up - forced["up"], down - forced["down"], not_measured - forced["not_measured"])
    all_unknown = sum(unknown.values())
    return {
        "in_service_seconds": total,
        "up_seconds": up,
        "down_seconds": down,
        "excluded_seconds": by_class["excluded"] + excluded,
        "measured_seconds": total - not_measured,
        "uptime_ratio": headline(up, down, not_measured),
        "uptime_lower_ratio": headline(base[0], base[1] + all_unknown, base[2]),
        "uptime_upper_ratio": headline(base[0] + all_unknown, base[1], base[2]),
        "coverage_ratio": ratio(Fraction(total - not_measured), Fraction(total)),
    }


PERIODS = {
    "daily": ("local_date", lambda day: [day]),
    "monthly": ("local_month", lambda day: [day.replace(day=1)]),
    "rolling_12_months": ("local_month", lambda day: rolling(day)),
    "yearly": ("local_year", lambda day: [day.replace(month=1, day=1)]),
}


def rolling(day: date) -> list[date]:
    """The months whose twelve months a day is in, as far as the marts go."""
    this_month = datetime.now(UTC).date().replace(day=1)
    months = [
        date(day.year + (day.month - 1 + ahead) // 12, (day.month - 1 + ahead) % 12 + 1, 1) for ahead in range(12)
    ]
    return [month for month in months if month <= this_month]


def groups_of(evse: dict[str, Any]) -> list[tuple[str, str, int | None, float]]:
    """Some of the groupings, as (grouping, group, CPO, minimum power)."""
    found = [("all", "all", None, 0.0), ("cpo", evse["cpo_id"], evse["cpo_key"], 0.0), ("state", evse["state"], None, 0.0),
             ("cpo_state", evse["state"], evse["cpo_key"], 0.0), ("lga", "not_stated", None, 0.0),
             ("power_band", evse["power_band"], None, 0.0), ("funding", "not_funded", None, 0.0)]  # fmt: skip
    if evse["power_kw"] is not None and evse["power_kw"] >= 50:
        found += [(*one[:3], 50.0) for one in found if one[0] in ("all", "cpo")]
    return found


GROUPINGS = {"all", "cpo", "state", "cpo_state", "lga", "power_band", "funding"}


def keys_of(level: str, evse: dict[str, Any]) -> Iterable[Any]:
    return groups_of(evse) if level == "group" else [evse[f"{level}_key"]]


def expected(world: World, level: str, period: str) -> dict[Any, tuple[Counter[str], int]]:
    """Seconds by status and those excluded under nevi_680_116, per key and period."""
    _, periods_of = PERIODS[period]
    told: dict[Any, Counter[str]] = defaultdict(Counter)
    excluded: Counter[Any] = Counter()
    for evse_key, days in world.days.items():
        for day, seconds in days.items():
            for at in periods_of(day):
                for key in keys_of(level, world.evses[evse_key]):
                    told[key, at].update(seconds)
                    excluded[key, at] += sum(world.excluded[evse_key, day, status] for status in seconds)
    return {key: (seconds, excluded[key]) for key, seconds in told.items()}


def as_fraction(value: Any) -> Any:
    return None if value is None else Fraction(value)


@pytest.mark.parametrize(
    ("level", "period"),
    [
        *itertools.product(("evse", "charger", "site"), PERIODS),
        *(("group", period) for period in ("daily", "monthly", "yearly")),
    ],
)
def test_every_row_is_what_the_seconds_and_the_rules_say(level: str, period: str, world: World) -> None:
    column = PERIODS[period][0]
    rows = read(f"select * from marts.fct_{level}_uptime_{period}")
    wanted = expected(world, level, period)
    seen = set()
    for row in rows:
        rule = (row["rule_set"], row["rule_set_version"])
        if level == "group":
            if row["grouping"] not in GROUPINGS:
                continue
            key = (row["grouping"], row["group_id"], row["cpo_key"], float(row["minimum_power_kw"]))
        else:
            key = row[f"{level}_key"]
        seen.add((key, row[column], rule))
        told, excluded = wanted[key, row[column]]
        right = figures(rule, told, excluded if rule[0] == NEVI else 0)
        for name, value in right.items():
            off = None if value is None or row[name] is None else abs(as_fraction(row[name]) - value)
            assert (off is None and value is None and row[name] is None) or (
                off is not None and off <= Fraction(1, 10**10)
            ), (name, row, value)
        assert (
            row["uptime_ratio"] is None or row["uptime_lower_ratio"] <= row["uptime_ratio"] <= row["uptime_upper_ratio"]
        )
        if rule[0] == "evc_2025":
            assert row["up_seconds"] + row["down_seconds"] == row["measured_seconds"]
    rules = {(*key, rule) for key in wanted for rule in RULE_SETS if level != "group" or judged_by(key[0], rule)}
    assert seen == rules


def judged_by(key: tuple[str, str, int | None, float], rule: tuple[str, int]) -> bool:
    """Whether a rule-set judges this part of a network."""
    minimum = float(RULE_SETS[rule]["minimum_power_kw"])
    return key[3] == (minimum if key[0] in ("all", "cpo") else 0)


def test_an_evse_of_which_nothing_is_known_has_its_rows(world: World) -> None:
    nil = read(
        "select * from marts.fct_evse_uptime_daily where rule_set = 'evc_2025' and missing_seconds = in_service_seconds"
    )
    assert nil
    assert {
        (row["uptime_ratio"], row["coverage_ratio"], row["uptime_lower_ratio"], row["uptime_upper_ratio"])
        for row in nil
    } == {(None, 0, 0, 1)}


def test_a_full_run_excludes_the_same(world: World) -> None:
    columns = "evse_key, local_date, status, rule_set, rule_set_version, exclusion_id, covered_seconds, seconds"
    ask = f"select {columns} from intermediate.int_evse__excluded_daily order by {columns}"
    before, as_of = read(ask, Role.TRANSFORM), read("select max(as_of) as at from marts.fct_transform_run")[0]["at"]
    assert before
    assert transform(full_refresh=True, as_of=as_of).is_full_refresh
    assert read(ask, Role.TRANSFORM) == before
