"""An explanation as text that people read, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from extracts.explain import NOT_KNOWN, Explanation, Figure, RuleSet, Sums, expected_row, uptime_terms

_COMPARISONS = {"ge": "at least", "gt": "more than"}


def as_json(explanation: Explanation) -> str:
    """The whole explanation as one JSON document; times are RFC 3339 in UTC."""
    rule_set = explanation.rule_set
    document = {
        "level": explanation.level,
        "month": explanation.month,
        "as_of": explanation.as_of,
        "place": explanation.place,
        "rule_set": {
            "name": rule_set.name,
            "version": rule_set.version,
            "description": rule_set.description,
            "formula": rule_set.formula,
            "classes": rule_set.classes,
            "in_use": sorted(rule_set.in_use),
        },
        "figure": _figure_document(explanation.figure, rule_set),
        "evses": [_figure_document(part, rule_set) for part in explanation.parts],
        "spans": [{**span, "class": rule_set.classes[span["status"]]} for span in explanation.spans],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=_plain)


def _figure_document(figure: Figure, rule_set: RuleSet) -> dict[str, Any]:
    names = (*expected_row(figure, rule_set), "excluded_seconds", "target_ratio", "target_comparison")
    terms = {
        name: dict(zip(("numerator", "denominator"), uptime_terms(rule_set.formula, sums), strict=True))
        for name, sums in (("uptime", figure.sums), ("lower", figure.lower), ("upper", figure.upper))
    }
    return {**figure.name, "terms": terms, **{name: figure.row[name] for name in names}}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return _utc(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value)} is not for JSON")


def as_text(explanation: Explanation) -> Iterator[str]:
    """Lines: the place, the arithmetic, and the EVSEs of a pool or the spans of an EVSE."""
    place, rule_set = explanation.place, explanation.rule_set
    yield f"{explanation.level} {' / '.join(explanation.figure.name.values())}"
    yield f"{place['site_name'] or place['site_id']}, {place['state'] or 'no state'}, {place['time_zone']}; {place['cpo_name']}"
    yield f"{explanation.month} under {rule_set.name}@{rule_set.version}: {rule_set.description}"
    yield f"marts as of {_utc(explanation.as_of)}"
    yield ""
    yield from _arithmetic(explanation.figure, rule_set)
    if explanation.parts:
        yield ""
        yield from _pool(explanation)
    if explanation.spans:
        yield ""
        yield "Spans: from the first second, to the first second after"
        for span in explanation.spans:
            yield from _span(span, rule_set.classes, ZoneInfo(place["time_zone"]))


def _arithmetic(figure: Figure, rule_set: RuleSet) -> Iterator[str]:
    row, sums = figure.row, figure.sums
    yield f"{'status':<20}{'seconds':>14}  class"
    for status, its_class in rule_set.classes.items():
        if amount := figure.seconds.get(status, 0):
            use = ", in use" if status in rule_set.in_use else ""
            yield f"{status:<20}{amount:>14,}  {its_class}{use}"
    by_register = (
        f", {sums.excluded_by_register:,} of it by the exclusion register" if sums.excluded_by_register else ""
    )
    yield f"T  in service       {sums.in_service:>14,}  {_hours(sums.in_service)}"
    yield f"U  up               {sums.up:>14,}"
    yield f"D  down             {sums.down:>14,}"
    yield f"X  not measured     {sums.not_measured:>14,}"
    yield f"E  excluded         {sums.excluded:>14,}{by_register}"
    yield f"uptime              {_filled(rule_set.formula, sums)} = {_percent(row['uptime_ratio'])}"
    for bound, moved in (("lower", figure.lower), ("upper", figure.upper)):
        way = "down" if bound == "lower" else "up"
        ratio = _percent(row[f"uptime_{bound}_ratio"])
        yield f"{bound + ' bound':<20}{_filled(rule_set.formula, moved)} = {ratio}, with {' and '.join(NOT_KNOWN)} {way}"
    yield f"coverage            (T - X) / T = {sums.measured:,} / {sums.in_service:,} = {_percent(row['coverage_ratio'])}"
    yield f"utilisation         in use / (T - X) = {row['in_use_seconds']:,} / {sums.measured:,} = {_percent(row['utilisation_ratio'])}"
    yield f"unavailability      D / (T - X) = {sums.down:,} / {sums.measured:,} = {_percent(row['unavailability_ratio'])}"
    target = f"{_COMPARISONS[row['target_comparison']]} {row['target_ratio'] * 100:f} %"
    yield f"target              {target}: {row['target_result']}"


def _filled(formula: str, sums: Sums) -> str:
    """The formula of uptime, and the same with its numbers."""
    measured = f"({sums.in_service:,} - {sums.not_measured:,})"
    if formula == "up_over_measured":
        return f"U / (T - X) = {sums.up:,} / {measured}"
    return f"(T - X - D) / (T - X) = ({sums.in_service:,} - {sums.not_measured:,} - {sums.down:,}) / {measured}"


def _pool(explanation: Explanation) -> Iterator[str]:
    formula = explanation.rule_set.formula
    yield "Pooled from these EVSEs: seconds are added up, percentages never"
    yield f"{'EVSE':<40}{'T':>12}{'U':>12}{'D':>12}{'X':>12}{'E':>12}  uptime"
    for figure in (*explanation.parts, explanation.figure):
        sums = figure.sums
        is_pool = figure is explanation.figure
        name = "together" if is_pool else f"{figure.name['charger_id']} / {figure.name['evse_id']}"
        numbers = "".join(
            f"{amount:>12,}" for amount in (sums.in_service, sums.up, sums.down, sums.not_measured, sums.excluded)
        )
        numerator, denominator = uptime_terms(formula, sums)
        yield f"{name:<40}{numbers}  {numerator:,} / {denominator:,} = {_percent(figure.row['uptime_ratio'])}"


def _span(span: Mapping[str, Any], classes: Mapping[str, str], zone: ZoneInfo) -> Iterator[str]:
    begin, end = span["span_from"], span["span_until"]
    yield f"{_local(begin, zone)} to {_local(end, zone)}  {span['seconds']:>7,} s  {span['status']} ({classes[span['status']]})"
    yield f"    UTC {_utc(begin)} to {_utc(end)}"
    yield f"    opened by {span['opened_by']}{_told(span, 'opened')}; last contact before {_utc(span['last_contact_before_from_at'])}"
    if span["change_key"] is None:
        yield "    nothing was ever told of it"
    else:
        meaning = span["meaning_profile"]
        if meaning != "unmapped":
            meaning = f"by a row of {meaning} from {_utc(span['meaning_valid_from'])}"
        yield (
            f"    last word {span['status_word']} ({span['status_profile']}, {meaning}): change {span['change_key']},"
            f" observed {_utc(span['observed_at'])}, received {_utc(span['received_at'])}"
        )
    yield f"    closed by {span['closed_by']}{_told(span, 'closed')}; last contact before {_utc(span['last_contact_before_until_at'])}"


def _told(span: Mapping[str, Any], end: str) -> str:
    """The change that was told at an end of a span."""
    if span[f"{end}_change_key"] is None:
        return ""
    observed, received = _utc(span[f"{end}_observed_at"]), _utc(span[f"{end}_received_at"])
    return f": change {span[f'{end}_change_key']}, observed {observed}, received {received}"


def _utc(moment: datetime | None) -> str:
    return "none" if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat(sep=" ")


def _hours(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} hours"


def _percent(ratio: Decimal | None) -> str:
    """As the mart has it, to the last of its decimals: a rounded figure can't be compared with a target."""
    return "not measured" if ratio is None else f"{ratio * 100:f} %"
