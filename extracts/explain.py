"""Why a month's uptime is what it is: the arithmetic of one EVSE, charger or site, down to the observations under it.

What is printed is checked first: the spans must add up to the figures in the marts, to the second, or there is no explanation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from expectations.formulas import rounded, target_result
from expectations.months import days, first_day
from extracts.snapshot import marts_snapshot

Row = dict[str, Any]

MARTS = {
    "evse": "fct_evse_uptime_monthly",
    "charger": "fct_charger_uptime_monthly",
    "site": "fct_site_uptime_monthly",
}
NOT_KNOWN = ("unknown", "missing")
"""Statuses in which we know nothing: the bounds count them as down, and as up."""

_PLACES = """
select
    dim_cpo.cpo_id, dim_cpo.cpo_name, dim_site.site_key, dim_site.site_id, dim_site.site_name, dim_site.state, dim_site.time_zone,
    dim_charger.charger_key, dim_charger.charger_id, dim_evse.evse_key, dim_evse.evse_id, dim_evse.emi3_id,
    dim_evse.in_service_from, dim_evse.in_service_until
from marts.dim_evse
inner join marts.dim_charger on dim_charger.charger_key = dim_evse.charger_key
inner join marts.dim_site on dim_site.site_key = dim_evse.site_key
inner join marts.dim_cpo on dim_cpo.cpo_key = dim_evse.cpo_key
where (%(cpo)s::text is null or lower(dim_cpo.cpo_id) = lower(%(cpo)s))
    and (%(site)s::text is null or lower(dim_site.site_id) = lower(%(site)s))
    and (%(charger)s::text is null or lower(dim_charger.charger_id) = lower(%(charger)s))
    and (%(evse)s::text is null or lower(%(evse)s) in (lower(dim_evse.evse_id), lower(dim_evse.emi3_id)))
order by dim_cpo.cpo_id, dim_site.site_id, dim_charger.charger_id, dim_evse.evse_id, dim_evse.evse_key
"""
_SPANS = """
select * from marts.fct_evse_status_span
where evse_key = any(%(evse_keys)s) and local_date between %(first_date)s and %(last_date)s
order by span_from
"""
_SECONDS = """
select evse_key, status, sum(seconds)::bigint from marts.fct_evse_status_span
where evse_key = any(%(evse_keys)s) and local_date between %(first_date)s and %(last_date)s
group by evse_key, status
"""


class QuestionError(ValueError):
    """The question has no answer as it is asked: nothing, or several things, have that name."""


class ExplanationError(RuntimeError):
    """The figures in the marts do not follow from the spans."""


@dataclass(frozen=True)
class Question:
    """Which figure. The smallest thing that is named is the one asked about; ids are matched whatever their case.

    ``month`` is ``YYYY-MM``; ``rule_set`` is ``name`` (the newest version) or ``name@version``.
    """

    month: str
    rule_set: str
    evse: str | None = None
    charger: str | None = None
    site: str | None = None
    cpo: str | None = None

    @property
    def level(self) -> str:
        """``evse``, ``charger`` or ``site``. Raises ``QuestionError`` when none is named."""
        for level in MARTS:
            if getattr(self, level) is not None:
                return level
        raise QuestionError("name an EVSE, a charger or a site")


@dataclass(frozen=True)
class RuleSet:
    """One version of a rule-set, as the warehouse has it. ``classes`` and ``in_use`` are by canonical status."""

    name: str
    version: int
    description: str
    formula: str
    classes: Mapping[str, str]
    in_use: frozenset[str]


@dataclass(frozen=True)
class Sums:
    """EVSE-seconds of a pool by class; ``excluded_by_register`` is that part of ``excluded`` that would be down but for an entry in the register."""

    in_service: int
    up: int
    down: int
    excluded: int
    not_measured: int
    excluded_by_register: int = 0

    @property
    def measured(self) -> int:
        """T - X."""
        return self.in_service - self.not_measured


@dataclass(frozen=True)
class Figure:
    """A row of an uptime mart with the seconds per status that the spans gave, and what follows from them."""

    name: Mapping[str, str]
    row: Mapping[str, Any]
    seconds: Mapping[str, int]
    sums: Sums
    lower: Sums
    upper: Sums


@dataclass(frozen=True)
class Explanation:
    """The answer. ``parts``: the EVSEs that a charger or site pools; ``spans``: rows of ``marts.fct_evse_status_span``, of an EVSE only."""

    level: str
    month: str
    as_of: datetime
    place: Mapping[str, Any]
    rule_set: RuleSet
    figure: Figure
    parts: tuple[Figure, ...]
    spans: tuple[Row, ...]


def sums_of(seconds: Mapping[str, int], classes: Mapping[str, str], excluded_by_register: int = 0) -> Sums:
    """Add up seconds per status by class; what is not in service is nobody's."""
    by_class = dict.fromkeys(("up", "down", "excluded", "not_measured", "not_in_service"), 0)
    for status, amount in seconds.items():
        by_class[classes[status]] += amount
    return Sums(
        in_service=sum(by_class.values()) - by_class["not_in_service"],
        up=by_class["up"],
        down=by_class["down"] - excluded_by_register,
        excluded=by_class["excluded"] + excluded_by_register,
        not_measured=by_class["not_measured"],
        excluded_by_register=excluded_by_register,
    )


