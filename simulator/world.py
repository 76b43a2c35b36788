"""Three invented CPOs: operators, sites, chargers, EVSEs and connectors.

The places in ``sites.csv`` are real (suburb, postcode, coordinates, zone), what stands there is not.
Everything else follows from a seed.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path

from simulator.months import Month, Span, local_instant, local_midnight

DEFAULT_SEED = 7
SYDNEY = "Australia/Sydney"
BROKEN_HILL = "Australia/Broken_Hill"
LORD_HOWE = "Australia/Lord_Howe"
PERTH = "Australia/Perth"

DESCRIBED_SINCE = local_midnight(date(2025, 1, 1), "UTC")
"""When the descriptions of all long-standing assets became true."""


class FeedKind(StrEnum):
    """How a CPO tells: asked for its full list again and again, or a live stream of changes."""

    POLLED = "polled"
    STREAM = "stream"


class Words(StrEnum):
    """Whose status words a CPO uses: those of OCPI 2.2.1, or the warehouse's own (there are more of them)."""

    OCPI = "ocpi_2_2_1"
    CANONICAL = "canonical"


@dataclass(frozen=True, slots=True)
class Cpo:
    """An operator. ``poll_second`` is the second of the minute at which its history was polled."""

    cpo_id: str
    name: str
    country_code: str
    party_id: str
    kind: FeedKind
    words: Words
    liveness_seconds: int = 300
    poll_seconds: int = 60
    poll_second: int = 0


@dataclass(frozen=True, slots=True)
class Site:
    """A place with chargers (OCPI Location)."""

    cpo_id: str
    site_id: str
    name: str
    address: str
    suburb: str
    postcode: str
    state: str
    latitude: float
    longitude: float
    time_zone: str


