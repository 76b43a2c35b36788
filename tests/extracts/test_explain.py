"""Why a figure is what it is, for a month of a simulated CPO whose truth is known to the second."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from extracts.__main__ import main
from extracts.explain import MARTS, Explanation, Question, explain
from ingestion.config import load_cpo
from ingestion.handover import import_waiting
from ingestion.model import Contact, Outcome
from ingestion.told import Change
from ingestion.writer import Writer
from simulator.feeds import Feed, feed_of_month
from simulator.history import emit_month
from simulator.months import Month, Span
from simulator.truth import expected_seconds, in_service_spans
from simulator.world import Evse, build_world
from tests.feeds import asset, history_config
from warehouse.connection import Role, connect
from warehouse.transform import transform

MONTH = Month(2026, 10)
WORLD = build_world()
FEED: Feed = feed_of_month(WORLD, "mallee", MONTH)
EVSES = {evse.ref: evse for evse in WORLD.evses("mallee", FEED.told)}
CLASSES = {
    **dict.fromkeys(("available", "charging", "finishing", "reserved"), "up"),
    **dict.fromkeys(("unavailable", "out_of_order", "blocked", "inoperative"), "down"),
    **dict.fromkeys(("unknown", "missing"), "not_measured"),
}


def evse_named(emi3_id: str) -> Evse:
    return WORLD.by_emi3[emi3_id]


BROKEN_OVER_MONTH_END = evse_named("AU*MAL*E0101*2")
TWIN = evse_named("AU*MAL*E0201*1")


@pytest.fixture(scope="module", autouse=True)
def marts(module_warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """October of mallee, and another CPO with an EVSE of the same id at a site that sits in a month of its own."""
    inbox = tmp_path_factory.mktemp("inbox")
    emit_month(WORLD, MONTH, inbox, ["mallee"])
    with connect(Role.INGEST) as connection:
        import_waiting(connection, load_cpo("mallee"), inbox, datetime.now(UTC), lambda line: None)
    start = datetime(2026, 8, 3, tzinfo=UTC)
    settings = history_config("twin", ended_at=start + timedelta(days=3))
    with connect(Role.INGEST) as connection, Writer(connection, settings).batch() as batch:
        batch.add_assets([replace(asset(TWIN.uid), valid_from=start)], start, is_whole_evse=False)
        (key,) = batch.evse_keys().values()
        batch.add_changes([Change(key, start, "available", start, None)])
        batch.add_contacts([Contact(start, start + timedelta(days=1), Outcome.ALIVE, start)])
    transform()


def asked(**question: str) -> Explanation:
    with connect(Role.EXTRACT) as connection:
        return explain(connection, Question(**{"month": "2026-10", "rule_set": "evc_2025", **question}))


def truth() -> dict[str, Counter[str]]:
    """Seconds per status of the month, by EVSE."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (ref, _, status), seconds in expected_seconds(MONTH, "mallee", world=WORLD).items():
        found[ref][status] += seconds
    return found


