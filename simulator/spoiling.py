"""What faults do to records: pure, whatever the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from fastapi import HTTPException

from simulator.quick import moment_text
from simulator.sources import Location
from simulator.switchboard import Switchboard

UNKNOWN_WORD = "OCCUPIED_MAYBE"
FLIPPED_WORD = "UNKNOWN"
LONG_AGO = "2026-01-01T00:00:00Z"


def spoil(locations: list[Location], board: Switchboard, protocol: str) -> list[Location]:
    """Alter locations by the faults that are on. One that names an EVSE which is not here answers 500."""
    if fault := board.spoils("missing_evse", protocol):
        evses, evse = _chosen(locations, fault.uid)
        evses.remove(evse)
    if fault := board.spoils("flip_all", protocol):
        for evse in _evses(locations):
            evse["status"] = fault.word or FLIPPED_WORD
    if fault := board.spoils("unknown_word", protocol):
        for evse in _evses(locations) if fault.uid is None else [_chosen(locations, fault.uid)[1]]:
            evse["status"] = fault.word or UNKNOWN_WORD
    if fault := board.spoils("clock_skew", protocol):
        for record in [*locations, *_evses(locations)]:
            if "last_updated" in record:
                record["last_updated"] = shifted(record["last_updated"], fault.wait)
    if board.spoils("without_time", protocol):
        for record in [*locations, *_evses(locations)]:
            record.pop("last_updated", None)
    if board.spoils("frozen_last_updated", protocol):
        for location in locations:
            location["last_updated"] = LONG_AGO
    if fault := board.spoils("null_lists", protocol):
        _with_nulls(locations, fault.variant)
    if board.spoils("numeric_ids", protocol):
        for location in locations:
            for record, key in [(location, "id"), *((evse, "uid") for evse in location["evses"] or [])]:
                record[key] = as_number(record.get(key))
    if fault := board.spoils("bad_object", protocol):
        _, evse = _chosen(locations, fault.uid)
        if fault.variant == "null_status":
            evse["status"] = None
        else:
            del evse["uid"]
    return locations


def bad_link(url: str, variant: str) -> str | None:
    """Write a Link header that leads astray: to the other scheme, another host, another path, or nowhere."""
    parts = urlsplit(url)
    if variant == "missing":
        return None
    if variant == "empty":
        return ""
    if variant == "foreign":
        parts = parts._replace(netloc="elsewhere.invalid")
    elif variant == "scheme":
        parts = parts._replace(scheme="http" if parts.scheme == "https" else "https")
    else:
        parts = parts._replace(path="/internal/api" + parts.path)
    return f'<{urlunsplit(parts)}>; rel="next"'


def shifted(text: str, seconds: float) -> str:
    """Shift a written time."""
    return moment_text(datetime.fromisoformat(text) + timedelta(seconds=seconds))


def as_number(value: Any) -> Any:
    """Make a number of a text of digits; leave anything else."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _evses(locations: list[Location]) -> Iterator[dict[str, Any]]:
    for location in locations:
        yield from location.get("evses") or []


def _chosen(locations: list[Location], uid: str | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return an EVSE by its uid, or the first one, with the list that it is in."""
    for location in locations:
        for evse in location.get("evses") or []:
            if uid is None or evse.get("uid") == uid:
                return location["evses"], evse
    raise HTTPException(500, f"a fault names EVSE '{uid}', which is not here")


def _with_nulls(locations: list[Location], variant: str | None) -> None:
    if variant == "evses":
        locations[0]["evses"] = None
    elif variant == "connectors":
        _chosen(locations, None)[1]["connectors"] = None
    else:
        for location in locations:
            location |= {"directions": None, "facilities": None, "images": None}
        for evse in _evses(locations):
            evse |= {"capabilities": None, "status_schedule": None}
