"""Months and local days as spans of time. Instants are whole seconds since 1970, spans are half-open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY_SECONDS = 86_400


class Span(NamedTuple):
    """Half-open stretch of time ``[start, end)`` in seconds since 1970."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month, in whichever zone it is asked for."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read ``YYYY-MM``. Raises ``ValueError`` for anything else."""
        if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", text):
            raise ValueError(f"'{text}' is not a month, write it as YYYY-MM")
        return cls(int(text[:4]), int(text[5:]))

    @classmethod
    def of(cls, at: int) -> Month:
        """Return the UTC month of an instant."""
        moment = datetime.fromtimestamp(at, UTC)
        return cls(moment.year, moment.month)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    def plus(self, months: int) -> Month:
        """Return the month that many months later (earlier when negative)."""
        index = self.year * 12 + self.month - 1 + months
        return Month(index // 12, index % 12 + 1)

    @property
    def first_day(self) -> date:
        """First day of the month."""
        return date(self.year, self.month, 1)

    @property
    def last_day(self) -> date:
        """Last day of the month."""
        return self.plus(1).first_day - timedelta(days=1)

    @property
    def first_sunday(self) -> date:
        """First Sunday: in April and October New South Wales changes its clocks on it."""
        return self.first_day + timedelta(days=6 - self.first_day.weekday())

    def span(self, time_zone: str) -> Span:
        """Return the local month."""
        after = self.plus(1).first_day
        return Span(local_midnight(self.first_day, time_zone), local_midnight(after, time_zone))


@lru_cache(maxsize=100_000)
def local_midnight(day: date, time_zone: str) -> int:
    """Return the instant at which a local day begins."""
    return int(datetime.combine(day, time(), ZoneInfo(time_zone)).timestamp())


def local_instant(day: date, clock: str, time_zone: str) -> int:
    """Return the instant of a wall clock time ``HH:MM:SS`` (the first one where the clock shows it twice)."""
    return int(datetime.combine(day, time.fromisoformat(clock), ZoneInfo(time_zone)).timestamp())


def local_days(span: Span, time_zone: str) -> Iterator[tuple[date, Span]]:
    """Yield the local days that a span touches, each with its part of the span."""
    day = datetime.fromtimestamp(span.start, ZoneInfo(time_zone)).date()
    start = span.start
    while start < span.end:
        day_end = local_midnight(day + timedelta(days=1), time_zone)
        end = min(day_end, span.end)
        yield day, Span(start, end)
        day += timedelta(days=1)
        start = end


def rfc3339(at: int) -> str:
    """Write an instant as ``2026-10-01T00:00:07Z``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
