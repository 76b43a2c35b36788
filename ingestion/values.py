"""Values as sources write them: JSON, texts, numbers, times, places, power. Shared by every kind of feed; pure."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

MAX_PAYLOAD_BYTES = 64 * 1024
MAX_ID_LENGTH = 255
"""Ids of chargers have some dozen characters. This bound keeps a runaway text out of database indexes."""
MAX_POWER_KW = 100_000
"""More than any charger; a figure beyond is a slip of units and is not stored."""

_PHASE_FACTORS = {"AC_1_PHASE": 1, "AC_2_PHASE": 2, "AC_3_PHASE": 3, "DC": 1}
"""Times volts (line to neutral) times amperes. AC_2_PHASE_SPLIT is left out: between which lines its voltage
is measured is not said."""
_COUNTRY_AND_OPERATOR_ONLY = re.compile(r"[A-Za-z]{2}\*?[A-Za-z0-9]{3}")
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d*)?", re.ASCII)
_UNSTORABLE_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def parse_json(body: bytes) -> Any:
    """Parse a body as UTF-8 JSON. Raises ``ValueError``.

    NUL and lone surrogates, which no database text can hold, become U+FFFD. ``NaN`` and ``Infinity``, which
    are not JSON, become null rather than cost the whole answer.
    """
    try:
        document = json.loads(body.decode("utf-8-sig"), parse_constant=lambda _: None)
        return storable(document) if _UNSTORABLE_ESCAPE.search(body) else document
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def storable(value: Any) -> Any:
    """The document with U+FFFD for what no database text can hold."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return value


def payload_text(record: object) -> str:
    """The record as JSON, at most ``MAX_PAYLOAD_BYTES``; a longer one is cut and says so."""
    data = json.dumps(record, ensure_ascii=False, default=str).encode("utf-8", "replace")
    if len(data) <= MAX_PAYLOAD_BYTES:
        return data.decode("utf-8")
    note = f" ... cut: {len(data)} bytes in all"
    return data[: MAX_PAYLOAD_BYTES - len(note)].decode("utf-8", errors="ignore") + note


def parse_timestamp(text: str, naive_time_zone: ZoneInfo) -> datetime:
    """An ISO 8601 timestamp in UTC, cut to microseconds; one without a zone is read in ``naive_time_zone``.

    Raises ``ValueError``.
    """
    moment = datetime.fromisoformat(text.upper())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=naive_time_zone)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside of the calendar") from error


def parse_number(value: object) -> float | None:
    """A number, also one written as text with a decimal point; ``None`` for anything else.

    A decimal comma is refused: ``22,000`` would be 22 to one reader and 22000 to another.
    """
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value := value.strip()) else None
    if isinstance(value, Decimal):
        value = float(value)
    # A comparison of integers first: a huge one does not fit into a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        return None
    return float(value)


def parse_degrees(value: object, limit: int) -> float | None:
    """Degrees from ``-limit`` to ``limit``; ``None`` for anything else."""
    number = parse_number(value)
    return number if number is not None and -limit <= number <= limit else None


@lru_cache(maxsize=4096)
def rated_power_kw(power_type: str, volts: float, amperes: float, watts: float) -> Decimal | None:
    """``watts`` when above zero, else volts times amperes times the phases of an OCPI ``power_type``, else ``None``."""
    if watts > 0:
        exact = Decimal(str(watts))
    elif volts <= 0 or amperes <= 0 or power_type not in _PHASE_FACTORS:
        return None
    else:
        exact = Decimal(str(volts)) * Decimal(str(amperes)) * _PHASE_FACTORS[power_type]
    if not math.isfinite(exact) or exact > MAX_POWER_KW * 1000:
        return exact / 1000
    return (exact / 1000).quantize(Decimal("0.001"), ROUND_HALF_UP) or None


def charger_prefix(evse_id: str, separator: str = "*") -> str | None:
    """What an EVSE id has before its last separator; ``None`` when that names no charger."""
    prefix, found, _ = evse_id.rpartition(separator)
    # In `BE*BEC*E041503001` the last star ends the operator.
    return prefix if found and prefix and not _COUNTRY_AND_OPERATOR_ONLY.fullmatch(prefix) else None
