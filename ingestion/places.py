"""What can be known of a place from its coordinates."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from ingestion.times import is_time_zone

if TYPE_CHECKING:
    from timezonefinder import TimezoneFinder


@lru_cache(maxsize=65_536)
def time_zone_at(latitude: float, longitude: float) -> str | None:
    """IANA zone on land at a place in degrees; ``None`` at sea, which is where unset coordinates (0, 0) lie."""
    zone = _finder().timezone_at(lat=latitude, lng=longitude)
    return zone if zone and not zone.startswith("Etc/") and is_time_zone(zone) else None


@cache
def _finder() -> TimezoneFinder:
    # Its data takes a while to load, and most feeds state their zones.
    from timezonefinder import TimezoneFinder

    return TimezoneFinder()
