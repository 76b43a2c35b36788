"""Overlapping collectors of one stream: every change is stored exactly once, whoever writes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

import psycopg
import pytest
from stream_world import Hub, Listening, contacts_of, describe, hub, sequences, status, stream_config

from tests.feeds import changes_of
from tests.waiting import until
from warehouse.connection import Role, connect

EVSES = [f"e{number}" for number in range(12)]
WORDS = ["AVAILABLE", "CHARGING", "OUTOFORDER"]


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        opened.autocommit = True
        yield opened


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
    assert [(before, after) for before, after in pairwise(alive) if before[1] != after[0]] == []
