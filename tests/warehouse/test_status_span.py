"""Each span says what began and what ended it: held against what the feeds told, by rules that know nothing of the SQL."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from psycopg.rows import dict_row

from tests.warehouse.oracle import Change, Scenario, was_held
from tests.warehouse.test_marts_equal_the_oracle import deliver, random_scenario
from warehouse.connection import Role, connect
from warehouse.transform import transform

SCENARIO_COUNT = 12


@pytest.fixture(scope="module")
def scenarios(module_warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> list[Scenario]:
    """Random feeds, delivered and transformed."""
    # What other plugs do to virtual EVSEs is in no rule below.
    made = [replace(random_scenario(number), virtual_evses=False) for number in range(100, 100 + SCENARIO_COUNT)]
    for scenario in made:
        folder: Path = tmp_path_factory.mktemp(scenario.cpo_id)
        deliver(scenario, folder, scenario.changes, scenario.contacts, scenario.losses)
    transform()
    return made


def spans_of(scenario: Scenario) -> dict[str, list[dict[str, Any]]]:
    """Spans in order, by EVSE, with what its dimension says of its service."""
    found = defaultdict(list)
    with connect(Role.ANALYST) as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            """
            select fct_evse_status_span.*, evse_id, in_service_from
            from marts.fct_evse_status_span
            inner join marts.dim_evse using (evse_key)
            inner join marts.dim_cpo using (cpo_key)
            where cpo_id = %s
            order by span_from
            """,
            (scenario.cpo_id,),
        )
        for row in cursor:
            found[row["evse_id"]].append(row)
    return found


def told_in(scenario: Scenario, evse_id: str, second: int) -> Change | None:
    """The last thing told of an EVSE in a second."""
    told = [change for change in scenario.changes if change.evse_id == evse_id and int(change.at) == second]
    return max(told, key=lambda change: change.at, default=None)


def last_contact_before(scenario: Scenario, at: float) -> float | None:
    """End of the feed's contact before an instant, at most the instant."""
    return max((min(c.end, at) for c in scenario.contacts if c.start < at), default=None)


def loses_contact(scenario: Scenario, second: int) -> bool:
    """Whether some sign of life reaches just to here."""
    signs = [contact.end for contact in scenario.contacts] + [c.at for c in scenario.changes if c.word != "missing"]
    return any(int(sign) + scenario.liveness_seconds == second for sign in signs)


def reason(scenario: Scenario, evse_id: str, before: dict[str, Any] | None, span: dict[str, Any]) -> set[str]:
    """What may have begun a span; several where several things happened in that second."""
    second = int(span["span_from"].timestamp())
    told = told_in(scenario, evse_id, second)
    if told is not None and told.word == "missing":
        return {"absent"}
    is_lost = any(int(loss.start) == second and not was_held(scenario, loss) for loss in scenario.losses)
    if span["status"] == "missing" and before is not None and before["status"] not in ("missing", "removed"):
        return (
            {"messages_lost"} if is_lost else {"contact_lost"} if loses_contact(scenario, second) else {"unexplained"}
        )
    if told is not None:
        return {"observation", "messages_lost"} if is_lost and span["status"] == "missing" else {"observation"}
    if before is not None and before["status"] == "missing" and span["status"] != "missing":
        shown = any(contact.is_complete and int(contact.start) == second for contact in scenario.contacts)
        return {"contact"} if shown else {"unexplained"}
    # A loss within a second, after which a complete contact showed it: no time lies between.
    if before is not None and before["status"] == span["status"] and before["local_date"] == span["local_date"]:
        return {"contact"} if is_lost else {"unexplained"}
    local = span["span_from"].astimezone(ZoneInfo(scenario.time_zones[evse_id]))
    if before is None:
        return {"service_began"} if scenario.commissioned_on.get(evse_id) == local.date() else {"unexplained"}
    is_midnight = local.date() != (local - timedelta(seconds=1)).date()
    return {"local_midnight"} if is_midnight and before["status"] == span["status"] else {"unexplained"}


