"""A CPO's own JSON through the collector into the warehouse: what a short, bad or mended list does to what is known."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from rest_script import ASSETS, STATUSES, pair_config, port, ports, pull, reply, rest_config, serve

from ingestion.collector import Totals, collect
from ingestion.config import CpoConfig
from ingestion.model import PolledFeed
from tests.feeds import START, at
from tests.ingestion.ocpi.scripted_server import Reply, ScriptedServer


class SetClock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def wait_until(self, at: datetime) -> None:
        self.time = at


class Collected:
    """Polls once a minute, each poll by the same client (or by a new one) into one warehouse."""

    def __init__(self, config: CpoConfig) -> None:
        self.config = config
        self.clock = SetClock()
        self.said: list[str] = []
        self.feed: PolledFeed = pull(config)

    def poll(self, *, with_new_client: bool = False) -> Totals:
        self.clock.time += timedelta(minutes=1)
        if with_new_client:
            self.feed = pull(self.config)
        return collect(self.config, seconds=0, report=self.said.append, clock=self.clock, make_feed=lambda _: self.feed)


def changes(url: str) -> list[tuple[str, str | None, int]]:
    """EVSE, word, minute; in order."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select evse_ref, status_word, observed_at from raw.status_change join raw.evse using (evse_key)"
            " order by observed_at, evse_ref"
        ).fetchall()
    return [(ref, word, round((observed_at - START) / timedelta(minutes=1))) for ref, word, observed_at in rows]


def contacts(url: str) -> list[tuple[str, str | None]]:
    with psycopg.connect(url) as connection:
        return connection.execute("select outcome, detail from raw.feed_contact order by contact_from").fetchall()


def test_only_changes_are_stored_and_an_evse_that_is_gone_is_absent(server: ScriptedServer, warehouse: str) -> None:
    collected = Collected(rest_config(server.url))
    serve(server, ports(3))
    collected.poll()
    assert collected.poll().unchanged_polls == 1
    serve(server, [port("P1", "busy"), port("p2")])
    collected.poll()
    assert changes(warehouse) == [
        ("s1/p1", "free", 1), ("s1/p2", "free", 1), ("s1/p3", "free", 1),
        ("s1/p1", "busy", 3), ("s1/p3", None, 3),
    ]  # fmt: skip
    assert contacts(warehouse) == [("complete", None)] * 3


@pytest.mark.parametrize("with_new_client", [False, True])
def test_a_list_that_lost_more_than_the_stated_share_is_a_failed_poll_and_no_removal(
    server: ScriptedServer, warehouse: str, with_new_client: bool
) -> None:
    collected = Collected(rest_config(server.url))
    serve(server, ports(10))
    collected.poll()
    serve(server, ports(4))
    for _ in range(3):
        assert collected.poll(with_new_client=with_new_client).failed_polls == 1
    assert len(changes(warehouse)) == 10
    outcome, detail = contacts(warehouse)[-1]
    assert (outcome, [one for one, _ in contacts(warehouse)]) == ("failed", ["complete", "failed", "failed", "failed"])
    assert detail is not None
    assert detail.startswith("a list of 4 EVSEs where 10 were present is not believed")
    serve(server, ports(5))
    assert collected.poll(with_new_client=with_new_client).complete_polls == 1
    assert [change for change in changes(warehouse) if change[1] is None] == [
        (f"s1/p{number}", None, 5) for number in (10, 6, 7, 8, 9)
    ]


def test_a_person_who_knows_that_half_the_network_closed_says_so(server: ScriptedServer, warehouse: str) -> None:
    serve(server, ports(10))
    Collected(rest_config(server.url)).poll()
    serve(server, ports(1))
    collected = Collected(rest_config(server.url, max_shrink_ratio=1))
    collected.clock.time = at(5)
    assert collected.poll().complete_polls == 1
    assert len([change for change in changes(warehouse) if change[1] is None]) == 9


@pytest.mark.parametrize("bad", [reply({"items": []}), Reply(b"<html>"), Reply(b"{", 200), Reply(b"", 500)])
def test_a_bad_answer_is_a_failed_contact_and_the_next_good_one_goes_on(
    server: ScriptedServer, warehouse: str, bad: Reply
) -> None:
    collected = Collected(rest_config(server.url))
    serve(server, ports(2))
    collected.poll()
    server.routes[ASSETS] = lambda _: bad
    assert collected.poll().failed_polls == 1
    serve(server, ports(2))
    assert collected.poll().unchanged_polls == 1
    assert len(changes(warehouse)) == 2
    assert [outcome for outcome, _ in contacts(warehouse)] == ["complete", "failed", "complete"]


def test_when_a_field_is_renamed_all_evses_are_quarantined_and_nothing_is_made_up(
    server: ScriptedServer, warehouse: str
) -> None:
    collected = Collected(rest_config(server.url))
    serve(server, ports(3))
    collected.poll()
    serve(server, [{**port(f"P{number}", None), "status": "free"} for number in (1, 2, 3)])
    assert collected.poll().written.quarantined == 3
    assert [change for change in changes(warehouse) if change[2] == 2] == [(f"s1/p{n}", None, 2) for n in (1, 2, 3)]
    with psycopg.connect(warehouse) as connection:
        rows: list[Any] = connection.execute(
            "select record_ref, field, reason, payload::jsonb ->> 'status', context::jsonb ->> 'level' from raw.quarantine order by 1"
        ).fetchall()
    assert rows == [
        (f"S1/P{n}", "evse.status (state)", "described without a status: gives nothing", "free", "site")
        for n in (1, 2, 3)
    ]


def test_an_evse_that_a_full_list_of_statuses_lacks_is_absent(server: ScriptedServer, warehouse: str) -> None:
    collected = Collected(pair_config(server.url))
    serve(server, ports(3, None))
    serve(server, [{"id": f"P{n}", "state": "free"} for n in (1, 2, 3)], STATUSES, "states")
    collected.poll()
    serve(server, [{"id": f"P{n}", "state": "free"} for n in (1, 2)], STATUSES, "states")
    collected.poll()
    assert changes(warehouse)[3:] == [("s1/p3", None, 2)]


def test_descriptions_that_are_cut_short_remove_nothing(server: ScriptedServer, warehouse: str) -> None:
    collected = Collected(pair_config(server.url))
    serve(server, ports(3, None))
    serve(server, [{"id": f"P{n}", "state": "free"} for n in (1, 2, 3)], STATUSES, "states")
    collected.poll()
    serve(server, ports(1, None))
    assert collected.poll().failed_polls == 1
    assert len(changes(warehouse)) == 3
