"""Random feeds, arriving in random pieces: outages, sessions and suspects must be what a walk through every second finds."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.warehouse.events_oracle import Events, classes, events_of, last_heard, midnight
from tests.warehouse.oracle import Change, Contact, Scenario
from tests.warehouse.reading import every_row
from tests.warehouse.test_marts_equal_the_oracle import END, START, deliver, random_scenario
from warehouse.connection import REPOSITORY, Role, connect
from warehouse.transform import transform

SCENARIO_COUNT = 24
DAY = 86_400
POWER_KW = 50

# Low enough for three days of three EVSEs.
POLICY = {
    "zombie_minimum_days": 1,
    "zombie_minimum_available_ratio": 0.6,
    "flapping_minimum_outage_count": 2,
    "frozen_feed_minimum_hours": 24,
    "frozen_feed_minimum_evse_count": 1,
}
EVENTFUL = (
    *("charging", "finishing", "out_of_order", "available") * 3,
    "unavailable", "blocked", "inoperative", "unknown", "removed", "missing", "suspended", "SomethingNew",
)  # fmt: skip


def shifted(scenario: Scenario, days: int, seconds: int = 0) -> Scenario:
    """The same, so much later."""
    by = days * DAY + seconds
    return replace(
        scenario,
        start=scenario.start + by,
        end=scenario.end + by,
        # By whole days, and never to before the start.
        commissioned_on={evse: on + timedelta(days + 1) for evse, on in scenario.commissioned_on.items()},
        changes=[replace(change, at=change.at + by) for change in scenario.changes],
        contacts=[replace(contact, start=contact.start + by, end=contact.end + by) for contact in scenario.contacts],
        losses=[replace(loss, start=loss.start + by, end=loss.end + by) for loss in scenario.losses],
    )


def make_quiet(scenario: Scenario, chance: random.Random) -> None:
    """Days of contact in which hardly anything happens."""
    first, last = START + chance.randrange(DAY // 2), END - 3000
    broken = chance.choice((last, last, first + chance.randrange(DAY, 2 * DAY)))
    polls = [*range(first, broken, scenario.liveness_seconds), *range(broken + 2 * DAY // 3, last, 60)]
    scenario.contacts = [Contact(at, at, True) for at in polls]
    scenario.changes = [Change(evse_id, first, "available") for evse_id in scenario.time_zones]
    scenario.changes += [
        Change("E0", chance.randrange(first, first + 3 * DAY // 2), chance.choice(EVENTFUL)) for _ in range(2)
    ]
    scenario.changes = list({(change.evse_id, change.at): change for change in scenario.changes}.values())
    scenario.losses = [loss for loss in scenario.losses[:2] if loss.start < START + 2 * DAY]


def eventful_scenario(number: int, now: int) -> Scenario:
    """A random feed around a change of clocks, around the end of a month, or until now and going on."""
    chance = random.Random(number)
    scenario = random_scenario(number)
    kind = number % 4
    if kind in (0, 1):
        # More of what makes events, and gaps within them.
        scenario.changes = [replace(change, word=chance.choice(EVENTFUL)) for change in scenario.changes]
    elif kind == 2:
        make_quiet(scenario, chance)
    era = number % 3
    if era == 0:
        return scenario
    if era == 1:
        return shifted(scenario, 28)
    # The last that it tells is just over; it lives for long after, so that what goes on at the cut-off is known.
    days, seconds = divmod(now - (END - 3000), DAY)
    return replace(shifted(scenario, days, seconds), liveness_seconds=chance.choice((900, 7200)), end=now + DAY)


def local_month(zone: ZoneInfo, second: int) -> date:
    return datetime.fromtimestamp(second, UTC).astimezone(zone).date().replace(day=1)


def after(month: date) -> date:
    return (month + timedelta(32)).replace(day=1)


def expected_outages(scenario: Scenario, events: Events, has_ended: bool) -> list[tuple[Any, ...]]:
    rows = []
    for it in events.outages:
        is_open = it.seen_at is None and not has_ended
        rows.append((
            it.evse_id, it.rule_set, it.start, None if is_open else it.end, is_open,
            it.end - it.start, it.down, it.end - it.start - it.down,
            it.statuses[0], it.statuses[-1], it.next_status, ", ".join(it.words),
            None if it.known_before is None else it.start - last_heard(scenario, it.evse_id, it.known_before),
            None if it.seen_at is None else it.seen_at - last_heard(scenario, it.evse_id, it.end),
        ))  # fmt: skip
    return rows


def expected_sessions(scenario: Scenario, events: Events, has_ended: bool) -> list[tuple[Any, ...]]:
    rows = []
    for it in events.sessions:
        is_open = it.end == scenario.end and not has_ended
        energy = (Decimal(POWER_KW * it.charging) / 3600).quantize(Decimal("0.001"), ROUND_HALF_UP)
        rows.append((
            it.evse_id, it.start, None if is_open else it.end, is_open, it.charging, it.idle,
            it.begins_after_gap, it.ends_in_gap,
            None if it.known_before is None else it.start - last_heard(scenario, it.evse_id, it.known_before),
            None if it.seen_at is None else it.seen_at - last_heard(scenario, it.evse_id, it.end),
            energy,
        ))  # fmt: skip
    return rows


def expected_months(scenario: Scenario, events: Events) -> list[tuple[Any, ...]]:
    rows = []
    for evse_id, month in {(evse_id, day.replace(day=1)) for evse_id, day in events.served}:
        zone = ZoneInfo(scenario.time_zones[evse_id])
        first, last = midnight(zone, month), midnight(zone, after(month))
        for rule_set, class_of in classes().items():
            all_of_it = [it for it in events.outages if (it.evse_id, it.rule_set) == (evse_id, rule_set)]
            parts = [part for it in all_of_it if (part := min(it.end, last) - max(it.start, first)) > 0]
            repaired = [
                it.end - it.start
                for it in all_of_it
                if local_month(zone, it.end - 1) == month and it.next_status and class_of[it.next_status] == "up"
            ]
            mean = (
                (Decimal(sum(repaired)) / len(repaired)).quantize(Decimal("0.001"), ROUND_HALF_UP) if repaired else None
            )
            begun = sum(local_month(zone, it.start) == month for it in all_of_it)
            rows.append((
                evse_id, month, rule_set, begun, len(parts), sum(parts), max(parts, default=0), len(repaired), mean,
            ))  # fmt: skip
    return rows


def found(columns: str, mart: str) -> dict[str, Counter[tuple[Any, ...]]]:
    """Rows by CPO; times in epoch seconds."""
    rows: dict[str, Counter[tuple[Any, ...]]] = {}
    with connect(Role.ANALYST) as connection:
        for cpo_id, *row in connection.execute(
            f"select cpo_id, {columns} from marts.{mart} inner join marts.dim_cpo using (cpo_key)"
            " left join marts.dim_evse using (evse_key, cpo_key)"
        ):
            rows.setdefault(cpo_id, Counter())[tuple(row)] += 1
    return rows


def epoch(column: str) -> str:
    return f"extract(epoch from {column})::bigint"


def differences(expected: dict[str, list[tuple[Any, ...]]], columns: str, mart: str) -> list[str]:
    """Rows that only one side has."""
    rows = found(columns, mart)
    assert sum(map(len, expected.values())) > 0
    return [
        f"{mart} {cpo_id} {side}: {row}"
        for cpo_id in expected
        for side, more in (
            ("oracle", Counter(expected[cpo_id]) - rows.get(cpo_id, Counter())),
            ("mart", rows.get(cpo_id, Counter()) - Counter(expected[cpo_id])),
        )
        for row in sorted(more.elements(), key=str)
    ]


@pytest.fixture
def low_thresholds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The project with a policy that three days can break."""
    project = tmp_path / "dbt_project"
    shutil.copytree(REPOSITORY / "dbt_project", project)
    monkeypatch.setattr("warehouse.transform.PROJECT", project)
    settings = (project / "dbt_project.yml").read_text(encoding="utf-8")
    for name, value in POLICY.items():
        before, _, rest = settings.partition(f"  {name}: ")
        assert rest, name
        settings = f"{before}  {name}: {value}\n" + rest.partition("\n")[2]
    (project / "dbt_project.yml").write_text(settings, encoding="utf-8")


