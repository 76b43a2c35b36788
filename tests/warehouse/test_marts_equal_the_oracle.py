"""Random feeds, arriving in random pieces: the marts must say what a walk through every second says."""

from __future__ import annotations

import csv
import random
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ingestion import model
from ingestion.config import CpoConfig
from ingestion.history import import_history
from ingestion.writer import Writer
from tests.warehouse.oracle import MAPPED, Change, Contact, Loss, Scenario, seconds_by_status, was_held
from tests.warehouse.reading import every_row, rows_of
from warehouse.connection import Role, connect
from warehouse.transform import transform

SCENARIO_COUNT = 40
# From before any commissioning date, around the night in which New South Wales and Lord Howe Island put their clocks forward.
START = int(datetime(2026, 10, 2, 12, tzinfo=UTC).timestamp())
END = int(datetime(2026, 10, 5, 20, tzinfo=UTC).timestamp())
ZONES = ("Australia/Sydney", "Australia/Lord_Howe", "Australia/Broken_Hill", "Australia/Perth")
WORDS = (
    *("available", "charging") * 5,
    "finishing", "preparing", "suspended", "reserved", "unavailable", "out_of_order", "blocked", "inoperative",
    "planned", "removed", "unknown", "missing", "SomethingNew",
)  # fmt: skip

ASSET_HEADER = [
    "site_id",
    "site_name",
    "address",
    "suburb",
    "postcode",
    "state",
    "latitude",
    "longitude",
    "time_zone",
    "charger_id",
    "evse_id",
    "connector_id",
    "connector_standard",
    "power_kw",
    "commissioned_on",
]


def random_scenario(number: int) -> Scenario:
    """A feed of three EVSEs with gaps, lone heartbeats, streams, repeats and words nobody knows."""
    chance = random.Random(number)
    scenario = Scenario(f"feed_{number}", chance.choice((60, 300, 900)), START, END)
    for index in range(3):
        evse_id = f"E{index}"
        scenario.time_zones[evse_id] = chance.choice(ZONES)
        if chance.random() < 0.3:
            scenario.commissioned_on[evse_id] = chance.choice((date(2026, 10, 3), date(2026, 10, 4), date(2026, 10, 6)))
    at = START + chance.randrange(0, 40_000)
    is_stream = chance.random() < 0.3
    while at < END - 4000:
        stretch_end = min(at + chance.choice((200, 3_000, 20_000, 90_000)), END - 3000)
        if is_stream:
            scenario.contacts.append(Contact(at, stretch_end, chance.random() < 0.3))
        else:
            is_heartbeat = chance.random() < 0.3
            step = chance.choice((30, 60, scenario.liveness_seconds, scenario.liveness_seconds + 1))
            for poll in range(at, stretch_end, max(step, 30)):
                scenario.contacts.append(Contact(poll, poll, not is_heartbeat and chance.random() < 0.9))
        at = stretch_end + chance.choice((10, 299, 300, 301, 4_000, 30_000))
    for evse_id in scenario.time_zones:
        for _ in range(chance.randrange(0, 40)):
            moment = START + chance.randrange(0, END - START - 3000) + chance.choice((0, 0, 0.25, 0.75))
            if scenario.contacts and chance.random() < 0.5:
                moment = chance.choice(scenario.contacts).start
            scenario.changes.append(Change(evse_id, moment, chance.choice(WORDS)))
    if chance.random() < 0.6:
        add_losses(scenario, chance)
    if number % 3 == 0:
        make_virtual(scenario, chance)
    # Two different words at one instant would leave it to the order of arrival which one holds.
    scenario.changes = list({(change.evse_id, change.at): change for change in scenario.changes}.values())
    return scenario


