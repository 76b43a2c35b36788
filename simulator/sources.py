"""Whatever can be served: locations as they are at a time, and what changed between two times.

A source is a function of time alone: what it says of a second does not depend on who asked before. Locations are OCPI 2.2.1 objects with the
source's own status words; every protocol makes its own form of them. A change belongs to ``(since, until]``, so that locations as of ``since``
and the changes since then say together what locations as of ``until`` say.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from simulator.history import OCPI_WORDS
from simulator.months import DAY_SECONDS, Span, rfc3339
from simulator.timeline import timeline
from simulator.world import Cpo, Evse, Site, Words, World

Location = dict[str, Any]


class Party(NamedTuple):
    """An operator as OCPI names it."""

    country_code: str
    party_id: str
    name: str


class Change(NamedTuple):
    """An EVSE took a status. In order of time."""

    at: datetime
    party: Party
    location_id: str
    uid: str
    word: str

    @property
    def evse_ref(self) -> str:
        """Identity within its party: location id and uid, case-folded."""
        return f"{self.location_id}/{self.uid}".casefold()


class Source(Protocol):
    """Whatever has locations to serve."""

    @property
    def parties(self) -> tuple[Party, ...]:
        """The operators whose locations these are; a hub has several."""
        ...

    def locations(self, now: datetime) -> list[Location]:
        """Return all locations as of ``now``, always in the same order. The caller may alter them."""
        ...

    def changes(self, since: datetime, until: datetime) -> list[Change]:
        """Return what changed in ``(since, until]``, in order."""
        ...


def words_at(source: Source, at: datetime) -> dict[str, str]:
    """Return the word of every EVSE at a time, by evse_ref; a hub's EVSEs have their party (``au*ban/``) in front."""
    is_hub = len(source.parties) > 1
    return {
        ((f"{place['country_code']}*{place['party_id']}/" if is_hub else "") + f"{place['id']}/{evse['uid']}").casefold(): evse["status"]
        for place in source.locations(at)
        for evse in place["evses"]
    }  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """Locations from a file, the same at all times."""

    items: list[Location]

    @classmethod
    def of(cls, document: Any) -> Replay:
        """Accept a bare list, ``{"data": [...]}`` or ``{"items": [...]}``; else ``ValueError``."""
        items = document
        if isinstance(document, dict):
            items = document.get("data", document.get("items"))
        if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
            raise ValueError("holds no list of OCPI locations, bare or as 'data' or 'items'")
        return cls(items)

    @property
    def parties(self) -> tuple[Party, ...]:
        """Those that the locations name."""
        named = {(str(item.get("country_code", "XX")), str(item.get("party_id", "XXX"))) for item in self.items}
        return tuple(Party(country_code, party_id, party_id) for country_code, party_id in sorted(named))

    def locations(self, now: datetime) -> list[Location]:
        """Return the file's locations."""
        return copy.deepcopy(self.items)

    def changes(self, since: datetime, until: datetime) -> list[Change]:
        """Return nothing."""
        return []


@dataclass(frozen=True)
class WorldSource:
    """The locations of one simulated CPO; times are whole seconds."""

    world: World
    cpo: Cpo

    @property
    def parties(self) -> tuple[Party, ...]:
        """The CPO."""
        return (Party(self.cpo.country_code, self.cpo.party_id, self.cpo.name),)

    def locations(self, now: datetime) -> list[Location]:
        """Return every site with the statuses of ``now``."""
        at = int(now.timestamp())
        evses = self.world.evses(self.cpo.cpo_id, Span(at, at + 1))
        places = ((site, [evse for evse in evses if evse.site == site]) for site in self.world.sites)
        return [self._location(site, [self._evse(evse, at) for evse in present]) for site, present in places if present]

    def changes(self, since: datetime, until: datetime) -> list[Change]:
        """Return the changes, and the first word of an EVSE that appeared."""
        span = Span(int(since.timestamp()), int(until.timestamp()) + 1)
        found = []
        for evse in self.world.evses(self.cpo.cpo_id, span):
            appears = span.start if evse.lifecycle is None else evse.lifecycle.appears
            steps = timeline(self.world, evse, Span(max(span.start, appears), span.end))
            found += [
                Change(
                    datetime.fromtimestamp(step.at, UTC), self.parties[0], evse.site.site_id, evse.uid, self._word(step.status)
                )
                for step in steps
                if step.at > span.start
            ]  # fmt: skip
        return sorted(found)

    def _word(self, status: str) -> str:
        return status if self.cpo.words is Words.CANONICAL else OCPI_WORDS[status]

    def _location(self, site: Site, evses: list[dict[str, Any]]) -> Location:
        return {
            "country_code": self.cpo.country_code,
            "party_id": self.cpo.party_id,
            "id": site.site_id,
            "publish": True,
            "name": site.name,
            "address": site.address,
            "city": site.suburb,
            "postal_code": site.postcode,
            "state": site.state,
            "country": "AUS",
            "coordinates": {"latitude": f"{site.latitude:.4f}", "longitude": f"{site.longitude:.4f}"},
            "evses": evses,
            "operator": {"name": self.cpo.name},
            "time_zone": site.time_zone,
            "last_updated": max(evse["last_updated"] for evse in evses),
        }

    def _evse(self, evse: Evse, at: int) -> dict[str, Any]:
        # Looking back no further than yesterday's start, last_updated also moves once a day for no reason,
        # as that of real feeds does.
        last = timeline(self.world, evse, Span((at // DAY_SECONDS - 1) * DAY_SECONDS, at + 1))[-1]
        return {
            "uid": evse.uid,
            "evse_id": evse.emi3_id,
            "status": self._word(last.status),
            "connectors": [
                {
                    "id": connector.connector_id,
                    "standard": connector.standard,
                    "format": connector.connector_format,
                    "power_type": connector.power_type,
                    "max_voltage": connector.max_voltage,
                    "max_amperage": connector.max_amperage,
                    "last_updated": rfc3339(evse.described_since),
                }
                | (
                    {"max_electric_power": connector.max_electric_power_w}
                    if connector.max_electric_power_w is not None
                    else {}
                )
                for connector in evse.connectors
            ],
            "last_updated": rfc3339(last.at),
        }


@dataclass(frozen=True)
class Hub:
    """Several sources over one connection. The first location of each has the same id."""

    members: tuple[Source, ...]
    shared_id: str = "SHARED-1"

    @property
    def parties(self) -> tuple[Party, ...]:
        """Those of all members."""
        return tuple(party for member in self.members for party in member.parties)

    def locations(self, now: datetime) -> list[Location]:
        """Return the locations of one member after the other's."""
        found = []
        for member in self.members:
            first, *others = member.locations(now)
            found += [{**first, "id": self.shared_id}, *others]
        return found

    def changes(self, since: datetime, until: datetime) -> list[Change]:
        """Return the changes of all members."""
        found = []
        for member in self.members:
            first = member.locations(until)[0]["id"]
            found += [
                change._replace(location_id=self.shared_id) if change.location_id == first else change
                for change in member.changes(since, until)
            ]
        return sorted(found)
