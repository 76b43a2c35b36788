"""What a run takes as new, and what it touches."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingestion.config import CpoConfig
from ingestion.model import Asset, Contact, Outcome, reference
from ingestion.told import Change
from ingestion.writer import Writer
from warehouse import transform as transformation
from warehouse.connection import REPOSITORY, Role, connect
from warehouse.transform import TransformError, transform

pytestmark = pytest.mark.usefixtures("warehouse")


@pytest.fixture(autouse=True)
def only_the_hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs build the daily fact and what it stands on: all marts take twice the time, and other tests compare them."""
    if request.node.get_closest_marker("all_marts"):
        return
    whole = transformation.run_dbt

    def run_dbt(arguments: list[str], variables: dict[str, str]) -> list[transformation.NodeRun]:
        hub = ["--select", "+fct_evse_status_daily", "+dim_evse", "dim_cpo", "fct_transform_run"]
        # Of the tests those that read nothing else.
        return whole([*arguments, *hub, "--indirect-selection", "cautious"], variables)

    monkeypatch.setattr(transformation, "run_dbt", run_dbt)


NOW = datetime.now(UTC).replace(microsecond=0)


def config(**feed: Any) -> CpoConfig:
    settings = {"kind": "history", "status_profile": "history", "liveness_seconds": 300}
    return CpoConfig.model_validate({"cpo_id": "wattle", "name": "Wattle", "feed": settings | feed})


def asset(evse_id: str, **more: Any) -> Asset:
    described = {
        "time_zone": "Australia/Perth", "power_kw": Decimal(50), "charger_ref": "s/c", "charger_id": "C",
    } | more  # fmt: skip
    return Asset(
        site_ref="s", site_id="S", evse_ref=reference("s", evse_id), evse_id=evse_id, connector_ref="1", connector_id="1",
        **described,
    )  # fmt: skip


def write(
    *,
    assets: Iterable[Asset] = (),
    changes: Iterable[tuple[str, str, datetime]] = (),
    polls: Iterable[datetime] = (),
    stretches: Iterable[tuple[datetime, datetime, Outcome]] = (),
    settings: CpoConfig | None = None,
) -> None:
    """One transaction of the ingest role."""
    with connect(Role.INGEST) as connection, Writer(connection, settings or config()).batch() as batch:
        batch.add_assets(assets, NOW, is_whole_evse=False)
        keys = batch.evse_keys()
        batch.add_changes(Change(keys[reference("s", evse_id)], at, word, NOW, None) for evse_id, word, at in changes)
        batch.add_contacts(Contact(at, at, Outcome.COMPLETE, NOW) for at in polls)
        batch.add_contacts(Contact(since, until, outcome, NOW) for since, until, outcome in stretches)


def touched() -> set[tuple[str, date]]:
    """(EVSE, local date) that the last run computed."""
    with connect(Role.TRANSFORM) as connection:
        return set(
            connection.execute(
                "select evse_id, local_date from intermediate.int_evse__touched_days"
                " inner join marts.dim_evse using (evse_key)"
            ).fetchall()
        )


def daily() -> list[tuple[Any, ...]]:
    with connect(Role.ANALYST) as connection:
        return connection.execute(
            "select evse_key, local_date, status, seconds from marts.fct_evse_status_daily order by 1, 2, 3"
        ).fetchall()


def seconds_of(*evse_ids: str) -> list[tuple[Any, ...]]:
    """(EVSE, status, seconds) over all days."""
    with connect(Role.ANALYST) as connection:
        return connection.execute(
            "select evse_id, status, sum(seconds) from marts.fct_evse_status_daily inner join marts.dim_evse using (evse_key)"
            " where evse_id = any(%s) group by 1, 2",
            (list(evse_ids),),
        ).fetchall()


def assert_equal_to_a_full_refresh() -> None:
    """The same rows come out when all is computed anew for the same cut-off."""
    incremental = daily()
    with connect(Role.ANALYST) as connection:
        (as_of,) = connection.execute("select max(as_of) from marts.fct_transform_run").fetchone() or (None,)
    transform(full_refresh=True, as_of=as_of)
    assert daily() == incremental


def two_evses(settings: CpoConfig | None = None) -> datetime:
    """Two EVSEs that were polled every minute of a day, ten days ago; return the first poll."""
    start = NOW - timedelta(days=10)
    write(
        assets=[asset("A", valid_from=start), asset("B", valid_from=start)],
        changes=[("A", "available", start), ("B", "charging", start)],
        polls=[start + timedelta(minutes=minute) for minute in range(1440)],
        settings=settings,
    )
    return start


def local_date(at: datetime) -> date:
    return (at + timedelta(hours=8)).date()


