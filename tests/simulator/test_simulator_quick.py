"""EVSEs that change quickly: still a function of seed, EVSE and time alone."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.quick import QuickSource
from simulator.sources import Hub, Source, WorldSource, words_at
from simulator.world import build_world
from tests.simulator.served import NOON, OTHER, QUICK

WORLD = build_world()
SOURCES = [
    QUICK,
    QuickSource(seed=1, evse_count=3, mean_seconds=0.05),
    Hub((QUICK, OTHER)),
    WorldSource(WORLD, WORLD.cpo("banksia")),
    WorldSource(WORLD, WORLD.cpo("tidewater")),
]
lengths = st.integers(1, 20_000).map(lambda count: timedelta(milliseconds=count))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SOURCES), st.integers(0, 10**9), lengths, lengths)
def test_changes_of_two_windows_are_those_of_one_over_both(
    source: Source, start: int, first: timedelta, second: timedelta
) -> None:
    since = NOON + timedelta(milliseconds=start)
    middle, until = since + first, since + first + second
    assert source.changes(since, until) == source.changes(since, middle) + source.changes(middle, until)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SOURCES), st.integers(0, 10**9), lengths)
def test_locations_and_the_changes_since_say_what_later_locations_say(
    source: Source, start: int, length: timedelta
) -> None:
    since = NOON + timedelta(milliseconds=start)
    words = words_at(source, since)
    for change in source.changes(since, since + length):
        party = f"{change.party.country_code}*{change.party.party_id}/".casefold() if len(source.parties) > 1 else ""
        assert words[party + change.evse_ref] != change.word
        words[party + change.evse_ref] = change.word
    assert words == words_at(source, since + length)


def test_a_quick_evse_changes_once_in_every_so_many_seconds_and_is_never_hurried() -> None:
    changes = QUICK.changes(NOON, NOON + timedelta(seconds=60))
    by_evse = defaultdict(list)
    for change in changes:
        by_evse[change.evse_ref].append(change.at)
    assert set(by_evse) == {f"{1001 + number // 10}/{100_100 + number}" for number in range(24)}
    for times in by_evse.values():
        assert 59 <= len(times) <= 61
        assert all(later - earlier >= timedelta(milliseconds=250) for earlier, later in pairwise(times))


def test_another_seed_is_another_world() -> None:
    other = QuickSource(seed=5, evse_count=24, mean_seconds=1)
    until = NOON + timedelta(seconds=2)
    assert QUICK.changes(NOON, until) != other.changes(NOON, until)
    assert QUICK.changes(NOON, until) == QuickSource(3, 24, 1).changes(NOON, until)


def test_a_location_is_as_new_as_its_newest_evse() -> None:
    for place in QUICK.locations(NOON + timedelta(seconds=1, milliseconds=7)):
        times = [datetime.fromisoformat(evse["last_updated"]) for evse in place["evses"]]
        assert datetime.fromisoformat(place["last_updated"]) == max(times)
        assert max(times) <= NOON + timedelta(seconds=1, milliseconds=7)
        assert max(times).tzinfo == UTC


@pytest.mark.parametrize(("count", "seconds"), [(0, 1), (1, 0), (1, 0.001)])
def test_a_source_without_evses_or_without_time_is_refused(count: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="quick source"):
        QuickSource(1, count, seconds)
