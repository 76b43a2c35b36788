"""Locations, as an OCPI answer lists them, to assets and statuses. Pure: no network, no clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from ingestion.config import CpoConfig, OcpiFeed, OcpiPushFeed
from ingestion.model import Asset, Translated, is_cut, reference
from ingestion.ocpi.models import Connector, Evse, Findings, Location
from ingestion.ocpi.versions import DIALECTS
from ingestion.places import time_zone_at
from ingestion.times import is_time_zone
from ingestion.values import MAX_POWER_KW, charger_prefix, parse_degrees, parse_timestamp, payload_text, rated_power_kw

_POWER_KEYS = ("power_type", "max_electric_power", "max_voltage", "max_amperage", "voltage", "amperage")


class NotReadableAgainError(ValueError):
    """A quarantined record does not hold what is needed to translate it again."""


@dataclass(frozen=True)
class _Site:
    """What all EVSEs of a Location share."""

    raw: dict[str, Any]
    ref: str
    """What every identity begins with: the party, when it is not the feed's own, and the location id."""
    record_ref: str
    location: Location
    time_zone: str
    latitude: float | None
    longitude: float | None
    attributes: dict[str, Any]

    @cached_property
    def context(self) -> str:
        """What stands around a rejected EVSE: one text for all of them."""
        return payload_text({"location": _without(self.raw, "evses")})


@dataclass(slots=True)
class _Answer:
    """What was taken so far from one answer."""

    feed: OcpiFeed
    naive_time_zone: ZoneInfo
    findings: Findings
    assets: list[Asset] = field(default_factory=list)
    statuses: dict[str, tuple[str, datetime | None]] = field(default_factory=dict)
    taken: dict[str, object] = field(default_factory=dict)
    """evse_ref to the object it was read from."""
    documents: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    other_count: int = 0


def translate_locations(items: Iterable[object], feed: OcpiFeed, source: str) -> Translated:
    """Translate one whole answer: ``items`` as `parse_json` gives them, ``source`` where they came from (a
    URL path).

    Each object that cannot be taken is rejected alone. No input raises.
    """
    answer = _Answer(feed, ZoneInfo(feed.naive_time_zone), Findings(source))
    for index, raw in enumerate(items):
        _take_location(answer, raw, index)
    return Translated(
        tuple(answer.assets),
        answer.statuses,
        tuple(answer.findings.rejected),
        documents=tuple(answer.documents),
        other_count=answer.other_count,
    )


def retranslate(payload: str, context: str | None, config: CpoConfig) -> Translated:
    """Translate a quarantined record again: a Location, or an EVSE or a connector within its ``context``.

    Of the Location only this record is told; of an EVSE whose connector is read again, only that connector.
    Raises ``NotReadableAgainError`` for a record (or context) that was too long and is cut, and for one of which only a field was dropped: the
    object itself was kept.
    """
    if not isinstance(config.feed, OcpiFeed):
        raise NotReadableAgainError(f"{config.cpo_id}: a feed of kind {config.feed.kind} tells no OCPI objects")
    if is_cut(payload) or (context is not None and is_cut(context)):
        raise NotReadableAgainError("the record is longer than what the quarantine keeps, and cut")
    try:
        record = json.loads(payload)
        around = None if context is None else json.loads(context)
    except ValueError:
        raise NotReadableAgainError("the record is no OCPI object") from None
    if isinstance(around, dict) and "location" in around:
        if "evse" in around:
            record = around["evse"] | {"connectors": [record]}
        record = around["location"] | {"evses": [record]}
    elif not isinstance(record, dict) or "evses" not in record:
        raise NotReadableAgainError(
            "no Location with EVSEs: only a field was dropped, the object that it stood in was kept"
        )
    return translate_locations([record], config.feed, "quarantine")


def _take_location(answer: _Answer, raw: object, index: int) -> None:
    parties = answer.feed.parties
    if parties and isinstance(raw, dict) and _party_of(raw, answer.feed.party) not in parties:
        answer.other_count += 1
        return
    record_ref = _spelling(raw, "id", index)
    location = answer.findings.read(Location, raw, record_ref)
    if location is None or not isinstance(raw, dict):
        return
    full_party = _party(location.country_code, location.party_id, answer.feed.party)
    party = None if full_party == answer.feed.party else full_party
    if party:
        record_ref = f"{party}/{record_ref}"
    if isinstance(answer.feed, OcpiPushFeed):
        answer.documents.append((full_party, location.id, raw))
    latitude, longitude = _coordinates(location, answer, record_ref)
    time_zone, time_zone_source = _time_zone(location, latitude, longitude, answer, record_ref)
    if time_zone is None:
        said = f"'{location.time_zone}' is no IANA time zone" if location.time_zone else "no time zone"
        reason = f"{said}, no coordinates on land, and the feed's settings name none"
        answer.findings.reject(record_ref, "time_zone", reason, raw)
        return
    site = _Site(
        raw=raw,
        ref=reference(party, location.id) if party else reference(location.id),
        record_ref=record_ref,
        location=location,
        time_zone=time_zone,
        latitude=latitude,
        longitude=longitude,
        attributes=_present(
            operator_name=_operator_name(location),
            party=full_party,
            parking_type=getattr(location, DIALECTS[answer.feed.version].parking_type),
            publish=location.publish,
            time_zone_source=time_zone_source,
        ),
    )
    for position, raw_evse in enumerate(location.evses or ()):
        _take_evse(answer, site, raw_evse, position)


