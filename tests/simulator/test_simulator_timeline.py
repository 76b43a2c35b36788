"""The truth is one and the same, however it is asked for."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.faults import Effect, faults_of_month
from simulator.months import DAY_SECONDS, Month, Span
from simulator.timeline import Step, status_at, timeline
from simulator.world import CPOS, Evse, build_world

WORLD = build_world()
MONTHS = [Month(2026, 2), Month(2026, 4), Month(2026, 10), Month(2027, 1)]
EVSES = [*WORLD.standing, *WORLD.newcomers(Month(2026, 10))]

anywhere = st.integers(Month(2025, 12).span("UTC").start, Month(2027, 6).span("UTC").start)
# What runs over from the day before shows in the first hours of a UTC day.
early_in_a_day = st.builds(lambda at, more: at // DAY_SECONDS * DAY_SECONDS + more, anywhere, st.integers(0, 3600))
instants = anywhere | early_in_a_day


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(EVSES), instants, st.integers(1, 6 * DAY_SECONDS), st.integers(1, 6 * DAY_SECONDS))
def test_two_windows_side_by_side_say_what_one_over_both_says(evse: Evse, middle: int, first: int, second: int) -> None:
    start, end = middle - first, middle + second
    left, right = timeline(WORLD, evse, Span(start, middle)), timeline(WORLD, evse, Span(middle, end))
    if right[0].status == left[-1].status:
        right = right[1:]
    assert timeline(WORLD, evse, Span(start, end)) == left + right


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(EVSES), instants, st.integers(1, 40 * DAY_SECONDS), st.integers(0, 40 * DAY_SECONDS))
def test_a_second_has_the_status_that_any_window_over_it_says(evse: Evse, at: int, length: int, offset: int) -> None:
    start = at - offset % length
    steps = timeline(WORLD, evse, Span(start, start + length))
    assert [step for step in steps if step.at <= at][-1].status == status_at(WORLD, evse, at)


def test_a_timeline_starts_with_its_window_and_only_holds_changes() -> None:
    for evse in EVSES:
        span = Month(2026, 10).span("UTC")
        steps = timeline(WORLD, evse, span)
        assert steps[0].at == span.start
        assert all(a.at < b.at < span.end and a.status != b.status for a, b in itertools.pairwise(steps))


def test_seeds_make_other_worlds() -> None:
    other = build_world(8)
    span = Month(2026, 10).span("UTC")
    same = [
        evse.emi3_id
        for evse in WORLD.standing
        if timeline(WORLD, evse, span) == timeline(other, other.by_emi3[evse.emi3_id], span)
    ]
    always = {fault.emi3_id for fault in faults_of_month(Month(2026, 10)) if fault.name.endswith("_all_month")}
    assert set(same) == always


def test_busy_evses_change_about_sixteen_times_a_day_and_quiet_ones_hardly() -> None:
    span = Month(2026, 10).span("UTC")
    per_day = sorted(len(timeline(WORLD, evse, span)) / 31 for evse in WORLD.standing)
    assert per_day[0] < 1
    assert 14 < per_day[-1] < 20
    assert 120 <= len(WORLD.standing) <= 140


@pytest.mark.parametrize("month", MONTHS, ids=str)
def test_every_named_status_fault_happens_and_is_over_when_it_should(month: Month) -> None:
    faults = [fault for fault in faults_of_month(month) if fault.effect is Effect.STATUS]
    assert {fault.name for fault in faults} == {
        "outage_of_days",
        "outage_over_month_end",
        "outage_over_midnight",
        "outage_of_minutes",
        "outage_between_polls",
        "out_of_order_all_month",
        "planned_all_month",
        "removed_all_month",
        "removed_and_back",
        "unknown_for_hours",
        "blocked_for_hours",
        "reserved_for_an_hour",
    }
    for fault in faults:
        assert fault.emi3_id is not None
        evse = WORLD.by_emi3[fault.emi3_id]
        assert evse.cpo_id == fault.cpo_id
        assert timeline(WORLD, evse, fault.span) == [Step(fault.span.start, fault.status or "")], fault
        around = timeline(WORLD, evse, Span(fault.span.start - 10 * DAY_SECONDS, fault.span.end + 10 * DAY_SECONDS))
        if not fault.name.endswith("_all_month"):
            assert len({step.status for step in around}) > 1, fault


@pytest.mark.parametrize("month", MONTHS, ids=str)
def test_named_faults_straddle_what_their_names_say(month: Month) -> None:
    faults = faults_of_month(month)
    for fault in faults:
        zones = {
            evse.site.time_zone
            for evse in WORLD.standing
            if evse.cpo_id == fault.cpo_id and fault.emi3_id in (None, evse.emi3_id)
        }
        if fault.name == "outage_over_month_end" or (fault.name, fault.cpo_id) == (
            "gap_over_month_end",
            "banksia",
        ):
            for zone in zones:
                assert fault.span.start < month.span(zone).end < fault.span.end, (fault, zone)
        if fault.name == "gap_over_month_end":
            assert fault.span.start < month.span("Australia/Sydney").end < fault.span.end
        if fault.name.endswith("_all_month"):
            for zone in zones:
                assert fault.span.start < month.span(zone).start
                assert fault.span.end > month.span(zone).end
    zones_over_midnight = {
        WORLD.by_emi3[fault.emi3_id].site.time_zone
        for fault in faults
        if fault.name == "outage_over_midnight" and fault.emi3_id
    }
    assert zones_over_midnight == {site.time_zone for site in WORLD.sites}


def test_no_evse_has_named_faults_of_two_kinds() -> None:
    names = {(fault.emi3_id, fault.name) for fault in faults_of_month(Month(2026, 10)) if fault.emi3_id}
    assert Counter(emi3_id for emi3_id, _ in names).most_common(1)[0][1] == 1


def test_the_world_is_what_it_should_be() -> None:
    assert {site.time_zone for site in WORLD.sites if site.state == "WA"} == {"Australia/Perth"}
    assert sum(site.state == "WA" for site in WORLD.sites) == 12
    assert {site.postcode for site in WORLD.sites if site.time_zone == "Australia/Lord_Howe"} == {"2898"}
    assert {site.postcode for site in WORLD.sites if site.time_zone == "Australia/Broken_Hill"} == {"2880"}
    assert sum(site.time_zone == "Australia/Lord_Howe" for site in WORLD.sites) == 2
    assert {cpo.cpo_id for cpo in CPOS} == {site.cpo_id for site in WORLD.sites}
    names = [site.name for site in WORLD.sites]
    assert any("," in name for name in names)
    assert any('"' in name and "'" in name for name in names)
    assert any(not name.isascii() for name in names)
    uids = [evse.uid.casefold() for evse in EVSES]
    assert len(set(uids)) == len(uids)
    assert not {evse.uid for evse in EVSES} & {evse.emi3_id for evse in EVSES}
    assert all(evse.emi3_id.rpartition("*")[0] == evse.charger_id for evse in EVSES)
    assert {len(evse.connectors) for evse in EVSES} == {1, 2}
    powers = {connector.power_kw for evse in EVSES for connector in evse.connectors}
    assert 7 < min(powers) < 8
    assert max(powers) == 350
