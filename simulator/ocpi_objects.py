"""Locations and credentials as each OCPI version writes them. Pure."""

from __future__ import annotations

import base64
from typing import Any

from simulator.sources import Location, Party

VERSIONS = ("2.1.1", "2.2.1", "2.3.0")

_FALLBACK_WORDS = {"finishing": "CHARGING", "unavailable": "INOPERATIVE", "out_of_order": "OUTOFORDER"}
"""OCPI's nearest word for those of CPOs that have more."""

_SINCE_2_2 = ("country_code", "party_id", "publish", "state")


def ocpi_word(word: str) -> str:
    """Return a source's word in OCPI's; one that nobody knows stays as it is."""
    return _FALLBACK_WORDS.get(word, word.upper() if word.islower() else word)


def location_in(version: str, location: Location) -> Location:
    """Write a location of 2.2.1 as ``version`` has it."""
    evses = location.get("evses")
    if isinstance(evses, list):
        evses = [evse_in(version, evse) for evse in evses]
    written = {**location, "evses": evses} if "evses" in location else dict(location)
    if version == "2.1.1":
        written = {key: value for key, value in written.items() if key not in _SINCE_2_2}
        return {"id": written.pop("id", None), "type": "OTHER", **written}
    if version == "2.3.0":
        written.setdefault("parking_type", "PARKING_LOT")
    return written


def evse_in(version: str, evse: dict[str, Any]) -> dict[str, Any]:
    """Write an EVSE of 2.2.1 as ``version`` has it."""
    written = dict(evse)
    if isinstance(evse.get("status"), str):
        written["status"] = ocpi_word(evse["status"])
    if version == "2.1.1" and isinstance(evse.get("connectors"), list):
        written["connectors"] = [_connector_of_2_1_1(connector) for connector in evse["connectors"]]
    return written


def _connector_of_2_1_1(connector: dict[str, Any]) -> dict[str, Any]:
    """2.1.1 has no power: amperes are those that volts need to give it."""
    written = dict(connector)
    volts, amperes = written.pop("max_voltage", None), written.pop("max_amperage", None)
    power = written.pop("max_electric_power", None)
    if power and volts:
        amperes = round(power / volts / (3 if connector.get("power_type") == "AC_3_PHASE" else 1))
    return written | {"voltage": volts, "amperage": amperes}


def credentials_in(version: str, token: str, url: str, parties: tuple[Party, ...], role: str = "CPO") -> dict[str, Any]:
    """Write credentials: one party at the top in 2.1.1, roles since 2.2."""
    if version == "2.1.1":
        party = parties[0]
        details = {"name": party.name}
        return {
            "token": token,
            "url": url,
            "country_code": party.country_code,
            "party_id": party.party_id,
            "business_details": details,
        }
    roles = [
        {
            "role": role,
            "country_code": party.country_code,
            "party_id": party.party_id,
            "business_details": {"name": party.name},
        }
        for party in parties
    ]
    return {"token": token, "url": url, "roles": roles}


def authorization(version: str, token: str) -> str:
    """Write the Authorization header: raw in 2.1.1, base64 since 2.2."""
    return "Token " + (token if version == "2.1.1" else base64.b64encode(token.encode()).decode())


def tokens_in(header: str | None) -> tuple[str, str]:
    """Return what an Authorization header may say: the token as it stands, and decoded (empty, when it is not base64)."""
    raw = (header or "").removeprefix("Token ").strip()
    try:
        return raw, base64.b64decode(raw, validate=True).decode().strip()
    except ValueError:
        return raw, ""
