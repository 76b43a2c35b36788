"""What the marts say of the feeds themselves: worked examples, each also as an increment and all at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingestion.model import Contact, Message, Outcome, Poll, Rejected, Told, reference
from ingestion.writer import Writer
from tests.feeds import asset, poll, polled_config
from tests.warehouse.reading import every_row, rows_of
from warehouse.connection import REPOSITORY, Role, connect
from warehouse.transform import TransformError, transform

pytestmark = pytest.mark.usefixtures("warehouse")

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAY = MIDNIGHT - timedelta(days=3)
CONFIG = polled_config("wattle")


def write_polls(polls: Iterable[tuple[datetime, Poll]], lateness: timedelta = timedelta(seconds=2)) -> None:
    """Store complete answers, each received a little after it was asked for."""
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, CONFIG)
        for at, answer in polls:
            writer.write_poll(answer, at, at + lateness)


def words(count: int, word: str) -> dict[str, str]:
    return {f"E{number:02}": word for number in range(count)}


def assert_equal_to_a_full_refresh() -> None:
    """The same rows come out when all is computed anew for the same cut-off."""
    incremental = every_row()
    transform(full_refresh=True, as_of=max(row[0] for row in rows_of("fct_transform_run", "as_of")))
    assert every_row() == incremental


def health(day: datetime, *columns: str) -> tuple[Any, ...]:
    (row,) = rows_of("fct_feed_health_daily", ", ".join(columns), f"utc_date = '{day:%Y-%m-%d}'")
    return row


def test_a_day_of_a_feed_is_summed_up() -> None:
    noon = DAY + timedelta(hours=12)
    write_polls([(noon, poll(words(4, "AVAILABLE")))])
    transform()
    first = poll(
        {**words(3, "AVAILABLE"), "E00": "CHARGING", "E01": "Odd"},
        rejected=(Rejected("/locations", "S1/E9", "status", "is not a text", "{}"),),
    )
    write_polls([(noon + timedelta(seconds=60), first)], lateness=timedelta(seconds=12))
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, CONFIG)
        writer.write_failure(noon + timedelta(seconds=120), noon + timedelta(seconds=125), "answered 500")
    transform()
    columns = (
        "last_contact_at", "contact_ratio", "complete_count", "failed_count", "change_count", "evse_count", "vanished_count",
        "quarantined_count", "open_quarantine_count", "unmapped_change_count", "flip_count", "latency_p50_seconds",
        "latency_p95_seconds", "latency_max_seconds", "changes_per_evse",
    )  # fmt: skip
    # 60 s between the polls and 300 s of liveness after the second one.
    contact = round(Decimal(360) / 86400, 10)
    assert health(DAY, *columns) == (
        noon + timedelta(seconds=60), contact, 2, 1, 7, 4, 1, 1, 1, 1, 0, Decimal("2.000"), Decimal("12.000"),
        Decimal("12.000"), Decimal("1.750"),
    )  # fmt: skip
    silent = (
        "last_contact_at",
        "contact_ratio",
        "change_count",
        "vanished_count",
        "open_quarantine_count",
        "evse_count",
    )
    assert health(DAY + timedelta(days=1), *silent) == (noon + timedelta(seconds=60), 0, 0, 1, 1, 4)
    assert rows_of("fct_feed_last_failure", "failed_at, detail") == [(noon + timedelta(seconds=120), "answered 500")]
    assert rows_of(
        "fct_unmapped_status_word", "status_profile, source_word, first_seen_at, change_count, evse_count"
    ) == [("ocpi_2_2_1", "odd", noon + timedelta(seconds=60), 1, 1)]
    # It is replaced in the quarantine by its absence, and back on the next day.
    write_polls([(noon + timedelta(days=1), poll(words(4, "AVAILABLE")))])
    transform()
    assert health(DAY + timedelta(days=1), "vanished_count", "open_quarantine_count", "evse_count") == (0, 0, 4)
    assert rows_of("fct_unmapped_status_word", "change_count, evse_count") == [(1, 0)]
    assert_equal_to_a_full_refresh()


def test_a_lost_stretch_is_counted_and_is_no_contact() -> None:
    noon = DAY + timedelta(hours=12)
    write_polls([(noon, poll(words(2, "AVAILABLE")))])
    transform()
    with connect(Role.INGEST) as connection:
        Writer(connection, CONFIG).write_stretch(
            noon + timedelta(seconds=30), noon + timedelta(seconds=130), Outcome.LOST
        )
    transform()
    # Alive for 300 s after the poll, less the 100 s lost.
    assert health(DAY, "lost_count", "contact_ratio") == (1, round(Decimal(200) / 86400, 10))
    assert_equal_to_a_full_refresh()


def test_a_feed_that_turns_all_its_evses_into_one_word_is_flagged() -> None:
    noon = DAY + timedelta(hours=12)
    seconds = [noon + timedelta(minutes=minute) for minute in range(6)]
    some = {**words(12, "AVAILABLE"), "E00": "CHARGING", "E01": "CHARGING"}
    write_polls(
        [
            # The first that is told is no change.
            (seconds[0], poll(some)),
            # 10 of 12 are less than 90 percent.
            (seconds[1], poll({**some, **{evse: "BLOCKED" for evse in list(some)[2:]}})),
            (seconds[2], poll(some)),
        ]
    )
    transform()
    write_polls(
        [
            # 11 of 12 are more.
            (seconds[3], poll({**some, **{evse: "INOPERATIVE" for evse in list(some)[1:]}})),
            # All vanish at once, and return.
            (seconds[4], replace(poll({}), assets=())),
            (seconds[5], poll(some)),
        ]
    )
    transform()
    found = [(row[0], row[1], row[2], row[3]) for row in rows_of(
        "fct_feed_flip", "flipped_at, status_word, changed_count, evse_count"
    )]  # fmt: skip
    assert sorted(found) == [
        (seconds[3], "INOPERATIVE", 11, 12),
        (seconds[4], None, 12, 12),
    ]
    assert health(DAY, "flip_count") == (2,)
    absences = rows_of("fct_evse_absence", "vanished_at, returned_at, is_open, last_status")
    assert {row[:3] for row in absences} == {(seconds[4], seconds[5], False)}
    assert len(absences) == 12
    assert_equal_to_a_full_refresh()


def test_a_flip_is_found_also_when_what_was_before_it_is_learnt_late() -> None:
    noon = DAY + timedelta(hours=12)
    assets = tuple(asset(evse_id) for evse_id in words(10, ""))
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, CONFIG)
        told = tuple(Told(reference("S1", evse_id), "BLOCKED", noon) for evse_id in words(10, ""))
        writer.write_messages([(Message("test", assets=assets, told=told), noon)])
    transform()
    assert rows_of("fct_feed_flip") == []
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, CONFIG)
        earlier = noon - timedelta(days=2)
        told = tuple(Told(reference("S1", evse_id), "AVAILABLE", earlier) for evse_id in words(10, ""))
        writer.write_messages([(Message("test", told=told), noon)])
    transform()
    assert rows_of("fct_feed_flip", "flipped_at, changed_count") == [(noon, 10)]
    # Two more EVSEs were there all the while: 10 of 12 are no flip.
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, CONFIG)
        more = tuple(Told(reference("S1", evse_id), "AVAILABLE", earlier) for evse_id in "XY")
        writer.write_messages([(Message("test", assets=(asset("X"), asset("Y")), told=more), noon)])
    transform()
    assert rows_of("fct_feed_flip") == []
    assert_equal_to_a_full_refresh()


def test_an_absence_ends_when_the_evse_is_observed_again() -> None:
    noon = DAY + timedelta(hours=12)
    write_polls(
        [
            (noon, poll({"A": "AVAILABLE", "B": "REMOVED"})),
            (noon + timedelta(minutes=1), poll({"A": "CHARGING"})),
            (noon + timedelta(minutes=2), poll({})),
        ]
    )
    transform()
    assert rows_of("fct_evse_absence", "is_open, last_word, last_status") == [
        (True, "CHARGING", "charging"),
        (True, "REMOVED", "removed"),
    ]
    # What was removed did not vanish.
    assert health(DAY, "vanished_count") == (1,)
    write_polls([(noon + timedelta(minutes=3), poll({"A": "CHARGING"}))])
    transform()
    found = {row[0]: row[1:] for row in rows_of("fct_evse_absence", "last_word, vanished_at, returned_at")}
    assert found["CHARGING"] == (noon + timedelta(minutes=2), noon + timedelta(minutes=3))
    assert found["REMOVED"] == (noon + timedelta(minutes=1), None)
    assert_equal_to_a_full_refresh()


def test_what_a_connector_was_in_march_is_still_known() -> None:
    versions = [
        asset("A", power_kw=Decimal(50), valid_from=datetime(2026, 1, 1, tzinfo=UTC)),
        # What no column holds is no other version.
        asset("A", power_kw=Decimal(50), valid_from=datetime(2026, 2, 1, tzinfo=UTC), attributes={"colour": "red"}),
        asset("A", power_kw=Decimal(150), valid_from=datetime(2026, 4, 1, tzinfo=UTC)),
        asset("A", power_kw=Decimal(150), emi3_id="AU*WAT*E1", valid_from=datetime(2026, 5, 1, tzinfo=UTC)),
    ]
    with connect(Role.INGEST) as connection, Writer(connection, CONFIG).batch() as batch:
        for version in versions:
            batch.add_assets([version], MIDNIGHT, is_whole_evse=False)
    transform()
    assert rows_of("dim_connector_version", "valid_from, valid_until, power_kw, emi3_id, is_listed") == [
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC), 50, None, True),
        (datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC), 150, None, True),
        (datetime(2026, 5, 1, tzinfo=UTC), None, 150, "AU*WAT*E1", True),
    ]


def test_what_is_hardly_true_is_flagged_and_not_changed() -> None:
    good = {"latitude": -33.9, "longitude": 151.2, "postcode": "2000", "state": "NSW", "power_kw": Decimal(50)}
    sites: dict[str, dict[str, Any]] = {
        "good": {},
        "zero": {"latitude": 0.0, "longitude": 0.0},
        "nowhere": {"latitude": None, "longitude": None},
        "swapped": {"latitude": 151.2, "longitude": -33.9, "time_zone": "Australia/Perth"},
        "abroad": {"latitude": 48.8, "longitude": 9.2, "time_zone": "Europe/Berlin"},
        "german": {"latitude": 48.8, "longitude": 9.2, "country": "DE", "time_zone": "Europe/Berlin", "state": "BW"},
        "unboxed": {"latitude": 48.8, "longitude": 9.2, "country": "XX", "time_zone": "Europe/Berlin"},
        "clock": {"time_zone": "Europe/Berlin"},
        "post": {"postcode": "3000"},
        "kw": {"power_kw": Decimal("0.05")},
        "watts": {"power_kw": Decimal(50_000)},
        "powerless": {"power_kw": None},
    }
    with connect(Role.INGEST) as connection, Writer(connection, CONFIG).batch() as batch:
        batch.add_assets(
            (
                replace(
                    asset("A", **(good | more)),
                    site_ref=reference(name),
                    site_id=name,
                    charger_ref=reference(name, "A"),
                    evse_ref=reference(name, "A"),
                )
                for name, more in sites.items()
            ),
            DAY,
            is_whole_evse=False,
        )
    transform()
    with connect(Role.ANALYST) as connection:
        found = set(
            connection.execute(
                "select site_id, suspicion, connector_key is not null from marts.fct_asset_suspicion"
                " inner join marts.dim_site using (site_key)"
            ).fetchall()
        )
        stated = connection.execute(
            "select latitude, longitude from marts.dim_site where site_id = 'swapped'"
        ).fetchone()
    assert found == {
        ("zero", "coordinates_zero", False),
        ("nowhere", "coordinates_missing", False),
        ("swapped", "coordinates_swapped", False),
        ("swapped", "time_zone_elsewhere", False),
        ("abroad", "coordinates_outside_country", False),
        ("clock", "time_zone_elsewhere", False),
        ("post", "postcode_of_another_state", False),
        ("kw", "power_too_low", True),
        ("watts", "power_too_high", True),
        ("powerless", "power_missing", True),
    }
    assert stated == (151.2, -33.9)


def test_the_live_view_knows_nothing_of_an_evse_that_was_not_heard_of_since_a_loss() -> None:
    noon = MIDNIGHT - timedelta(hours=12)
    assets = (asset("A"), asset("B"))
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, CONFIG)
        both = tuple(Told(reference("S1", evse_id), "AVAILABLE") for evse_id in "AB")
        writer.write_messages([(Message("test", assets=assets, told=both), noon)])
        writer.write_stretch(noon, noon + timedelta(seconds=60), Outcome.LOST)
        again = noon + timedelta(seconds=90)
        writer.write_messages([(Message("test", told=(Told(reference("S1", "B"), "CHARGING"),)), again)])
    transform()
    with connect(Role.PORTAL) as connection:
        known = dict(connection.execute("select evse_id, known_until from live.evse_status").fetchall())
        feeds = connection.execute(
            "select cpo_id, last_contact_at, known_until, evse_count, available_count, charging_count from live.feed_health"
        ).fetchall()
    assert known == {"A": noon, "B": again + timedelta(seconds=300)}
    assert feeds == [("wattle", again, again + timedelta(seconds=300), 2, 1, 1)]


def test_contacts_of_a_file_are_looked_up_where_a_feed_has_no_life() -> None:
    at = MIDNIGHT - timedelta(hours=12)
    with connect(Role.INGEST) as connection, Writer(connection, CONFIG).batch() as batch:
        batch.add_assets([asset("A")], at, is_whole_evse=True)
        batch.add_states({reference("S1", "A"): ("AVAILABLE", None)}, at, at, is_full=True)
        batch.add_contacts([Contact(at, at, Outcome.COMPLETE, at)])
    transform()
    with connect(Role.PORTAL) as connection:
        found = connection.execute("select last_contact_at, known_until from live.evse_status").fetchall()
    assert found == [(at, at + timedelta(seconds=300))]


def test_bases_that_lead_nowhere_fail_the_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(REPOSITORY / "dbt_project", project)
    monkeypatch.setattr("warehouse.transform.PROJECT", project)
    bases = project / "seeds" / "status_profile_bases.csv"
    bases.write_text("status_profile,base_profile\nround,about\nabout,round\nlost,nowhere\n", encoding="utf-8")
    with pytest.raises(
        TransformError, match=r"every_status_profile_has_a_base_that_leads_somewhere: Got [0-9]+ results"
    ):
        transform()