def test_a_transformation_reads_what_was_committed_just_before_it() -> None:
    two_evses()
    transform()
    assert {status for _, _, status, _ in daily()} == {"available", "charging", "missing"}


def test_a_late_change_touches_its_evse_from_its_day_to_the_next_observation() -> None:
    start = two_evses()
    write(changes=[("A", "available", start + timedelta(days=4)), ("A", "charging", start + timedelta(days=6))])
    transform()
    late = start + timedelta(days=3)
    write(changes=[("A", "out_of_order", late)])
    transform()
    today = {("A", local_date(NOW)), ("B", local_date(NOW))}
    # B is touched where A's message shows that the feed was alive.
    sign_of_life = {(evse, local_date(late + timedelta(seconds=second))) for evse in "AB" for second in (0, 299)}
    to_next = {("A", local_date(late + timedelta(days=day))) for day in (0, 1)}
    assert touched() - today == sign_of_life | to_next
    assert_equal_to_a_full_refresh()


def a_stream(broken_for: timedelta) -> tuple[datetime, datetime, datetime]:
    """Two EVSEs whose feed was held for six days until three days ago, each told once at its begin; return that, and the break on the third day."""
    start = (NOW - timedelta(days=9)).replace(hour=18)
    broken = start + timedelta(days=2, seconds=0.2)
    back = broken + broken_for
    write(
        assets=[asset("A", valid_from=start), asset("B", valid_from=start)],
        changes=[("A", "available", start), ("B", "charging", start)],
        stretches=[(start, broken, Outcome.ALIVE), (back, start + timedelta(days=6), Outcome.ALIVE)],
    )
    return start, broken, back


def test_a_late_loss_touches_the_days_from_it_to_the_end_of_its_island() -> None:
    start, lost, back = a_stream(broken_for=timedelta(seconds=0.3))
    transform()
    assert {status for _, status, _ in seconds_of("A")} == {"available", "missing"}
    write(changes=[("A", "finishing", lost + timedelta(hours=30))], stretches=[(lost, back, Outcome.LOST)])
    transform()
    days = {local_date(lost) + timedelta(days=day) for day in range(5)}
    assert max(days) == local_date(start + timedelta(days=6, seconds=300))
    # A's own message touches it for longer: to its next observation, of which there is none.
    assert {day for evse, day in touched() if evse == "B"} - {local_date(NOW)} == days
    found = {(evse, status): seconds for evse, status, seconds in seconds_of("A", "B")}
    two_days = 2 * 24 * 3600
    assert found["A", "available"] == found["B", "charging"] == two_days
    assert found["A", "finishing"] == 6 * 24 * 3600 + 300 - two_days - 30 * 3600
    assert start + timedelta(days=2) == lost.replace(microsecond=0)
    assert_equal_to_a_full_refresh()


def test_a_late_loss_before_a_complete_contact_touches_no_day_after_it() -> None:
    start = two_evses()
    transform()
    lost = start + timedelta(hours=3)
    write(stretches=[(lost, lost + timedelta(seconds=90), Outcome.LOST)])
    transform()
    assert {day for _, day in touched()} - {local_date(NOW)} == {local_date(lost)}
    # Polled each minute: known again from the first one after it.
    known = {(evse, status): seconds for evse, status, seconds in seconds_of("A", "B")}
    assert known["A", "available"] == known["B", "charging"] == 1439 * 60 + 300 - 120
    assert_equal_to_a_full_refresh()


@pytest.mark.parametrize("pieces", [1, 3])
def test_what_another_collector_held_was_not_lost_also_when_that_is_learnt_later(pieces: int) -> None:
    _, lost, back = a_stream(broken_for=timedelta(seconds=45))
    transform()
    before = daily()
    write(stretches=[(lost, back, Outcome.LOST)])
    transform()
    assert daily() != before
    step = timedelta(seconds=50 / pieces)
    held = [lost - timedelta(seconds=2) + step * piece for piece in range(pieces)]
    write(stretches=[(since, since + step, Outcome.ALIVE) for since in held[:-1]])
    transform()
    assert daily() != before
    write(stretches=[(held[-1], held[-1] + step, Outcome.ALIVE)])
    transform()
    until_now = {local_date(NOW), local_date(datetime.now(UTC))}
    assert [row for row in daily() if row[1] not in until_now] == [row for row in before if row[1] not in until_now]
    assert_equal_to_a_full_refresh()


def test_nothing_new_touches_nothing_but_the_time_that_passed() -> None:
    two_evses()
    transform()
    transform()
    assert {day for _, day in touched()} <= {local_date(NOW), local_date(datetime.now(UTC))}


