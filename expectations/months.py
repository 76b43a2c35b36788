"""Months and days as a site's own clock has them."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo


def first_day(month: str) -> date:
    """First day of ``YYYY-MM``. Raises ``ValueError`` for anything else."""
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", month):
        raise ValueError(f"'{month}' is not a month: write YYYY-MM, for example 2026-07")
    return date(int(month[:4]), int(month[5:]), 1)


def days(month: str) -> list[date]:
    """All days of ``YYYY-MM``."""
    first = first_day(month)
    return [first + timedelta(days=n) for n in range(calendar.monthrange(first.year, first.month)[1])]


def midnight(day: date, time_zone: str) -> datetime:
    """The instant, in UTC, at which ``day`` begins in an IANA zone."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(time_zone)).astimezone(UTC)


def midnights(month: str, time_zone: str) -> list[datetime]:
    """Begin of each day of the month and, last, the end of the month: 29 to 32 instants."""
    inside = days(month)
    return [midnight(day, time_zone) for day in [*inside, inside[-1] + timedelta(days=1)]]


def month_just_ended(now: datetime, time_zone: str) -> str:
    """The last month that is over at ``now`` in an IANA zone, as ``YYYY-MM``. ``now`` must be aware."""
    if now.tzinfo is None:
        raise ValueError("now must be an aware datetime")
    last_of_it = now.astimezone(ZoneInfo(time_zone)).date().replace(day=1) - timedelta(days=1)
    return f"{last_of_it:%Y-%m}"
