"""What counts as a time and as a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import available_timezones

FUTURE_SKEW = timedelta(seconds=120)
"""How far ahead of our clock a time may lie and still be believed."""

EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
"""Times before it are clocks that were never set."""


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def is_time_zone(name: str) -> bool:
    """Whether ``name`` is an IANA time zone known here, spelled as IANA spells it."""
    return name in _zones()
