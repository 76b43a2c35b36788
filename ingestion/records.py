"""One record of texts to one asset: the columns of history files, which pushed descriptions share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

from ingestion.model import Asset, reference

ASSET_COLUMNS = (
    "site_id", "site_name", "address", "suburb", "postcode", "state", "latitude", "longitude", "time_zone",
    "charger_id", "evse_id", "connector_id", "connector_standard", "power_kw",
)  # fmt: skip
ASSET_OPTIONAL = ("country", "emi3_id", "valid_from", "commissioned_on")


def start_of_day(day: str, zone: str) -> datetime | None:
    """Local midnight of an ISO date in UTC; ``None`` when it is no date."""
    try:
        parsed = date.fromisoformat(day)
    except ValueError:
        return None
    return datetime(parsed.year, parsed.month, parsed.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def asset_of(
    record: Mapping[str, str], zone: str, valid_from: datetime | None, note: Callable[[str, str], None]
) -> Asset:
    """Build one asset from texts by column (``ASSET_COLUMNS``, where "" says nothing); of further columns each is an attribute.

    A value that cannot be used is left out and noted (field, reason); the rest of the record is used.
    """

    def number(name: str, low: float, high: float) -> float | None:
        if record[name] == "":
            return None
        try:
            value = float(record[name])
        except ValueError:
            value = float("nan")
        if low <= value <= high:
            return value
        note(name, f"'{record[name]}' is not a number from {low:g} to {high:g}; kept without it")
        return None

    power = None
    if record["power_kw"] != "":
        try:
            power = Decimal(record["power_kw"]).quantize(Decimal("0.001"))
        except InvalidOperation:
            power = None
        if power is None or power.is_nan() or not 0 <= power < 100_000:
            note("power_kw", f"'{record['power_kw']}' is not a power in kW; kept without it")
            power = None
    commissioned_on = None
    if record.get("commissioned_on"):
        try:
            commissioned_on = datetime.fromisoformat(record["commissioned_on"]).date()
        except ValueError:
            note("commissioned_on", f"'{record['commissioned_on']}' is not an ISO 8601 date; kept without it")
    charger_id = record["charger_id"] or record["evse_id"]
    return Asset(
        site_ref=reference(record["site_id"]),
        site_id=record["site_id"],
        charger_ref=reference(record["site_id"], charger_id),
        charger_id=charger_id,
        evse_ref=reference(record["site_id"], record["evse_id"]),
        evse_id=record["evse_id"],
        connector_ref=reference(record["connector_id"]),
        connector_id=record["connector_id"],
        time_zone=zone,
        site_name=record["site_name"] or None,
        address=record["address"] or None,
        suburb=record["suburb"] or None,
        postcode=_postcode(record["postcode"], record.get("country", "")) or None,
        state=record["state"] or None,
        country=record.get("country") or None,
        latitude=number("latitude", -90, 90),
        longitude=number("longitude", -180, 180),
        emi3_id=record.get("emi3_id") or None,
        connector_standard=record["connector_standard"] or None,
        power_kw=power,
        commissioned_on=commissioned_on,
        valid_from=valid_from,
        attributes={
            name: value for name, value in record.items() if name not in ASSET_COLUMNS + ASSET_OPTIONAL and value != ""
        },
    )


def _postcode(text: str, country: str) -> str:
    """Give an Australian postcode back the zero that a spreadsheet took from it: 800 is 0800."""
    is_australian = country.upper() in ("", "AU", "AUS")
    return f"0{text}" if is_australian and re.fullmatch(r"[0-9]{3}", text) else text
