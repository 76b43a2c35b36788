"""A small network whose marts are known, for the tests of the gate and of the extracts.

October 2026, in which New South Wales goes to summer time: three zones, two CPOs, chargers with one and two EVSEs, an EVSE with
two connectors, one commissioned and one removed inside the month, one that left before it, one in another state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from expectations.candidate import SCHEMAS, SECONDS, STATUSES, Candidate, make_candidate
from expectations.formulas import formulas, ratios, rounded, target_result
from expectations.months import days, midnight
from extracts.recipients import Recipient

Row = dict[str, Any]

MONTH = "2026-10"
AS_OF = datetime(2026, 11, 2, 20, 5, 7, tzinfo=UTC)
CLASSES = {
    **dict.fromkeys(
        ("available", "charging", "finishing", "preparing", "suspended", "reserved", "blocked_by_sibling"), "up"
    ),
    **dict.fromkeys(("unavailable", "out_of_order", "blocked", "inoperative"), "down"),
    **dict.fromkeys(("unknown", "missing"), "not_measured"),
}
IN_USE = ("charging", "finishing", "reserved")

NSW = Recipient(
    recipient_id="nsw_dcceew",
    name="NSW Department of Climate Change, Energy, the Environment and Water",
    states=("NSW",),
    rule_set="evc_2025",
    rule_set_version=1,
    time_zone="Australia/Sydney",
    day=3,
    hour=6,
    destination="default",
)

CPOS = [
    {"cpo_key": 1, "cpo_id": "boltway", "cpo_name": "Boltway", "status_profiles": "ocpi_2_2_1"},
    {"cpo_key": 2, "cpo_id": "zap_coop", "cpo_name": 'Zap "Co-op", Ltd', "status_profiles": "history, ocpi_2_2_1"},
]


def _site(key: int, cpo_key: int, site_id: str, name: str, state: str, zone: str, postcode: str) -> Row:
    return {
        "site_key": key,
        "cpo_key": cpo_key,
        "site_id": site_id,
        "site_name": name,
        "address": f"{key} Main Street",
        "suburb": "Somewhere",
        "postcode": postcode,
        "state": state,
        "latitude": -33.5 - key,
        "longitude": 151.25,
        "time_zone": zone,
    }


SITES = [
    _site(1, 1, "S-1", "Harbour, north\nside ⚡", "NSW", "Australia/Sydney", "2000"),
    _site(2, 1, "S-2", "Silver City", "NSW", "Australia/Broken_Hill", "2880"),
    _site(3, 2, "s-0", "<script>alert(1)</script>", "NSW", "Australia/Lord_Howe", "2898"),
    _site(4, 2, "s-9", "Elsewhere", "WA", "Australia/Perth", "6000"),
]
CHARGERS = [
    {"charger_key": 11, "site_key": 1, "cpo_key": 1, "charger_id": "C-1"},
    {"charger_key": 12, "site_key": 1, "cpo_key": 1, "charger_id": "C-2"},
    {"charger_key": 13, "site_key": 2, "cpo_key": 1, "charger_id": "C-1"},
    {"charger_key": 14, "site_key": 3, "cpo_key": 2, "charger_id": "c-1"},
    {"charger_key": 15, "site_key": 4, "cpo_key": 2, "charger_id": "c-9"},
]


def _evse(key: int, charger_key: int, begin: datetime, end: datetime | None = None) -> Row:
    charger = next(row for row in CHARGERS if row["charger_key"] == charger_key)
    return {
        "evse_key": key,
        "charger_key": charger_key,
        "site_key": charger["site_key"],
        "cpo_key": charger["cpo_key"],
        "evse_id": f"E-{key}",
        "emi3_id": f"AU*XYZ*E{key}" if key % 2 else None,
        "commissioned_on": None,
        "in_service_from": begin,
        "in_service_until": end,
    }


LONG_AGO = datetime(2026, 3, 1, tzinfo=UTC)
EVSES = [
    _evse(101, 11, LONG_AGO),
    _evse(102, 11, LONG_AGO),
    _evse(103, 12, datetime(2026, 10, 9, 3, 4, 5, tzinfo=UTC)),
    _evse(104, 13, LONG_AGO, datetime(2026, 10, 20, 1, 2, 3, tzinfo=UTC)),
    _evse(105, 14, LONG_AGO),
    _evse(106, 14, LONG_AGO, datetime(2026, 9, 30, 1, 0, 0, tzinfo=UTC)),
    _evse(107, 15, LONG_AGO),
]


def _connector(key: int, evse_key: int, number: str, standard: str, power_kw: str) -> Row:
    evse = next(row for row in EVSES if row["evse_key"] == evse_key)
    return {
        "connector_key": key,
        **{name: evse[name] for name in ("evse_key", "charger_key", "site_key", "cpo_key")},
        "connector_id": number,
        "connector_standard": standard,
        "power_kw": Decimal(power_kw),
    }


CONNECTORS = [
    _connector(1001, 101, "1", "IEC_62196_T2_COMBO", "150.000"),
    _connector(1002, 101, "2", "CHADEMO", "50.000"),
    _connector(1003, 102, "1", "IEC_62196_T2", "22.000"),
    _connector(1004, 103, "1", "IEC_62196_T2", "22.000"),
    _connector(1005, 104, "1", "IEC_62196_T2_COMBO", "75.500"),
    _connector(1006, 105, "1", "IEC_62196_T2", "7.400"),
    _connector(1007, 106, "1", "IEC_62196_T2", "7.400"),
    _connector(1008, 107, "1", "IEC_62196_T2", "7.400"),
]


# Away for a day and a half, in Lord Howe's summer time; the site's midnight cuts it.
BREAKS: list[Row] = [
    {
        "evse_key": 105,
        "local_date": date(2026, 10, day),
        "status": "removed",
        "break_from": begin,
        "break_until": end,
    }
    for day, begin, end in (
        (14, datetime(2026, 10, 14, 1, 0, 1, tzinfo=UTC), datetime(2026, 10, 14, 13, 0, 0, tzinfo=UTC)),
        (15, datetime(2026, 10, 14, 13, 0, 0, tzinfo=UTC), datetime(2026, 10, 15, 13, 0, 0, tzinfo=UTC)),
    )
]


def in_service_seconds(evse: Row, day: date, zone: str) -> int:
    """Seconds of a local day inside the EVSE's window, counted one boundary at a time."""
    begin = max(midnight(day, zone), evse["in_service_from"])
    end = min(midnight(day + timedelta(days=1), zone), evse["in_service_until"] or AS_OF)
    breaks = [
        min(end, row["break_until"]) - max(begin, row["break_from"])
        for row in BREAKS
        if row["evse_key"] == evse["evse_key"] and row["local_date"] == day
    ]
    return max(0, int((end - begin - sum(breaks, timedelta(0))).total_seconds()))


