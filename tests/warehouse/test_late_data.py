"""Late data: the order of arrival changes nothing, and what is not concerned is not computed again."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ingestion import model
from ingestion.config import CpoConfig
from ingestion.model import Asset, Outcome, reference
from ingestion.told import Change
from ingestion.writer import Writer
from tests.feeds import asset, history_config
from tests.warehouse.oracle import Scenario
from tests.warehouse.test_marts_equal_the_oracle import config_of, random_scenario
from warehouse.connection import Role, connect
from warehouse.transform import transform

pytestmark = pytest.mark.usefixtures("module_warehouse")


@dataclass
class Delivery:
    """What one transaction brings. ``changes`` are (EVSE id, time, word or None when it was not listed)."""

    assets: list[Asset] = field(default_factory=list)
    changes: list[tuple[str, datetime, str | None]] = field(default_factory=list)
    contacts: list[tuple[datetime, datetime, Outcome]] = field(default_factory=list)


def write(config: CpoConfig, delivery: Delivery) -> None:
    now = datetime.now(UTC)
    with connect(Role.INGEST) as connection, Writer(connection, config).batch() as batch:
        batch.add_assets(delivery.assets, now, is_whole_evse=False)
        keys = batch.evse_keys()
        batch.add_changes(
            Change(keys[reference("S1", evse_id)], at, word, now, None) for evse_id, at, word in delivery.changes
        )
        batch.add_contacts(model.Contact(begin, end, outcome, now) for begin, end, outcome in delivery.contacts)


# Any order, any split


def instant(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)


def versions_of(scenario: Scenario, chance: random.Random) -> list[Asset]:
    """Each EVSE described one to three times, with another zone and another commissioning date, or none."""
    made = []
    for evse_id in scenario.time_zones:
        for number in range(chance.randrange(1, 4)):
            made.append(
                replace(
                    asset(evse_id),
                    site_name=f"Described {number}",
                    time_zone=chance.choice(("Australia/Sydney", "Australia/Perth", "Australia/Lord_Howe")),
                    valid_from=instant(scenario.start + number * 50_000 + 7),
                    commissioned_on=chance.choice((None, date(2026, 10, 3), date(2026, 10, 4))),
                )
            )
    return made


def everything(scenario: Scenario, assets: list[Asset]) -> Delivery:
    contacts = [
        (instant(c.start), instant(c.end), Outcome.COMPLETE if c.is_complete else Outcome.ALIVE)
        for c in scenario.contacts
    ]
    losses = [(instant(loss.start), instant(loss.end), Outcome.LOST) for loss in scenario.losses]
    changes = [(c.evse_id, instant(c.at), None if c.word == "missing" else c.word) for c in scenario.changes]
    return Delivery(assets, changes, contacts + losses)


def split(whole: Delivery, parts: int, chance: random.Random) -> list[Delivery]:
    """Deal everything out, in no order; some of it comes twice. An EVSE must be described before it is told of."""
    found = [Delivery() for _ in range(parts)]
    first = {described.evse_ref: described for described in chance.sample(whole.assets, len(whole.assets))}
    found[0].assets += first.values()
    for name in ("assets", "changes", "contacts"):
        told: list[Any] = list(getattr(whole, name))
        chance.shuffle(told)
        for record in told:
            for _ in range(chance.choice((1, 1, 1, 2))):
                getattr(chance.choice(found), name).append(record)
    return found


def marts_of(cpo_id: str) -> dict[str, list[tuple[Any, ...]]]:
    """What the marts say of a CPO, without our own keys and times of receipt."""
    queries = {
        "dim_evse": "select evse_id, commissioned_on, in_service_from, in_service_until from marts.dim_evse as it",
        "dim_site": "select site_name, time_zone from marts.dim_site as it",
        "fct_evse_status_daily": "select evse_id, local_date, status, seconds from marts.fct_evse_status_daily as it"
        " inner join marts.dim_evse using (evse_key)",
        "fct_evse_status_span": "select evse_id, local_date, span_from, span_until, status, status_word, it.observed_at, opened_by,"
        " closed_by, opened_observed_at, last_contact_before_from_at from marts.fct_evse_status_span as it"
        " inner join marts.dim_evse using (evse_key)",
        "fct_evse_absence": "select evse_id, vanished_at, returned_at, last_word from marts.fct_evse_absence as it"
        " inner join marts.dim_evse using (evse_key)",
        "fct_site_uptime_monthly": "select local_month, rule_set, in_service_seconds, uptime_ratio, uptime_lower_ratio"
        " from marts.fct_site_uptime_monthly as it",
    }
    with connect(Role.ANALYST) as connection:
        (key,) = connection.execute("select cpo_key from marts.dim_cpo where cpo_id = %s", (cpo_id,)).fetchone() or (
            None,
        )
        assert key is not None
        found = {}
        for mart, query in queries.items():
            alias = "dim_evse" if "using (evse_key)" in query else "it"
            rows = connection.execute(f"{query} where {alias}.cpo_key = %s", (key,)).fetchall()  # type: ignore[call-overload]
            found[mart] = sorted(rows, key=repr)
        return found


EXAMPLES = iter(range(1000))


@settings(
    max_examples=2,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(plans=st.lists(st.tuples(st.integers(0, 2**32), st.integers(2, 3)), min_size=5, max_size=5))
def test_any_order_and_any_split_gives_the_marts_of_one_load(plans: list[tuple[int, int]]) -> None:
    example = next(EXAMPLES)
    pairs, deliveries = [], []
    for number, (seed, parts) in enumerate(plans):
        chance = random.Random(seed)
        scenario = random_scenario(seed)
        scenario.cpo_id = f"whole_{example}_{number}"
        other = replace(scenario, cpo_id=f"split_{example}_{number}")
        whole = everything(scenario, versions_of(scenario, chance))
        write(config_of(scenario), whole)
        deliveries += [(step, config_of(other), part) for step, part in enumerate(split(whole, parts, chance))]
        pairs.append((scenario.cpo_id, other.cpo_id))
    for step in range(3):
        for _, config, part in (delivery for delivery in deliveries if delivery[0] == step):
            write(config, part)
        transform()
    for whole_id, split_id in pairs:
        expected = marts_of(whole_id)
        assert len(expected["fct_evse_status_daily"]) > 3
        assert marts_of(split_id) == expected


# What is computed again


ZONE = "Australia/Perth"
FIRST = date(2026, 9, 10)
A, B = "A", "B"


def at(day: int, hours: float) -> datetime:
    """An instant by the site's clock: days from the first, hours from midnight."""
    return datetime(2026, 9, 10, tzinfo=UTC) + timedelta(days=day, hours=hours - 8)


