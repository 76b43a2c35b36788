"""A WebSocket feed against a real server: what it may send, and each way it may break."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from stream_world import (
    QUICK,
    FreezingProxy,
    Hub,
    Listening,
    contacts_of,
    describe,
    hub,
    sequences,
    status,
    stream_config,
)
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from ingestion.config import CpoConfig
from ingestion.model import FeedError, Poll, reference
from tests.feeds import asset, changes_of, count
from tests.ingestion.ocpi.scripted_server import Reply, ScriptedServer
from tests.waiting import until
from warehouse.connection import Role, connect

MAPPING = {
    "sites": "sites",
    "site": {"site_id": "site", "time_zone": "zone"},
    "evses": "evses",
    "evse": {"evse_id": "id", "status": "status"},
}


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        opened.autocommit = True
        yield opened


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as running:
        yield running


def full_list(**words: str) -> str:
    evses = [{"id": evse_id, "status": word} for evse_id, word in words.items()]
    return json.dumps({"full": True, "sites": [{"site": "S1", "zone": "Australia/Sydney", "evses": evses}]})


def quarantined(connection: psycopg.Connection, cpo_id: str) -> list[tuple[str, str | None, str, str]]:
    return connection.execute(
        "select record_ref, field, reason, payload from raw.quarantine inner join raw.feed using (feed_key)"
        " where cpo_id = %s order by quarantine_key",
        (cpo_id,),
    ).fetchall()


def words_of(connection: psycopg.Connection, cpo_id: str) -> dict[str, list[str | None]]:
    return sequences(changes_of(connection, cpo_id))


# What may be sent


def test_every_shape_of_message_is_read(connection: psycopg.Connection, server: Hub) -> None:
    config = stream_config(
        "shapes", server.url, mapping=MAPPING, messages={"items": "[] || changes || @", "evse_id": "id", "status": "status"},
        subscribe=[{"subscribe": "status"}, "hello"], subprotocol="live.v1",
    )  # fmt: skip
    running = Listening(config, 2.0)
    until(lambda: len(server.connections) == 1)
    server.tell(
        full_list(a="AVAILABLE", b="AVAILABLE", c="AVAILABLE").replace('"full": true, ', ""),
        status("a", "CHARGING"),
        status("b", "CHARGING").encode(),
        f"[{status('a', 'BLOCKED')}, {status('b', 'BLOCKED')}]",
        json.dumps({"changes": [json.loads(status("c", "RESERVED"))]}),
        f"{status('a', 'OUTOFORDER')}\n{status('c', 'OUTOFORDER')}\n",
        json.dumps({"type": "ack", "of": "status"}),
        "[]",
    )
    totals = running.result()
    assert words_of(connection, "shapes") == {
        "a": ["AVAILABLE", "CHARGING", "BLOCKED", "OUTOFORDER"],
        "b": ["AVAILABLE", "CHARGING", "BLOCKED"],
        "c": ["AVAILABLE", "RESERVED", "OUTOFORDER"],
    }
    assert quarantined(connection, "shapes") == []
    assert (totals.messages, totals.written.assets, totals.connections, totals.breaks) == (8, 3, 1, 0)
    assert [json.loads(server.heard[0]), server.heard[1]] == [{"subscribe": "status"}, "hello"]
    assert server.requests[0].headers["Sec-WebSocket-Protocol"] == "live.v1"
    assert "permessage-deflate" in server.requests[0].headers["Sec-WebSocket-Extensions"]


def test_bad_messages_are_quarantined_whole_and_cost_nothing_else(connection: psycopg.Connection, server: Hub) -> None:
    config = stream_config("garbage", server.url)
    describe(config, ["a"])
    running = Listening(config, 1.5)
    until(lambda: len(server.connections) == 1)
    bomb = "[" * 100_000
    server.tell(
        "<html>502</html>",
        b"\xff\xfe\x00",
        bomb,
        status("a", "CHARGING") + "\nnot json",
        json.dumps({"id": "a"}),
        json.dumps({"id": "a", "status": "BLOCKED", "at": "yesterday"}),
        status("a", "AVAILABLE"),
    )
    totals = running.result()
    assert totals.breaks == 0
    # A time that cannot be read is left out and noted: the status is true since its receipt.
    assert words_of(connection, "garbage") == {"a": ["BLOCKED", "AVAILABLE"]}
    rows = quarantined(connection, "garbage")
    assert [(ref, field) for ref, field, _, _ in rows] == [
        ("message", None), ("message", None), ("message", None), ("message", None), ("a", "status.status (status)"),
        ("a", "status.updated_at (at)"),
    ]  # fmt: skip
    assert all(reason.startswith("is not JSON: ") for _, _, reason, _ in rows[:4])
    assert [payload[:20] for _, _, _, payload in rows[:4]] == [
        "<html>502</html>", "\ufffd\ufffd\ufffd", "[" * 20, '{"id": "a", "status"',
    ]  # fmt: skip


def test_a_status_of_an_evse_that_nobody_described_is_quarantined(connection: psycopg.Connection, server: Hub) -> None:
    config = stream_config("unknown", server.url)
    describe(config, ["a"])
    running = Listening(config, 1.0)
    until(lambda: len(server.connections) == 1)
    server.tell(status("zz", "CHARGING"), status("A ", "CHARGING"))
    running.result()
    assert words_of(connection, "unknown") == {"a": ["CHARGING"]}
    assert quarantined(connection, "unknown") == [
        ("zz", "evse_id", "this EVSE is not described", json.dumps({"id": "zz", "status": "CHARGING"}))
    ]


def test_duplicates_and_disorder_and_odd_times_store_each_change_once(
    connection: psycopg.Connection, server: Hub
) -> None:
    config = stream_config("disorder", server.url)
    describe(config, ["a", "b", "c"])
    running = Listening(config, 1.5)
    until(lambda: len(server.connections) == 1)
    now = datetime.now(UTC)
    minutes_ago = {n: now - timedelta(minutes=n) for n in (1, 2, 3)}
    messages = [
        status("a", "CHARGING", minutes_ago[3]),
        status("a", "AVAILABLE", minutes_ago[1]),
        status("a", "BLOCKED", minutes_ago[2]),
    ]
    server.tell(*messages, *messages, *reversed(messages))
    server.tell(status("b", "CHARGING", now + timedelta(hours=5)), status("c", "CHARGING", "1970-01-01T00:00:00Z"))
    running.result()
    assert [row for row in changes_of(connection, "disorder") if row[0] == "a"] == [
        ("a", minutes_ago[3], "CHARGING"), ("a", minutes_ago[2], "BLOCKED"), ("a", minutes_ago[1], "AVAILABLE"),
    ]  # fmt: skip
    dated_by_receipt = {row[0]: row[1] for row in changes_of(connection, "disorder") if row[0] != "a"}
    assert set(dated_by_receipt) == {"b", "c"}
    assert all(now <= at < now + timedelta(seconds=5) for at in dated_by_receipt.values())
    reasons = {ref.split("/")[-1]: reason for ref, _, reason, _ in quarantined(connection, "disorder")}
    assert set(reasons) == {"b", "c"}
    assert "in the future" in reasons["b"]
    assert "before 2010" in reasons["c"]


def test_a_flood_of_ten_thousand_messages_is_stored_whole(connection: psycopg.Connection, server: Hub) -> None:
    config = stream_config("flood", server.url)
    evses = [f"e{number}" for number in range(500)]
    describe(config, evses)
    running = Listening(config, 8.0, pace=replace(QUICK, commit_seconds=0.2))
    until(lambda: len(server.connections) == 1)
    truth = [(evse, word) for word in ["AVAILABLE", "CHARGING"] * 10 for evse in evses]
    server.tell(*(status(evse, word) for evse, word in truth))
    until(lambda: count(connection, "status_change", "flood") >= 10_000)
    totals = running.result()
    assert words_of(connection, "flood") == {evse: ["AVAILABLE", "CHARGING"] * 10 for evse in evses}
    assert (totals.messages, totals.breaks) == (10_000, 0)


# The connection


def test_a_window_ends_clean_and_says_what_arrived(connection: psycopg.Connection, server: Hub) -> None:
    config = stream_config("clean", server.url)
    describe(config, ["a"])
    began = datetime.now(UTC)
    running = Listening(config, 1.0)
    until(lambda: len(server.connections) == 1)
    server.tell(status("a", "CHARGING"))
    totals = running.result()
    until(lambda: server.connections == [])
    alive = contacts_of(connection, "clean", "alive")
    assert all(before[1] == after[0] for before, after in pairwise(alive))
    assert alive[0][0] >= began
    # Pings were answered to the end: held for nearly the whole second.
    assert timedelta(seconds=0.6) < alive[-1][1] - alive[0][0] < timedelta(seconds=1.2)
    assert contacts_of(connection, "clean", "lost", "failed", "complete") == []
    assert str(totals).startswith(
        "1 messages and 0 full lists over 1 connections, 0 of which broke, 0 refused, 0 stretches lost;"
    )
    assert any(
        line.endswith("1 messages: 0 asset versions, 1 changes, 1 contacts, 0 quarantined") for line in running.said
    )


@pytest.mark.parametrize("leave", ["close", "cut"])
def test_what_may_be_lost_between_two_connections_is_stored_as_lost(
    connection: psycopg.Connection, server: Hub, leave: str
) -> None:
    config = stream_config(f"lost_{leave}", server.url)
    describe(config, ["a"])
    running = Listening(config, 2.5)
    until(lambda: len(server.connections) == 1)
    server.tell(status("a", "CHARGING"))
    until(lambda: count(connection, "status_change", config.cpo_id) == 1)
    left_at = datetime.now(UTC)
    if leave == "close":
        server.close_all(1001, "going away")
    else:
        server.cut_all()
    until(lambda: server.accepted == 2 and len(server.connections) == 1)
    # Told again: after a gap that is news, since nothing else shows that it still held.
    server.tell(status("a", "CHARGING"))
    totals = running.result()
    ((lost_from, lost_until, _),) = contacts_of(connection, config.cpo_id, "lost")
    alive = contacts_of(connection, config.cpo_id, "alive")
    assert [one for one in alive if one[0] < lost_until and one[1] > lost_from] == []
    assert {lost_from, lost_until} <= {moment for one in alive for moment in one[:2]}
    assert left_at - timedelta(seconds=0.3) < lost_from < lost_until < left_at + timedelta(seconds=1)
    assert words_of(connection, config.cpo_id) == {"a": ["CHARGING", "CHARGING"]}
    assert (totals.breaks, totals.connections, totals.lost_stretches) == (1, 2, 1)
    assert any("closed by the source with 1001 going away" in line for line in running.said) == (leave == "close")
    assert any("broke off" in line for line in running.said) == (leave == "cut")


def test_a_list_on_connecting_makes_up_for_the_break(connection: psycopg.Connection, server: Hub) -> None:
    config = stream_config("listed", server.url, mapping=MAPPING, snapshot_when="full")
    words = {"a": "AVAILABLE", "b": "AVAILABLE", "gone": "AVAILABLE"}
    server.greet = lambda client: client.send(full_list(**words))
    running = Listening(config, 2.5)
    until(lambda: count(connection, "feed_contact", "listed", "outcome = 'complete'") == 1)
    # One of three: not believed, so nobody is gone for it.
    server.tell(full_list(a="BLOCKED"))
    until(lambda: count(connection, "quarantine", "listed", "starts_with(reason, 'a list of 1 EVSEs where 3 ')") == 1)
    words |= {"a": "CHARGING"}
    del words["gone"]
    server.close_all()
    until(lambda: count(connection, "feed_contact", "listed", "outcome = 'complete'") == 2)
    server.tell(status("b", "BLOCKED"))
    totals = running.result()
    first, second = contacts_of(connection, "listed", "complete")
    assert changes_of(connection, "listed") == [
        ("a", first[0], "AVAILABLE"), ("b", first[0], "AVAILABLE"), ("gone", first[0], "AVAILABLE"),
        ("a", second[0], "CHARGING"), ("gone", second[0], None),
        ("b", changes_of(connection, "listed")[-1][1], "BLOCKED"),
    ]  # fmt: skip
    assert contacts_of(connection, "listed", "lost") == []
    assert (totals.lists, totals.lost_stretches, totals.breaks) == (2, 0, 1)


def test_a_list_that_does_not_come_makes_up_for_nothing(connection: psycopg.Connection, server: Hub) -> None:
    config = stream_config("unlisted", server.url, mapping=MAPPING, snapshot_when="full")
    running = Listening(config, 2.5)
    until(lambda: len(server.connections) == 1)
    server.close_all()
    until(lambda: server.accepted == 2 and len(server.connections) == 1)
    # Says that it lists every EVSE, and lists none: nobody is absent for that.
    server.tell(json.dumps({"full": True, "sites": []}))
    totals = running.result()
    assert len(contacts_of(connection, "unlisted", "lost")) == 1
    assert contacts_of(connection, "unlisted", "complete") == []
    assert [reason for _, _, reason, _ in quarantined(connection, "unlisted")] == [
        "a list of every EVSE in which none can be read"
    ]
    assert (totals.lists, totals.lost_stretches) == (0, 1)


def asked_list(**words: str) -> Poll:
    return Poll(
        hashlib.sha256(repr(words).encode()).digest(),
        assets=tuple(asset(evse_id) for evse_id in words),
        statuses={reference("S1", evse_id): (word, None) for evse_id, word in words.items()},
    )


def test_a_list_that_is_asked_for_makes_up_for_the_break(connection: psycopg.Connection, server: Hub) -> None:
    config = stream_config("asked", server.url)
    words = {"a": "AVAILABLE", "b": "AVAILABLE"}
    asked: list[datetime] = []

    def snapshot() -> Poll:
        asked.append(datetime.now(UTC))
        if len(asked) == 2:
            raise FeedError("HTTP 503")
        if len(asked) == 3:
            # Told while the list is read: newer than the list.
            server.tell(status("b", "BLOCKED"))
            return asked_list(a="CHARGING", b="AVAILABLE")
        return asked_list(**words)

    running = Listening(config, 3.0, snapshot=snapshot)
    until(lambda: count(connection, "feed_contact", "asked", "outcome = 'complete'") == 1)
    server.close_all()
    until(lambda: count(connection, "feed_contact", "asked", "outcome = 'complete'") == 2)
    totals = running.result()
    assert words_of(connection, "asked") == {"a": ["AVAILABLE", "CHARGING"], "b": ["AVAILABLE", "BLOCKED"]}
    # The list that could not be had at once: until it came, nothing made up for the break.
    assert len(contacts_of(connection, "asked", "failed")) == 1
    assert len(contacts_of(connection, "asked", "lost")) == 1
    assert (totals.lists, totals.lost_stretches) == (2, 1)


def test_a_list_is_asked_for_over_http_and_again_when_an_evse_is_unknown(
    connection: psycopg.Connection, server: Hub
) -> None:
    words = {"a": "AVAILABLE", "b": "AVAILABLE"}
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("X-Key"))
            body = full_list(**words).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    lists = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=lists.serve_forever, args=(0.01,), daemon=True).start()
    config = stream_config(
        "over_http", server.url, mapping=MAPPING, snapshot={"url": f"http://127.0.0.1:{lists.server_port}/list"},
        auth={"kind": "header", "name": "X-Key", "secret": "THEIR_SECRET"},
    )  # fmt: skip
    running = Listening(config, 3.0, secrets={"THEIR_SECRET": "s3cr3t-value"})
    until(lambda: count(connection, "feed_contact", "over_http", "outcome = 'complete'") == 1)
    server.tell(status("a", "CHARGING"))
    until(lambda: count(connection, "status_change", "over_http") == 3)
    words |= {"a": "CHARGING", "new": "AVAILABLE"}
    server.tell(status("new", "AVAILABLE"))
    totals = running.result()
    lists.shutdown()
    lists.server_close()
    assert asked == ["s3cr3t-value", "s3cr3t-value"]
    assert server.requests[0].headers["X-Key"] == "s3cr3t-value"
    assert words_of(connection, "over_http") == {
        "a": ["AVAILABLE", "CHARGING"],
        "b": ["AVAILABLE"],
        "new": ["AVAILABLE"],
    }
    assert (totals.lists, totals.lost_stretches) == (2, 0)


def test_what_is_told_after_a_list_is_newer_also_by_a_clock_that_is_behind(
    connection: psycopg.Connection, server: Hub
) -> None:
    config = stream_config("behind", server.url, mapping=MAPPING, snapshot_when="full")
    server.greet = lambda client: client.send(full_list(a="AVAILABLE", b="AVAILABLE"))
    running = Listening(config, 1.5)
    until(lambda: count(connection, "feed_contact", "behind", "outcome = 'complete'") == 1)
    ((listed_at, _, _),) = contacts_of(connection, "behind", "complete")
    server.tell(status("a", "CHARGING", listed_at - timedelta(seconds=30)))
    # An old report that comes late changes the past, not what the list has shown since.
    server.tell(status("b", "CHARGING", listed_at - timedelta(hours=1)))
    running.result()
    changes = changes_of(connection, "behind")
    assert sequences(changes) == {"a": ["AVAILABLE", "CHARGING"], "b": ["CHARGING", "AVAILABLE"]}
    assert [at for evse, at, word in changes if (evse, word) == ("a", "CHARGING")] > [listed_at]


def test_a_connection_without_any_sign_of_life_is_given_up(connection: psycopg.Connection, server: Hub) -> None:
    proxy = FreezingProxy(server.url)
    config = stream_config("frozen", proxy.url, quiet_seconds=1)
    describe(config, ["a"])
    running = Listening(config, 4.0)
    until(lambda: len(server.connections) == 1)
    proxy.freeze()
    frozen_at = datetime.now(UTC)
    until(lambda: any("neither message nor pong for 1 s" in line for line in running.said))
    proxy.thaw()
    until(lambda: server.accepted >= 2 and len(server.connections) >= 1)
    totals = running.result()
    proxy.close()
    ((lost_from, _, _), *_) = contacts_of(connection, "frozen", "lost")
    # From the last ping that was answered, which is long before the silence was noticed.
    assert lost_from <= frozen_at + timedelta(seconds=0.1)
    assert totals.breaks >= 1


def test_a_handshake_that_takes_too_long_is_given_up(connection: psycopg.Connection, server: Hub) -> None:
    proxy = FreezingProxy(server.url)
    proxy.freeze()
    config = stream_config("slow", proxy.url)
    running = Listening(config, 2.0, pace=replace(QUICK, open_seconds=0.3))
    until(lambda: any("not open within 0.3 s" in line for line in running.said))
    proxy.thaw()
    totals = running.result()
    proxy.close()
    assert totals.refusals >= 1
    assert totals.connections >= 1
    assert len(contacts_of(connection, "slow", "failed")) == totals.refusals


def test_pauses_between_tries_grow_to_a_bound_and_are_drawn_at_random() -> None:
    pace = replace(QUICK, backoff_seconds=1.0, backoff_cap_seconds=8.0)
    drawn = [[pace.backoff(tries, None) for _ in range(200)] for tries in range(6)]
    assert [round(max(some)) for some in drawn] == [1, 2, 4, 8, 8, 8]
    assert all(min(some) < max(some) / 4 for some in drawn)
    assert 3.0 <= pace.backoff(0, 3.0) <= 3.0
    assert pace.backoff(0, 1e9) == 8.0
    assert pace.backoff(10_000, None) <= 8.0


# Access


class Tokens:
    """Gives tokens, each good until the next one was given."""

    def __init__(self) -> None:
        self.given = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.given += 1
                body = json.dumps({"access_token": f"token-{outer.given}", "token_type": "Bearer"}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def refuse_all_but(*authorizations: str) -> Any:
    def answer(client: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Authorization") in authorizations:
            return None
        return Response(401, "Unauthorized", Headers({"Content-Length": "0"}), b"")

    return answer


@pytest.mark.parametrize("how", ["handshake", "close code"])
def test_a_refused_token_is_asked_for_anew(module_warehouse: str, server: Hub, how: str) -> None:
    tokens = Tokens()
    auth = {
        "kind": "oauth2_client_credentials", "token_url": tokens.url, "client_id": "us", "secret": "THEIR_SECRET",
    }  # fmt: skip
    config = stream_config("renewed", server.url, auth=auth)
    if how == "handshake":
        server.answer = refuse_all_but("Bearer token-2")
    else:
        server.greet = lambda client: client.close(4401, "token expired") if tokens.given == 1 else None
    running = Listening(config, 1.5, secrets={"THEIR_SECRET": "s3cr3t-value"})
    until(lambda: tokens.given == 2 and len(server.connections) == 1)
    totals = running.result()
    tokens.close()
    assert tokens.given == 2
    assert server.requests[-1].headers["Authorization"] == "Bearer token-2"
    assert (totals.refusals, totals.breaks) == ((1, 0) if how == "handshake" else (0, 1))
    said = "\n".join(running.said)
    assert ("HTTP 401 instead of a WebSocket: access refused" in said) == (how == "handshake")
    assert ("access refused: closed by the source with 4401 token expired" in said) == (how == "close code")


def test_no_secret_is_said(
    connection: psycopg.Connection, server: Hub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = refuse_all_but("nobody")
    caplog.set_level(logging.DEBUG)
    # The server of this test logs the handshake it receives.
    monkeypatch.setattr(logging.getLogger("websockets.server"), "disabled", True)
    secret = "s3cr3t-value/+"  # noqa: S105
    for kind in ("header", "query", "basic"):
        auth = {
            "header": {"kind": "header", "secret": "THEIR_SECRET", "prefix": "Token "},
            "query": {"kind": "query", "name": "key", "secret": "THEIR_SECRET"},
            "basic": {"kind": "basic", "user": "us", "secret": "THEIR_SECRET"},
        }[kind]
        running = Listening(
            stream_config(f"secret_{kind}", server.url, auth=auth), 0.3, secrets={"THEIR_SECRET": secret}
        )
        assert running.result().refusals >= 1
        said = "\n".join(running.said)
        assert "access refused" in said
        written = connection.execute("select coalesce(string_agg(detail, ' '), '') from raw.feed_contact").fetchone()
        for text in (said, caplog.text, str(written)):
            assert "s3cr3t" not in text
            assert "czNjcjN0" not in text
    asked = {request.path.partition("?")[2]: request.headers.get("Authorization") for request in server.requests}
    assert asked.keys() == {"", "key=s3cr3t-value%2F%2B"}
    assert {request.headers.get("Authorization", "")[:6] for request in server.requests} == {"", "Token ", "Basic "}


def test_a_message_beyond_the_bound_breaks_the_connection_and_nothing_else(
    connection: psycopg.Connection, server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.stream.websocket.MAX_MESSAGE_BYTES", 100_000)
    config = stream_config("too_long", server.url)
    describe(config, ["a"])
    running = Listening(config, 2.0)
    until(lambda: len(server.connections) == 1)
    server.tell(json.dumps({"x": "y" * 200_000}))
    until(lambda: server.accepted == 2 and len(server.connections) == 1)
    server.tell(status("a", "CHARGING"))
    running.result()
    assert words_of(connection, "too_long") == {"a": ["CHARGING"]}
    assert any("given up with 1009" in line for line in running.said)


# Described by a list of their own


def described_config(cpo_id: str, hub: Hub, lists: ScriptedServer) -> CpoConfig:
    return stream_config(
        cpo_id,
        hub.url,
        descriptions={"url": f"{lists.url}/evses"},
        mapping={"site": {"site_id": "site", "time_zone": "zone"}, "evse": {"evse_id": "id"}},
    )


def evses_list(*evse_ids: str) -> Reply:
    rows = [{"id": evse_id, "site": "S1", "zone": "Australia/Perth"} for evse_id in evse_ids]
    return Reply(json.dumps(rows).encode(), headers={"Content-Type": "application/json"})


def test_a_list_describes_what_messages_tell_of(connection: psycopg.Connection, server: Hub) -> None:
    with ScriptedServer() as lists:
        lists.routes["/evses"] = lambda _: evses_list("a")
        running = Listening(described_config("told_apart", server, lists), 2.0)
        until(lambda: len(lists.requests) == len(server.connections) == 1)
        server.tell(status("a", "CHARGING"))
        until(lambda: words_of(connection, "told_apart") == {"a": ["CHARGING"]})
        # A new one: the list is asked for before the message is stored, if it was not asked for just now.
        lists.routes["/evses"] = lambda _: evses_list("a", "b")
        began = time.monotonic()
        until(lambda: time.monotonic() - began > QUICK.snapshot_again_seconds)
        server.tell(status("b", "BLOCKED"), status("a", "AVAILABLE"))
        totals = running.result()
    assert words_of(connection, "told_apart") == {"a": ["CHARGING", "AVAILABLE"], "b": ["BLOCKED"]}
    assert (totals.written.assets, totals.lists, totals.lost_stretches) == (2, 0, 0)
    assert quarantined(connection, "told_apart") == []


def test_a_list_of_descriptions_makes_up_for_no_gap(connection: psycopg.Connection, server: Hub) -> None:
    with ScriptedServer() as lists:
        lists.routes["/evses"] = lambda _: evses_list("a")
        running = Listening(described_config("told_apart_gap", server, lists), 2.0)
        until(lambda: len(lists.requests) == len(server.connections) == 1)
        server.tell(status("a", "CHARGING"))
        until(lambda: words_of(connection, "told_apart_gap") == {"a": ["CHARGING"]})
        server.close_all()
        totals = running.result()
    assert (totals.connections, totals.breaks, totals.lost_stretches) == (2, 1, 1)


def test_without_the_list_messages_go_on(connection: psycopg.Connection, server: Hub) -> None:
    with ScriptedServer() as lists:
        lists.routes["/evses"] = lambda _: Reply(b"[]", headers={"Content-Type": "application/json"})
        config = described_config("told_apart_empty", server, lists)
        describe(config, ["a"])
        running = Listening(config, 1.0)
        until(lambda: len(lists.requests) == len(server.connections) == 1)
        server.tell(status("a", "CHARGING"))
        running.result()
    assert words_of(connection, "told_apart_empty") == {"a": ["CHARGING"]}
    failed = connection.execute(
        "select distinct split_part(detail, ': ', 2) from raw.feed_contact inner join raw.feed using (feed_key)"
        " where cpo_id = 'told_apart_empty' and outcome = 'failed'"
    ).fetchall()
    assert failed == [("no EVSE is described",)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mapping": None}, "name both"),
        ({"messages": None}, "name both"),
        ({"mapping": {"site": {"site_id": "site"}, "evse": {"evse_id": "id", "status": "s"}}}, "is a snapshot"),
    ],
)
def test_descriptions_need_a_mapping_without_status_and_messages(change: dict[str, object], said: str) -> None:
    settings = {
        "descriptions": {"url": "http://localhost/evses"},
        "mapping": {"site": {"site_id": "site"}, "evse": {"evse_id": "id"}},
    }
    with pytest.raises(ValueError, match=said):
        stream_config("wrong", "ws://localhost", **{**settings, **change})