def test_a_corrected_time_zone_touches_all_days_of_its_evse_alone() -> None:
    start = two_evses()
    transform()
    write(assets=[asset("A", time_zone="Australia/Lord_Howe", valid_from=start)])
    transform()
    assert {day for evse, day in touched() if evse == "A"} >= {
        local_date(start + timedelta(days=d)) for d in range(1, 10)
    }
    assert {day for evse, day in touched() if evse == "B"} <= {local_date(NOW), local_date(datetime.now(UTC))}
    assert_equal_to_a_full_refresh()


def test_a_commissioning_date_stays_when_a_later_description_states_none() -> None:
    start = two_evses()
    commissioned = local_date(start) + timedelta(days=2)
    write(assets=[asset("A", commissioned_on=commissioned, valid_from=start)])
    write(assets=[asset("A", valid_from=start + timedelta(days=1), site_name="Renamed")])
    transform()
    with connect(Role.ANALYST) as connection:
        found = connection.execute(
            "select commissioned_on, (in_service_from at time zone 'Australia/Perth')::date from marts.dim_evse"
            " where evse_id = 'A'"
        ).fetchone()
    assert found == (commissioned, commissioned)


def test_a_record_ahead_of_the_cut_off_counts_once_its_time_has_come() -> None:
    two_evses()
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=12)
    write(changes=[("A", "reserved", soon)], polls=[soon])
    first = transform()
    assert first.as_of < soon, "the machine is too slow for this test"
    with connect(Role.OWNER) as connection:
        connection.execute("select pg_sleep_until(%s)", (soon + timedelta(seconds=3),))
    assert not transform().is_full_refresh
    incremental = daily()
    assert "reserved" in {status for _, _, status, _ in incremental}
    # B has been charging since, told by the complete contact alone.
    assert [status for _, day, status, _ in incremental if day >= local_date(soon)].count("charging") == 1


def test_a_changed_liveness_computes_everything_anew() -> None:
    two_evses()
    transform()
    before = daily()
    write(settings=config(liveness_seconds=3600))
    assert transform().is_full_refresh
    assert daily() != before


def test_changed_code_or_seeds_compute_everything_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(REPOSITORY / "dbt_project", project)
    monkeypatch.setattr("warehouse.transform.PROJECT", project)
    start = two_evses()
    write(changes=[("A", "resting", start + timedelta(hours=1))])
    transform()
    assert "blocked" not in {status for _, _, status, _ in daily()}
    with (project / "seeds" / "status_profiles.csv").open("a", encoding="utf-8") as file:
        file.write("history,resting,2010-01-01,blocked\n")
    assert transform().is_full_refresh
    assert "blocked" in {status for _, _, status, _ in daily()}


def test_a_run_that_fails_is_made_up_for_by_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    start = two_evses()
    transform()
    write(changes=[("A", "out_of_order", start + timedelta(hours=1))])
    with monkeypatch.context() as broken:
        broken.setattr("warehouse.transform._finish", _fail)
        with pytest.raises(TransformError):
            transform()
    transform()
    assert "out_of_order" in {status for _, _, status, _ in daily()}
    assert_equal_to_a_full_refresh()


def _fail(*_: object) -> None:
    raise TransformError("broken on purpose")


def test_an_open_writer_holds_the_cut_off_back_and_nothing_is_skipped() -> None:
    two_evses()
    with connect(Role.INGEST) as slow, Writer(slow, config()).batch() as batch:
        opened = slow.execute("select now()").fetchone()
        assert opened is not None
        batch.add_contacts([Contact(NOW - timedelta(days=5), NOW - timedelta(days=5), Outcome.COMPLETE, NOW)])
        assert transform().as_of <= opened[0]
    transform()
    with connect(Role.TRANSFORM) as connection:
        islands = connection.execute("select count(*) from intermediate.int_feed__contact_islands").fetchone()
    assert islands == (2,)


@pytest.mark.all_marts
def test_tables_that_views_stand_on_are_filled_again_and_not_swapped() -> None:
    two_evses()
    transform()
    kept = ("dim_cpo", "dim_site", "dim_charger", "dim_evse", "dim_connector", "fct_evse_status_daily")
    with connect(Role.OWNER) as connection:
        for name in kept:
            connection.execute(f"create view marts.on_{name} as select count(*) as row_count from marts.{name}")
    transform()
    with connect(Role.OWNER) as connection:
        for name in kept:
            assert connection.execute(f"select row_count > 0 from marts.on_{name}").fetchone() == (True,)