def _zone(evse: Row) -> str:
    return str(next(site["time_zone"] for site in SITES if site["site_key"] == evse["site_key"]))


def day_of(evse: Row, day: date) -> dict[str, int]:
    """A day's seconds by status: some of everything, in a pattern of the EVSE's own."""
    left = in_service_seconds(evse, day, _zone(evse))
    wanted = {
        "charging": 7201 + 13 * evse["evse_key"],
        "finishing": 300,
        "preparing": 61,
        "suspended": 59,
        "reserved": 100,
        "out_of_order": 1801 if day.day % 5 == evse["evse_key"] % 5 else 0,
        "blocked": 17,
        "blocked_by_sibling": 23,
        "inoperative": 601 if day.day == 12 else 0,
        "unavailable": 45,
        "unknown": 120,
        "missing": 1800 if day.day in (3, 4) else 30,
    }
    found = {}
    for status, seconds in wanted.items():
        found[status] = min(seconds, left)
        left -= found[status]
    return {**found, "available": left}


def _figures(seconds: dict[str, int], rule_set: str) -> Row:
    by_class: Counter[str] = Counter()
    for status in STATUSES:
        by_class[CLASSES[status]] += seconds.get(status, 0)
    total = sum(by_class.values())
    row: Row = {
        "in_service_seconds": total,
        "measured_seconds": total - by_class["not_measured"],
        "up_seconds": by_class["up"],
        "down_seconds": by_class["down"],
        "excluded_seconds": 0,
        "not_measured_seconds": by_class["not_measured"],
        "in_use_seconds": sum(seconds.get(status, 0) for status in IN_USE),
        **{f"{status}_seconds": seconds.get(status, 0) for status in STATUSES},
        **{f"{status}_minutes": seconds.get(status, 0) / 60 for status in STATUSES},
    }
    exact = ratios(row, formulas()[rule_set])
    row |= {name: rounded(ratio) for name, ratio in exact.items()}
    target = Decimal("0.98")
    result = target_result(exact["uptime_ratio"], target, "ge")
    return {**row, "target_ratio": target, "target_comparison": "ge", "target_result": result}


