"""Months and days as each site's own clock has them, from what was told to the marts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ingestion.model import Asset, Contact, Outcome
from ingestion.told import Change
from ingestion.writer import Writer
from tests.feeds import asset, history_config
from warehouse.connection import Role, connect
from warehouse.transform import transform

SYDNEY, BROKEN_HILL, LORD_HOWE, PERTH = (
    f"Australia/{name}" for name in ("Sydney", "Broken_Hill", "Lord_Howe", "Perth")
)
ZONES = (SYDNEY, BROKEN_HILL, LORD_HOWE, PERTH)
MARCH, APRIL, OCTOBER, NOVEMBER = (date(2026, month, 1) for month in (3, 4, 10, 11))
HOURS = {
    APRIL: {SYDNEY: 721, BROKEN_HILL: 721, LORD_HOWE: 720.5, PERTH: 720},
    OCTOBER: {SYDNEY: 743, BROKEN_HILL: 743, LORD_HOWE: 743.5, PERTH: 744},
}
BEGIN, END = datetime(2026, 3, 20, tzinfo=UTC), datetime(2026, 11, 5, tzinfo=UTC)
LIVENESS = timedelta(seconds=300)
GAPS = (
    # Over the ends of March and October wherever the site is, over the night of the clocks, and over a midnight.
    (datetime(2026, 3, 31, 10, 0, 7, tzinfo=UTC), datetime(2026, 3, 31, 22, 30, 1, tzinfo=UTC)),
    (datetime(2026, 10, 3, 10, 0, 7, tzinfo=UTC), datetime(2026, 10, 3, 22, 30, 1, tzinfo=UTC)),
    (datetime(2026, 10, 14, 12, 59, 59, tzinfo=UTC), datetime(2026, 10, 14, 16, 59, 3, tzinfo=UTC)),
    (datetime(2026, 10, 31, 10, 0, 7, tzinfo=UTC), datetime(2026, 10, 31, 22, 30, 1, tzinfo=UTC)),
)


def at_site(zone: str, name: str | None = None) -> Asset:
    """One EVSE at a site of its own, named by its zone."""
    name = name or zone
    return replace(
        asset(name), site_ref=name, site_id=name, charger_ref=name, evse_ref=name, time_zone=zone, valid_from=BEGIN
    )


def write(cpo_id: str, assets: Iterable[Asset], gaps: Iterable[tuple[datetime, datetime]] = ()) -> None:
    """A feed that was held but for the gaps; all that its EVSEs ever say is that they are available."""
    edges = [BEGIN, *(moment for gap in gaps for moment in gap), END]
    settings = history_config(cpo_id, ended_at=END)
    with connect(Role.INGEST) as connection, Writer(connection, settings).batch() as batch:
        batch.add_assets(assets, BEGIN, is_whole_evse=False)
        batch.add_changes(Change(key, BEGIN, "available", BEGIN, None) for key in batch.evse_keys().values())
        batch.add_contacts(
            Contact(since, until, Outcome.COMPLETE, BEGIN) for since, until in zip(edges[::2], edges[1::2], strict=True)
        )


def rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with connect(Role.ANALYST) as connection:
        return connection.execute(query, values).fetchall()  # type: ignore[call-overload, no-any-return]


def seconds_by_zone(cpo_id: str, column: str, month: date) -> dict[str, int]:
    """A figure of each site's month, by site."""
    return dict(
        rows(
            f"select site_id, {column} from marts.fct_site_uptime_monthly inner join marts.dim_site using (site_key)"
            " inner join marts.dim_cpo on dim_cpo.cpo_key = dim_site.cpo_key"
            " where cpo_id = %s and local_month = %s and rule_set = 'evc_2025'",
            cpo_id,
            month,
        )
    )