def two_plugs(begin: datetime, *told: tuple[str, str, datetime], **more: Any) -> None:
    """Virtual EVSEs of one charger, held from two days before ``begin`` on and free until then."""
    start = begin - timedelta(days=2)
    write(
        assets=[asset("A", valid_from=start, **more), asset("B", valid_from=start)],
        changes=[("A", "available", start), ("B", "available", start), *told],
        stretches=[(start, begin + timedelta(days=4), Outcome.ALIVE)],
        settings=config(virtual_evses=True),
    )
    transform()


def days_from(first: datetime, last: datetime) -> set[date]:
    return {local_date(first) + timedelta(days=day) for day in range((local_date(last) - local_date(first)).days + 1)}


def blocked_seconds(*evse_ids: str) -> dict[str, int]:
    return {evse: seconds for evse, status, seconds in seconds_of(*evse_ids) if status == "blocked_by_sibling"}


def test_a_late_change_touches_the_other_plugs_of_a_charger() -> None:
    begin = NOW - timedelta(days=6)
    end, late = begin + timedelta(days=3), begin + timedelta(days=1)
    two_plugs(
        begin,
        *[("B", "charging", begin), ("A", "unavailable", begin + timedelta(seconds=120))],
        *[("B", "available", end), ("A", "available", end)],
    )
    assert blocked_seconds("A", "B") == {"A": 3 * 86400 - 120}
    write(changes=[("B", "reserved", late)], settings=config(virtual_evses=True))
    assert not transform().is_full_refresh
    assert blocked_seconds("A", "B") == {"A": 86400 - 120}
    # Also where the feed was alive already.
    today = {local_date(NOW), local_date(datetime.now(UTC))}
    assert {(evse, day) for evse, day in touched() if day not in today} == {
        (evse, day) for evse in "AB" for day in days_from(late, end) - today
    }
    assert_equal_to_a_full_refresh()


def test_a_late_change_that_moves_a_begin_touches_all_that_began_with_it() -> None:
    begin = NOW - timedelta(days=6)
    end = begin + timedelta(days=3)
    two_plugs(
        begin,
        *[("B", "preparing", begin), ("B", "charging", begin + timedelta(minutes=5))],
        *[("B", "finishing", end - timedelta(hours=1)), ("B", "available", end)],
        *[("A", "unavailable", begin + timedelta(seconds=20)), ("A", "available", end + timedelta(minutes=1))],
    )
    assert blocked_seconds("A") == {"A": 3 * 86400 - 20}
    # It was free again for some minutes: A was down before the charging began.
    write(changes=[("B", "available", begin + timedelta(minutes=2))], settings=config(virtual_evses=True))
    assert not transform().is_full_refresh
    assert blocked_seconds("A") == {"A": 100}
    assert {day for evse, day in touched() if evse == "A"} >= days_from(begin, end)
    assert_equal_to_a_full_refresh()


def test_what_was_down_before_or_goes_on_after_is_down() -> None:
    begin = NOW - timedelta(days=6)
    two_plugs(
        begin,
        *[("A", "out_of_order", begin - timedelta(seconds=121)), ("A", "unavailable", begin)],
        *[("B", "charging", begin), ("B", "available", begin + timedelta(hours=1))],
    )
    assert blocked_seconds("A") == {}
    write(changes=[("A", "available", begin - timedelta(seconds=60))], settings=config(virtual_evses=True))
    transform()
    assert blocked_seconds("A") == {"A": 3600}
    down = {status: seconds for _, status, seconds in seconds_of("A")}
    assert (down["out_of_order"], down["unavailable"]) == (61, 4 * 86400 - 3600 + 300)
    assert_equal_to_a_full_refresh()


def test_a_plug_of_another_charger_than_was_thought_is_told_apart_on_all_days() -> None:
    begin = NOW - timedelta(days=6)
    end = begin + timedelta(days=3)
    told = [("B", "charging", begin), ("A", "unavailable", begin), ("B", "available", end), ("A", "available", end)]
    two_plugs(begin, *told)
    assert blocked_seconds("A") == {"A": 3 * 86400}
    moved = asset("B", charger_ref="s/d", charger_id="D", valid_from=begin - timedelta(days=2))
    write(assets=[moved], settings=config(virtual_evses=True))
    assert not transform().is_full_refresh
    assert blocked_seconds("A") == {}
    assert_equal_to_a_full_refresh()


def test_a_feed_that_turns_out_to_have_virtual_evses_is_computed_anew() -> None:
    start = two_evses()
    write(changes=[("A", "unavailable", start), ("A", "available", start + timedelta(hours=1))])
    transform()
    assert blocked_seconds("A") == {}
    write(settings=config(virtual_evses=True))
    assert transform().is_full_refresh
    assert blocked_seconds("A") == {"A": 3600}