def uptime_terms(formula: str, sums: Sums) -> tuple[int, int]:
    """Numerator and denominator of uptime, in seconds."""
    if formula == "up_over_measured":
        return sums.up, sums.measured
    if formula == "not_down_over_measured":
        return sums.measured - sums.down, sums.measured
    raise ExplanationError(f"nobody knows the formula '{formula}'")


def explain(connection: psycopg.Connection, question: Question) -> Explanation:
    """Answer a question from the marts, on a connection without an open transaction that may read them.

    Raises ``QuestionError`` for a name, rule-set or month without an answer, ``ExplanationError`` when the spans do not add up to the
    figures, and ``SelectError`` when the latest transform run has not finished.
    """
    level, month = question.level, question.month
    with marts_snapshot(connection) as as_of:
        rule_set = _rule_set(connection, question.rule_set)
        places = _places(connection, question)
        evse_keys = [place["evse_key"] for place in places]
        values = {"evse_keys": evse_keys, "first_date": days(month)[0], "last_date": days(month)[-1]}
        spans = _rows(connection, _SPANS, values) if level == "evse" else []
        seconds: dict[int, dict[str, int]] = {evse_key: {} for evse_key in evse_keys}
        for evse_key, status, amount in connection.execute(_SECONDS, values):
            seconds[evse_key][status] = amount
        rows = {row["evse_key"]: row for row in _month_rows(connection, "evse", month, rule_set, evse_keys)}
        pools = _month_rows(connection, level, month, rule_set, [places[0][f"{level}_key"]])
    for evse_key, told in seconds.items():
        if evse_key not in rows and sums_of(told, rule_set.classes).in_service:
            raise ExplanationError(f"EVSE {evse_key} has time in service and no row in marts.{MARTS['evse']}")
    parts = tuple(
        _figure(_name(place, "evse"), rows[place["evse_key"]], seconds[place["evse_key"]], rule_set)
        for place in places
        if place["evse_key"] in rows
    )
    if not parts:
        raise QuestionError(_why_not(month, places))
    if level == "evse":
        return Explanation(level, month, as_of, places[0], rule_set, parts[0], (), tuple(spans))
    if not pools or pools[0]["evse_count"] != len(parts):
        raise ExplanationError(
            f"{len(parts)} EVSEs are in service: marts.{MARTS[level]} has {pools[0]['evse_count'] if pools else 'no row'}"
        )
    figure = _figure(_name(places[0], level), pools[0], _pooled(parts), rule_set)
    return Explanation(level, month, as_of, places[0], rule_set, figure, parts, ())


def _rows(connection: psycopg.Connection, query: sql.Composed | str, values: Mapping[str, Any]) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()


def _rule_set(connection: psycopg.Connection, asked: str) -> RuleSet:
    name, _, version = asked.partition("@")
    rows = _rows(connection, "select * from marts.dim_rule_set_status order by rule_set, rule_set_version", {})
    known = sorted({(row["rule_set"], row["rule_set_version"]) for row in rows})
    fitting = [
        known_version
        for known_name, known_version in known
        if known_name == name and version in ("", str(known_version))
    ]
    if not fitting:
        names = ", ".join(f"{known_name}@{known_version}" for known_name, known_version in known)
        raise QuestionError(f"no rule-set '{asked}': there are {names}")
    own = [row for row in rows if (row["rule_set"], row["rule_set_version"]) == (name, fitting[-1])]
    return RuleSet(
        name,
        fitting[-1],
        own[0]["description"],
        own[0]["formula"],
        {row["status"]: row["class"] for row in own},
        frozenset(row["status"] for row in own if row["is_in_use"]),
    )


def _places(connection: psycopg.Connection, question: Question) -> list[Row]:
    """The EVSEs of the one thing asked about."""
    level = question.level
    names = {name: getattr(question, name) for name in ("cpo", "site", "charger", "evse")}
    told = " ".join(f"--{name} {value}" for name, value in names.items() if value is not None)
    places = _rows(connection, _PLACES, names)
    if not places:
        raise QuestionError(f"nothing in the marts is {told}")
    if len({place[f"{level}_key"] for place in places}) > 1:
        listed = {
            " ".join(f"--{name.removesuffix('_id')} {value}" for name, value in _name(place, level).items())
            for place in places
        }
        raise QuestionError("\n  ".join([f"{told} may be any of these; name one:", *sorted(listed)]))
    return places


