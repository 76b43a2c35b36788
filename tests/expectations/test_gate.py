"""One good month passes; then one defect at a time, each shown to block by the expectation that names it."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from expectations import gate
from expectations.candidate import LEVELS, STATUSES, Candidate, make_candidate
from expectations.gate import Finding, GateBlocked, GateResult, check, load_suites, require
from tests.extract_world import AS_OF, EVSES, Row, World, add, edited, recomputed, set_row, with_header, with_tables
from warehouse.object_store import open_store
from warehouse.strict_yaml import ConfigError

Defect = Callable[[Candidate], Candidate]
JUDGE = gate._judge


@pytest.fixture(scope="module", autouse=True)
def remembered() -> Iterator[None]:
    """Judge a table once: the same rows, expectations and parameters have the same findings."""
    judge, known = gate._judge, dict[bytes, list[Finding]]()

    def judge_once(source: Any, table: str, frame: Any, *rest: Any) -> list[Finding]:
        key = pickle.dumps((table, frame, rest))
        if key not in known:
            known[key] = judge(source, table, frame, *rest)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "_judge", judge_once)
        yield


@pytest.fixture(scope="module")
def good() -> Candidate:
    return World().candidate()


def blocking(result: GateResult) -> set[str]:
    return {finding.title for finding in result.blocking}


def test_a_good_month_passes_without_a_warning(good: Candidate) -> None:
    result = check(good)
    assert result.passed
    assert [finding.sentence() for finding in result.findings if not finding.passed] == []
    require(result)


# ---- defects of a row that connectors, chargers and sites can all have


def flip_result(rows: list[Row]) -> None:
    rows[0]["target_result"] = "met" if rows[0]["target_result"] == "not_met" else "not_met"


LEVEL_DEFECTS: dict[str, Callable[[list[Row]], None]] = {
    "keys_are_told": set_row(0, cpo_id=None),
    "month_is_the_named_one": set_row(0, local_month=date(2026, 9, 1)),
    "month_is_told": set_row(0, local_month=None),
    "state_is_the_recipients": set_row(0, state="VIC"),
    "state_is_told": set_row(0, state=None),
    "rule_set_is_the_named_one": set_row(0, rule_set="nevi_680_116"),
    "rule_set_is_told": set_row(0, rule_set=None),
    "rule_set_version_is_the_named_one": set_row(0, rule_set_version=2),
    "rule_set_version_is_told": set_row(0, rule_set_version=None),
    "figures_are_told": set_row(0, up_seconds=None),
    "seconds_are_not_negative": set_row(0, blocked_seconds=-1),
    "statuses_add_up": add(0, available_seconds=1),
    "measured_adds_up": add(0, down_seconds=1),
    "classes_add_up": add(0, not_measured_seconds=-1),
    "minutes_are_seconds": set_row(0, charging_minutes=1.0),
    "ratios_are_not_negative": set_row(0, uptime_lower_ratio=Decimal("-0.1")),
    "ratios_are_at_most_one": set_row(0, uptime_upper_ratio=Decimal("1.5")),
    "lower_bound_is_below_headline": set_row(0, uptime_lower_ratio=Decimal("0.9999999999")),
    "headline_is_below_upper_bound": set_row(0, uptime_upper_ratio=Decimal("0.5")),
    "ratios_can_be_worked_out": set_row(0, missing_seconds=None),
    "ratios_follow_from_seconds": lambda rows: rows[0].update(
        utilisation_ratio=rows[0]["utilisation_ratio"] + Decimal("0.0000000002")
    ),
    "target_result_is_known": set_row(0, target_result="perhaps"),
    "target_result_is_told": set_row(0, target_result=None),
    "target_result_follows": flip_result,
}


# Each at one level, in turn: the three share one suite file.
LEVEL_OF_DEFECT = dict(zip(LEVEL_DEFECTS, LEVELS * len(LEVEL_DEFECTS), strict=False))


@pytest.mark.parametrize("name", LEVEL_DEFECTS)
def test_a_defect_of_a_row_blocks(good: Candidate, name: str) -> None:
    level = LEVEL_OF_DEFECT[name]
    result = check(edited(good, level, LEVEL_DEFECTS[name]))
    assert f"{level}.{name}" in blocking(result)
    assert not result.passed


def test_the_levels_share_what_a_row_must_be() -> None:
    suites = load_suites()
    for level in LEVELS:
        assert set(LEVEL_DEFECTS) <= {entry.name for entry in suites[level]}


# ---- defects of one table, or between tables


def on(table: str, edit: Callable[[list[Row]], None]) -> Defect:
    return lambda candidate: edited(candidate, table, edit)


def drop(table: str, **match: Any) -> Defect:
    def defect(candidate: Candidate) -> Candidate:
        rows = candidate.tables[table].to_pylist()
        kept = [row for row in rows if any(row[name] != value for name, value in match.items())]
        assert len(kept) < len(rows)
        return with_tables(candidate, **{table: kept})

    return defect


def copy_row(table: str, **changes: Any) -> Defect:
    def defect(candidate: Candidate) -> Candidate:
        rows = candidate.tables[table].to_pylist()
        return with_tables(candidate, **{table: [*rows, {**rows[0], **changes}]})

    return defect


def index_of(rows: list[Row], **match: Any) -> int:
    return next(n for n, row in enumerate(rows) if all(row[name] == value for name, value in match.items()))


def without_evse(candidate: Candidate) -> Candidate:
    """E-102 is in the register and in the days, and its charger and site no longer count it: only the register knows."""
    connectors = [row for row in candidate.tables["connectors"].to_pylist() if row["evse_key"] != 102]
    world = World()
    world.daily = {key: value for key, value in world.daily.items() if key[0] != 102}
    levels = {name: world.tables()[name].to_pylist() for name in ("chargers", "sites", "evse_days")}
    return with_tables(candidate, connectors=connectors, **levels)


def out_of_service_row(candidate: Candidate) -> Candidate:
    rows = candidate.tables["connectors"].to_pylist()
    row = rows[index_of(rows, evse_key=105)]
    return with_tables(
        candidate, connectors=[*rows, {**row, "evse_key": 106, "evse_id": "E-106", "connector_key": 1007}]
    )


def move_between_days(rows: list[Row]) -> None:
    for index, amount in ((0, 60), (1, -60)):
        rows[index]["available_seconds"] += amount


def move_between_statuses(rows: list[Row]) -> None:
    rows[0]["charging_seconds"] += 1
    rows[0]["available_seconds"] -= 1


def far_below_zero(rows: list[Row]) -> None:
    rows[0]["available_seconds"] -= 100_000
    rows[1]["available_seconds"] += 100_000


def unheard_of_status(rows: list[Row]) -> None:
    rows[0]["available_seconds"] -= 60
    rows[0]["other_seconds"] += 60


def connector_of_its_own_mind(rows: list[Row]) -> None:
    index = index_of(rows, connector_key=1002)
    seconds = rows[index]["charging_seconds"]
    recomputed(rows, index, charging=seconds - 10, available=rows[index]["available_seconds"] + 10)


def pooled_wrongly(rows: list[Row]) -> None:
    recomputed(rows, 0, charging=rows[0]["charging_seconds"] + 60, available=rows[0]["available_seconds"] - 60)


def one_second_later(rows: list[Row]) -> None:
    index = index_of(rows, evse_key=103)
    rows[index]["in_service_from"] += timedelta(seconds=1)


def all_missing(candidate: Candidate) -> Candidate:
    world = World()
    world.daily = {key: {"missing": sum(value.values())} for key, value in world.daily.items()}
    return world.candidate()


def empty(candidate: Candidate) -> Candidate:
    return with_tables(candidate, connectors=[], chargers=[], sites=[], register=[], service_breaks=[], evse_days=[])


def cut_off_at(moment: datetime) -> Defect:
    return lambda candidate: with_header(candidate, as_of=moment)


# The whole set of what fails, so that a defect is seen by the expectation that names it and by no accident.
DEFECTS: dict[str, tuple[Defect, set[str]]] = {
    "a duplicated connector": (
        copy_row("connectors"),
        {"connectors.connectors_stand_once", "connectors.connector_keys_stand_once"},
    ),
    "two keys of one connector": (
        copy_row("connectors", connector_key=99),
        {"connectors.connectors_stand_once"},
    ),
    "two names of one connector": (
        copy_row("connectors", connector_id="99"),
        {"connectors.connector_keys_stand_once"},
    ),
    "a duplicated charger": (
        copy_row("chargers", charger_key=12),
        {"chargers.chargers_stand_once", "chargers.charger_keys_stand_once"}
        | {"chargers.chargers_count_their_evses", "chargers.chargers_pool_their_evses"},
    ),
    "a duplicated site": (copy_row("sites"), {"sites.sites_stand_once", "sites.site_keys_stand_once"}),
    "a charger that is not there": (
        drop("chargers", charger_key=12),
        {"connectors.chargers_of_connectors_are_there"},
    ),
    "a site that is not there": (drop("sites", site_key=2), {"connectors.sites_of_connectors_are_there"}),
    "a charger without connectors": (
        copy_row("chargers", charger_key=99, charger_id="C-99"),
        {"chargers.chargers_have_connectors"}
        | {"chargers.chargers_count_their_evses", "chargers.chargers_pool_their_evses"},
    ),
    "a site without connectors": (
        copy_row("sites", site_key=99, site_id="S-99"),
        {"sites.sites_have_connectors", "sites.sites_count_their_evses", "sites.sites_pool_their_evses"},
    ),
    "a charger that counts wrongly": (
        on("chargers", add(0, evse_count=1)),
        {"chargers.chargers_count_their_evses"},
    ),
    "a charger not pooled": (on("chargers", pooled_wrongly), {"chargers.chargers_pool_their_evses"}),
    "a site that counts wrongly": (on("sites", add(0, evse_count=-1)), {"sites.sites_count_their_evses"}),
    "a site not pooled": (on("sites", pooled_wrongly), {"sites.sites_pool_their_evses"}),
    "an EVSE that is not there": (
        without_evse,
        {"evses.evses_in_service_have_a_row", "evse_days.days_have_their_length"},
    ),
    "an EVSE out of service": (
        out_of_service_row,
        {"evses.evses_with_a_row_are_in_service", "evses.in_service_time_is_the_calendars"}
        | {
            "evses.days_add_up_to_the_month",
            "chargers.chargers_count_their_evses",
            "sites.sites_count_their_evses",
        }
        | {"chargers.chargers_pool_their_evses", "sites.sites_pool_their_evses"},
    ),
    "in service a second too long": (
        on("register", one_second_later),
        {"evses.in_service_time_is_the_calendars", "evse_days.days_have_their_length"},
    ),
    "a break of service that nobody knows of": (
        lambda candidate: with_tables(candidate, service_breaks=[]),
        {"evses.in_service_time_is_the_calendars", "evse_days.days_have_their_length"},
    ),
    "connectors of one EVSE that differ": (
        on("connectors", connector_of_its_own_mind),
        {"evses.connectors_share_their_evses_time"},
    ),
    "days that are not the month": (
        on("evse_days", move_between_statuses),
        {"evses.days_add_up_to_the_month"},
    ),
    "a day too long": (on("evse_days", move_between_days), {"evse_days.days_have_their_length"}),
    "a day that is not there": (
        drop("evse_days", evse_key=101, local_date=date(2026, 10, 4)),
        {"evse_days.days_have_their_length", "evses.days_add_up_to_the_month"},
    ),
    "a day below zero": (
        on("evse_days", far_below_zero),
        {"evse_days.day_seconds_are_not_negative", "evse_days.days_have_their_length"},
    ),
    "a status no rule-set knows": (
        on("evse_days", unheard_of_status),
        {"evse_days.day_statuses_are_known", "evses.days_add_up_to_the_month"},
    ),
    "a zone that does not exist": (
        on("register", set_row(0, time_zone="Mars/Olympus_Mons")),
        {"zones.zones_exist", "evses.in_service_time_can_be_worked_out", "evse_days.days_can_be_worked_out"},
    ),
    "nothing but silence": (all_missing, {"extract.something_was_measured"}),
    "an empty extract": (
        empty,
        {"extract.there_are_connectors", "extract.there_are_chargers", "extract.there_are_sites"}
        | {"extract.something_was_measured"},
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_blocks_by_the_expectations_that_name_it(good: Candidate, name: str) -> None:
    defect, expected = DEFECTS[name]
    result = check(defect(good))
    assert blocking(result) == expected
    assert not result.passed
    with pytest.raises(GateBlocked) as raised:
        require(result)
    assert all(title in str(raised.value) for title in expected)


def test_the_month_must_be_over_by_the_clock_of_every_site(good: Candidate) -> None:
    # Lord Howe and Sydney have ended it, Broken Hill has 30 minutes to go.
    early = datetime(2026, 10, 31, 13, 0, 0, tzinfo=UTC)
    result = check(with_header(good, as_of=early))
    assert "zones.month_is_over" in blocking(result)
    finding = next(each for each in result.blocking if each.title == "zones.month_is_over")
    assert (finding.failed_count, finding.checked_count) == (1, 3)
    assert finding.examples[0].startswith("Australia/Broken_Hill (seconds_since_month_end = -1800")
    just_over = datetime(2026, 10, 31, 13, 30, 0, tzinfo=UTC)
    assert check(with_header(good, as_of=just_over)).passed


def homemade(rows: list[Row]) -> None:
    for row in rows:
        row["rule_set"] = "homemade"


def test_a_rule_set_that_the_gate_cannot_work_out_blocks(good: Candidate) -> None:
    bad = with_header(good, rule_set="homemade")
    for level in LEVELS:
        bad = edited(bad, level, homemade)
    assert {f"{level}.ratios_can_be_worked_out" for level in LEVELS} <= blocking(check(bad))


# ---- warnings


def nil_row(candidate: Candidate) -> Candidate:
    world = World()
    world.daily = {
        key: {"missing": sum(value.values())} if key[0] == 103 else value for key, value in world.daily.items()
    }
    return world.candidate()


WARNINGS: dict[str, tuple[Defect, set[str]]] = {
    "a standard nobody knows": (
        on("connectors", set_row(0, connector_standard="BANANA")),
        {"connectors.standard_is_known"},
    ),
    "no standard": (on("connectors", set_row(0, connector_standard=None)), {"connectors.standard_is_told"}),
    "watts for kilowatts": (
        on("connectors", set_row(0, power_kw=Decimal(22_000))),
        {"connectors.power_is_plausible"},
    ),
    "no power": (on("connectors", set_row(0, power_kw=None)), {"connectors.power_is_told"}),
    "no place": (on("sites", set_row(0, latitude=None)), {"sites.place_is_told"}),
    "no address": (on("sites", set_row(0, address=None)), {"sites.address_is_told"}),
    "an EVSE of which nothing is known": (
        nil_row,
        {"evses.evse_is_mostly_measured", "extract.extract_is_mostly_measured"},
    ),
    "an EVSE without a state": (
        lambda candidate: with_header(candidate, unplaced_evse_count=3),
        {"extract.every_evse_has_a_state"},
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_a_warning_is_told_and_does_not_block(good: Candidate, name: str) -> None:
    defect, expected = WARNINGS[name]
    result = check(defect(good))
    assert {finding.title for finding in result.warnings} == expected
    assert result.passed
    require(result)
    assert all(title.partition(".")[2] in result.report_html for title in expected)
    assert "failed: warning" in result.report_html


def test_every_expectation_has_a_defect_that_makes_it_fail() -> None:
    shown = {f"{level}.{name}" for level in LEVELS for name in LEVEL_DEFECTS} | {"zones.month_is_over"}
    shown = shown.union(*(titles for _, titles in DEFECTS.values()), *(titles for _, titles in WARNINGS.values()))
    asked = {f"{table}.{entry.name}" for table, entries in load_suites().items() for entry in entries}
    assert len(asked) > 100
    assert asked == shown


# ---- the gate itself


def _with_expectation(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    suites = load_suites()
    first = suites["extract"][0]
    broken = first.model_copy(update={"name": "broken", "severity": "warning", **changes})
    monkeypatch.setattr(gate, "load_suites", lambda: {**suites, "extract": (*suites["extract"], broken)})


@pytest.mark.parametrize(
    "changes",
    [
        {"kwargs": {"column": "no_such_column", "min_value": 0}},
        {"kwargs": {"column": "rule_set", "min_value": 0}},
        {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1}},
    ],
    ids=["no such column", "numbers asked of text", "a kind that gives no count"],
)
def test_an_expectation_that_cannot_be_evaluated_blocks_even_as_a_warning(
    good: Candidate, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    _with_expectation(monkeypatch, **changes)
    result = check(good)
    assert blocking(result) == {"extract.broken"}
    assert "could not be evaluated" in result.blocking[0].sentence()
    assert "Could not be evaluated" in result.report_html


def test_no_finding_at_all_is_no_pass(good: Candidate) -> None:
    assert not GateResult(good.header, (), "").passed


def test_the_message_has_counts_and_at_most_five_examples(good: Candidate) -> None:
    def all_negative(rows: list[Row]) -> None:
        for row in rows:
            row["least_seconds"] = row["blocked_seconds"] = -7

    bad = edited(good, "evse_days", all_negative)
    result = check(bad)
    finding = next(each for each in result.blocking if each.name == "day_seconds_are_not_negative")
    assert len(finding.examples) == 5
    assert finding.failed_count == finding.checked_count == good.tables["evse_days"].num_rows
    assert finding.examples[0] == "boltway/S-1/C-1/E-101/2026-10-01 (least_seconds = -7.0)"
    with pytest.raises(GateBlocked, match=rf"{finding.failed_count} of {finding.checked_count} rows fail: boltway/S-1"):
        require(result, "gate/x.html")


def test_the_report_escapes_what_it_shows_and_needs_nothing_from_outside(good: Candidate) -> None:
    evil = '<script>alert("x")</script>'
    bad = with_header(good, recipient_name=evil)
    bad = edited(bad, "sites", set_row(0, site_id=evil, evse_count=7))
    html = check(bad).report_html
    assert "&lt;script&gt;alert(&quot;x&quot;)" in html
    assert "<script" not in html
    assert not re.search(r"https?://|src=|@import|url\(", html)
    assert "Blocked: " in html


def test_the_same_rows_give_the_same_report(good: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_judge", JUDGE)
    assert check(good).report_html == check(World().candidate()).report_html


def test_the_report_lists_every_expectation(good: Candidate) -> None:
    result = check(good)
    told = re.findall(r"<td><code>([a-z0-9_]+)</code></td>", result.report_html)
    assert sorted(told) == sorted(entry.name for entries in load_suites().values() for entry in entries)


def test_the_heavy_import_waits_for_the_check_and_reports_nothing_home() -> None:
    code = (
        "import sys, os, expectations.gate, expectations.__main__\n"
        "assert 'great_expectations' not in sys.modules\n"
        "from tests.extract_world import World\n"
        "expectations.gate.check(World().candidate())\n"
        "assert os.environ['GX_ANALYTICS_ENABLED'] == 'false'\n"
        "assert 'great_expectations' in sys.modules\n"
        "print('light')\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={"PATH": "/usr/bin", "PYTHONPATH": str(root), "HOME": "/nonexistent"},
    )
    assert done.stdout == "light\n"


def test_the_gate_imports_nothing_of_the_rooms_after_it() -> None:
    root = Path(__file__).resolve().parents[2] / "expectations"
    files = list(root.rglob("*.py"))
    assert len(files) >= 7
    for file in files:
        imported = re.findall(r"^\s*(?:from|import) (\w+)", file.read_text(encoding="utf-8"), re.M)
        assert not {"extracts", "ingestion", "simulator", "stack", "dags", "airflow"} & set(imported), file


# ---- suite files


def _suite(folder: Path, text: str) -> Path:
    (folder / "suite.json").write_text(text, encoding="utf-8")
    return folder


ENTRY = (
    '{"name": "a_fact", "type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"},'
    ' "severity": "critical", "meta": {"fact": "It holds.", "fixed_by": "us"}}'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"tables": ["sites"], "expectations": [', "suite.json: not valid JSON"),
        ('{"tables": ["sites"], "expectations": [], "more": 1}', "suite.json: more: unknown key"),
        (
            '{"tables": ["towns"], "expectations": [' + ENTRY + "]}",
            "tables: 'towns' is none of connectors, chargers",
        ),
        (
            '{"tables": ["sites", "sites"], "expectations": [' + ENTRY + "]}",
            "sites: expectation 'a_fact' stands twice",
        ),
        ('{"tables": ["sites"], "expectations": [' + ENTRY + "]}", "connectors: has no critical expectation"),
        (
            '{"tables": ["sites"], "expectations": [' + ENTRY.replace("critical", "info") + "]}",
            "expectations.0.severity: Input should be 'critical' or 'warning'",
        ),
        (
            '{"tables": ["sites"], "expectations": [' + ENTRY.replace('"It holds."', '""') + "]}",
            "expectations.0.meta.fact",
        ),
    ],
)
def test_a_bad_suite_file_is_refused_by_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_suites(_suite(tmp_path, text))


# ---- what is kept


def test_the_answer_is_kept_and_is_about_these_bytes_only(good: Candidate, tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    result = check(good)
    path = gate.store_result(result, store)
    assert path == f"gate/nsw_dcceew/2026-10/{good.header.candidate_id}.html"
    record, report = gate.stored_pass(good.header, store)
    assert record.passed
    assert report.decode() == result.report_html
    other = edited(good, "sites", set_row(0, suburb="Elsewhere"))
    with pytest.raises(gate.GateError, match="was not asked"):
        gate.stored_pass(other.header, store)
    # Its answer under the other's name is of no use.
    for ending in ("html", "json"):
        place = path.removesuffix("html") + ending
        store.overwrite(place.replace(good.header.candidate_id, other.header.candidate_id), store.get(place))
    with pytest.raises(gate.GateError, match="is not about"):
        gate.stored_pass(other.header, store)
    store.overwrite(path, report + b"<!-- -->")
    with pytest.raises(gate.GateError, match=r"report about .* was changed"):
        gate.stored_pass(good.header, store)


def test_a_blocked_answer_keeps_its_report_and_lets_nothing_through(good: Candidate, tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    bad = empty(good)
    path = gate.store_result(check(bad), store)
    assert b"Blocked: 4 expectations" in store.get(path)
    with pytest.raises(GateBlocked, match=r"extract\.there_are_connectors"):
        gate.stored_pass(bad.header, store)


def test_a_finding_blocks_when_it_is_critical_or_in_error() -> None:
    finding = Finding(
        table="sites",
        name="x",
        severity="warning",
        fact="It holds.",
        fixed_by="us",
        passed=False,
        checked_count=1,
        failed_count=1,
    )
    assert not finding.blocks
    assert finding.model_copy(update={"severity": "critical"}).blocks
    assert finding.model_copy(update={"error": "boom"}).blocks
    assert not finding.model_copy(update={"severity": "critical", "passed": True}).blocks


def test_the_world_has_what_the_tests_rely_on(good: Candidate) -> None:
    counts = {name: table.num_rows for name, table in good.tables.items()}
    assert counts == {"connectors": 6, "chargers": 4, "sites": 3, "register": 6, "service_breaks": 2, "evse_days": 135}
    sydney = next(row for row in good.tables["connectors"].to_pylist() if row["evse_key"] == 101)
    howe = next(row for row in good.tables["connectors"].to_pylist() if row["evse_key"] == 105)
    assert sydney["in_service_seconds"] == 743 * 3600
    assert howe["in_service_seconds"] == 743 * 3600 + 1800 - (36 * 3600 - 1)
    assert len(EVSES) == 7
    assert good.header.as_of == AS_OF
    assert all(sydney[f"{status}_seconds"] > 0 for status in STATUSES)
    assert replace(good) == make_candidate(good.tables, **good.header.model_dump(exclude={"files", "format_version"}))