@dataclass
class World:
    """The network's marts. Change ``daily`` and every other mart follows."""

    month: str = MONTH
    rule_set: str = "evc_2025"
    daily: dict[tuple[int, date], dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.daily:
            self.daily = {
                (evse["evse_key"], day): day_of(evse, day)
                for evse in EVSES
                for day in days(self.month)
                if in_service_seconds(evse, day, _zone(evse))
            }

    def monthly(self, level: str) -> list[Row]:
        """Rows of a level's monthly mart."""
        key = f"{level}_key"
        places = CONNECTORS if level == "connector" else EVSES
        above = {"connector": CONNECTORS, "charger": CHARGERS, "site": SITES}[level]
        rows = []
        for thing in above:
            evses = {place["evse_key"] for place in places if place[key] == thing[key]}
            seconds: Counter[str] = Counter()
            present = set()
            for (evse_key, _), statuses in self.daily.items():
                if evse_key in evses:
                    seconds.update(statuses)
                    present.add(evse_key)
            if present:
                keys = {name: value for name, value in thing.items() if name.endswith("_key")}
                count = {} if level == "connector" else {"evse_count": len(present)}
                rows.append(
                    {
                        **keys,
                        **count,
                        "local_month": days(self.month)[0],
                        "rule_set": self.rule_set,
                        "rule_set_version": 1,
                        **_figures(seconds, self.rule_set),
                    }
                )
        return rows

    def marts(self) -> dict[str, list[Row]]:
        """Every mart an extract reads, as rows."""
        daily = [
            {"evse_key": evse_key, "local_date": day, "status": status, "seconds": seconds}
            for (evse_key, day), statuses in self.daily.items()
            for status, seconds in statuses.items()
            if seconds
        ]
        return {
            "dim_cpo": CPOS,
            "dim_site": SITES,
            "dim_charger": CHARGERS,
            "dim_evse": EVSES,
            "dim_connector": CONNECTORS,
            "fct_evse_status_daily": daily,
            "fct_evse_service_break": BREAKS,
            **{f"fct_{level}_uptime_monthly": self.monthly(level) for level in ("connector", "charger", "site")},
            "fct_transform_run": [
                {
                    "run_key": 1,
                    "as_of": AS_OF - timedelta(days=1),
                    "started_at": AS_OF,
                    "finished_at": AS_OF,
                    "is_full_refresh": True,
                },
                {
                    "run_key": 2,
                    "as_of": AS_OF,
                    "started_at": AS_OF,
                    "finished_at": AS_OF,
                    "is_full_refresh": False,
                },
            ],
        }

    def tables(self, states: tuple[str, ...] = ("NSW",)) -> dict[str, Any]:
        """The tables a selection from these marts gives, joined in plain Python."""
        by_key = {
            "cpo_key": {row["cpo_key"]: row for row in CPOS},
            "site_key": {row["site_key"]: row for row in SITES if row["state"] in states},
            "charger_key": {row["charger_key"]: row for row in CHARGERS},
            "evse_key": {row["evse_key"]: row for row in EVSES},
            "connector_key": {row["connector_key"]: row for row in CONNECTORS},
        }

        def joined(fact: Row) -> Row:
            row: Row = {}
            for key, dimension in by_key.items():
                if key in fact:
                    row |= dimension[fact[key]]
            return row | fact

        tables = {}
        order = ("cpo_id", "site_id", "charger_id", "evse_id", "connector_id")
        for level in ("connector", "charger", "site"):
            rows = [joined(row) for row in self.monthly(level) if row["site_key"] in by_key["site_key"]]
            rows.sort(key=lambda row: [row[name] for name in order if name in row])
            tables[f"{level}s"] = rows
        tables["register"] = [joined(row) for row in EVSES if row["site_key"] in by_key["site_key"]]
        here = {row["evse_key"] for row in tables["register"]}
        tables["service_breaks"] = [row for row in BREAKS if row["evse_key"] in here]
        tables["evse_days"] = [
            {
                "evse_key": evse_key,
                "local_date": day,
                **{f"{status}_seconds": statuses.get(status, 0) for status in STATUSES},
                "other_seconds": 0,
            }
            for (evse_key, day), statuses in sorted(self.daily.items())
            if evse_key in here
        ]
        return {name: arrow(name, rows) for name, rows in tables.items()}

    def candidate(self, **header: Any) -> Candidate:
        """The candidate of NSW for the month."""
        return make_candidate(self.tables(), **(self.header() | header))

    def header(self) -> Row:
        """The candidate's header but for its files."""
        return {
            "recipient_id": NSW.recipient_id,
            "recipient_name": NSW.name,
            "month": self.month,
            "states": NSW.states,
            "rule_set": self.rule_set,
            "rule_set_version": 1,
            "as_of": AS_OF,
            "unplaced_evse_count": 0,
            "status_profiles": {"boltway": "ocpi_2_2_1", "zap_coop": "history, ocpi_2_2_1"},
        }


def arrow(table: str, rows: list[Row]) -> Any:
    """Rows as a candidate's table; keys that it does not have are dropped."""
    schema = SCHEMAS[table]
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def with_tables(candidate: Candidate, **tables: list[Row]) -> Candidate:
    """The same candidate with some tables' rows replaced."""
    changed = {name: arrow(name, rows) for name, rows in tables.items()}
    header = candidate.header.model_dump(exclude={"files", "format_version"})
    return make_candidate({**candidate.tables, **changed}, **header)


def with_header(candidate: Candidate, **header: Any) -> Candidate:
    """The same rows under another header."""
    return replace(candidate, header=candidate.header.model_copy(update=header))


def edited(candidate: Candidate, table: str, edit: Callable[[list[Row]], None]) -> Candidate:
    """The same candidate after ``edit`` changed one table's rows in place."""
    rows = candidate.tables[table].to_pylist()
    edit(rows)
    return with_tables(candidate, **{table: rows})


def set_row(index: int, **values: Any) -> Callable[[list[Row]], None]:
    """An edit: set columns of one row."""

    def edit(rows: list[Row]) -> None:
        rows[index].update(values)

    return edit


def add(index: int, **amounts: int) -> Callable[[list[Row]], None]:
    """An edit: add to columns of one row, and keep its minutes, classes and ratios as they were."""

    def edit(rows: list[Row]) -> None:
        for name, amount in amounts.items():
            rows[index][name] += amount

    return edit


def recomputed(rows: list[Row], index: int, **statuses: int) -> None:
    """Set some statuses' seconds of a row and work out all its other figures again."""
    row = rows[index]
    seconds: dict[str, int] = {status: row[f"{status}_seconds"] for status in STATUSES} | statuses
    row.update(_figures(seconds, row["rule_set"]))


assert set(SECONDS) >= {f"{status}_seconds" for status in STATUSES}