def feed(cpo_id: str) -> CpoConfig:
    return history_config(cpo_id, ended_at=at(9, 12))


def two_evses(
    contacts: Sequence[tuple[datetime, datetime, Outcome]], changes: Iterable[tuple[str, datetime, str]] = ()
) -> Delivery:
    described = [replace(asset(evse_id), time_zone=ZONE, valid_from=at(0, 0)) for evse_id in (A, B)]
    begun = [(A, at(0, 6), "available"), (B, at(0, 6), "charging")]
    return Delivery(described, [*begun, *changes], list(contacts))


HELD = (at(0, 6), at(9, 0), Outcome.COMPLETE)


@dataclass(frozen=True)
class Case:
    """What was there, what came late, and the days of A and of B that this concerns."""

    there: Delivery
    late: Delivery
    days_of_a: set[int]
    days_of_b: set[int]


CASES = {
    "a_change_between_two_others": Case(
        two_evses([HELD], [(A, at(2, 1), "reserved"), (A, at(5, 12), "charging")]),
        Delivery(changes=[(A, at(3, 6), "out_of_order")]),
        {3, 4, 5},
        set(),
    ),
    "a_change_before_one_at_midnight": Case(
        two_evses([HELD], [(A, at(5, 0), "charging")]),
        Delivery(changes=[(A, at(3, 6), "out_of_order")]),
        {3, 4},
        set(),
    ),
    "the_last_change": Case(two_evses([HELD]), Delivery(changes=[(B, at(7, 23), "blocked")]), set(), {7, 8, 9}),
    "a_contact_that_closes_a_gap": Case(
        two_evses([(at(0, 6), at(3, 20), Outcome.COMPLETE), (at(5, 4), at(9, 0), Outcome.COMPLETE)]),
        Delivery(contacts=[(at(3, 19), at(5, 5), Outcome.ALIVE)]),
        {3, 4, 5},
        {3, 4, 5},
    ),
    "a_heartbeat_in_a_gap": Case(
        two_evses([(at(0, 6), at(3, 20), Outcome.COMPLETE), (at(5, 4), at(9, 0), Outcome.COMPLETE)]),
        Delivery(contacts=[(at(4, 12), at(4, 12), Outcome.ALIVE)]),
        {4},
        {4},
    ),
    "a_contact_where_there_was_contact": Case(
        two_evses([HELD]), Delivery(contacts=[(at(4, 12), at(4, 13), Outcome.COMPLETE)]), set(), set()
    ),
    "a_loss": Case(
        two_evses(
            [
                (at(0, 6), at(3, 10), Outcome.COMPLETE),
                (at(3, 10.01), at(9, 0), Outcome.ALIVE),
                (at(5, 12), at(5, 12), Outcome.COMPLETE),
            ]
        ),
        Delivery(contacts=[(at(3, 10), at(3, 10.01), Outcome.LOST)]),
        {3, 4, 5},
        {3, 4, 5},
    ),
    # Days 0 to 3 are not in service any more.
    "a_later_commissioning_date": Case(
        two_evses([HELD]),
        Delivery([replace(asset(A), time_zone=ZONE, valid_from=at(5, 0), commissioned_on=date(2026, 9, 14))]),
        set(range(10)),
        set(),
    ),
    # Where it is a day earlier: day 9 is not there any more, day -1 is new.
    "a_zone_in_the_far_west": Case(
        two_evses([HELD]),
        Delivery([replace(asset(B), time_zone="America/Los_Angeles", valid_from=at(5, 0))]),
        set(),
        set(range(-1, 10)),
    ),
    "a_loss_that_another_collector_held": Case(
        two_evses([HELD]), Delivery(contacts=[(at(3, 10), at(3, 10.5), Outcome.LOST)]), set(), set()
    ),
}


