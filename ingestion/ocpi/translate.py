"""Locations, as an OCPI answer lists them, to assets and statuses. Pure: no network, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from ingestion.config import OcpiPullFeed
from ingestion.model import Asset, Translated, reference
from ingestion.ocpi.models import Connector, Evse, Findings, Location
from ingestion.times import is_time_zone
from ingestion.values import MAX_POWER_KW, charger_prefix, parse_degrees, parse_timestamp, rated_power_kw


@dataclass(frozen=True, slots=True)
class _Site:
    """What all EVSEs of a Location share."""

    parts: tuple[str, ...]
    """Leading parts of every identity: the party, when it is not the feed's own, and the location id."""
    record_ref: str
    location: Location
    time_zone: str
    latitude: float | None
    longitude: float | None
    attributes: dict[str, Any]


@dataclass(slots=True)
class _Answer:
    """What was taken so far from one answer."""

    feed: OcpiPullFeed
    naive_time_zone: ZoneInfo
    findings: Findings
    assets: list[Asset] = field(default_factory=list)
    statuses: dict[str, tuple[str, datetime | None]] = field(default_factory=dict)
    taken: dict[str, object] = field(default_factory=dict)
    """evse_ref to the object it was read from."""


def translate_locations(items: Iterable[object], feed: OcpiPullFeed, source: str) -> Translated:
    """Translate one whole answer: ``items`` as `parse_json` gives them, ``source`` where they came from (a
    URL path).

    Each object that cannot be taken is rejected alone. No input raises.
    """
    answer = _Answer(feed, ZoneInfo(feed.naive_time_zone), Findings(source))
    for index, raw in enumerate(items):
        _take_location(answer, raw, index)
    return Translated(tuple(answer.assets), answer.statuses, tuple(answer.findings.rejected))


def _take_location(answer: _Answer, raw: object, index: int) -> None:
    record_ref = _spelling(raw, "id", index)
    location = answer.findings.read(Location, raw, record_ref)
    if location is None:
        return
    party = _other_party(location, answer.feed.party)
    if party:
        record_ref = f"{party}/{record_ref}"
    time_zone = _time_zone(location, answer, record_ref)
    if time_zone is None:
        said = f"'{location.time_zone}' is no IANA time zone" if location.time_zone else "no time zone"
        answer.findings.reject(record_ref, "time_zone", f"{said} and the feed's settings name none", raw)
        return
    latitude, longitude = _coordinates(location, answer, record_ref)
    site = _Site(
        parts=(party, location.id) if party else (location.id,),
        record_ref=record_ref,
        location=location,
        time_zone=time_zone,
        latitude=latitude,
        longitude=longitude,
        attributes=_present(
            operator_name=_operator_name(location),
            party=_party(location, answer.feed.party),
            parking_type=location.parking_type,
            publish=location.publish,
        ),
    )
    for position, raw_evse in enumerate(location.evses or ()):
        _take_evse(answer, site, raw_evse, position)


def _take_evse(answer: _Answer, site: _Site, raw: object, position: int) -> None:
    path = f"evses[{position}]."
    record_ref = f"{site.record_ref}/{_spelling(raw, 'uid', position)}"
    evse = answer.findings.read(Evse, raw, record_ref, path)
    if evse is None:
        return
    evse_ref = reference(*site.parts, evse.uid)
    if evse_ref in answer.taken:
        if answer.taken[evse_ref] != raw:
            answer.findings.reject(record_ref, path + "uid", "repeated in the same answer", raw)
        return
    connectors = _connectors(answer, evse, record_ref, path)
    if not connectors:
        reason = "no connector that can be read" if evse.connectors else "no connector"
        answer.findings.reject(record_ref, path + "connectors", reason, raw)
        return
    answer.taken[evse_ref] = raw
    answer.statuses[evse_ref] = (evse.status, _last_updated(answer, evse, record_ref, path))
    charger_id = _charger_id(evse, answer.feed)
    place = site.location
    attributes = site.attributes | _present(floor_level=evse.floor_level, physical_reference=evse.physical_reference)
    site_ref = reference(*site.parts)
    charger_ref = reference(*site.parts, charger_id)
    for connector_ref, (connector, power_kw) in connectors.items():
        answer.assets.append(
            Asset(
                site_ref=site_ref,
                site_id=place.id,
                charger_ref=charger_ref,
                charger_id=charger_id,
                evse_ref=evse_ref,
                evse_id=evse.uid,
                connector_ref=connector_ref,
                connector_id=connector.id,
                time_zone=site.time_zone,
                site_name=place.name or None,
                address=place.address or None,
                suburb=place.city or None,
                postcode=place.postal_code or None,
                state=place.state or None,
                country=place.country or None,
                latitude=site.latitude,
                longitude=site.longitude,
                emi3_id=evse.evse_id or None,
                connector_standard=connector.standard or None,
                power_kw=power_kw,
                attributes=attributes | _present(connector_format=connector.format, power_type=connector.power_type),
            )
        )