def midnight(day: date, zone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def silent_seconds(begin: datetime, end: datetime) -> int:
    """Time without contact in a stretch."""
    return sum(max(0, int((min(end, until) - max(begin, since + LIVENESS)).total_seconds())) for since, until in GAPS)


@pytest.fixture(scope="module", autouse=True)
def marts(module_warehouse: str) -> None:
    """A feed with gaps over four zones, and one of whose two sites the zone is wrong."""
    write("clocks", map(at_site, ZONES), GAPS)
    write("moved", [at_site(PERTH, "wrong"), at_site(PERTH, "right")])
    transform()


def test_a_month_has_the_hours_of_the_sites_own_clock() -> None:
    for month, hours in HOURS.items():
        expected = {zone: count * 3600 for zone, count in hours.items()}
        assert seconds_by_zone("clocks", "in_service_seconds", month) == expected


def test_the_nights_of_the_clocks_are_longer_and_shorter_by_what_the_site_does() -> None:
    found = rows(
        "select site_id, local_date, sum(seconds) / 3600.0 from marts.fct_evse_status_daily"
        " inner join marts.dim_evse using (evse_key) inner join marts.dim_site using (site_key)"
        " inner join marts.dim_cpo on dim_cpo.cpo_key = dim_site.cpo_key"
        " where cpo_id = 'clocks' and local_date between '2026-03-21' and '2026-11-04'"
        " group by site_id, local_date having sum(seconds) <> 86400"
    )
    assert {(site, day): float(hours) for site, day, hours in found} == {
        **dict.fromkeys(((SYDNEY, date(2026, 4, 5)), (BROKEN_HILL, date(2026, 4, 5))), 25.0),
        **dict.fromkeys(((SYDNEY, date(2026, 10, 4)), (BROKEN_HILL, date(2026, 10, 4))), 23.0),
        (LORD_HOWE, date(2026, 4, 5)): 24.5,
        (LORD_HOWE, date(2026, 10, 4)): 23.5,
    }


def test_a_gap_over_a_month_end_counts_in_each_month_for_its_part() -> None:
    next_month = {MARCH: APRIL, APRIL: date(2026, 5, 1), OCTOBER: NOVEMBER, NOVEMBER: date(2026, 12, 1)}
    for month, following in next_month.items():
        expected = {zone: silent_seconds(midnight(month, zone), min(midnight(following, zone), END)) for zone in ZONES}
        assert min(expected.values()) > 0
        assert seconds_by_zone("clocks", "missing_seconds", month) == expected


def test_a_gap_over_midnight_counts_on_each_day_for_its_part() -> None:
    found = rows(
        "select site_id, local_date, seconds from marts.fct_evse_status_daily"
        " inner join marts.dim_evse using (evse_key) inner join marts.dim_site using (site_key)"
        " inner join marts.dim_cpo on dim_cpo.cpo_key = dim_site.cpo_key"
        " where cpo_id = 'clocks' and status = 'missing'"
    )
    days = [BEGIN.date() + timedelta(days=number) for number in range((END - BEGIN).days + 2)]
    expected = {
        (zone, day): seconds
        for zone in ZONES
        for day in days
        if (seconds := silent_seconds(midnight(day, zone), midnight(day + timedelta(days=1), zone)))
    }
    assert {(site, day): seconds for site, day, seconds in found} == expected
    # Each of the four gaps lies on two days somewhere.
    assert len(expected) > 2 * len(ZONES) + len(GAPS)


def test_a_zone_that_is_corrected_moves_all_days_of_its_site_and_of_no_other() -> None:
    days = (
        "select evse_id, local_date, status, seconds from marts.fct_evse_status_daily inner join marts.dim_evse using (evse_key)"
        " inner join marts.dim_cpo using (cpo_key) where cpo_id = 'moved' order by 1, 2, 3"
    )
    marts = {
        name: f"select * from marts.{name} as it order by it::text"
        for name in (
            "fct_evse_status_daily", "fct_evse_status_span", "fct_site_uptime_daily", "fct_site_uptime_monthly", "dim_site",
        )
    }  # fmt: skip
    before = rows(days)
    write("moved", [replace(at_site(LORD_HOWE, "wrong"), valid_from=END - timedelta(days=1))])
    assert not transform().is_full_refresh
    after = rows(days)
    assert [row for row in after if row[0] == "right"] == [row for row in before if row[0] == "right"]
    for month, hours in HOURS.items():
        assert seconds_by_zone("moved", "in_service_seconds", month) == {
            "wrong": hours[LORD_HOWE] * 3600,
            "right": hours[PERTH] * 3600,
        }
    incremental = {name: rows(query) for name, query in marts.items()}
    (as_of,) = rows("select max(as_of) from marts.fct_transform_run")[0]
    transform(full_refresh=True, as_of=as_of)
    assert {name: rows(query) for name, query in marts.items()} == incremental
