"""Each rule of uptime is broken on purpose, in a copy of the dbt project: the comparison that guards it must turn red.

A mutant is a replacement of a text that stands exactly once in its file: when the file has moved on, the mutant fails, and has to be aimed anew.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from expectations.formulas import rounded
from tests.warehouse.oracle import Change, Contact, Scenario, seconds_by_status
from tests.warehouse.test_marts_equal_the_oracle import deliver, differences
from warehouse import transform
from warehouse.connection import REPOSITORY, Role, connect

MINUTE, HOUR = 60, 3600
# Sydney's midnights are at 2 and at 25 hours, around the night of its clocks.
START = int(datetime(2026, 10, 3, 12, tzinfo=UTC).timestamp())
END = START + 30 * HOUR
SYDNEY, LORD_HOWE, PERTH = (f"Australia/{name}" for name in ("Sydney", "Lord_Howe", "Perth"))

SPANS = ["+int_evse__status_monthly", "+int_evse__excluded_daily", "+dim_cpo", "+dim_evse"]
FIGURES = ["rule_sets", "rule_set_statuses", "fct_evse_uptime_monthly", "fct_site_uptime_monthly"]


def change(evse_id: str, hours: float, word: str) -> Change:
    return Change(evse_id, START + hours * HOUR, word)


def polls(since: float, until: float, *, is_complete: bool = True) -> list[Contact]:
    """One a minute, from and until some hours after the start."""
    seconds = range(START + int(since * HOUR), START + int(until * HOUR), MINUTE)
    return [Contact(at, at, is_complete) for at in seconds]


GAPS = Scenario(
    "gaps", 300, START, END,
    time_zones={"A": SYDNEY, "B": SYDNEY, "C": LORD_HOWE, "D": PERTH},
    changes=[
        change("A", 0, "available"), change("A", 2, "charging"), change("A", 12, "out_of_order"), change("A", 13, "available"),
        change("B", 10, "available"), change("B", 14, "unknown"), change("B", 16, "available"), change("B", 25, "blocked"),
        change("C", 1, "available"), change("C", 20, "unavailable"),
        change("D", 1, "available"), change("D", 15, "inoperative"), change("D", 15.5, "available"),
    ],
    # Nobody for two hours, then two in which the feed only shows that it is alive.
    contacts=[*polls(0, 6), *polls(8, 10, is_complete=False), *polls(10, 29)],
)  # fmt: skip
EXACTLY_97_PERCENT = Scenario(
    "exact", 300, START, START + 6000,
    time_zones={"P": SYDNEY},
    changes=[Change("P", START, "available"), Change("P", START + 5820, "out_of_order")],
    contacts=polls(0, 2),
)  # fmt: skip
LATE_CHANGE = Scenario(
    "late_change", 300, START, END,
    time_zones={"L": SYDNEY, "M": SYDNEY},
    changes=[change("L", 0, "available"), change("L", 28, "charging"), change("M", 0, "reserved")],
    contacts=polls(0, 29),
)  # fmt: skip
LATE_CONTACT = Scenario(
    "late_contact", 300, START, END,
    time_zones={"N": SYDNEY, "O": PERTH},
    changes=[change("N", 0, "available"), change("O", 0, "charging")],
    contacts=[*polls(0, 5), *polls(9, 29)],
)  # fmt: skip
EARLY = (GAPS, EXACTLY_97_PERCENT, LATE_CHANGE, LATE_CONTACT)
LATER = (
    GAPS,
    EXACTLY_97_PERCENT,
    replace(LATE_CHANGE, changes=[*LATE_CHANGE.changes, change("L", 1, "out_of_order")]),
    replace(LATE_CONTACT, contacts=polls(0, 29)),
)

UP = ("available", "charging", "finishing", "reserved", "preparing", "suspended")
RULES = {
    # Rule-set: up and down beside those that are so everywhere, target, whether more than it is needed.
    "evc_2025": ((), ("blocked",), Fraction(98, 100), False),
    "nevi_680_116": (("blocked",), ("unknown",), Fraction(97, 100), True),
}


def judged(seconds: Counter[str], rule_set: str) -> tuple[Decimal | None, Decimal | None, Decimal | None, str]:
    """Uptime, lower and upper bound and result, by the rules as they are written down."""
    more_up, more_down, target, is_more = RULES[rule_set]
    down = sum(seconds[status] for status in ("unavailable", "out_of_order", "inoperative", *more_down))
    up = sum(seconds[status] for status in (*UP, *more_up))
    not_known = seconds["unknown"] + seconds["missing"]
    # Under both, uptime is up over up and down: all that is measured is either.
    headline = Fraction(up, up + down) if up + down else None
    whole = seconds.total()
    result = "not_measured"
    if headline is not None:
        result = "met" if headline > target or (headline == target and not is_more) else "not_met"
    return rounded(headline), rounded(Fraction(up, whole)), rounded(Fraction(up + not_known, whole)), result


def figures() -> list[str]:
    """Where the uptime of an EVSE or a site is not what its seconds give."""
    found = []
    with connect(Role.ANALYST) as connection:
        for level, key in (("evse", "evse_key"), ("site", "site_key")):
            pools: dict[tuple[int, date], Counter[str]] = {}
            for its_key, month, status, seconds in connection.execute(
                f"select {key}, date_trunc('month', local_date)::date, status, seconds"  # type: ignore[call-overload]
                " from marts.fct_evse_status_daily inner join marts.dim_evse using (evse_key)"
            ):
                pools.setdefault((its_key, month), Counter())[status] += seconds
            told = {
                (its_key, month, rule_set): tuple(row)
                for its_key, month, rule_set, *row in connection.execute(
                    f"select {key}, local_month, rule_set, uptime_ratio, uptime_lower_ratio, uptime_upper_ratio, target_result"  # type: ignore[call-overload]
                    f" from marts.fct_{level}_uptime_monthly where rule_set = any(%s)",
                    (list(RULES),),
                )
            }
            expected = {
                (*pool, rule_set): judged(seconds, rule_set) for pool, seconds in pools.items() for rule_set in RULES
            }
            found += [f"{level} {key}" for key in expected.keys() | told.keys() if expected.get(key) != told.get(key)]
    return found


@dataclass(frozen=True)
class Times:
    """Cut-offs after the first and after the second delivery."""

    early: datetime
    late: datetime


def build(select: list[str], as_of: datetime, previous: datetime | None = None) -> None:
    """Build some models, all of their rows or what was touched since ``previous``."""
    with connect(Role.TRANSFORM) as connection:
        run_key = transform._begin(connection, as_of, as_of, previous is None, transform.code_sha256())
    results = transform.run_dbt(
        ["build", "--resource-type", "model", "seed", "--select", *select, *([] if previous else ["--full-refresh"])],
        {"as_of": as_of.isoformat(), "previous_as_of": previous.isoformat() if previous else ""},
    )
    with connect(Role.TRANSFORM) as connection:
        transform._finish(connection, run_key, results)


def told_wrongly(scenarios: tuple[Scenario, ...]) -> list[str]:
    """Where the hub is not what a walk through every second says."""
    return differences({scenario.cpo_id: seconds_by_status(scenario) for scenario in scenarios})


def cut_off() -> datetime:
    with connect(Role.TRANSFORM) as connection:
        connection.autocommit = True
        return transform._cut_off(connection, datetime.now(UTC))


@pytest.fixture(scope="module")
def times(module_warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> Times:
    """All is delivered, some of it late; nothing is built."""
    cut_offs = []
    for scenarios in (EARLY, LATER):
        for scenario in scenarios:
            deliver(scenario, tmp_path_factory.mktemp("files"), scenario.changes, scenario.contacts, [])
        cut_offs.append(cut_off())
    return Times(*cut_offs)


def at_the_first_cut_off(times: Times) -> list[str]:
    """Rebuilt as it was before the late records came."""
    build(SPANS, times.early)
    return told_wrongly(EARLY)


def after_an_increment(times: Times) -> list[str]:
    """Late records worked into what was there."""
    build(SPANS, times.early)
    build(SPANS, times.late, times.early)
    return told_wrongly(LATER)


def from_nothing(times: Times) -> list[str]:
    """Everything at once."""
    build(SPANS, times.late)
    return told_wrongly(LATER)


def by_the_rules(times: Times) -> list[str]:
    """The figures over the hub as it stands."""
    build(FIGURES, times.late)
    return figures()


@dataclass(frozen=True)
class Mutant:
    """``old`` stands once in ``path`` below the dbt project; with ``new`` instead, ``comparison`` must find differences."""

    path: str
    old: str
    new: str
    comparison: Any


INTERMEDIATE = "models/intermediate"
MUTANTS = {
    "unknown counts as up": Mutant(
        "seeds/rule_set_statuses.csv", "evc_2025,1,unknown,not_measured,", "evc_2025,1,unknown,up,", by_the_rules
    ),
    "a site averages its EVSEs": Mutant(
        "macros/uptime.sql",
        "        sum(units.{{ status }}_seconds) as",
        "        sum((100000000000000 * units.{{ status }}_seconds / ("
        "{% for each in in_service_statuses() %}units.{{ each }}_seconds{{ ' + ' if not loop.last }}{% endfor %}"
        "))::bigint) as",
        by_the_rules,
    ),
    "97.00 is more than 97": Mutant(
        "macros/uptime.sql",
        "when ({{ headline }}) > rule_sets.target_ratio",
        "when ({{ headline }}) >= rule_sets.target_ratio",
        by_the_rules,
    ),
    "the lower bound takes unknown as it is": Mutant(
        "macros/uptime.sql",
        "(pooled.down_seconds - pooled.not_known_down + pooled.not_known)",
        "(pooled.down_seconds - pooled.not_known_down + pooled.not_known_not_measured)",
        by_the_rules,
    ),
    "a status holds beyond liveness": Mutant(
        f"{INTERMEDIATE}/int_feed__lifelines.sql",
        "make_interval(secs => feeds.liveness_seconds)",
        "make_interval(secs => feeds.liveness_seconds + 60)",
        from_nothing,
    ),
    "a status is resumed after a gap by a heartbeat": Mutant(
        f"{INTERMEDIATE}/int_feed__contact_islands.sql",
        "        alive.complete_from,\n",
        "        alive.line_from as complete_from,\n",
        from_nothing,
    ),
    "days have a fixed offset from UTC": Mutant(
        "models/staging/stg_asset_version.sql", "    time_zone,\n", "    'Etc/GMT-11' as time_zone,\n", from_nothing
    ),
    "contact touches nothing": Mutant(
        f"{INTERMEDIATE}/int_evse__touched_days.sql",
        "    union all\n    select * from by_contact\n",
        "",
        after_an_increment,
    ),
    "a late change touches its own day alone": Mutant(
        f"{INTERMEDIATE}/int_evse__touched_days.sql",
        "else coalesce(next_change.observed_at, {{ as_of() }})",
        "else changes.observed_at + interval '1 second'",
        after_an_increment,
    ),
    "records ahead of the cut-off are read": Mutant(
        "models/staging/stg_status_change.sql",
        "where recorded_at <= {{ as_of() }} and observed_at",
        "where observed_at",
        at_the_first_cut_off,
    ),
}


def test_nothing_differs_when_nothing_is_broken(times: Times) -> None:
    assert at_the_first_cut_off(times) == []
    build(SPANS, times.late, times.early)
    assert told_wrongly(LATER) == []
    assert by_the_rules(times) == []


@pytest.mark.parametrize("name", MUTANTS)
def test_what_is_broken_is_seen(name: str, times: Times, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    project = tmp_path / "dbt_project"
    shutil.copytree(REPOSITORY / "dbt_project", project, ignore=shutil.ignore_patterns("target", "logs"))
    broken = project / mutant.path
    text = broken.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.path} has moved on: aim the mutant anew"
    broken.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    monkeypatch.setattr("warehouse.transform.PROJECT", project)
    assert mutant.comparison(times) != []
