"""What is written of messages: each change once, whatever the order, the doubles and the batches in which they arrive."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.batch import Written
from ingestion.model import Message, Outcome, Poll, Told
from ingestion.told import RETOLD_KEPT, Change, Life, Retold, changes_among
from ingestion.writer import Writer
from tests.feeds import asset, at, changes_of, count, history_config, poll, polled_config, pushed_config
from warehouse.connection import Role, connect

SECOND = timedelta(seconds=1)
_numbers = itertools.count(1)


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        yield opened


def described(connection: psycopg.Connection, cpo_id: str, *evse_ids: str) -> Writer:
    """A feed whose EVSEs are described and of which nothing was told."""
    writer = Writer(connection, history_config(cpo_id))
    with writer.batch() as batch:
        batch.add_assets([asset(evse_id) for evse_id in evse_ids], at(-100), is_whole_evse=True)
    return writer


def said(evse_id: str, word: str, minute: float | None, payload: str = "{}") -> Told:
    return Told(f"s1/{evse_id.lower()}", word, None if minute is None else at(minute), payload)


def tell(writer: Writer, minute: float, *told: Told) -> Written:
    return writer.write_messages([(Message("test", told=told), at(minute))])


def test_a_message_stores_its_change_and_proves_contact(connection: psycopg.Connection) -> None:
    writer = described(connection, "one", "A")
    assert tell(writer, 1, said("A", "CHARGING", 0.5)) == Written(changes=1, contacts=1)
    assert changes_of(connection, "one") == [("a", at(0.5), "CHARGING")]
    rows = connection.execute(
        "select status_word, received_at, source_updated_at from raw.status_change inner join raw.feed using (feed_key)"
        " where cpo_id = 'one'"
    ).fetchall()
    assert rows == [("CHARGING", at(1), at(0.5))]
    assert count(connection, "feed_contact", "one", "outcome = 'alive' and contact_from = contact_until") == 1


def test_a_message_without_a_time_is_true_since_it_was_received(connection: psycopg.Connection) -> None:
    writer = described(connection, "no_time", "A")
    tell(writer, 1, said("A", "CHARGING", None))
    assert changes_of(connection, "no_time") == [("a", at(1), "CHARGING")]


def test_a_message_that_holds_nothing_proves_contact(connection: psycopg.Connection) -> None:
    writer = described(connection, "empty", "A")
    assert tell(writer, 1) == Written(contacts=1)
    assert tell(writer, 1) == Written()


def test_the_same_message_again_stores_nothing(connection: psycopg.Connection) -> None:
    writer = described(connection, "again", "A")
    tell(writer, 1, said("A", "CHARGING", 1))
    assert tell(writer, 2, said("A", "CHARGING", 1)).changes == 0
    assert tell(writer, 3, said("A", "CHARGING", 2.5)).changes == 0
    assert changes_of(connection, "again") == [("a", at(1), "CHARGING")]


def test_a_late_message_holds_no_longer_than_it_did(connection: psycopg.Connection) -> None:
    # Told in the order 1, 3, 2: the word of 3 is the one of 1, and only the late message makes it a change.
    writer = described(connection, "late", "A")
    tell(writer, 1, said("A", "AVAILABLE", 1))
    tell(writer, 3, said("A", "AVAILABLE", 3))
    tell(writer, 4, said("A", "CHARGING", 2))
    assert changes_of(connection, "late") == [
        ("a", at(1), "AVAILABLE"), ("a", at(2), "CHARGING"), ("a", at(3), "AVAILABLE"),
    ]  # fmt: skip


def test_a_time_that_cannot_be_is_noted_and_that_of_receipt_counts(connection: psycopg.Connection) -> None:
    writer = described(connection, "wrong_clock", "A", "B", "C")
    written = tell(
        writer, 10,
        said("A", "CHARGING", 60, '{"a": 1}'), said("B", "CHARGING", -60 * 24 * 365 * 30, '{"b": 1}'),
        said("C", "CHARGING", 11),
    )  # fmt: skip
    assert (written.changes, written.quarantined) == (3, 2)
    # Two minutes ahead are a clock that is a little fast.
    assert changes_of(connection, "wrong_clock") == [
        ("a", at(10), "CHARGING"), ("b", at(10), "CHARGING"), ("c", at(11), "CHARGING"),
    ]  # fmt: skip
    noted = connection.execute(
        "select record_ref, field, split_part(reason, ':', 1), payload from raw.quarantine inner join raw.feed using (feed_key)"
        " where cpo_id = 'wrong_clock' order by record_ref"
    ).fetchall()
    assert noted == [
        ("s1/a", "observed_at", "kept with the time of receipt", '{"a": 1}'),
        ("s1/b", "observed_at", "kept with the time of receipt", '{"b": 1}'),
    ]


def test_an_evse_that_nobody_described_is_quarantined_and_the_others_go_in(connection: psycopg.Connection) -> None:
    writer = described(connection, "undescribed", "A")
    written = tell(writer, 1, said("X", "CHARGING", 1, '{"uid": "X"}'), said("A", "CHARGING", 1))
    assert written == Written(changes=1, contacts=1, quarantined=1, unknown=frozenset({"s1/x"}))
    assert connection.execute(
        "select record_ref, field, reason, payload from raw.quarantine inner join raw.feed using (feed_key) where cpo_id = 'undescribed'"
    ).fetchall() == [("s1/x", "evse_id", "this EVSE is not described yet", '{"uid": "X"}')]


def test_a_message_may_describe_the_evse_that_it_tells_of(connection: psycopg.Connection) -> None:
    writer = described(connection, "described_now", "A")
    message = Message("test", assets=(asset("N"),), told=(said("N", "CHARGING", 1),))
    assert writer.write_messages([(message, at(1))]) == Written(assets=1, changes=1, contacts=1)


def test_that_a_full_list_is_wanted_is_no_life_and_the_first_sign_begins_it(connection: psycopg.Connection) -> None:
    life_of = """
        select alive_from, complete_from, alive_until, last_contact_at from raw.feed_life
        inner join raw.feed using (feed_key) where cpo_id = 'wished'
    """
    writer = described(connection, "wished", "A")
    writer.ask_for_full_list(at(0))
    assert connection.execute(life_of).fetchall() == [(None, None, None, None)]
    # Without any life there is no gap either, after which a word would be news again.
    told = Message("test", told=(said("A", "CHARGING", 1), said("A", "CHARGING", 2)))
    writer.write_messages([(told, at(2))], is_contact=False)
    assert changes_of(connection, "wished") == [("a", at(1), "CHARGING")]
    writer.write_poll(poll({"A": "CHARGING"}), at(3), at(3))
    assert connection.execute(life_of).fetchall() == [(at(3), at(3), at(8), at(3))]


def test_after_a_gap_a_word_that_is_told_again_is_stored_again(connection: psycopg.Connection) -> None:
    writer = described(connection, "gap", "A", "B")
    tell(writer, 0, said("A", "AVAILABLE", 0), said("B", "AVAILABLE", 0))
    tell(writer, 4, said("A", "AVAILABLE", 4))
    # Liveness is five minutes: by minute 20 nobody knows.
    tell(writer, 20, said("A", "AVAILABLE", 20))
    tell(writer, 21, said("A", "AVAILABLE", 21))
    assert changes_of(connection, "gap") == [
        ("a", at(0), "AVAILABLE"), ("b", at(0), "AVAILABLE"), ("a", at(20), "AVAILABLE"),
    ]  # fmt: skip


def test_after_a_gap_a_complete_contact_says_that_a_word_still_holds(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("gap_poll"))
    answer = poll({"A": "AVAILABLE"})
    writer.write_poll(answer, at(0), at(0))
    writer.write_poll(answer, at(20), at(20))
    assert tell(writer, 21, said("A", "AVAILABLE", 21)).changes == 0
    # That of before the next gap says nothing of what follows it.
    assert tell(writer, 40, said("A", "AVAILABLE", 40)).changes == 1


def test_after_a_lost_stretch_a_word_that_is_told_again_is_stored_again(connection: psycopg.Connection) -> None:
    writer = described(connection, "lost", "A")
    tell(writer, 0, said("A", "AVAILABLE", 0))
    # A list of before the loss says nothing of what follows it.
    writer.write_poll(poll({"A": "AVAILABLE"}), at(0.5), at(0.5))
    assert writer.write_stretch(at(1), at(2), Outcome.LOST, "the connection broke") == Written(contacts=1)
    assert tell(writer, 2.5, said("A", "AVAILABLE", 2.5)).changes == 1


def test_what_a_feed_tells_while_its_list_is_read_wins_over_the_list(connection: psycopg.Connection) -> None:
    writer = Writer(
        connection,
        pushed_config("race"),
    )
    writer.write_poll(poll({"A": "AVAILABLE", "B": "AVAILABLE"}), at(0), at(0))
    writer.write_messages([(Message("push", told=(said("A", "CHARGING", 14.99),)), at(15.01))])
    written = writer.write_poll(poll({"A": "AVAILABLE", "B": "BLOCKED"}), at(15), at(15.02))
    assert written is not None
    assert written.changes == 1
    assert changes_of(connection, "race")[2:] == [("a", at(14.99), "CHARGING"), ("b", at(15), "BLOCKED")]


def test_an_unchanged_list_is_read_anew_when_something_was_told_since(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("told_since"))
    answer = poll({"A": "AVAILABLE"})
    unchanged = Poll(answer.body_sha256, is_unchanged=True)
    writer.write_poll(answer, at(0), at(0))
    assert writer.write_poll(unchanged, at(1), at(1)) == Written(contacts=1)
    tell(writer, 1.5, said("A", "CHARGING", 1.5))
    assert writer.write_poll(unchanged, at(2), at(2)) is None
    assert writer.write_poll(answer, at(2), at(2)) == Written(changes=1, contacts=1)


def test_a_delta_changes_what_it_lists_and_nothing_else(connection: psycopg.Connection) -> None:
    writer = Writer(connection, polled_config("delta"))
    writer.write_poll(poll({"A": "AVAILABLE", "B": "AVAILABLE", "C": "AVAILABLE"}), at(0), at(0))
    delta = replace(poll({"B": "CHARGING"}), is_full=False, body_sha256=None)
    assert writer.write_poll(delta, at(1), at(1)) == Written(changes=1, contacts=1)
    assert changes_of(connection, "delta")[3:] == [("b", at(1), "CHARGING")]
    assert count(connection, "feed_contact", "delta", "outcome = 'complete'") == 2


def test_a_record_that_stands_again_after_another_one_is_a_new_occurrence(connection: psycopg.Connection) -> None:
    from ingestion.model import Rejected

    writer = Writer(connection, polled_config("occurs"))
    bad = {name: Rejected("list", "S1/A", "status", "is null", f'{{"v": "{name}"}}') for name in ("one", "two")}
    for minute, name in enumerate(("one", "one", "two", None, "one", "one")):
        rejected = () if name is None else (bad[name],)
        writer.write_poll(poll({"B": f"W{minute}"}, rejected=rejected), at(minute), at(minute))
    rows = connection.execute(
        "select payload, occurrence, first_seen_at, last_seen_at, gone_at from raw.quarantine inner join raw.feed using (feed_key)"
        " where cpo_id = 'occurs' order by quarantine_key"
    ).fetchall()
    assert rows == [
        ('{"v": "one"}', 1, at(0), at(1), at(2)),
        ('{"v": "two"}', 1, at(2), at(2), at(3)),
        ('{"v": "one"}', 2, at(4), at(5), None),
    ]


# Whatever the order

WORDS = ("AVAILABLE", "CHARGING", "OUTOFORDER")


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[tuple[str, str, int]], list[list[int]]]:
    """What was said (EVSE, word, minute), and in which batches it arrives: in any order, some of it twice."""
    told: list[tuple[str, str, int]] = []
    for evse in ("A", "B"):
        minutes = draw(st.lists(st.integers(0, 60), min_size=1, max_size=8, unique=True))
        told += [(evse, draw(st.sampled_from(WORDS)), minute) for minute in sorted(minutes)]
    order = draw(st.permutations(range(len(told))))
    order = list(order) + draw(st.lists(st.sampled_from(range(len(told))), max_size=5))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=4)) | {0, len(order)})
    return told, [order[start:end] for start, end in itertools.pairwise(cuts)]


@settings(max_examples=60, deadline=None)
@given(deliveries())
def test_the_same_changes_are_known_whatever_the_order_of_arrival(
    module_connection: psycopg.Connection, delivery: tuple[list[tuple[str, str, int]], list[list[int]]]
) -> None:
    told, batches = delivery
    cpo_id = f"order_{next(_numbers)}"
    writer = described(module_connection, cpo_id, "A", "B")
    for batch in batches:
        writer.write_messages(
            [(Message("test", told=(said(*told[index]),)), at(61 + number / 100)) for number, index in enumerate(batch)]
        )
    stored = changes_of(module_connection, cpo_id)
    for evse in ("a", "b"):
        expected = sorted((at(minute), word) for name, word, minute in told if name.lower() == evse)
        assert without_repeats([(when, word) for name, when, word in stored if name == evse]) == without_repeats(
            expected
        )
    # Nothing is stored twice, and nothing that was not said.
    assert len(set(stored)) == len(stored)
    assert set(stored) <= {(name.lower(), at(minute), word) for name, word, minute in told}


def without_repeats(steps: list[tuple[datetime, str | None]]) -> list[tuple[datetime, str | None]]:
    return [step for before, step in itertools.pairwise([(None, None), *steps]) if before[1] != step[1]]


def test_in_order_no_repeat_is_stored() -> None:
    told = [Change(1, at(minute), word, at(minute), None) for minute, word in enumerate("AABBBAAC")]
    changes, retold = changes_among([], [], told, None)
    assert [(one.observed_at, one.status_word) for one in changes] == [
        (at(0), "A"), (at(2), "B"), (at(5), "A"), (at(7), "C"),
    ]  # fmt: skip
    assert [one.observed_at for one in retold] == [at(1), at(3), at(4), at(6)]


def test_only_the_last_times_are_remembered() -> None:
    told = [Change(1, at(minute), "A", at(minute), None) for minute in range(100)]
    changes, retold = changes_among([], [], told, None)
    assert len(changes) == 1
    assert [one.observed_at for one in retold] == [at(minute) for minute in range(100 - RETOLD_KEPT, 100)]


def test_nothing_told_changes_nothing() -> None:
    kept = [Retold(at(1), "A", at(1))]
    assert changes_among([(at(0), "A")], kept, [], Life(at(0), None)) == ([], kept)
