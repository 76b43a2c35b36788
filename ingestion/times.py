"""What counts as a time and as a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

FUTURE_SKEW = timedelta(seconds=120)
"""How far ahead of our clock a time may lie and still be believed."""

EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
"""Times before it are clocks that were never set."""


@lru_cache(maxsize=1024)
def is_time_zone(name: str) -> bool:
    """Whether ``name`` is a zone of the IANA database, spelled as there."""
    # Found in the database's folder on many machines, but no zone of any place.
    if name.startswith(("posix", "right/")) or name in {"localtime", "Factory"}:
        return False
    try:
        return ZoneInfo(name).key == name
    # A folder's name ("Australia") is an OSError, a path out of the database a ValueError.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
