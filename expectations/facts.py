"""The tables the gate judges: a candidate's rows, and beside them the differences that must be zero.

A fact that spans tables (an EVSE's days against its month, a site against its EVSEs) is worked out here as a
column, so that every judgement is an expectation over one table. Pure functions; an absent figure stays
absent and is judged as such.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from expectations.candidate import (
    LEVEL_KEYS,
    LEVELS,
    NATURAL_KEYS,
    RATIOS,
    SECONDS,
    STATUS_SECONDS,
    STATUSES,
    Candidate,
)
from expectations.formulas import Formula, formulas, ratios, rounded, target_result
from expectations.months import days, midnights

TABLES = (*LEVELS, "evses", "evse_days", "zones", "extract")
"""Names of the tables that suites can speak about."""

IDENTITY = {
    **NATURAL_KEYS,
    "evses": ("cpo_id", "site_id", "charger_id", "evse_id"),
    "evse_days": ("cpo_id", "site_id", "charger_id", "evse_id", "local_date"),
    "zones": ("time_zone",),
    "extract": (),
}
"""Columns that name a row of each table when it is shown as an example."""

_ABSENT_DIFFERENCE = Decimal(1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _epoch_seconds(moment: datetime) -> int:
    """Whole seconds since 1970, fractions cut off."""
    since = moment - _EPOCH
    return since.days * 86_400 + since.seconds


def _zone_midnights(month: str, zones: set[str | None]) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Midnights of the month in epoch seconds, for every zone that exists."""
    found = {}
    for zone in zones:
        try:
            moments = midnights(month, zone or "")
        except (ZoneInfoNotFoundError, ValueError, OSError):
            # Not a zone: its rows get no expected time, which the suites refuse.
            continue
        found[str(zone)] = np.array([_epoch_seconds(moment) for moment in moments], dtype=np.int64)
    return found


def _ratio_differences(row: dict[str, Any], formula: Formula | None) -> dict[str, Any]:
    """How far the row's ratios and result are from what its own seconds give."""
    unknown = {"ratio_difference": None, "expected_target_result": None}
    if formula is None or any(row[name] is None for name in SECONDS):
        return unknown
    exact = ratios(row, formula)
    nothing_measured = row["measured_seconds"] == 0
    differences = [Decimal(0)]
    for name in RATIOS:
        told, expected = row[name], rounded(exact[name])
        if told is None and nothing_measured:
            continue
        if told is None or expected is None:
            differences.append(Decimal(0) if told is expected else _ABSENT_DIFFERENCE)
        else:
            differences.append(abs(told - expected))
    result = target_result(exact["uptime_ratio"], row["target_ratio"], row["target_comparison"])
    return {"ratio_difference": float(max(differences)), "expected_target_result": result}


def _level(candidate: Candidate, level: str) -> pd.DataFrame:
    """One level's rows with the differences that one row alone shows."""
    table = candidate.tables[level]
    frame: pd.DataFrame = table.to_pandas(date_as_object=True)
    frame["local_month"] = [None if day is None else day.isoformat() for day in frame["local_month"]]
    for name in (*RATIOS, "target_ratio"):
        frame[name] = pd.Series([None if x is None else float(x) for x in frame[name]], dtype="float64")
    if "power_kw" in frame:
        frame["power_kw"] = pd.Series([None if x is None else float(x) for x in frame["power_kw"]], dtype="float64")

    seconds = frame[list(SECONDS)].astype("float64")
    frame["absent_figure_count"] = seconds.isna().sum(axis=1)
    frame["absent_key_count"] = frame[[*NATURAL_KEYS[level], *LEVEL_KEYS[level]]].isna().sum(axis=1)
    frame["least_seconds"] = seconds.min(axis=1)
    statuses = seconds[list(STATUS_SECONDS)].sum(axis=1)
    classes = seconds[["up_seconds", "down_seconds", "excluded_seconds"]].sum(axis=1)
    frame["status_difference_seconds"] = statuses - seconds["in_service_seconds"]
    frame["measured_difference_seconds"] = classes - seconds["measured_seconds"]
    frame["class_difference_seconds"] = (
        seconds["measured_seconds"] + seconds["not_measured_seconds"] - seconds["in_service_seconds"]
    )
    minutes = frame[[f"{status}_minutes" for status in STATUSES]].to_numpy(dtype="float64")
    from_seconds = seconds[list(STATUS_SECONDS)].to_numpy() / 60
    gap = np.abs(minutes - from_seconds)
    frame["minutes_difference"] = pd.Series(np.where(np.isnan(gap), np.inf, gap).max(axis=1, initial=0.0))
    frame["least_ratio"] = frame[list(RATIOS)].min(axis=1)
    frame["greatest_ratio"] = frame[list(RATIOS)].max(axis=1)
    formula = formulas().get(candidate.header.rule_set)
    found = [_ratio_differences(row, formula) for row in table.to_pylist()]
    frame["ratio_difference"] = pd.Series([row["ratio_difference"] for row in found], dtype="float64")
    frame["expected_target_result"] = pd.Series([row["expected_target_result"] for row in found], dtype="object")
    return frame