def joined(spans: Iterator[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Spans of one status that touch, as one."""
    whole: list[tuple[int, int, str]] = []
    for begin, end, status in spans:
        if whole and whole[-1][1:] == (begin, status):
            whole[-1] = (whole[-1][0], end, status)
        else:
            whole.append((begin, end, status))
    return whole


def test_seconds_and_spans_of_every_evse_are_the_truth() -> None:
    expected = truth()
    assert len(expected) > 20
    for ref, seconds in expected.items():
        evse = EVSES[ref]
        found = asked(evse=evse.uid, cpo="mallee")
        served = {status: amount for status, amount in found.figure.seconds.items() if status in CLASSES}
        assert served == dict(seconds), ref
        told = joined(
            (int(span["span_from"].timestamp()), int(span["span_until"].timestamp()), span["status"])
            for span in found.spans
            if span["status"] in CLASSES
        )
        window: Span = MONTH.span(evse.site.time_zone)
        assert told == joined((span.start, span.end, status) for span, status in in_service_spans(FEED, evse, window))


def test_the_figures_are_those_of_the_mart_and_follow_from_the_truth() -> None:
    seconds = truth()[BROKEN_OVER_MONTH_END.ref]
    by_class: Counter[str] = Counter()
    for status, amount in seconds.items():
        by_class[CLASSES[status]] += amount
    assert min(by_class.values()) > 0
    found = asked(evse=BROKEN_OVER_MONTH_END.uid.lower(), cpo="MALLEE")
    sums = found.figure.sums
    assert (sums.up, sums.down, sums.not_measured) == (by_class["up"], by_class["down"], by_class["not_measured"])
    with connect(Role.ANALYST) as connection:
        row = connection.execute(
            "select uptime_ratio, uptime_lower_ratio, uptime_upper_ratio from marts.fct_connector_uptime_monthly"
            " inner join marts.dim_evse using (evse_key)"
            " where evse_id = %s and rule_set = 'evc_2025' and local_month = '2026-10-01'",
            (BROKEN_OVER_MONTH_END.uid,),
        ).fetchone()
    assert row is not None
    total = by_class.total()
    for ratio, expected in zip(
        row,
        (
            Fraction(by_class["up"], by_class["up"] + by_class["down"]),
            Fraction(by_class["up"], total),
            Fraction(by_class["up"] + by_class["not_measured"], total),
        ),
        strict=True,
    ):
        assert abs(Fraction(ratio) - expected) <= Fraction(1, 2 * 10**10)


def test_the_text_holds_the_arithmetic_and_what_opened_and_closed_a_span(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--evse", BROKEN_OVER_MONTH_END.emi3_id, "--month", "2026-10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = asked(evse=BROKEN_OVER_MONTH_END.uid, cpo="mallee")
    sums, row = found.figure.sums, found.figure.row
    assert f"T  in service       {sums.in_service:>14,}  743:00:00 hours" in lines
    assert (
        f"uptime              U / (T - X) = {sums.up:,} / ({sums.in_service:,} - {sums.not_measured:,})"
        f" = {row['uptime_ratio'] * 100:f} %" in lines
    )
    assert f"target              at least 98.0000 %: {row['target_result']}" in lines
    # The outage that lasts into November: seen at the first poll after it began, cut at each midnight.
    begun = next(number for number, line in enumerate(lines) if line.startswith("2026-10-30 17:20:38+10:30 to "))
    assert lines[begun].endswith("  out_of_order (down)")
    assert "opened by observation: change " in lines[begun + 2]
    assert lines[begun + 2].endswith("last contact before 2026-10-30T06:49:38Z")
    assert "last word OUTOFORDER (history, by a row of history from 2010-01-01T00:00:00Z)" in lines[begun + 3]
    assert lines[begun + 4].startswith("    closed by local_midnight; ")
    assert lines[begun + 5] == "2026-10-31 00:00:00+10:30 to 2026-11-01 00:00:00+10:30   86,400 s  out_of_order (down)"
    assert lines[begun + 6] == "    UTC 2026-10-30T13:30:00Z to 2026-10-31T13:30:00Z"
    assert lines[begun + 7].startswith("    opened by local_midnight; ")


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    question = ["--evse", BROKEN_OVER_MONTH_END.emi3_id, "--month", "2026-10", "--rule-set", "nevi_680_116@1"]
    assert main(["explain", *question, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rule_set"]["name"], told["rule_set"]["version"]) == ("nevi_680_116", 1)
    figure = told["figure"]
    assert round(
        figure["terms"]["uptime"]["numerator"] / figure["terms"]["uptime"]["denominator"], 10
    ) == pytest.approx(figure["uptime_ratio"], abs=1e-10)
    by_class: Counter[str] = Counter()
    for span in told["spans"]:
        by_class[span["class"]] += span["seconds"]
    assert by_class["down"] == figure["down_seconds"] > 0
    assert {span["opened_by"] for span in told["spans"]} >= {"observation", "local_midnight", "contact_lost"}


@pytest.mark.parametrize("level", ["charger", "site"])
def test_a_pool_is_the_sum_of_its_evses(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    evse = BROKEN_OVER_MONTH_END
    question = {"site": evse.site.site_id} | ({"charger": evse.charger_id} if level == "charger" else {})
    for rule_set in ("evc_2025", "nevi_680_116", "uk_pcpr_2023", "evc_2024_report"):
        found = asked(**question, rule_set=rule_set, cpo="mallee")
        assert (found.level, found.spans) == (level, ())
        assert len(found.parts) == found.figure.row["evse_count"] > 1
        assert sum(part.sums.up for part in found.parts) == found.figure.sums.up
    expected = truth()
    members = {
        other.uid: expected[other.ref]
        for other in EVSES.values()
        if other.site == evse.site
        and (level == "site" or other.charger_id == evse.charger_id)
        and other.ref in expected
    }
    assert {part.name["evse_id"]: dict(part.seconds) for part in found.parts} == {
        uid: dict(seconds) for uid, seconds in members.items()
    }
    assert main(["explain", "--month", "2026-10", *(f"--{name}={value}" for name, value in question.items())]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("together") for line in lines) == 1
    assert not any("opened by" in line for line in lines)


def test_an_id_at_two_cpos_is_not_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--evse", TWIN.uid, "--month", "2026-10"]) == 2
    told = capsys.readouterr().err
    assert f"--evse {TWIN.uid} may be any of these; name one:" in told
    assert f"--cpo mallee --site {TWIN.site.site_id} --charger {TWIN.charger_id} --evse {TWIN.uid}" in told
    assert f"--cpo twin --site S1 --charger {TWIN.uid} --evse {TWIN.uid}" in told
    assert main(["explain", "--evse", TWIN.uid, "--month", "2026-08", "--cpo", "twin"]) == 0
    assert "closed by service_ended" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--evse", "nobody"], "nothing in the marts is --evse nobody"),
        (["--cpo", "mallee"], "name an EVSE, a charger or a site"),
        (
            ["--evse", TWIN.uid, "--cpo", "twin"],
            "not in service in 2026-10: service began 2026-08-03T00:00:00+00:00 and ended",
        ),
        (["--site", "S1"], "not in service in 2026-10"),
        (["--site", "S1", "--rule-set", "evc_1999"], "no rule-set 'evc_1999': there are evc_2024_report@1, evc_2025@1"),
        (["--site", "S1", "--rule-set", "evc_2025@7"], "no rule-set 'evc_2025@7'"),
    ],
)
def test_a_question_without_an_answer_ends_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--month", "2026-10", *arguments]) == 2
    assert message in capsys.readouterr().err


@contextmanager
def spoiled(mart: str, column: str, condition: str) -> Iterator[None]:
    """One more in a column of a mart, or of what lies under it: a table takes its place for a while."""
    with connect(Role.TRANSFORM) as connection:
        connection.execute(f"alter table {mart} rename to set_aside")
        schema = mart.split(".")[0]
        connection.execute(f"create table {mart} as select * from {schema}.set_aside")
        connection.execute(f"update {mart} set {column} = {column} + 1 where {condition}")
    yield
    with connect(Role.TRANSFORM) as connection:
        connection.execute(f"drop table {mart}")
        connection.execute(f"alter table {schema}.set_aside rename to {mart.split('.')[1]}")


@pytest.mark.parametrize(
    ("mart", "column", "message"),
    [
        (MARTS["evse"], "up_seconds", "up_seconds: "),
        (MARTS["evse"], "charging_seconds", "charging_seconds: "),
        (MARTS["evse"], "excluded_seconds", "down_seconds: "),
        (MARTS["evse"], "uptime_ratio", "uptime_ratio: "),
        (MARTS["evse"], "uptime_lower_ratio", "uptime_lower_ratio: "),
        ("fct_evse_status_span", "seconds", "in_service_seconds: "),
    ],
)
def test_figures_that_do_not_follow_from_the_spans_are_not_explained(
    mart: str, column: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = asked(evse=BROKEN_OVER_MONTH_END.uid, cpo="mallee").place["evse_key"]
    question = ["explain", "--evse", BROKEN_OVER_MONTH_END.emi3_id, "--month", "2026-10"]
    with spoiled(f"marts.{mart}", column, f"evse_key = {key}"):
        assert main(question) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "do not add up to its figures" in told.err
    assert message in told.err
    assert main(question) == 0


@pytest.mark.parametrize(
    ("column", "message"), [("evse_count", "EVSEs are in service"), ("down_seconds", "down_seconds: ")]
)
def test_a_pool_whose_row_is_of_other_evses_is_not_explained(
    column: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site = BROKEN_OVER_MONTH_END.site.site_id
    key = asked(site=site, cpo="mallee").place["site_key"]
    question = ["explain", "--site", site, "--month", "2026-10"]
    with spoiled(f"marts.{MARTS['site']}", column, f"site_key = {key}"):
        assert main(question) == 1
    assert message in capsys.readouterr().err
    assert main(question) == 0


def test_marts_between_two_runs_are_not_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with connect(Role.TRANSFORM) as connection:
        connection.execute(
            "insert into state.transform_run (started_at, as_of, is_full_refresh, code_sha256) values (now(), now(), false, 'open')"
        )
    assert main(["explain", "--site", TWIN.site.site_id, "--month", "2026-10"]) == 2
    assert "the latest transform run has not finished" in capsys.readouterr().err
    with connect(Role.TRANSFORM) as connection:
        connection.execute("delete from state.transform_run where code_sha256 = 'open'")