def _name(place: Row, level: str) -> dict[str, str]:
    """The ids that lead to a thing, from its CPO down."""
    ids = ("cpo_id", "site_id", "charger_id", "evse_id")
    return {name: place[name] for name in ids[: ids.index(f"{level}_id") + 1]}


def _why_not(month: str, places: list[Row]) -> str:
    begins = [place["in_service_from"] for place in places if place["in_service_from"] is not None]
    ends = [place["in_service_until"] for place in places]
    since = f"service began {min(begins).isoformat()}" if begins else "service has not begun"
    until = f" and ended {max(ends).isoformat()}" if begins and all(ends) else ""
    return f"not in service in {month}: {since}{until}"


def _month_rows(
    connection: psycopg.Connection, level: str, month: str, rule_set: RuleSet, keys: Iterable[int]
) -> list[Row]:
    """Rows of a level's monthly mart, one per key that was in service."""
    query = sql.SQL(
        "select distinct on ({key}) * from marts.{mart} where {key} = any(%(keys)s) and local_month = %(local_month)s"
        " and rule_set = %(rule_set)s and rule_set_version = %(version)s order by {key}"
    ).format(key=sql.Identifier(f"{level}_key"), mart=sql.Identifier(MARTS[level]))
    values = {
        "keys": list(keys),
        "local_month": first_day(month),
        "rule_set": rule_set.name,
        "version": rule_set.version,
    }
    return _rows(connection, query, values)


def _pooled(parts: Iterable[Figure]) -> dict[str, int]:
    """Seconds per status of all EVSEs together."""
    pooled: dict[str, int] = {}
    for part in parts:
        for status, amount in part.seconds.items():
            pooled[status] = pooled.get(status, 0) + amount
    return pooled


def _figure(name: Mapping[str, str], row: Row, seconds: Mapping[str, int], rule_set: RuleSet) -> Figure:
    """Work a row of a mart out again from seconds per status. Raises ``ExplanationError`` where the two differ."""
    by_register = row["excluded_seconds"] - sums_of(seconds, rule_set.classes).excluded
    sums, lower, upper = (
        sums_of(
            seconds, {**rule_set.classes, **dict.fromkeys(NOT_KNOWN, moved)} if moved else rule_set.classes, by_register
        )
        for moved in (None, "down", "up")
    )
    figure = Figure(name, row, seconds, sums, lower, upper)
    expected = expected_row(figure, rule_set)
    differences = [
        f"{column}: {value} from the spans, {row[column]} in the mart"
        for column, value in expected.items()
        if row[column] != value
    ]
    if sums.down < 0 or by_register < 0:
        differences.append(f"excluded_seconds: the register excludes {by_register} seconds that are not there")
    if differences:
        raise ExplanationError(
            "\n  ".join([f"the spans of {'/'.join(name.values())} do not add up to its figures:", *differences])
        )
    return figure


def expected_row(figure: Figure, rule_set: RuleSet) -> Row:
    """What the mart must say, by column, if the spans and the rule-set are right."""
    sums = figure.sums
    in_use = sum(amount for status, amount in figure.seconds.items() if status in rule_set.in_use)
    headline = _share(*uptime_terms(rule_set.formula, sums))
    ratios = {
        "uptime_ratio": headline,
        "uptime_lower_ratio": _share(*uptime_terms(rule_set.formula, figure.lower)),
        "uptime_upper_ratio": _share(*uptime_terms(rule_set.formula, figure.upper)),
        "coverage_ratio": _share(sums.measured, sums.in_service),
        "utilisation_ratio": _share(in_use, sums.measured),
        "unavailability_ratio": _share(sums.down, sums.measured),
    }
    return {
        "in_service_seconds": sums.in_service,
        "measured_seconds": sums.measured,
        "up_seconds": sums.up,
        "down_seconds": sums.down,
        "not_measured_seconds": sums.not_measured,
        "in_use_seconds": in_use,
        **{
            f"{status}_seconds": figure.seconds.get(status, 0)
            for status, its_class in rule_set.classes.items()
            if its_class != "not_in_service"
        },
        **{name: rounded(ratio) for name, ratio in ratios.items()},
        "target_result": target_result(headline, figure.row["target_ratio"], figure.row["target_comparison"]),
    }


def _share(part: int, whole: int) -> Fraction | None:
    return Fraction(part, whole) if whole else None
