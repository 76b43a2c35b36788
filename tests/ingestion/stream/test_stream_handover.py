"""Overlapping collectors of one stream: every change is stored exactly once, whoever writes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path

import psycopg
import pytest
import yaml
from stream_world import Hub, Listening, contacts_of, describe, hub, sequences, status, stream_config
from websockets.sync.server import ServerConnection

from ingestion.config import CpoConfig
from ingestion.model import Frame, Message, Told
from ingestion.stream.listener import Buffer, Connected, Heard
from ingestion.stream.mark import MARK_LENGTH, Mark, fingerprint, pack_things, unpack_things, written_before
from ingestion.stream.pace import Pace
from ingestion.writer import Writer
from tests.feeds import START, changes_of, count
from tests.waiting import until
from warehouse.connection import Role, connect

EVSES = [f"e{number}" for number in range(12)]
WORDS = ["AVAILABLE", "CHARGING", "OUTOFORDER"]


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        opened.autocommit = True
        yield opened


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[Callable[[CpoConfig, float], subprocess.Popen[str]]]:
    """Starts collectors in processes of their own, as a scheduler does."""
    started: list[subprocess.Popen[str]] = []

    def start(config: CpoConfig, seconds: float) -> subprocess.Popen[str]:
        document = config.model_dump(mode="json", exclude_none=True)
        (tmp_path / f"{config.cpo_id}.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-m", "ingestion", "collect", "--cpo", config.cpo_id, "--seconds", str(seconds)],
            env={**os.environ, "CPO_CONFIG_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


class Truth:
    """Changes the status of some EVSE every few milliseconds, and remembers."""

    def __init__(self, server: Hub, *, own_times: bool, evses: list[str] = EVSES, words: list[str] = WORDS) -> None:
        self._server, self._own_times, self._evses, self._words = server, own_times, evses, words
        self._random = random.Random(7)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.told: list[tuple[str, datetime, str | None]] = []

    def __enter__(self) -> Truth:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        now: dict[str, str] = {}
        while not self._stop.is_set():
            evse = self._random.choice(self._evses)
            word = self._random.choice([word for word in self._words if word != now.get(evse)])
            now[evse] = word
            at = datetime.now(UTC)
            self.told.append((evse, at, word))
            self._server.tell(status(evse, word, at if self._own_times else None))
            self._stop.wait(self._random.choice([0.0005, 0.002, 0.01]))


@pytest.mark.parametrize("own_times", [True, False], ids=["own times", "no times"])
def test_four_hand_overs_store_every_change_once(connection: psycopg.Connection, own_times: bool) -> None:
    cpo_id = f"handed_on_{own_times}".lower()
    with hub() as server:
        config = stream_config(cpo_id, server.url)
        describe(config, EVSES)
        first = Listening(config, 3.0)
        until(lambda: len(server.connections) == 1)
        with Truth(server, own_times=own_times) as truth:
            collectors = [first]
            for _ in range(4):
                until(lambda: time.monotonic() - collectors[-1].began > 2.2)
                collectors.append(Listening(config, 3.0))
            for collector in collectors[:-1]:
                collector.result()
            told = len(truth.told)
            until(lambda: len(truth.told) > told + 100)
        totals = [collector.result() for collector in collectors]
    assert len(truth.told) > 1000
    stored = changes_of(connection, cpo_id)
    assert sequences(stored) == sequences(truth.told)
    if own_times:
        assert sorted(stored) == sorted(truth.told)
    # Each wrote a good part of it, and nothing was said to be lost.
    assert all(one.had_turn and one.messages > 50 for one in totals)
    assert contacts_of(connection, cpo_id, "lost") == []
    alive = contacts_of(connection, cpo_id, "alive")
    reached = list(accumulate((until for _, until, _ in alive), max))
    assert [at for at, (began, _, _) in zip(reached, alive[1:], strict=False) if at < began] == []


@pytest.mark.parametrize("own_times", [True, False], ids=["own times", "no times"])
def test_a_collector_that_is_killed_is_followed_where_it_stopped_writing(
    connection: psycopg.Connection, killable: Callable[[CpoConfig, float], subprocess.Popen[str]], own_times: bool
) -> None:
    cpo_id = f"killed_{own_times}".lower()
    with hub() as server:
        config = stream_config(cpo_id, server.url)
        describe(config, EVSES)
        first = killable(config, 60)
        until(lambda: len(server.connections) == 1, 60)
        with Truth(server, own_times=own_times) as truth:
            until(lambda: count(connection, "status_change", cpo_id) > 200)
            second = Listening(config, 6.0)
            until(lambda: len(server.connections) == 2)
            told = len(truth.told)
            until(lambda: len(truth.told) > told + 200)
            first.kill()
            until(lambda: time.monotonic() - second.began > 5)
        totals = second.result()
    assert totals.had_turn
    assert totals.messages > 200
    assert sequences(changes_of(connection, cpo_id)) == sequences(truth.told)
    assert contacts_of(connection, cpo_id, "lost") == []


def test_a_collector_that_is_killed_with_nobody_listening_leaves_a_stretch_that_is_lost(
    connection: psycopg.Connection, killable: Callable[[CpoConfig, float], subprocess.Popen[str]]
) -> None:
    with hub() as server:
        config = stream_config("killed_alone", server.url)
        describe(config, ["a"])
        first = killable(config, 60)
        until(lambda: len(server.connections) == 1, 60)
        server.tell(status("a", "CHARGING"))
        until(lambda: count(connection, "status_change", "killed_alone") == 1)
        first.kill()
        until(lambda: server.connections == [])
        server.tell(status("a", "AVAILABLE"))
        totals = Listening(config, 1.0).result()
    ((lost_from, lost_until, _),) = contacts_of(connection, "killed_alone", "lost")
    assert lost_from == changes_of(connection, "killed_alone")[0][1]
    assert lost_until == contacts_of(connection, "killed_alone", "alive")[0][0]
    assert totals.lost_stretches == 1


def test_what_follows_is_later_than_what_was_written_also_by_a_clock_that_is_behind(
    connection: psycopg.Connection,
) -> None:
    with hub() as server, connect(Role.INGEST) as other:
        config = stream_config("clock_behind", server.url)
        describe(config, ["a"])
        writer = Writer(other, config)
        assert writer.take_turn()
        running = Listening(config, 2.0)
        until(lambda: len(server.connections) == 1)
        # The other one received it by a clock that is ahead of ours.
        ahead = datetime.now(UTC) + timedelta(seconds=0.25)
        told = Told("s1/a", "AVAILABLE", None)
        with writer.batch() as batch:
            batch.add_messages([(Message("test", told=(told,)), ahead)], is_contact=False)
            batch.keep_mark(Mark(ahead, ((fingerprint(told, ""), ahead),)))
        server.tell(status("a", "CHARGING"))
        writer.give_up_turn()
        running.result()
    (first, second) = changes_of(connection, "clock_behind")
    assert (first[1:], second[2]) == ((ahead, "AVAILABLE"), "CHARGING")
    assert second[1] > ahead


def test_a_list_that_came_before_the_turn_is_stored_as_what_holds_at_the_turn(
    connection: psycopg.Connection,
) -> None:
    mapping = {
        "sites": "sites", "site": {"site_id": "site", "time_zone": "zone"}, "evses": "evses",
        "evse": {"evse_id": "id", "status": "status"},
    }  # fmt: skip
    words = {"a": "AVAILABLE", "b": "AVAILABLE"}

    def greet(client: ServerConnection) -> None:
        evses = [{"id": evse, "status": word} for evse, word in words.items()]
        client.send(json.dumps({"full": 1, "sites": [{"site": "S1", "zone": "Australia/Sydney", "evses": evses}]}))

    with hub() as server:
        server.greet = greet
        config = stream_config("carried", server.url, mapping=mapping, snapshot_when="full")
        first = Listening(config, 2.0)
        until(lambda: count(connection, "status_change", "carried") == 2)
        # What the first one was never told: its list and its messages left it out.
        words["c"] = "AVAILABLE"
        second = Listening(config, 3.5)
        until(lambda: len(server.connections) == 2)
        for word in ("CHARGING", "AVAILABLE", "CHARGING"):
            words["a"] = word
            server.tell(status("a", word))
        first.result()
        until(lambda: any("full list of 3 EVSEs" in line for line in second.said))
        server.tell(status("b", "CHARGING"))
        totals = second.result()
    changes = changes_of(connection, "carried")
    assert sequences(changes) == {
        "a": ["AVAILABLE", "CHARGING", "AVAILABLE", "CHARGING"], "b": ["AVAILABLE", "CHARGING"], "c": ["AVAILABLE"],
    }  # fmt: skip
    lists = contacts_of(connection, "carried", "complete")
    last_of_first = max(at for evse, at, _ in changes if evse == "a")
    assert len(lists) == 2
    assert lists[1][0] == last_of_first + timedelta(microseconds=1)
    assert contacts_of(connection, "carried", "lost") == []
    assert (totals.lists, totals.messages) == (1, 1)


def test_a_collector_that_never_has_its_turn_writes_nothing(connection: psycopg.Connection) -> None:
    with hub() as server:
        config = stream_config("never", server.url)
        describe(config, ["a"])
        first = Listening(config, 3.0)
        until(lambda: len(server.connections) == 1)
        second = Listening(config, 1.0)
        until(lambda: len(server.connections) == 2)
        server.tell(status("a", "CHARGING"))
        totals = second.result()
        assert str(totals) == "another collector of this feed wrote all the time"
        assert totals.failure() is None
        assert first.result().messages == 1
    assert len(changes_of(connection, "never")) == 1


# Where the writing goes on


def things(words: str, start: float = 0.0, step: float = 0.01) -> list[tuple[bytes, datetime]]:
    """One EVSE that becomes each letter in turn."""
    return [
        (fingerprint(Told("s/e", letter, None), ""), START + timedelta(seconds=start + step * position))
        for position, letter in enumerate(words)
    ]


LATE = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("written", "buffered", "begins", "late", "count"),
    [
        ("abcdef", "cdefgh", 2, 0.003, 4),
        ("abcdef", "cdefgh", 2, 0.3, 4),
        # Flapping fits in many places: what was written and is not buffered came before the connection, and both received the last one at nearly the same time.
        ("acacacac", "acacacacacac", 0, 0.003, 8),
        ("acacacac", "cacacacacac", 1, 0.003, 7),
        ("acacacac", "cacacacacac", 1, -0.003, 7),
        ("acacacac", "cac", 5, 0.02, 3),
        ("acac", "ac", 2, 0.05, 2),
        ("acac", "acac", 4, 0.003, 0),
        ("xyzab", "abab", 3, 0.004, 2),
        ("abcd", "efgh", 4, 0.003, 0),
        ("", "abc", 0, 0.0, 0),
        ("abc", "", 3, 0.0, 0),
    ],
)
def test_the_place_where_another_collector_stopped_is_found(
    written: str, buffered: str, begins: int, late: float, count: int
) -> None:
    """``begins``: the thing with which the second connection began; ``late``: how much later it receives."""
    since = START + timedelta(seconds=begins * 0.01 - 0.002)
    assert written_before(things(written), things(buffered, begins * 0.01 + late), since, LATE) == count


def test_a_source_that_resumed_is_not_held_to_the_beginning_of_the_connection() -> None:
    # Told again from where it broke: long after the other one received it.
    assert written_before(things("abcdef"), things("defgh", 5.0), None, LATE) == 3


def test_messages_in_another_order_are_rather_written_twice_than_lost() -> None:
    written, other = things("abcdefg", 0.0, 1.0), things("abcdegf", 0.0, 1.0)
    # What came more than a second before the end counts as written.
    assert written_before(written, other[:6], START - LATE, LATE) == 5


def test_a_mark_remembers_the_last_things_and_survives_its_storing() -> None:
    written = things("".join(chr(number) for number in range(1000, 1000 + MARK_LENGTH + 50)))
    mark = Mark(START)
    for one, received_at in written:
        mark = mark.after([one], received_at, "")
    assert mark.things == tuple(written[-MARK_LENGTH:])
    assert unpack_things(pack_things(mark.things)) == mark.things
    # A message that tells nothing is a sign of life, and leaves the place where it is.
    later = START + timedelta(hours=1)
    assert mark.after([], later, "") == Mark(later, mark.things)


def test_the_times_of_a_buffer_rise_whatever_the_clock_does() -> None:
    clock = iter([START, START, START - timedelta(seconds=5), START + timedelta(seconds=1)])
    buffer = Buffer(lambda: next(clock))
    for _ in range(4):
        buffer.put(lambda at: Heard(at, Frame(b"x")))
    tick = timedelta(microseconds=1)
    assert [event.at for event in buffer.take(0, 10)] == [
        START, START + tick, START + 2 * tick, START + timedelta(seconds=1),
    ]  # fmt: skip


def test_a_buffer_that_is_kept_in_case_begins_anew_when_it_is_full() -> None:
    times = (START + timedelta(seconds=number) for number in range(100))
    buffer = Buffer(lambda: next(times), most_bytes=100)
    buffer.put(lambda at: Connected(at, resumed=False))
    for _ in range(5):
        buffer.put(lambda at: Heard(at, Frame(b"x" * 40)))
    kept = buffer.take(0, 100)
    assert [type(event) for event in kept] == [Connected, Heard, Heard]
    # Complete from then on, and not from before.
    assert kept[0].at == kept[1].at == START + timedelta(seconds=4)


def test_a_reader_waits_while_a_buffer_that_is_written_is_full() -> None:
    buffer = Buffer(lambda: START, most_bytes=100)
    assert buffer.take(0, 10) == []
    reached: list[int] = []

    def read() -> None:
        for number in range(10):
            buffer.put(lambda at: Heard(at, Frame(b"x" * 60)))
            reached.append(number)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    until(lambda: reached == [0, 1])
    assert len(buffer.take(5, 2)) == 2
    until(lambda: reached == [0, 1, 2, 3])
    buffer.close()
    thread.join(5)
    assert len(reached) == 10


def test_the_pace_leaves_room_for_the_hand_over() -> None:
    from ingestion.runs import OVERLAP

    pace = Pace()
    # Otherwise the next collector would find the feed covered to before it had begun to listen.
    assert pace.ping_seconds + pace.handover_seconds + pace.open_seconds < OVERLAP.total_seconds()