def make_virtual(scenario: Scenario, chance: random.Random) -> None:
    """Plugs of one charger: while one is occupied the others are down, or about then, or because they are broken."""
    scenario.virtual_evses = True
    zones = chance.sample(ZONES, 2)
    scenario.time_zones = {evse_id: zones[index // 3] for index, evse_id in enumerate(("E0", "E1", "E2", "E3"))}
    contacts = [contact.start for contact in scenario.contacts if contact.start < END - 40_000]
    for _ in range(25):
        begin = chance.choice(contacts) if contacts else START
        end = begin + chance.choice((50, 600, 9_000, 30_000))
        evse_ids = chance.sample(("E0", "E1", "E2"), 3)
        scenario.changes += [Change(evse_ids[0], begin, chance.choice(("charging", "preparing")))]
        if chance.random() < 0.5:
            scenario.changes += [Change(evse_ids[0], (begin + end) // 2, chance.choice(("finishing", "charging")))]
        scenario.changes += [Change(evse_ids[0], end, "available")]
        for evse_id in evse_ids[1 : chance.choice((2, 3))]:
            apart = chance.choice((-600, -121, -120, -60, 0, 0, 0, 60, 120, 121, 600))
            scenario.changes += [
                Change(evse_id, begin + apart, chance.choice(("unavailable", "out_of_order", "inoperative")))
            ]
            if chance.random() < 0.3:
                scenario.changes += [
                    Change(evse_id, begin + apart + 45, chance.choice(("unavailable", "out_of_order")))
                ]
            if chance.random() < 0.8:
                scenario.changes += [
                    Change(evse_id, end + chance.choice((-60, 0, 0, 60)), chance.choice(("available", "charging")))
                ]


def add_losses(scenario: Scenario, chance: random.Random) -> None:
    """Stretches in which messages may have been lost, of no length to hours; some of them held by somebody else, wholly or nearly."""
    for _ in range(chance.randrange(1, 12)):
        start: float = START + chance.randrange(0, END - START - 20_000)
        if scenario.contacts and chance.random() < 0.6:
            contact = chance.choice(scenario.contacts)
            start = chance.choice((contact.start, contact.end, contact.end + scenario.liveness_seconds - 1))
        start += chance.choice((0, 0, 0.25, 0.5))
        loss = Loss(start, start + chance.choice((0, 0, 0.25, 0.5, 1, 5, 59.5, 600, 10_000)))
        scenario.losses.append(loss)
        # What is told around its ends, within the second.
        for moment in (loss.start, loss.end):
            if chance.random() < 0.7:
                shifted = moment + chance.choice((-0.25, 0, 0.25, 1))
                scenario.changes.append(Change(chance.choice(list(scenario.time_zones)), shifted, chance.choice(WORDS)))
            if chance.random() < 0.3:
                shifted = moment + chance.choice((-0.25, 0, 0.25, 1, 30))
                scenario.contacts.append(Contact(shifted, shifted, chance.random() < 0.8))
        held = chance.random()
        if held < 0.4:
            joint = (loss.start + loss.end) / 2
            short_by = chance.choice((0, 0, 0.25))
            scenario.contacts.append(Contact(loss.start - chance.choice((0, 7)), joint, False))
            scenario.contacts.append(Contact(joint, loss.end + chance.choice((1, 7)) - short_by, chance.random() < 0.2))
        elif held < 0.5:
            scenario.contacts.append(Contact(loss.start + 0.25, loss.end + 10, False))


def config_of(scenario: Scenario) -> CpoConfig:
    """The feed's settings: it ends with the scenario."""
    return CpoConfig.model_validate(
        {
            "cpo_id": scenario.cpo_id,
            "name": scenario.cpo_id,
            "feed": {
                "kind": "history",
                "status_profile": "history",
                "liveness_seconds": scenario.liveness_seconds,
                "ended_at": datetime.fromtimestamp(scenario.end, UTC),
                "virtual_evses": scenario.virtual_evses,
            },
        }
    )


def write(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def instant(epoch: float) -> str:
    """RFC 3339, in a zone of its own: the warehouse must not care."""
    return datetime.fromtimestamp(epoch, ZoneInfo("Asia/Kathmandu")).isoformat()


def deliver(
    scenario: Scenario, folder: Path, changes: list[Change], contacts: list[Contact], losses: list[Loss]
) -> None:
    """Hand over some of the scenario's changes, contacts and losses, with all its assets."""
    asset_rows: list[list[object]] = [
        [f"S-{zone}", "Site, \"quoted\"", "1 Road", "Town", "2000", "NSW", -33.8, 151.2, zone, "C1", evse_id, "1", "CCS", 50,
         scenario.commissioned_on.get(evse_id, "")]
        for evse_id, zone in scenario.time_zones.items()
    ]  # fmt: skip
    assets = write(folder / "assets.csv", ASSET_HEADER, asset_rows)
    changes_file = write(
        folder / "changes.csv",
        ["evse_id", "status", "observed_at"],
        [[change.evse_id.lower(), change.word, instant(change.at)] for change in changes],
    )
    if all(contact.start == contact.end for contact in contacts):
        header = ["contact_at", "is_complete"]
        rows: list[list[object]] = [[instant(contact.start), contact.is_complete] for contact in contacts]
    else:
        header = ["contact_from", "contact_until", "is_complete"]
        rows = [[instant(contact.start), instant(contact.end), contact.is_complete] for contact in contacts]
    contact_file = write(folder / "contact.csv", header, rows)
    with connect(Role.INGEST) as connection:
        done = import_history(
            connection,
            config_of(scenario),
            assets=assets,
            changes=changes_file,
            contact=contact_file,
            now=datetime.now(UTC),
        )
        with Writer(connection, config_of(scenario)).batch() as batch:
            batch.add_contacts(
                model.Contact(
                    datetime.fromtimestamp(loss.start, UTC),
                    datetime.fromtimestamp(loss.end, UTC),
                    model.Outcome.LOST,
                    datetime.now(UTC),
                )
                for loss in losses
            )
    assert done.written.quarantined == 0


def marts() -> dict[str, Counter[tuple[str, date, str]]]:
    """What the daily fact says, per CPO."""
    found: dict[str, Counter[tuple[str, date, str]]] = {}
    with connect(Role.ANALYST) as connection:
        for cpo_id, evse_id, local_date, status, seconds in connection.execute(
            """
            select cpo_id, evse_id, local_date, status, seconds
            from marts.fct_evse_status_daily
            inner join marts.dim_evse using (evse_key)
            inner join marts.dim_cpo using (cpo_key)
            """
        ):
            found.setdefault(cpo_id, Counter())[evse_id, local_date, status] += seconds
    return found


def differences(oracle: dict[str, Counter[tuple[str, date, str]]]) -> list[str]:
    """Every (EVSE, day, status) at which marts and oracle disagree."""
    found = marts()
    return [
        f"{cpo_id} {key}: oracle {expected[key]}, marts {found.get(cpo_id, Counter())[key]}"
        for cpo_id, expected in oracle.items()
        for key in sorted(expected.keys() | found.get(cpo_id, Counter()).keys(), key=str)
        if expected[key] != found.get(cpo_id, Counter())[key]
    ]


@pytest.mark.usefixtures("warehouse")
def test_marts_equal_a_walk_through_every_second_however_the_data_arrives(tmp_path: Path) -> None:
    scenarios = [random_scenario(number) for number in range(SCENARIO_COUNT)]
    oracle = {scenario.cpo_id: seconds_by_status(scenario) for scenario in scenarios}
    assert sum(map(len, oracle.values())) > 1000
    assert {status for expected in oracle.values() for _, _, status in expected} == MAPPED - {"planned", "removed"} | {
        "blocked_by_sibling"
    }
    verdicts = Counter(was_held(scenario, loss) for scenario in scenarios for loss in scenario.losses)
    assert min(verdicts[True], verdicts[False]) > 20
    chance = random.Random(7)
    deliveries = {}
    for scenario in scenarios:
        changes, contacts, losses = list(scenario.changes), list(scenario.contacts), list(scenario.losses)
        for told in (changes, contacts, losses):
            chance.shuffle(told)  # type: ignore[arg-type]
        deliveries[scenario.cpo_id] = (changes, contacts, losses)
    # Three deliveries, each with some of everything, overlapping, in no order of time.
    is_full = []
    for part in range(3):
        for scenario in scenarios:
            changes, contacts, losses = deliveries[scenario.cpo_id]
            deliver(
                scenario,
                tmp_path,
                [change for index, change in enumerate(changes) if index % 3 == part or index % 10 == 0],
                [contact for index, contact in enumerate(contacts) if index % 3 == part or index % 10 == 0],
                [loss for index, loss in enumerate(losses) if index % 3 == part or index % 10 == 0],
            )
        is_full.append(transform().is_full_refresh)
    assert is_full == [True, False, False]
    assert differences(oracle) == []

    incremental, beside = marts(), every_row()
    assert all(beside[mart] for mart in ("dim_connector_version", "fct_evse_absence", "fct_feed_health_daily"))
    as_of = max(row[0] for row in rows_of("fct_transform_run", "as_of"))
    transform(full_refresh=True, as_of=as_of)
    assert marts() == incremental
    assert every_row() == beside