def _pooled(frame: pd.DataFrame, evses: pd.DataFrame, key: str) -> None:
    """Compare each row to the sum of its EVSEs:
    adds ``evse_count_difference`` and ``pooled_difference_seconds``.
    """
    sums = evses.groupby(key)[list(SECONDS)].sum().reindex(frame[key])
    counts = evses.groupby(key).size().reindex(frame[key])
    frame["evse_count_difference"] = frame["evse_count"].to_numpy("float64") - counts.fillna(0).to_numpy("float64")
    own = frame[list(SECONDS)].to_numpy("float64")
    frame["pooled_difference_seconds"] = np.abs(own - sums.fillna(0).to_numpy("float64")).max(axis=1, initial=0.0)


def _expected_days(
    candidate: Candidate, register: pd.DataFrame, zones: dict[str, np.ndarray[Any, np.dtype[np.int64]]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """In-service seconds per EVSE of the register (rows) and day of the month (columns).

    The window from ``in_service_from`` to ``in_service_until``, clipped to the cut-off, laid over the site's local days,
    less the breaks of service.
    """
    month_days = days(candidate.header.month)
    expected = np.zeros((len(register), len(month_days)))
    as_of = _epoch_seconds(candidate.header.as_of)
    windows: dict[int, tuple[int, int, int]] = {}
    keys, zone_names = register["evse_key"], register["time_zone"]
    rows = zip(keys, zone_names, register["in_service_from"], register["in_service_until"], strict=True)
    for index, (key, zone, begin_at, end_at) in enumerate(rows):
        if pd.isna(begin_at):
            continue
        edges = zones.get(str(zone))
        if edges is None:
            expected[index] = np.nan
            continue
        begin = _epoch_seconds(begin_at.to_pydatetime())
        until = as_of if pd.isna(end_at) else min(as_of, _epoch_seconds(end_at.to_pydatetime()))
        expected[index] = np.diff(np.clip(edges, begin, max(begin, until)))
        windows[key] = (index, begin, until)
    column = {day: number for number, day in enumerate(month_days)}
    for row in candidate.tables["service_breaks"].to_pylist():
        if row["evse_key"] in windows and row["local_date"] in column:
            index, begin, until = windows[row["evse_key"]]
            inside = min(until, _epoch_seconds(row["break_until"])) - max(begin, _epoch_seconds(row["break_from"]))
            expected[index, column[row["local_date"]]] -= max(0, inside)
    return expected


def _evse_days(
    candidate: Candidate, register: pd.DataFrame, expected: np.ndarray[Any, np.dtype[np.float64]]
) -> pd.DataFrame:
    """One row per EVSE and local day that is in service by calendar, or has seconds all the same."""
    told: pd.DataFrame = candidate.tables["evse_days"].to_pandas(date_as_object=True)
    month_days = days(candidate.header.month)
    by_calendar = pd.DataFrame(
        {
            "evse_key": np.repeat(register["evse_key"].to_numpy(), len(month_days)),
            "local_date": pd.Series(month_days * len(register), dtype="object"),
            "expected_seconds": expected.reshape(-1),
        }
    )
    # NaN (no such zone) stays: nothing is expected of it, and nothing it has can be right.
    by_calendar = by_calendar[by_calendar["expected_seconds"] != 0]
    told["told_seconds"] = told[[*STATUS_SECONDS, "other_seconds"]].astype("float64").sum(axis=1)
    told["least_seconds"] = told[[*STATUS_SECONDS, "other_seconds"]].astype("float64").min(axis=1)
    frame = by_calendar.merge(told, on=["evse_key", "local_date"], how="outer")
    known = frame["expected_seconds"].notna() | ~frame["evse_key"].isin(by_calendar["evse_key"])
    frame["day_difference_seconds"] = (frame["told_seconds"].fillna(0) - frame["expected_seconds"].fillna(0)).where(
        known
    )
    frame["other_seconds"] = frame["other_seconds"].fillna(0)
    names = register[["evse_key", *IDENTITY["evses"]]]
    frame = frame.merge(names, on="evse_key", how="left").sort_values(["evse_key", "local_date"])
    frame["local_date"] = [day.isoformat() if isinstance(day, date) else day for day in frame["local_date"]]
    columns = [
        *IDENTITY["evse_days"],
        "expected_seconds",
        "told_seconds",
        "day_difference_seconds",
        "other_seconds",
    ]
    return frame[[*columns, "least_seconds"]].reset_index(drop=True)


def _evses(
    candidate: Candidate,
    connectors: pd.DataFrame,
    register: pd.DataFrame,
    expected: np.ndarray[Any, np.dtype[np.float64]],
) -> pd.DataFrame:
    """One row per EVSE that is in service in the month by calendar, or has a connector row all the same."""
    by_calendar = pd.Series(expected.sum(axis=1), index=register["evse_key"])
    grouped = connectors.groupby("evse_key")
    told = grouped[[*SECONDS, "coverage_ratio"]].first()
    told["connector_row_count"] = grouped.size()
    spread = grouped[list(SECONDS)].max() - grouped[list(SECONDS)].min()
    told["connector_difference_seconds"] = spread.max(axis=1)
    # NaN (no such zone) is not zero: such an EVSE stays in the list.
    keys = told.index.union(by_calendar.index[by_calendar != 0]).rename("evse_key")
    frame = told.reindex(keys).reset_index()
    frame["connector_row_count"] = frame["connector_row_count"].fillna(0)
    in_register = frame["evse_key"].isin(by_calendar.index)
    frame["expected_in_service_seconds"] = frame["evse_key"].map(by_calendar).where(in_register, 0.0)
    frame["calendar_difference_seconds"] = frame["in_service_seconds"] - frame["expected_in_service_seconds"]
    names = pd.concat([register, connectors]).drop_duplicates("evse_key").set_index("evse_key")
    for name in IDENTITY["evses"]:
        frame[name] = frame["evse_key"].map(names[name])

    day_sums = (candidate.tables["evse_days"].to_pandas().groupby("evse_key")[list(STATUS_SECONDS)].sum()).reindex(
        frame["evse_key"]
    )
    monthly = frame[list(STATUS_SECONDS)].to_numpy("float64")
    gap = np.abs(day_sums.fillna(0).to_numpy("float64") - monthly)
    frame["daily_difference_seconds"] = gap.max(axis=1, initial=0.0)
    kept = [*IDENTITY["evses"], "expected_in_service_seconds", "in_service_seconds", "connector_row_count"]
    differences = ["connector_difference_seconds", "calendar_difference_seconds", "daily_difference_seconds"]
    return frame[[*kept, *differences, "coverage_ratio"]].reset_index(drop=True)


def fact_tables(candidate: Candidate) -> dict[str, pd.DataFrame]:
    """Return the tables named in ``TABLES``, each with a plain 0..n index."""
    header = candidate.header
    levels = {level: _level(candidate, level) for level in LEVELS}
    connectors, chargers, sites = (levels[level] for level in LEVELS)
    register: pd.DataFrame = candidate.tables["register"].to_pandas().drop_duplicates("evse_key")

    connectors["has_charger_row"] = connectors["charger_key"].isin(chargers["charger_key"])
    connectors["has_site_row"] = connectors["site_key"].isin(sites["site_key"])
    chargers["has_connector_row"] = chargers["charger_key"].isin(connectors["charger_key"])
    sites["has_connector_row"] = sites["site_key"].isin(connectors["site_key"])
    evses_once = connectors.drop_duplicates("evse_key")
    _pooled(chargers, evses_once, "charger_key")
    _pooled(sites, evses_once, "site_key")

    names: set[str | None] = {None if pd.isna(zone) else str(zone) for zone in register["time_zone"]}
    names |= {None if pd.isna(zone) else str(zone) for zone in sites["time_zone"]}
    edges = _zone_midnights(header.month, names)
    as_of = _epoch_seconds(header.as_of)
    zones = pd.DataFrame(
        {
            "time_zone": pd.Series(sorted(names, key=str), dtype="object"),
            "seconds_since_month_end": pd.Series(
                [as_of - int(edges[str(z)][-1]) if str(z) in edges else None for z in sorted(names, key=str)],
                dtype="float64",
            ),
        }
    )
    expected = _expected_days(candidate, register, edges)
    measured = evses_once["measured_seconds"].sum()
    in_service = evses_once["in_service_seconds"].sum()
    extract = pd.DataFrame(
        {
            "connector_row_count": [len(connectors)],
            "charger_row_count": [len(chargers)],
            "site_row_count": [len(sites)],
            "measured_seconds": [float(measured)],
            "coverage_ratio": [float(measured) / float(in_service) if in_service else None],
            "unplaced_evse_count": [header.unplaced_evse_count],
            "rule_set": [header.rule_set],
        }
    )
    return {
        **levels,
        "evses": _evses(candidate, connectors, register, expected),
        "evse_days": _evse_days(candidate, register, expected),
        "zones": zones,
        "extract": extract,
    }
