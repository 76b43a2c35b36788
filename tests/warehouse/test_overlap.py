"""EVSEs laid over each other, half hours and the hourly profile, against a walk through every second of the spans."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from psycopg.rows import dict_row

from ingestion.model import Contact, Outcome
from ingestion.told import Change
from ingestion.writer import Writer
from tests.feeds import asset, history_config
from tests.warehouse.test_marts_equal_the_oracle import deliver, random_scenario
from warehouse.connection import REPOSITORY, Role, connect
from warehouse.transform import transform

SCENARIO_COUNT = 9


def read(sql: str, role: Role = Role.ANALYST) -> list[dict[str, Any]]:
    with connect(role) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql).fetchall()  # type: ignore[call-overload, no-any-return]


def seed(name: str) -> list[dict[str, str]]:
    with (REPOSITORY / "dbt_project" / "seeds" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


Rule = tuple[str, int]
CLASSES: dict[Rule, dict[str, tuple[str, bool]]] = defaultdict(dict)
for each in seed("rule_set_statuses"):
    CLASSES[each["rule_set"], int(each["rule_set_version"])][each["status"]] = (
        each["class"],
        each["is_in_use"] == "true",
    )
KINDS = {each["status"]: each["kind"] for each in seed("canonical_statuses")}
NOT_KNOWN = {"unknown", "missing"}

Moments = dict[int, list[str]]
"""Second to the statuses of the EVSEs in service in it."""


def describe(site_id: str, valid_from: datetime) -> None:
    """Four EVSEs for 30 hours: of two chargers with one that is down each, the third, which is up, stands at the one or at the other.

    The fourth has other days than the one beside it, as one that is not described any more since the zone of its site was put right.
    """
    begin = datetime(2026, 10, 2, tzinfo=UTC)
    end = begin + timedelta(hours=30)
    one, other = asset("A", site_ref="S1", charger_ref="S1"), asset("B", site_ref="S2", charger_ref="S2")
    third = asset("C", site_ref=site_id, charger_ref=site_id)
    fourth = asset("D", site_ref="S2", charger_ref="S2", time_zone="Australia/Perth")
    with connect(Role.INGEST) as connection, Writer(connection, history_config("moved", ended_at=end)).batch() as batch:
        batch.add_assets(
            (replace(each, valid_from=valid_from) for each in (one, other, third, fourth)),
            valid_from,
            is_whole_evse=False,
        )
        batch.add_changes(
            Change(key, begin, "available" if evse_ref == third.evse_ref else "blocked", begin, None)
            for evse_ref, key in batch.evse_keys().items()
        )
        batch.add_contacts([Contact(begin, end, Outcome.COMPLETE, begin)])


@pytest.fixture(scope="module")
def spans(module_warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("scenarios")
    scenarios = [random_scenario(number) for number in range(SCENARIO_COUNT)]
    for scenario in scenarios:
        # So that most of them stand at one charger.
        scenario.time_zones["E1"] = scenario.time_zones["E0"]
    for part in range(2):
        for scenario in scenarios:
            deliver(scenario, folder, scenario.changes[part::2], scenario.contacts[part::2], scenario.losses[part::2])
        describe(("S1", "S2")[part], datetime(2026, 10, 2, part, tzinfo=UTC))
        assert transform().is_full_refresh == (part == 0)
    found = read(
        "select span.*, dim_evse.charger_key, dim_evse.site_key, dim_evse.time_zone from intermediate.int_evse__status_span as span"
        " inner join marts.dim_evse using (evse_key) where status not in ('planned', 'removed')",
        Role.TRANSFORM,
    )
    assert len(found) > 500
    places = read(
        "select count(*) as evse_count from marts.dim_evse inner join marts.dim_cpo using (cpo_key)"
        " where cpo_id = 'moved' group by charger_key"
    )
    assert sorted(place["evse_count"] for place in places) == [1, 3]
    return found


def seconds_of(span: dict[str, Any]) -> range:
    return range(int(span["span_from"].timestamp()), int(span["span_until"].timestamp()))


def by_day(spans: list[dict[str, Any]], level: str) -> dict[tuple[int, date], Moments]:
    days: dict[tuple[int, date], Moments] = defaultdict(lambda: defaultdict(list))
    for span in spans:
        moments = days[span[f"{level}_key"], span["local_date"]]
        for second in seconds_of(span):
            moments[second].append(span["status"])
    return days


def judged(moments: Moments, rule: Rule) -> Counter[str]:
    """Seconds by what holds for the EVSEs together, by the rule-set, and with what is not known forced to one side."""
    classes, found = CLASSES[rule], Counter[str]()
    for mix, seconds in Counter(tuple(sorted(statuses)) for statuses in moments.values()).items():
        for bound in ("", "lower_", "upper_"):
            held = [
                {"lower_": "down", "upper_": "up"}[bound] if bound and status in NOT_KNOWN else classes[status][0]
                for status in mix
            ]
            found[f"{bound}any_up"] += seconds * any(one == "up" for one in held)
            found[f"{bound}all_up"] += seconds * all(one == "up" for one in held)
            found[f"{bound}any_down"] += seconds * any(one == "down" for one in held)
            found[f"{bound}all_down"] += seconds * all(one == "down" for one in held)
        up = [status for status in mix if classes[status][0] == "up"]
        found["congested"] += seconds * (bool(up) and all(classes[status][1] for status in up))
        found["in_service"] += seconds
    return found


def ratio(one: int, other: int) -> Fraction | None:
    return Fraction(one, one + other) if one + other else None


def same(told: Any, expected: Fraction | None) -> bool:
    if told is None or expected is None:
        return told is None and expected is None
    return abs(Fraction(told) - expected) <= Fraction(1, 10**10)


@pytest.mark.parametrize("period", ["daily", "monthly"])
@pytest.mark.parametrize("level", ["charger", "site"])
def test_what_holds_for_evses_together_is_what_each_second_says(
    level: str, period: str, spans: list[dict[str, Any]]
) -> None:
    column = "local_date" if period == "daily" else "local_month"
    expected: dict[tuple[int, date, Rule], Counter[str]] = defaultdict(Counter)
    for (key, local_date), moments in by_day(spans, level).items():
        at = local_date if period == "daily" else local_date.replace(day=1)
        for rule in CLASSES:
            expected[key, at, rule].update(judged(moments, rule))
    rows = read(f"select * from marts.fct_{level}_overlap_{period}")
    seen = set()
    for row in rows:
        key = (row[f"{level}_key"], row[column], (row["rule_set"], row["rule_set_version"]))
        seen.add(key)
        right = expected[key]
        for name in ("in_service", "any_up", "all_up", "any_down", "all_down", "congested"):
            assert row[f"{name}_seconds"] == right[name], (key, name)
        for bound in ("", "lower_", "upper_"):
            any_up = ratio(right[f"{bound}any_up"], right[f"{bound}all_down"])
            all_up = ratio(right[f"{bound}all_up"], right[f"{bound}any_down"])
            assert same(row[f"any_up_{bound}ratio"], any_up), (key, bound)
            assert same(row[f"all_up_{bound}ratio"], all_up), (key, bound)
        assert same(row["congested_ratio"], ratio(right["congested"], right["any_up"] - right["congested"])), key
    assert seen == set(expected)
    assert min(sum(right[name] for right in expected.values()) for name in ("all_down", "congested", "any_down")) > 1000


def test_half_hours_hold_every_second_of_the_day(spans: list[dict[str, Any]]) -> None:
    expected: Counter[tuple[int, date, int, str]] = Counter()
    for span in spans:
        day = span["local_date"]
        midnight = int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(span["time_zone"])).timestamp())
        for second in seconds_of(span):
            expected[span["evse_key"], day, (second - midnight) // 1800, span["status"]] += 1
    rows = read("select * from marts.fct_evse_status_half_hourly")
    assert {
        (row["evse_key"], row["local_date"], row["bucket_number"], row["status"]): row["seconds"] for row in rows
    } == dict(expected)
    assert {(row["bucket_until"] - row["bucket_from"]).total_seconds() for row in rows} == {1800}
    # 23.5 hours on Lord Howe Island, 23 in Sydney.
    assert {46, 45} <= {bucket for _, day, bucket, _ in expected if day == date(2026, 10, 4)}
    daily = read("select evse_key, local_date, status, seconds from marts.fct_evse_status_daily")
    sums: Counter[tuple[int, date, str]] = Counter()
    for row in rows:
        sums[row["evse_key"], row["local_date"], row["status"]] += row["seconds"]
    assert {(row["evse_key"], row["local_date"], row["status"]): row["seconds"] for row in daily} == dict(sums)


def test_the_profile_counts_hours_of_the_local_clock(spans: list[dict[str, Any]]) -> None:
    seconds: dict[tuple[int, date, int, int], Counter[str]] = defaultdict(Counter)
    days: dict[tuple[int, date, int, int], set[date]] = defaultdict(set)
    hours: dict[tuple[str, int], tuple[date, int]] = {}
    for span in spans:
        zone = span["time_zone"]
        for second in seconds_of(span):
            if (slot := (zone, second // 1800)) not in hours:
                local = datetime.fromtimestamp(second // 1800 * 1800, UTC).astimezone(ZoneInfo(zone))
                hours[slot] = (local.date(), local.hour)
            day, hour = hours[slot]
            key = (span["site_key"], day.replace(day=1), day.isoweekday(), hour)
            seconds[key][KINDS[span["status"]]] += 1
            days[key].add(day)
    rows = read("select * from marts.fct_site_hourly_profile")
    found = {(row["site_key"], row["local_month"], row["iso_weekday"], row["local_hour"]): row for row in rows}
    assert found.keys() == seconds.keys()
    for key, right in seconds.items():
        row = found[key]
        assert {kind: row[f"{kind}_seconds"] for kind in ("free", "in_use", "down", "not_known")} == {
            kind: right[kind] for kind in ("free", "in_use", "down", "not_known")
        }, key
        assert (row["in_service_seconds"], row["day_count"]) == (right.total(), len(days[key])), key