def test_what_began_a_span_is_what_the_feed_told_in_that_second(scenarios: list[Scenario]) -> None:
    reasons: Counter[str] = Counter()
    for scenario in scenarios:
        for evse_id, spans in spans_of(scenario).items():
            for before, span in zip([None, *spans], spans, strict=False):
                expected = reason(scenario, evse_id, before, span)
                assert span["opened_by"] in expected, (scenario.cpo_id, before, span)
                reasons[span["opened_by"]] += 1
                told = told_in(scenario, evse_id, int(span["span_from"].timestamp()))
                assert (span["opened_observed_at"] is None) == (told is None)
                if told is not None:
                    assert span["opened_observed_at"] == datetime.fromtimestamp(told.at, UTC)
    assert reasons.keys() == {
        "observation", "contact", "contact_lost", "messages_lost", "absent", "service_began", "local_midnight",
    }  # fmt: skip
    assert min(reasons.values()) > 2


def test_what_ended_a_span_is_what_began_the_next(scenarios: list[Scenario]) -> None:
    ends: Counter[str] = Counter()
    for scenario in scenarios:
        for spans in spans_of(scenario).values():
            for span, following in zip(spans, [*spans[1:], None], strict=False):
                if following is None:
                    assert span["closed_by"] == "service_ended"
                    assert span["span_until"].timestamp() == scenario.end
                else:
                    is_removed = following["status"] == "removed" and span["status"] != "removed"
                    assert span["closed_by"] == ("removed" if is_removed else following["opened_by"])
                    for column in ("change_key", "observed_at", "received_at"):
                        assert span[f"closed_{column}"] == following[f"opened_{column}"]
                    assert span["span_until"] == following["span_from"]
                ends[span["closed_by"]] += 1
    assert ends["removed"] > 2


def test_the_observation_in_force_and_the_contacts_at_both_ends_are_the_feeds_own(scenarios: list[Scenario]) -> None:
    held = 0
    for scenario in scenarios:
        for evse_id, spans in spans_of(scenario).items():
            for span in spans:
                begin = span["span_from"].timestamp()
                told = [
                    c for c in scenario.changes if c.evse_id == evse_id and int(c.at) <= begin and c.word != "missing"
                ]
                if told:
                    last = max(told, key=lambda change: change.at)
                    assert (span["status_word"], span["observed_at"]) == (
                        last.word,
                        datetime.fromtimestamp(last.at, UTC),
                    )
                    expected = "unmapped" if last.word == "SomethingNew" else "history"
                    assert (span["status_profile"], span["meaning_profile"]) == ("history", expected)
                    assert (span["status"] in (last.word, "missing")) or expected == "unmapped"
                else:
                    assert (span["status"], span["status_word"], span["meaning_profile"]) == ("missing", None, None)
                for end in ("from", "until"):
                    at = span[f"span_{end}"].timestamp()
                    contact = span[f"last_contact_before_{end}_at"]
                    expected_contact = last_contact_before(scenario, at)
                    assert (None if contact is None else contact.timestamp()) == expected_contact, (
                        scenario.cpo_id,
                        span,
                    )
                    held += expected_contact == at
    assert held > 10


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a query plan."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize(
    "question",
    [
        "where evse_key = {evse_key} and local_date between '2026-10-01' and '2026-10-31'",
        "inner join marts.dim_evse using (evse_key) inner join marts.dim_site using (site_key)"
        " inner join marts.dim_cpo on dim_cpo.cpo_key = dim_site.cpo_key where evse_id = 'E0' and cpo_id = '{cpo_id}'",
    ],
)
def test_no_more_spans_are_read_than_those_of_the_evses_asked_for(scenarios: list[Scenario], question: str) -> None:
    own = spans_of(scenarios[0])["E0"]
    asked = question.format(evse_key=own[0]["evse_key"], cpo_id=scenarios[0].cpo_id)
    with connect(Role.ANALYST) as connection:
        # So few rows would be read whole, whatever is asked.
        connection.execute("set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off")
        (told,) = connection.execute(
            f"explain (analyze, format json) select * from marts.fct_evse_status_span {asked}"
        ).fetchone() or ([],)
    scans = [node for node in nodes(told[0]["Plan"]) if node.get("Relation Name") == "int_evse__status_span"]
    read = sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans)
    # Each span, the one before it, and the one after it.
    assert len(own) <= read <= 3 * len(own)