def written() -> dict[tuple[str, str, int], set[str]]:
    """(CPO, EVSE, day) to the transactions that wrote its spans."""
    found = defaultdict(set)
    with connect(Role.TRANSFORM) as connection:
        for cpo_id, evse_id, local_date, transaction in connection.execute(
            "select cpo_id, evse_id, local_date, int_evse__status_span.xmin::text from intermediate.int_evse__status_span"
            " inner join marts.dim_evse using (evse_key) inner join marts.dim_cpo using (cpo_key) where cpo_id = any(%s)",
            (list(CASES),),
        ):
            found[cpo_id, evse_id, (local_date - FIRST).days].add(transaction)
    return found


def test_only_the_days_that_late_data_concerns_are_computed_again() -> None:
    for cpo_id, case in CASES.items():
        write(feed(cpo_id), case.there)
    transform()
    before = written()
    assert len(before) == len(CASES) * 2 * 10
    for cpo_id, case in CASES.items():
        write(feed(cpo_id), case.late)
    assert not transform().is_full_refresh
    after = written()
    again: dict[str, dict[str, set[int]]] = {cpo_id: {A: set(), B: set()} for cpo_id in CASES}
    for cpo_id, evse_id, day in before.keys() | after.keys():
        was_written, is_written = before[cpo_id, evse_id, day], after[cpo_id, evse_id, day]
        if is_written != was_written:
            # A day is computed as a whole.
            assert not is_written & was_written
            again[cpo_id][evse_id].add(day)
    assert again == {cpo_id: {A: case.days_of_a, B: case.days_of_b} for cpo_id, case in CASES.items()}
    incremental = {cpo_id: marts_of(cpo_id) for cpo_id in CASES}
    with connect(Role.ANALYST) as connection:
        (as_of,) = connection.execute("select max(as_of) from marts.fct_transform_run").fetchone() or (None,)
    transform(full_refresh=True, as_of=as_of)
    assert {cpo_id: marts_of(cpo_id) for cpo_id in CASES} == incremental
