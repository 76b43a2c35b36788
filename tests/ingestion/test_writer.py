"""What is written of polls: changes plus contact, safe to repeat, in whatever order they arrive."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from ingestion.batch import Batch, Written
from ingestion.model import PAYLOAD_LIMIT, Contact, Outcome, Poll, Rejected, reference
from ingestion.told import Change
from ingestion.writer import Writer, register_feed
from tests.feeds import asset, at, changes_of, count, poll, polled_config, whole_raw
from warehouse.connection import Role, connect

SECOND = timedelta(seconds=1)
FULL = ("A", "B", "C", "D", "E")


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    # As the role that collectors have, so that a missing grant shows.
    with connect(Role.INGEST) as opened:
        yield opened


def write(writer: Writer, poll: Poll, minute: float) -> Written:
    written = writer.write_poll(poll, at(minute), at(minute) + SECOND)
    assert written is not None
    return written


def latest(connection: psycopg.Connection, cpo_id: str) -> dict[str, tuple[str | None, datetime]]:
    rows = connection.execute(
        """
        select split_part(evse_ref, '/', 2), status_word, observed_at
        from raw.evse_latest
        inner join raw.evse using (evse_key)
        inner join raw.feed on feed.feed_key = evse.feed_key
        where cpo_id = %s
        """,
        (cpo_id,),
    )
    return {evse: (word, observed_at) for evse, word, observed_at in rows}


def add_observations(batch: Batch, rows: Iterable[tuple[str, str, datetime, datetime]]) -> None:
    """Rows of (evse_ref, word, observed_at, received_at), as a file tells them."""
    keys = batch.evse_keys()
    batch.add_changes(
        [Change(keys[ref], observed_at, word, received_at, None) for ref, word, observed_at, received_at in rows]
    )


# Polls


def test_the_first_poll_stores_everything(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("first"))
    written = write(writer, poll({"A": "AVAILABLE", "B": "CHARGING"}), 0)
    assert written == Written(assets=2, changes=2, contacts=1, quarantined=0)
    assert changes_of(connection, "first") == [("a", at(0), "AVAILABLE"), ("b", at(0), "CHARGING")]
    assert latest(connection, "first") == {"a": ("AVAILABLE", at(0)), "b": ("CHARGING", at(0))}
    assert {name: count(connection, name, "first") for name in ("site", "charger", "evse")} == {
        "site": 1, "charger": 2, "evse": 2,
    }  # fmt: skip


def test_the_same_answer_again_stores_one_contact(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("again"))
    answer = poll({"A": "AVAILABLE", "B": "CHARGING"})
    write(writer, answer, 0)
    assert write(writer, answer, 1) == Written(contacts=1)
    assert write(writer, Poll(answer.body_sha256, is_unchanged=True), 2) == Written(contacts=1)
    contacts = connection.execute(
        "select contact_from, contact_until, outcome, evse_count, body_sha256 from raw.feed_contact"
        " inner join raw.feed using (feed_key) where cpo_id = 'again' order by contact_from"
    ).fetchall()
    assert contacts == [
        (at(0), at(0), "complete", 2, answer.body_sha256),
        (at(1), at(1), "complete", 2, answer.body_sha256),
        (at(2), at(2), "complete", None, answer.body_sha256),
    ]


def test_the_very_same_poll_again_changes_nothing(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("very_same"))
    answer = poll({"A": "AVAILABLE"}, rejected=(Rejected("locations", "S9", "id", "missing", "{}"),))
    write(writer, answer, 0)
    write(writer, poll({"A": "CHARGING"}), 1)
    before = whole_raw(connection)
    assert write(writer, answer, 0) == Written()
    assert write(writer, poll({"A": "CHARGING"}), 1) == Written()
    assert whole_raw(connection) == before


def test_a_word_that_differs_is_one_change(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("word"))
    write(writer, poll({"A": "AVAILABLE", "B": "AVAILABLE"}), 0)
    assert write(writer, poll({"A": "AVAILABLE", "B": "available"}), 1) == Written(changes=1, contacts=1)
    assert changes_of(connection, "word")[2:] == [("b", at(1), "available")]


def test_an_evse_that_is_gone_becomes_absent_once_and_comes_back(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("gone"))
    write(writer, poll({"A": "AVAILABLE", "B": "CHARGING"}), 0)
    write(writer, poll({"A": "AVAILABLE"}), 1)
    write(writer, poll({"A": "AVAILABLE"}), 2)
    write(writer, poll({"A": "AVAILABLE", "B": "CHARGING"}), 3)
    assert changes_of(connection, "gone")[2:] == [("b", at(1), None), ("b", at(3), "CHARGING")]


def test_an_answer_without_any_evse_makes_all_absent(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("none_left"))
    write(writer, poll({"A": "AVAILABLE", "B": "CHARGING"}), 0)
    assert write(writer, poll({}), 1) == Written(changes=2, contacts=1)
    assert write(writer, poll({}), 2) == Written(contacts=1)


def test_the_sources_own_time_is_kept_beside(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("own_time"))
    answer = replace(poll({"A": "AVAILABLE"}), statuses={"s1/a": ("AVAILABLE", at(-90))})
    write(writer, answer, 0)
    row = connection.execute(
        "select observed_at, received_at, source_updated_at, status_profile from raw.status_change"
        " inner join raw.feed using (feed_key, status_profile) where cpo_id = 'own_time'"
    ).fetchone()
    assert row == (at(0), at(0) + SECOND, at(-90), "ocpi_2_2_1")


# Late answers and other collectors


def test_a_late_poll_is_compared_with_the_state_at_its_own_time(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("late"))
    write(writer, poll({"A": "AVAILABLE", "B": "AVAILABLE"}), 0)
    write(writer, poll({"A": "CHARGING", "B": "AVAILABLE"}), 10)
    assert write(writer, poll({"A": "AVAILABLE", "B": "AVAILABLE"}), 5) == Written(contacts=1)
    assert write(writer, poll({"A": "BLOCKED", "B": "AVAILABLE"}), 6) == Written(changes=1, contacts=1)
    assert [change for change in changes_of(connection, "late") if change[0] == "a"] == [
        ("a", at(0), "AVAILABLE"),
        ("a", at(6), "BLOCKED"),
        ("a", at(10), "CHARGING"),
    ]
    assert latest(connection, "late") == {"a": ("CHARGING", at(10)), "b": ("AVAILABLE", at(0))}


def test_a_late_poll_does_not_outlive_what_the_next_poll_told(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("outlive"))
    write(writer, poll({"A": "AVAILABLE"}), 0)
    write(writer, poll({"A": "AVAILABLE"}), 10)
    write(writer, poll({"A": "CHARGING", "B": "CHARGING"}), 5)
    assert changes_of(connection, "outlive") == [
        ("a", at(0), "AVAILABLE"),
        ("a", at(5), "CHARGING"),
        ("b", at(5), "CHARGING"),
        ("a", at(10), "AVAILABLE"),
        ("b", at(10), None),
    ]
    assert latest(connection, "outlive") == {"a": ("AVAILABLE", at(10)), "b": (None, at(10))}


def test_observations_of_a_gap_do_not_outlive_the_next_poll(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("backfill"))
    write(writer, poll({"A": "AVAILABLE", "B": "AVAILABLE"}), 0)
    write(writer, poll({"A": "AVAILABLE", "B": "AVAILABLE"}), 60)
    told = [("A", "CHARGING", 20), ("A", "FINISHING", 40), ("B", "CHARGING", 20), ("B", "AVAILABLE", 30)]
    with writer.batch() as batch:
        add_observations(batch, [(reference("S1", evse), word, at(minute), at(90)) for evse, word, minute in told])
    assert changes_of(connection, "backfill")[2:] == [
        ("a", at(20), "CHARGING"),
        ("b", at(20), "CHARGING"),
        ("b", at(30), "AVAILABLE"),
        ("a", at(40), "FINISHING"),
        ("a", at(60), "AVAILABLE"),
    ]


def test_an_observation_that_is_known_does_not_become_the_latest(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("tie"))
    write(writer, poll({"A": "AVAILABLE"}), 0)
    both = [("s1/a", word, at(5), at(6)) for word in ("CHARGING", "BLOCKED")]
    with writer.batch() as batch:
        add_observations(batch, both)
    with writer.batch() as batch:
        add_observations(batch, both[:1])
    assert batch.written == Written()
    assert latest(connection, "tie") == {"a": ("BLOCKED", at(5))}
    assert write(writer, poll({"A": "BLOCKED"}), 10) == Written(contacts=1)
    with writer.batch() as batch:
        add_observations(batch, both[:1])
    assert batch.written == Written()


def test_an_observation_before_a_known_one_needs_no_more(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("before_known"))
    write(writer, poll({"A": "AVAILABLE"}), 0)
    with writer.batch() as batch:
        add_observations(batch, [("s1/a", "CHARGING", at(30), at(31))])
    write(writer, poll({"A": "CHARGING"}), 60)
    with writer.batch() as batch:
        add_observations(batch, [("s1/a", "BLOCKED", at(20), at(90))])
    assert batch.written == Written(changes=1)


def test_two_collectors_at_once_store_no_change_twice(connection: psycopg.Connection) -> None:
    config = polled_config("at_once")
    Writer(connection, config)
    start = threading.Barrier(2)

    def collect(offset: float) -> None:
        with connect(Role.INGEST) as own:
            writer = Writer(own, config)
            for minute in range(30):
                start.wait(timeout=30)
                # Half of the time both ask at the very same instant.
                asked = minute + (offset if minute % 2 else 0)
                write(writer, poll({"A": f"W{minute // 3}", "B": f"W{minute // 7}"}), asked)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(collect, offset) for offset in (0.0, 0.01)]:
            done.result()
    stored = changes_of(connection, "at_once")
    for evse, every in (("a", 3), ("b", 7)):
        words = [(observed_at, word) for name, observed_at, word in stored if name == evse]
        changed = [
            (observed_at, word)
            for place, (observed_at, word) in enumerate(words)
            if place == 0 or words[place - 1][1] != word
        ]
        # A change may be told by both (at different instants); none is stored twice, and none comes late.
        assert len(set(words)) == len(words)
        assert changed == [(at(minute), f"W{minute // every}") for minute in range(0, 30, every)]
    assert count(connection, "feed_contact", "at_once") == 15 + 2 * 15
    assert count(connection, "asset_version", "at_once") == 2


def test_a_writer_waits_for_the_other_one_and_then_knows_what_it_wrote(connection: psycopg.Connection) -> None:
    config = polled_config("waiting")
    Writer(connection, config)
    answer = poll({"A": "AVAILABLE"})
    with connect(Role.INGEST) as slow, connect(Role.INGEST) as quick, ThreadPoolExecutor(1) as thread:
        first, second = Writer(slow, config), Writer(quick, config)
        with first.batch() as batch:
            batch.add_assets(answer.assets, at(0), is_whole_evse=True)
            batch.add_states(answer.statuses, at(0), at(0), is_full=True)
            done = thread.submit(write, second, answer, 1)
            query = "select from pg_locks where pid = %s and locktype = 'advisory' and not granted"
            deadline = time.monotonic() + 30
            while connection.execute(query, (quick.info.backend_pid,)).fetchone() is None:
                assert not done.done(), "did not wait"
                assert time.monotonic() < deadline
        assert done.result() == Written(contacts=1)


def test_an_unchanged_answer_counts_only_against_the_last_one_stored(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("unchanged"))
    first = poll({"A": "AVAILABLE"})
    unchanged = Poll(first.body_sha256, is_unchanged=True)
    assert writer.write_poll(unchanged, at(0), at(0)) is None
    write(writer, first, 1)
    assert writer.write_poll(unchanged, at(2), at(2)) == Written(contacts=1)
    write(writer, poll({"A": "CHARGING"}), 3)
    assert writer.write_poll(unchanged, at(4), at(4)) is None
    assert count(connection, "feed_contact", "unchanged") == 3
    # A failure is no answer, and another feed's answer is not this one's.
    writer.write_failure(at(5), at(5), "timeout")
    write(Writer(connection, polled_config("unchanged_other")), first, 6)
    assert writer.write_poll(replace(unchanged, body_sha256=poll({"A": "CHARGING"}).body_sha256), at(7), at(7))


def test_a_failed_contact_is_stored_and_says_why(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("failed"))
    write(writer, poll({"A": "AVAILABLE"}), 0)
    assert writer.write_failure(at(1), at(2), "503 \x00" + "x" * 600) == Written(contacts=1)
    assert writer.write_failure(at(1), at(2), "503 again") == Written()
    rows = connection.execute(
        "select contact_from, received_at, detail from raw.feed_contact inner join raw.feed using (feed_key)"
        " where cpo_id = 'failed' and outcome = 'failed'"
    ).fetchall()
    assert rows == [(at(1), at(2), "503 \ufffd" + "x" * 495)]
    assert changes_of(connection, "failed") == [("a", at(0), "AVAILABLE")]


# Assets


def versions(connection: psycopg.Connection, cpo_id: str) -> list[tuple[Any, ...]]:
    return connection.execute(
        """
        select evse_id, connector_id, valid_from, is_listed, power_kw, site_name
        from raw.asset_version inner join raw.feed using (feed_key)
        where cpo_id = %s
        order by valid_from, asset_version_key
        """,
        (cpo_id,),
    ).fetchall()


def test_a_description_is_stored_only_when_it_differs(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("described"))
    words = {"A": "AVAILABLE"}
    for minute, power, name in [
        (0, "7.40", "Main St"), (1, "7.4", "Main St"), (2, "22", "Main St"), (3, "22.000", "Main St"),
        (4, "22", "Main Street"), (5, "7.4", "Main St"),
    ]:  # fmt: skip
        write(writer, poll(words, (asset("A", power_kw=Decimal(power), site_name=name),)), minute)
    assert versions(connection, "described") == [
        ("A", "1", at(0) + SECOND, True, Decimal("7.400"), "Main St"),
        ("A", "1", at(2) + SECOND, True, Decimal("22.000"), "Main St"),
        ("A", "1", at(4) + SECOND, True, Decimal("22.000"), "Main Street"),
        ("A", "1", at(5) + SECOND, True, Decimal("7.400"), "Main St"),
    ]


def test_a_connector_that_disappears_is_not_listed_until_it_returns(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("plugs"))
    words = {"A": "AVAILABLE", "B": "AVAILABLE"}
    both = (asset("A", "1"), asset("A", "2"), asset("B", "1"))
    one = (asset("A", "1"), asset("B", "1"))
    for minute, assets in enumerate([both, one, one, both, both]):
        write(writer, poll(words, assets), minute)
    assert [row[:4] for row in versions(connection, "plugs") if row[1] == "2"] == [
        ("A", "2", at(0) + SECOND, True),
        ("A", "2", at(1) + SECOND, False),
        ("A", "2", at(3) + SECOND, True),
    ]
    assert len(versions(connection, "plugs")) == 5
    # An EVSE that is gone altogether is absent; its plugs are as they were.
    write(writer, poll({"B": "AVAILABLE"}, (asset("B", "1"),)), 6)
    assert len(versions(connection, "plugs")) == 5


# Quarantine


def test_a_quarantined_record_seen_again_only_moves_its_last_time(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("quarantine"))
    rejected = Rejected("locations", "S1", None, "no EVSE", '{"id": "S1"}')
    others = [replace(rejected, record_ref="S2"), replace(rejected, field="evses"), replace(rejected, payload="{}")]
    assert write(writer, poll({"A": "X"}, rejected=(rejected, rejected)), 0).quarantined == 1
    assert write(writer, poll({"A": "X"}, rejected=(rejected, *others)), 5).quarantined == 3
    # Written late: the last time stays.
    assert write(writer, poll({"A": "X"}, rejected=(rejected,)), 3).quarantined == 0
    rows = connection.execute(
        "select record_ref, field, payload, first_seen_at, last_seen_at from raw.quarantine"
        " inner join raw.feed using (feed_key) where cpo_id = 'quarantine' order by quarantine_key"
    ).fetchall()
    assert rows == [
        ("S1", None, '{"id": "S1"}', at(0), at(5)),
        ("S2", None, '{"id": "S1"}', at(5), at(5)),
        ("S1", "evses", '{"id": "S1"}', at(5), at(5)),
        ("S1", None, "{}", at(5), at(5)),
    ]


def test_a_quarantined_record_may_hold_anything(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("anything"))
    long = "é" * (PAYLOAD_LIMIT + 1)
    rejected = (
        Rejected("a\x00b", "c\x00d" + "x" * 5_000, "e\x00f", "g\x00h", "i\x00j\ud800k"),
        Rejected("s", "r", None, "long", long),
        Rejected("s", "r", None, "long", long + "and differs behind the cut"),
        Rejected("s", "r", None, "tab\tand\\N\nline", "\\N"),
    )
    assert write(writer, poll({"A": "X"}, rejected=rejected), 0).quarantined == 4
    rows = connection.execute(
        "select source, left(record_ref, 4), field, reason, payload from raw.quarantine"
        " inner join raw.feed using (feed_key) where cpo_id = 'anything' order by quarantine_key"
    ).fetchall()
    cut = "é" * PAYLOAD_LIMIT
    assert rows == [
        ("a\ufffdb", "c\ufffddx", "e\ufffdf", "g\ufffdh", "i\ufffdj\ufffdk"),
        ("s", "r", None, "long", f"{cut} [cut: {PAYLOAD_LIMIT + 1} characters]"),
        ("s", "r", None, "long", f"{cut} [cut: {PAYLOAD_LIMIT + 27} characters]"),
        ("s", "r", None, "tab\tand\\N\nline", "\\N"),
    ]


# The database


def test_every_month_that_rows_need_has_its_partition(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("months"))
    months = [datetime.fromisoformat(f"2031-{month}-15T00:00:00+00:00") for month in ("10", "11", "12")]
    with writer.batch() as batch:
        batch.add_assets([asset("A")], at(0), is_whole_evse=True)
        add_observations(batch, [("s1/a", "X", moment, moment) for moment in months])
        batch.add_contacts([Contact(months[0], months[2], Outcome.ALIVE, months[2])])
    for parent in ("status_change", "feed_contact"):
        parts = [
            name
            for (name,) in connection.execute(
                "select inhrelid::regclass::text from pg_inherits where inhparent = %s::regclass"
                " and inhrelid::regclass::text like '%%y2031%%' order by 1",
                (f"raw.{parent}",),
            )
        ]
        assert parts == [f"raw.{parent}_y2031m{month}" for month in ("10", "11", "12")]
    assert changes_of(connection, "months") == [("a", moment, "X") for moment in months]


def test_settings_count_as_changed_only_when_they_move_time(connection: psycopg.Connection) -> None:
    def register(**feed: Any) -> datetime | None:
        key = register_feed(connection, polled_config("settings", **feed))
        row = connection.execute("select settings_changed_at from raw.feed where feed_key = %s", (key,)).fetchone()
        connection.commit()
        assert row is not None
        moment: datetime | None = row[0]
        return moment

    assert register() is None
    assert register(poll_seconds=30, status_profile="history") is None
    longer = register(liveness_seconds=600)
    assert longer is not None
    assert register(liveness_seconds=600, poll_seconds=20) == longer
    ended = register(liveness_seconds=600, ended_at="2027-01-01T00:00:00Z")
    assert ended is not None
    assert ended > longer
    again = register(liveness_seconds=600)
    assert again is not None
    assert again > ended


def test_a_crash_in_the_middle_leaves_nothing(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("crash"))
    before = whole_raw(connection)
    connection.commit()

    def write_and_crash() -> None:
        with writer.batch("crash_profile") as batch:
            batch.add_assets([asset("A")], at(0), is_whole_evse=True)
            batch.add_states({"s1/a": ("X", None)}, at(0), at(0), is_full=True)
            batch.add_contacts([Contact(at(0), at(0), Outcome.COMPLETE, at(0))])
            batch.add_rejected([Rejected("s", "r", None, "why", "{}")], at(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_crash()
    with connect(Role.INGEST) as other:
        assert whole_raw(other) == before
    # The lock is free, and the writer goes on.
    assert write(writer, poll({"A": "X"}), 1) == Written(1, 1, 1, 0)


@pytest.mark.parametrize("seed", range(12))
def test_the_observations_are_exactly_what_each_poll_saw(connection: psycopg.Connection, seed: int) -> None:
    chance = random.Random(seed)
    cpo_id = f"observed_{seed}"
    writer = Writer(connection, polled_config(cpo_id))
    polls: dict[int, dict[str, str]] = {}
    words: dict[str, str] = {}
    for minute in range(0, 60, 2):
        for evse in FULL:
            if chance.random() < 0.3:
                words[evse] = chance.choice(("AVAILABLE", "CHARGING", "OUTOFORDER"))
            elif chance.random() < 0.15:
                words.pop(evse, None)
        polls[minute] = dict(words)
    order = list(polls)
    if seed % 3:
        # Late by a few polls, or in any order at all.
        order.sort(key=lambda minute: minute + chance.randrange(8 if seed % 3 == 1 else 120))
    for minute in order:
        answer = poll(polls[minute])
        unchanged = Poll(answer.body_sha256, is_unchanged=True)
        written = writer.write_poll(unchanged, at(minute), at(minute) + SECOND)
        if written is None:
            write(writer, answer, minute)
        if chance.random() < 0.2:
            writer.write_failure(at(minute + 1), at(minute + 1), "timeout")
    # An EVSE that was never described has no key, and so no observation.
    expected = {(at(minute), evse.lower(), word) for minute, seen in polls.items() for evse, word in seen.items()}
    rows = connection.execute(
        """
        select observation.observed_at, split_part(evse_ref, '/', 2), observation.status_word
        from raw.observation
        inner join raw.evse using (evse_key)
        inner join raw.feed on feed.feed_key = evse.feed_key
        where cpo_id = %s
        """,
        (cpo_id,),
    ).fetchall()
    assert len(rows) == len(expected)
    assert set(rows) == expected
    assert count(connection, "feed_contact", cpo_id, "outcome = 'complete'") == len(polls)
