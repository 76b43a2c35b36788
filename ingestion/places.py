"""What a place on the map says."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ingestion.times import is_time_zone

if TYPE_CHECKING:
    from timezonefinder import TimezoneFinder


@lru_cache(maxsize=65536)
def time_zone_at(latitude: float, longitude: float) -> str | None:
    """IANA zone of a place on land; ``None`` at sea, where only a mistake puts a charger (and at 0, 0)."""
    zone = _finder().timezone_at_land(lat=latitude, lng=longitude)
    return zone if zone is not None and is_time_zone(zone) else None


@lru_cache(maxsize=1)
def _finder() -> TimezoneFinder:
    # Heavy: only for whoever asks.
    from timezonefinder import TimezoneFinder

    return TimezoneFinder()
