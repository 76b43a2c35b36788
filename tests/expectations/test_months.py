"""Months as each site's own clock has them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from expectations.months import first_day, midnights, month_just_ended


@pytest.mark.parametrize(
    ("month", "zone", "hours"),
    [
        ("2026-04", "Australia/Sydney", 721),
        ("2026-10", "Australia/Sydney", 743),
        ("2026-10", "Australia/Broken_Hill", 743),
        ("2026-10", "Australia/Lord_Howe", 743.5),
        ("2026-04", "Australia/Lord_Howe", 720.5),
        ("2026-10", "Australia/Perth", 744),
        ("2028-02", "Australia/Perth", 29 * 24),
    ],
)
def test_a_month_has_the_hours_of_its_zone(month: str, zone: str, hours: float) -> None:
    edges = midnights(month, zone)
    assert (edges[-1] - edges[0]).total_seconds() == hours * 3600


@pytest.mark.parametrize("text", ["2026-7", "2026-13", "2026-00", "202607", "2026-07-01", "", "2026-07\n", "1999-07"])
def test_what_is_not_a_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write YYYY-MM"):
        first_day(text)


@pytest.mark.parametrize(
    ("now", "zone", "month"),
    [
        (datetime(2026, 8, 2, 20, 0, tzinfo=UTC), "Australia/Sydney", "2026-07"),
        (datetime(2026, 7, 31, 13, 59, 59, tzinfo=UTC), "Australia/Sydney", "2026-06"),
        (datetime(2026, 7, 31, 14, 0, 0, tzinfo=UTC), "Australia/Sydney", "2026-07"),
        (datetime(2026, 7, 31, 14, 0, 0, tzinfo=UTC), "Australia/Perth", "2026-06"),
        (datetime(2027, 1, 3, tzinfo=UTC), "Australia/Perth", "2026-12"),
    ],
)
def test_the_month_just_ended_is_that_of_the_zone(now: datetime, zone: str, month: str) -> None:
    assert month_just_ended(now, zone) == month


def test_a_clock_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        month_just_ended(datetime(2026, 8, 3), "Australia/Sydney")  # noqa: DTZ001