@dataclass(frozen=True, slots=True)
class Connector:
    """A plug or socket, in OCPI's words. Without ``max_electric_power_w``, volts and amperes tell it."""

    connector_id: str
    standard: str
    connector_format: str
    power_type: str
    max_voltage: int
    max_amperage: int
    max_electric_power_w: int | None

    @property
    def power_kw(self) -> Decimal:
        """Rated power. The voltage of AC_3_PHASE is line to neutral."""
        if self.max_electric_power_w is not None:
            return Decimal(self.max_electric_power_w) / 1000
        phases = 3 if self.power_type == "AC_3_PHASE" else 1
        return Decimal(self.max_voltage * self.max_amperage * phases) / 1000


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The life of an EVSE that comes and goes, in seconds since 1970.

    The CPO tells about it in ``[appears, forgotten)``; it is planned until ``opens``, and removed from
    ``removed`` on.
    """

    appears: int
    opens: int
    removed: int
    forgotten: int


@dataclass(frozen=True, slots=True)
class Evse:
    """The part that serves one vehicle at a time."""

    site: Site
    charger_id: str
    uid: str
    emi3_id: str
    connectors: tuple[Connector, ...]
    sessions_per_day: float
    is_fast: bool
    commissioned_on: date | None = None
    lifecycle: Lifecycle | None = None

    @property
    def cpo_id(self) -> str:
        """Id of its operator."""
        return self.site.cpo_id

    @property
    def ref(self) -> str:
        """Identity within the feed: site id and uid, case-folded."""
        return f"{self.site.site_id}/{self.uid}".casefold()

    @property
    def described_since(self) -> int:
        """When its description became true."""
        if self.lifecycle is None:
            return DESCRIBED_SINCE
        first = self.lifecycle.appears
        if self.commissioned_on is not None:
            first = min(first, local_midnight(self.commissioned_on, self.site.time_zone))
        return first - 7 * 86_400


CPOS = (
    Cpo("banksia", "Banksia Charge", "AU", "BAN", FeedKind.POLLED, Words.OCPI, poll_second=7),
    Cpo("mallee", "Mallee Power", "AU", "MAL", FeedKind.POLLED, Words.OCPI, poll_second=38),
    Cpo("tidewater", "Tidewater EV", "AU", "TID", FeedKind.STREAM, Words.CANONICAL),
)

_CCS = "IEC_62196_T2_COMBO"
_TYPE_2 = "IEC_62196_T2"


def _dc(connector_id: str, standard: str, kw: int) -> Connector:
    volts, amperes = (920, 500) if kw > 100 else (500, 200)
    return Connector(connector_id, standard, "CABLE", "DC", volts, amperes, kw * 1000)


def _ac(kw: int) -> Connector:
    """AC connectors state no power of their own: 230 V line to neutral and amperes give it."""
    power_type, amperage = {22: ("AC_3_PHASE", 32), 11: ("AC_3_PHASE", 16), 7: ("AC_1_PHASE", 32)}[kw]
    form = "SOCKET" if kw == 22 else "CABLE"
    return Connector("1", _TYPE_2, form, power_type, 230, amperage, None)


# model: EVSEs of a charger, each with its connectors
_MODELS: dict[str, tuple[tuple[Connector, ...], ...]] = {
    "D350": ((_dc("1", _CCS, 350),), (_dc("1", _CCS, 350),)),
    "D150": ((_dc("1", _CCS, 150), _dc("2", "CHADEMO", 50)), (_dc("1", _CCS, 150),)),
    "D75": ((_dc("A", _CCS, 75), _dc("B", "CHADEMO", 75)),),
    "D50": ((_dc("1", _CCS, 50), _dc("2", "CHADEMO", 50)),),
    "A22": ((_ac(22),), (_ac(22),)),
    "A11": ((_ac(11),),),
    "A7": ((_ac(7),),),
}

# In the month of such a date the EVSE is in service for a part of it, though it is told as available before.
_COMMISSIONED = {
    "AU*BAN*E0101*1": date(2025, 3, 4),
    "AU*BAN*E0103*2": date(2026, 10, 14),
    "AU*BAN*E1801*1": date(2026, 9, 18),
    "AU*BAN*E1601*1": date(2026, 4, 9),
    "AU*MAL*E0101*1": date(2024, 11, 20),
    "AU*MAL*E0202*1": date(2026, 10, 20),
    "AU*TID*E0101*1": date(2025, 7, 1),
    "AU*TID*E0302*2": date(2026, 11, 11),
}

_NEWCOMER_SITE = "Estuary Boardwalk"


@dataclass(frozen=True)
class World:
    """Everything there is. Build it with `build_world`."""

    seed: int
    sites: tuple[Site, ...]
    standing: tuple[Evse, ...]
    """EVSEs that are always there; `evses` adds those that come and go."""

    def __hash__(self) -> int:
        return self.seed

    def cpo(self, cpo_id: str) -> Cpo:
        """Return one operator. Raises ``KeyError`` naming those there are."""
        for cpo in CPOS:
            if cpo.cpo_id == cpo_id:
                return cpo
        raise KeyError(f"no CPO '{cpo_id}' here, there are: {', '.join(cpo.cpo_id for cpo in CPOS)}")

    @cached_property
    def by_emi3(self) -> dict[str, Evse]:
        """Standing EVSEs by eMI3 id."""
        return {evse.emi3_id: evse for evse in self.standing}

    def evses(self, cpo_id: str, span: Span) -> tuple[Evse, ...]:
        """Return the EVSEs that a CPO tells about at some time of a span."""
        self.cpo(cpo_id)
        found = [evse for evse in self.standing if evse.cpo_id == cpo_id]
        month = Month.of(span.start).plus(-2)
        while month <= Month.of(span.end).plus(2):
            for evse in self.newcomers(month):
                life = evse.lifecycle
                if life and evse.cpo_id == cpo_id and life.appears < span.end and span.start < life.forgotten:
                    found.append(evse)
            month = month.plus(1)
        return tuple(found)

    def newcomers(self, month: Month) -> tuple[Evse, ...]:
        """Return the three seasonal EVSEs of a month: new in it, removed in the middle of the next.

        ``-P``: planned until it opens, no commissioning date. ``-C``: opens on the eve of its commissioning
        date. ``-L``: commissioned, but nothing is told of it until three days later.
        """
        return tuple(_newcomers(self, month))


def _newcomers(world: World, month: Month) -> Iterator[Evse]:
    site = next(site for site in world.sites if site.name == _NEWCOMER_SITE)
    first, after = month.first_day, month.plus(1).first_day

    def at(day: date, clock: str) -> int:
        return local_instant(day, clock, site.time_zone)

    # letter, told from (day, clock), opens (days after the first, clock), commissioned (days after the first)
    plans = (
        ("P", first - timedelta(days=4), "09:00:00", 11, "10:41:17", None),
        ("C", first - timedelta(days=3), "09:30:00", 12, "15:12:05", 13),
        ("L", first + timedelta(days=7), "11:20:23", 7, "11:20:23", 4),
    )
    for number, plan in enumerate(plans, start=1):
        letter, appears_on, appears, opens_after, opens, commissioned_after = plan
        commissioned_on = None if commissioned_after is None else first + timedelta(days=commissioned_after)
        removed = at(after + timedelta(days=16), f"10:2{number}:45")
        charger_id = f"AU*TID*ES{letter}{month.year % 100:02d}{month.month:02d}"
        yield Evse(
            site=site,
            charger_id=charger_id,
            uid=f"tw-season-{month}-{letter}",
            emi3_id=f"{charger_id}*1",
            connectors=_MODELS["D75"][0],
            sessions_per_day=4.5,
            is_fast=True,
            commissioned_on=commissioned_on,
            lifecycle=Lifecycle(
                appears=at(appears_on, appears),
                opens=at(first + timedelta(days=opens_after), opens),
                removed=removed,
                forgotten=removed + 8 * 86_400,
            ),
        )


@lru_cache(maxsize=8)
def build_world(seed: int = DEFAULT_SEED) -> World:
    """Build the world of a seed: the same seed gives the same world, on any machine."""
    rng = random.Random(f"world/{seed}")
    sites: list[Site] = []
    evses: list[Evse] = []
    number_in_cpo: dict[str, int] = {}
    cpos = {cpo.cpo_id: cpo for cpo in CPOS}
    for row in _site_rows():
        cpo = cpos[row["cpo_id"]]
        number = number_in_cpo[cpo.cpo_id] = number_in_cpo.get(cpo.cpo_id, 0) + 1
        site = Site(
            cpo_id=cpo.cpo_id,
            site_id=_site_id(cpo, number, rng),
            name=row["site_name"],
            address=row["address"],
            suburb=row["suburb"],
            postcode=row["postcode"],
            state=row["state"],
            latitude=float(row["latitude"]),
            longitude=float(row["longitude"]),
            time_zone=row["time_zone"],
        )
        sites.append(site)
        for charger_number, model in enumerate(row["chargers"].split(), start=1):
            charger_id = f"{cpo.country_code}*{cpo.party_id}*E{number:02d}{charger_number:02d}"
            is_fast = model.startswith("D")
            for evse_number, connectors in enumerate(_MODELS[model], start=1):
                emi3_id = f"{charger_id}*{evse_number}"
                evses.append(
                    Evse(
                        site=site,
                        charger_id=charger_id,
                        uid=_uid(cpo, len(evses), rng),
                        emi3_id=emi3_id,
                        connectors=connectors,
                        sessions_per_day=rng.choice((2.5, 5.0, 8.0, 9.0) if is_fast else (0.3, 1.2, 2.5)),
                        is_fast=is_fast,
                        commissioned_on=_COMMISSIONED.get(emi3_id),
                    )
                )
    return World(seed, tuple(sites), tuple(evses))


def _site_rows() -> list[dict[str, str]]:
    """Read the places; ``chargers`` lists models of `_MODELS`."""
    with (Path(__file__).parent / "sites.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _site_id(cpo: Cpo, number: int, rng: random.Random) -> str:
    """Every operator numbers in its own way."""
    if cpo.cpo_id == "banksia":
        return f"BAN-LOC-{number:03d}"
    if cpo.cpo_id == "mallee":
        return str(7000 + number * 10 + rng.randrange(10))
    return f"tw_{number:02d}"


def _uid(cpo: Cpo, index: int, rng: random.Random) -> str:
    """Return the id that statuses refer to: never the eMI3 id; the index keeps it from occurring twice."""
    if cpo.cpo_id == "banksia":
        return f"{rng.randrange(16**6):06X}-{index:03d}"
    if cpo.cpo_id == "mallee":
        return str(9_000_000 + index * 1000 + rng.randrange(1000))
    return f"tw-{index:03d}-{rng.randrange(16**4):04x}"