def _connectors(
    answer: _Answer, evse: Evse, evse_record_ref: str, evse_path: str
) -> dict[str, tuple[Connector, Decimal | None]]:
    """The readable connectors of an EVSE by their reference, each with its power."""
    taken: dict[str, tuple[Connector, Decimal | None]] = {}
    raws: dict[str, object] = {}
    for position, raw in enumerate(evse.connectors or ()):
        path = f"{evse_path}connectors[{position}]."
        record_ref = f"{evse_record_ref}/{_spelling(raw, 'id', position)}"
        connector = answer.findings.read(Connector, raw, record_ref, path)
        if connector is None:
            continue
        connector_ref = reference(connector.id)
        if connector_ref in taken:
            if raws[connector_ref] != raw:
                answer.findings.reject(record_ref, path + "id", "repeated in the same answer", raw)
            continue
        power_kw = connector_power_kw(connector)
        if power_kw is not None and power_kw > MAX_POWER_KW:
            answer.findings.reject(
                record_ref, path + "max_electric_power", f"kept without power: {power_kw} kW cannot be", raw
            )
            power_kw = None
        taken[connector_ref] = (connector, power_kw)
        raws[connector_ref] = raw
    return taken


def connector_power_kw(connector: Connector) -> Decimal | None:
    """Rated power: ``max_electric_power`` when above zero, else volts times amperes times phases, else
    ``None``."""
    # "x or y": zero says nothing, and the older name is a fallback.
    return rated_power_kw(
        (connector.power_type or "").upper(),
        connector.max_voltage or connector.voltage or 0,
        connector.max_amperage or connector.amperage or 0,
        connector.max_electric_power or 0,
    )


def _charger_id(evse: Evse, feed: OcpiPullFeed) -> str:
    if feed.charger_id == "physical_reference":
        return evse.physical_reference or evse.uid
    if feed.charger_id == "evse_id_prefix" and evse.evse_id:
        return charger_prefix(evse.evse_id) or evse.uid
    return evse.uid


def _party(location: Location, own: str) -> str:
    """``country_code*party_id`` in capitals; what the Location leaves out is the feed's own."""
    country_code, _, party_id = own.partition("*")
    return f"{location.country_code or country_code}*{location.party_id or party_id}".upper()


def _other_party(location: Location, own: str) -> str | None:
    party = _party(location, own)
    return None if party == own.upper() else party


def _time_zone(location: Location, answer: _Answer, record_ref: str) -> str | None:
    if location.time_zone and is_time_zone(location.time_zone):
        return location.time_zone
    fallback = answer.feed.time_zone
    if fallback and location.time_zone:
        answer.findings.reject(
            record_ref,
            "time_zone",
            f"kept with the feed's {fallback}: no IANA time zone",
            location.time_zone,
        )
    return fallback


def _coordinates(location: Location, answer: _Answer, record_ref: str) -> tuple[float | None, float | None]:
    """Latitude and longitude as sent, or neither, with a note. Swapped ones in range stay swapped."""
    sent = location.coordinates
    if sent is None:
        return None, None
    latitude = parse_degrees(sent.get("latitude"), 90)
    longitude = parse_degrees(sent.get("longitude"), 180)
    if latitude is None or longitude is None:
        wrong = "latitude" if latitude is None else "longitude"
        answer.findings.reject(
            record_ref, f"coordinates.{wrong}", "kept without coordinates: not a number in range", sent
        )
        return None, None
    return latitude, longitude


def _last_updated(answer: _Answer, evse: Evse, record_ref: str, path: str) -> datetime | None:
    if not evse.last_updated:
        return None
    try:
        return parse_timestamp(evse.last_updated, answer.naive_time_zone)
    except ValueError:
        answer.findings.reject(
            record_ref, path + "last_updated", "kept without this field: no timestamp", evse.last_updated
        )
        return None


def _operator_name(location: Location) -> str | None:
    name = (location.operator or {}).get("name")
    return name.strip() if isinstance(name, str) else None


def _present(**values: object) -> dict[str, Any]:
    """Those that say something."""
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _spelling(raw: object, key: str, position: int) -> str:
    """How the source spells an id, for people to find the record again; ``#position`` when it has none."""
    value = raw.get(key) if isinstance(raw, dict) else None
    if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
        return str(value).strip()
    return f"#{position}"
