"""EVSEs that change every few seconds: for tests that have no day to wait. The truth is exact to the millisecond."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from simulator.sources import Change, Location, Party

EVSES_PER_LOCATION = 10

# Slots have words of the one kind and the other in turn, so that each slot is a change whatever is drawn.
_WORDS = (("AVAILABLE", "AVAILABLE", "RESERVED"), ("CHARGING", "CHARGING", "OUTOFORDER", "BLOCKED"))

QUICK_CHARGE = Party("AU", "QCK", "Quick Charge")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@lru_cache(maxsize=200_000)
def _drawn(seed: int, uid: str, slot: int) -> tuple[int, int]:
    digest = hashlib.blake2b(f"{seed}/{uid}/{slot}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")


@dataclass(frozen=True)
class QuickSource:
    """``evse_count`` EVSEs, each of which changes once in every ``mean_seconds``, at a drawn moment of them.

    Changes of one EVSE are at least a quarter of ``mean_seconds`` apart. Ids are digits: EVSE 12 is ``1001/100112``.
    """

    seed: int
    evse_count: int
    mean_seconds: float
    party: Party = QUICK_CHARGE

    def __post_init__(self) -> None:
        if self.evse_count < 1 or self.mean_seconds < 0.01:
            raise ValueError("a quick source has at least one EVSE, and at least 0.01 seconds between its changes")

    @property
    def parties(self) -> tuple[Party, ...]:
        """The one operator."""
        return (self.party,)

    def changes(self, since: datetime, until: datetime) -> list[Change]:
        """Return what changed in ``(since, until]``."""
        first, last = _milliseconds(since), _milliseconds(until)
        return sorted(
            Change(_EPOCH + at * _MILLISECOND, self.party, location_id, uid, word)
            for location_id, uid in self._ids()
            for slot in range(first // self._slot, last // self._slot + 1)
            for at, word in [self._change(uid, slot)]
            if first < at <= last
        )

    def locations(self, now: datetime) -> list[Location]:
        """Return every location with the statuses of ``now``."""
        found: dict[str, Location] = {}
        at = _milliseconds(now)
        for number, (location_id, uid) in enumerate(self._ids()):
            evse = self._evse(uid, at)
            location = found.setdefault(location_id, self._location(location_id, number // EVSES_PER_LOCATION))
            location["evses"].append(evse)
            location["last_updated"] = max(location["last_updated"], evse["last_updated"])
        return list(found.values())

    @property
    def _slot(self) -> int:
        return round(self.mean_seconds * 1000)

    def _ids(self) -> Iterator[tuple[str, str]]:
        for number in range(self.evse_count):
            yield str(1001 + number // EVSES_PER_LOCATION), str(100_100 + number)

    def _change(self, uid: str, slot: int) -> tuple[int, str]:
        """Return the moment, in milliseconds since 1970, and the word of a slot."""
        moment, choice = _drawn(self.seed, uid, slot)
        words = _WORDS[slot % 2]
        return slot * self._slot + moment % max(1, self._slot * 3 // 4), words[choice % len(words)]

    def _evse(self, uid: str, at: int) -> dict[str, Any]:
        changed_at, word = self._change(uid, at // self._slot)
        if changed_at > at:
            changed_at, word = self._change(uid, at // self._slot - 1)
        return {
            "uid": uid,
            "evse_id": f"{self.party.country_code}*{self.party.party_id}*E{uid}",
            "status": word,
            "connectors": [
                {
                    "id": "1",
                    "standard": "IEC_62196_T2_COMBO",
                    "format": "CABLE",
                    "power_type": "DC",
                    "max_voltage": 500,
                    "max_amperage": 200,
                    "max_electric_power": 75_000,
                    "last_updated": "2026-01-01T00:00:00Z",
                }
            ],
            "last_updated": moment_text(_EPOCH + changed_at * _MILLISECOND),
        }

    def _location(self, location_id: str, number: int) -> Location:
        return {
            "country_code": self.party.country_code,
            "party_id": self.party.party_id,
            "id": location_id,
            "publish": True,
            "name": f"{self.party.name} {location_id}",
            "address": f"{number + 1} Quick Street",
            "city": "Dubbo",
            "postal_code": "2830",
            "state": "NSW",
            "country": "AUS",
            "coordinates": {"latitude": f"{-32.2 - number / 1000:.4f}", "longitude": "148.6000"},
            "evses": [],
            "operator": {"name": self.party.name},
            "time_zone": "Australia/Sydney",
            "last_updated": "",
        }


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def moment_text(moment: datetime) -> str:
    """Write a moment in UTC with its milliseconds: ``2026-10-01T00:00:07.250Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