def _take_evse(answer: _Answer, site: _Site, raw: object, position: int) -> None:
    path = f"evses[{position}]."
    record_ref = f"{site.record_ref}/{_spelling(raw, 'uid', position)}"
    evse = answer.findings.read(Evse, raw, record_ref, path, lambda: site.context)
    if evse is None or not isinstance(raw, dict):
        return
    evse_ref = f"{site.ref}/{reference(evse.uid)}"
    if evse_ref in answer.taken:
        if answer.taken[evse_ref] != raw:
            answer.findings.reject(record_ref, path + "uid", "repeated in the same answer", raw, site.context)
        return

    def around() -> str:
        return payload_text({"location": _without(site.raw, "evses"), "evse": _without(raw, "connectors")})

    connectors = _connectors(answer, evse, record_ref, path, around)
    if not connectors:
        reason = "no connector that can be read" if evse.connectors else "no connector"
        answer.findings.reject(record_ref, path + "connectors", reason, raw, site.context)
        return
    answer.taken[evse_ref] = raw
    answer.statuses[evse_ref] = (evse.status, _last_updated(answer, evse, record_ref, path))
    charger_id = _charger_id(evse, answer.feed)
    place = site.location
    attributes = site.attributes | _present(floor_level=evse.floor_level, physical_reference=evse.physical_reference)
    charger_ref = f"{site.ref}/{reference(charger_id)}"
    for connector_ref, (connector, power_kw) in connectors.items():
        answer.assets.append(
            Asset(
                site_ref=site.ref,
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
                attributes=attributes | _said_of(connector),
            )
        )


def _said_of(connector: Connector) -> dict[str, Any]:
    """What a connector says of itself, with the figures that its power was made of as they were sent."""
    return _present(
        connector_format=connector.format,
        power_type=connector.power_type,
        max_voltage=connector.voltage if connector.max_voltage is None else connector.max_voltage,
        max_amperage=connector.amperage if connector.max_amperage is None else connector.max_amperage,
        max_electric_power=connector.max_electric_power,
    )


def _connectors(
    answer: _Answer, evse: Evse, evse_record_ref: str, evse_path: str, around: Callable[[], str]
) -> dict[str, tuple[Connector, Decimal | None]]:
    """The readable connectors of an EVSE by their reference, each with its power."""
    taken: dict[str, tuple[Connector, Decimal | None]] = {}
    raws: dict[str, object] = {}
    for position, raw in enumerate(evse.connectors or ()):
        path = f"{evse_path}connectors[{position}]."
        record_ref = f"{evse_record_ref}/{_spelling(raw, 'id', position)}"
        connector = answer.findings.read(Connector, raw, record_ref, path, around)
        if connector is None:
            continue
        connector_ref = reference(connector.id)
        if connector_ref in taken:
            if raws[connector_ref] != raw:
                answer.findings.reject(record_ref, path + "id", "repeated in the same answer", raw, around())
            continue
        power_kw = connector_power_kw(connector)
        if power_kw is not None and power_kw > MAX_POWER_KW:
            sent = {name: raw.get(name) for name in _POWER_KEYS if isinstance(raw, dict) and raw.get(name) is not None}
            reason = f"kept without power: {power_kw} kW cannot be"
            answer.findings.reject(record_ref, path + "max_electric_power", reason, sent)
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


def _charger_id(evse: Evse, feed: OcpiFeed) -> str:
    if feed.charger_id == "physical_reference":
        return evse.physical_reference or evse.uid
    if feed.charger_id == "evse_id_prefix" and evse.evse_id:
        return charger_prefix(evse.evse_id) or evse.uid
    return evse.uid


def _party(country_code: str | None, party_id: str | None, own: str) -> str:
    """``country_code*party_id`` in capitals; what the Location leaves out is the feed's own."""
    own_country_code, _, own_party_id = own.partition("*")
    return f"{country_code or own_country_code}*{party_id or own_party_id}".upper()


def _party_of(raw: dict[str, Any], own: str) -> str:
    """The party of a Location that is not read yet."""
    country_code, party_id = (
        str(value).strip() if isinstance(value := raw.get(name), str | int) else None
        for name in ("country_code", "party_id")
    )
    return _party(country_code, party_id, own)


def _time_zone(
    location: Location, latitude: float | None, longitude: float | None, answer: _Answer, record_ref: str
) -> tuple[str | None, str | None]:
    """The site's zone, and where it came from when the Location itself does not say.

    Coordinates know better than the feed's settings, unless they lead out of their part of the world (``Australia/``): then they are wrong.
    """
    if location.time_zone and is_time_zone(location.time_zone):
        return location.time_zone, None
    zone, source = answer.feed.time_zone, "feed"
    found = None if latitude is None or longitude is None else time_zone_at(latitude, longitude)
    if found and (zone is None or zone.partition("/")[0] == found.partition("/")[0]):
        zone, source = found, "coordinates"
    if zone is None:
        return None, None
    if location.time_zone:
        reason = f"kept with {zone}, known from the {source}: no IANA time zone"
        answer.findings.reject(record_ref, "time_zone", reason, location.time_zone)
    return zone, source


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


def _without(record: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != key}


def _spelling(raw: object, key: str, position: int) -> str:
    """How the source spells an id, for people to find the record again; ``#position`` when it has none."""
    value = raw.get(key) if isinstance(raw, dict) else None
    if type(value) is str and (text := value.strip()):
        return text
    if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
        return str(value).strip()
    return f"#{position}"