@pytest.mark.usefixtures("warehouse", "low_thresholds")
def test_events_equal_a_walk_through_every_second_however_the_data_arrives(tmp_path: Path) -> None:
    now = int(datetime.now(UTC).timestamp())
    assert now > START + 40 * DAY
    scenarios = [eventful_scenario(number, now) for number in range(SCENARIO_COUNT)]
    chance = random.Random(7)
    for scenario in scenarios:
        for told in (scenario.changes, scenario.contacts, scenario.losses):
            chance.shuffle(told)  # type: ignore[arg-type]
    is_full = []
    for part in range(3):
        for scenario in scenarios:
            deliver(
                scenario,
                tmp_path,
                [change for index, change in enumerate(scenario.changes) if index % 3 == part or index % 10 == 0],
                [contact for index, contact in enumerate(scenario.contacts) if index % 3 == part or index % 10 == 0],
                [loss for index, loss in enumerate(scenario.losses) if index % 3 == part or index % 10 == 0],
            )
        done = transform()
        is_full.append(done.is_full_refresh)
    assert is_full == [True, False, False]

    outages: dict[str, list[tuple[Any, ...]]] = {}
    sessions: dict[str, list[tuple[Any, ...]]] = {}
    months: dict[str, list[tuple[Any, ...]]] = {}
    suspects: dict[str, list[tuple[Any, ...]]] = {}
    for scenario in scenarios:
        has_ended = scenario.end < now
        if not has_ended:
            scenario.end = int(done.as_of.timestamp())
        events = events_of(
            scenario,
            has_ended=has_ended,
            zombie_days=1,
            zombie_ratio=0.6,
            flap_count=2,
            frozen_hours=24,
            frozen_evses=1,
        )
        outages[scenario.cpo_id] = expected_outages(scenario, events, has_ended)
        sessions[scenario.cpo_id] = expected_sessions(scenario, events, has_ended)
        months[scenario.cpo_id] = expected_months(scenario, events)
        suspects[scenario.cpo_id] = [(*it, it[3] is None) for it in events.suspects]

    every_outage = [row for rows in outages.values() for row in rows]
    assert {row[4] for row in every_outage} == {True, False}
    # Over a gap; with several words; into each class.
    assert min(sum(row[7] > 0 for row in every_outage), sum("," in row[11] for row in every_outage)) > 20
    assert {"available", "removed", "unavailable", None} <= {row[10] for row in every_outage}
    every_session = [row for rows in sessions.values() for row in rows]
    assert {row[3] for row in every_session} == {True, False}
    assert {(row[6], row[7]) for row in every_session} == {(True, True), (True, False), (False, True), (False, False)}
    assert min(Counter(row[0] for rows in suspects.values() for row in rows).values()) > 2
    assert {(row[0], row[4]) for rows in suspects.values() for row in rows} >= {
        ("zombie", True), ("zombie", False), ("flapping", False), ("frozen_feed", True), ("frozen_feed", False),
    }  # fmt: skip
    assert len({row[1] for rows in months.values() for row in rows}) == 2

    differ = [
        *differences(
            outages,
            f"evse_id, rule_set, {epoch('outage_from')}, {epoch('outage_until')}, is_open, duration_seconds, down_seconds,"
            " gap_seconds, first_status, last_status, next_status, status_words, from_uncertainty_seconds,"
            " until_uncertainty_seconds",
            "fct_evse_outage",
        ),
        *differences(
            sessions,
            f"evse_id, {epoch('session_from')}, {epoch('session_until')}, is_open, charging_seconds, idle_seconds,"
            " begins_after_gap, ends_in_gap, from_uncertainty_seconds, until_uncertainty_seconds, energy_upper_bound_kwh",
            "fct_evse_session",
        ),
        *differences(
            months,
            "evse_id, local_month, rule_set, outage_count, overlapping_outage_count, outage_seconds, longest_outage_seconds,"
            " repaired_count, mean_time_to_repair_seconds",
            "fct_evse_outage_monthly",
        ),
        *differences(
            suspects,
            f"kind, evse_id, {epoch('suspect_from')}, {epoch('suspect_until')}, is_open",
            "fct_evse_suspect",
        ),
    ]
    assert "\n".join(differ) == ""

    incremental = every_row()
    transform(full_refresh=True, as_of=done.as_of)
    assert every_row() == incremental
