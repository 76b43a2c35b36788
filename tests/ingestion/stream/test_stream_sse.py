"""A feed of Server-Sent Events against a real server: what it may send, and each way it may break."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
from stream_world import QUICK, Listening, contacts_of, describe, sequences, status, stream_config

from tests.feeds import changes_of, count
from tests.waiting import until
from warehouse.connection import Role, connect

HANG_UP = object()


class EventServer:
    """Sends to all who listen; with ``resumes`` first what they have missed since their last event."""

    def __init__(self) -> None:
        self.clients: list[queue.Queue[Any]] = []
        self.log: list[tuple[str, bytes]] = []
        self.requests: list[dict[str, str]] = []
        self.status = 200
        self.content_type = "text/event-stream; charset=utf-8"
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(
                    {"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}
                )
                self.send_response(outer.status)
                self.send_header("Content-Type", outer.content_type)
                self.end_headers()
                if outer.status != 200:
                    return
                mine: queue.Queue[Any] = queue.Queue()
                with outer.lock:
                    ids = [event_id for event_id, _ in outer.log]
                    if (last := self.headers.get("Last-Event-ID")) in ids:
                        for _, piece in outer.log[ids.index(last) + 1 :]:
                            mine.put(piece)
                    outer.clients.append(mine)
                try:
                    while (piece := mine.get()) is not HANG_UP:
                        self.wfile.write(piece)
                        self.wfile.flush()
                except OSError:
                    pass
                with outer.lock:
                    if mine in outer.clients:
                        outer.clients.remove(mine)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/live"

    def event(self, data: str, event_id: str = "", name: str = "") -> None:
        lines = [f"id: {event_id}"] if event_id else []
        lines += [f"event: {name}"] if name else []
        lines += [f"data: {line}" for line in data.split("\n")]
        self.send("\n".join(lines) + "\n\n", event_id)

    def send(self, text: str, event_id: str = "") -> None:
        with self.lock:
            if event_id:
                self.log.append((event_id, text.encode()))
            for client in self.clients:
                client.put(text.encode())

    def hang_up(self) -> None:
        with self.lock:
            leaving, self.clients = self.clients, []
        for client in leaving:
            client.put(HANG_UP)


@contextmanager
def events() -> Iterator[EventServer]:
    running = EventServer()
    thread = threading.Thread(target=running.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.hang_up()
    running.server.shutdown()
    running.server.server_close()
    thread.join()


@pytest.fixture
def server() -> Iterator[EventServer]:
    with events() as running:
        yield running


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        opened.autocommit = True
        yield opened


def words_of(connection: psycopg.Connection, cpo_id: str) -> dict[str, list[str | None]]:
    return sequences(changes_of(connection, cpo_id))


def test_events_are_read_and_comments_are_signs_of_life(connection: psycopg.Connection, server: EventServer) -> None:
    config = stream_config("events", server.url, "sse", events=["status", "message"], quiet_seconds=2)
    describe(config, ["a", "b"])
    running = Listening(config, 4)
    until(lambda: len(server.clients) == 1)
    server.event(status("a", "CHARGING"), name="status")
    server.event(status("b", "CHARGING").replace(", ", ",\n"))
    server.event(status("a", "BLOCKED"), name="advertisement")
    server.send("event: status\ndata\n\nretry: 20\n\n: nothing to say\n\n")
    # Silent but for comments, for longer than the connection may be silent.
    began = datetime.now(UTC)
    while datetime.now(UTC) - began < timedelta(seconds=3):
        server.send(": still here\n\n")
        running.thread.join(0.1)
    totals = running.result()
    assert words_of(connection, "events") == {"a": ["CHARGING"], "b": ["CHARGING"]}
    assert (totals.messages, totals.connections, totals.breaks) == (2, 1, 0)
    assert server.requests[0]["accept"] == "text/event-stream"
    assert "last-event-id" not in server.requests[0]
    alive = contacts_of(connection, "events", "alive")
    assert alive[-1][1] - alive[0][0] > timedelta(seconds=3)


def test_a_source_that_resumes_loses_nothing(connection: psycopg.Connection, server: EventServer) -> None:
    config = stream_config("resumed", server.url, "sse", resumes=True)
    describe(config, ["a"])
    running = Listening(config, 2.0, pace=replace(QUICK, backoff_seconds=0.5, backoff_cap_seconds=0.5))
    until(lambda: len(server.clients) == 1)
    server.event(status("a", "CHARGING"), "7")
    until(lambda: count(connection, "status_change", "resumed") == 1)
    server.hang_up()
    server.event(status("a", "AVAILABLE"), "8")
    server.event(status("a", "BLOCKED"), "9")
    until(lambda: len(server.clients) == 1)
    totals = running.result()
    assert words_of(connection, "resumed") == {"a": ["CHARGING", "AVAILABLE", "BLOCKED"]}
    assert server.requests[1]["last-event-id"] == "7"
    assert contacts_of(connection, "resumed", "lost") == []
    assert (totals.connections, totals.lost_stretches) == (2, 0)
    # The next window goes on after what this one has written, however long nobody listened.
    server.event(status("a", "RESERVED"), "10")
    totals = Listening(config, 1.0).result()
    assert words_of(connection, "resumed") == {"a": ["CHARGING", "AVAILABLE", "BLOCKED", "RESERVED"]}
    assert server.requests[2]["last-event-id"] == "9"
    assert totals.lost_stretches == 0


def test_a_source_that_does_not_say_that_it_resumes_may_have_lost_something(
    connection: psycopg.Connection, server: EventServer
) -> None:
    config = stream_config("not_resumed", server.url, "sse")
    describe(config, ["a"])
    running = Listening(config, 1.5)
    until(lambda: len(server.clients) == 1)
    server.event(status("a", "CHARGING"), "7")
    until(lambda: count(connection, "status_change", "not_resumed") == 1)
    server.hang_up()
    until(lambda: len(server.clients) == 1)
    totals = running.result()
    assert len(contacts_of(connection, "not_resumed", "lost")) == totals.lost_stretches == 1
    assert any("ended by the source" in line for line in running.said)


def test_silence_is_a_break_from_the_last_byte_on(connection: psycopg.Connection, server: EventServer) -> None:
    config = stream_config("silent", server.url, "sse", quiet_seconds=1)
    running = Listening(config, 2.5)
    until(lambda: len(server.clients) == 1)
    last = datetime.now(UTC)
    server.send(": last words\n\n")
    until(lambda: len(server.requests) >= 2)
    running.result()
    ((lost_from, lost_until, _), *_) = contacts_of(connection, "silent", "lost")
    assert last <= lost_from < last + timedelta(seconds=0.5)
    assert lost_until - lost_from >= timedelta(seconds=1)
    assert any("silent for 1 s" in line for line in running.said)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": 401}, "HTTP 401: access refused"),
        ({"status": 503}, "HTTP 503 instead of an event stream"),
        ({"content_type": "text/html"}, "Content-Type 'text/html' instead of text/event-stream"),
    ],
)
def test_an_answer_that_is_no_stream_is_a_failed_contact(
    connection: psycopg.Connection, server: EventServer, answer: dict[str, Any], reason: str
) -> None:
    for name, value in answer.items():
        setattr(server, name, value)
    cpo_id = f"refused_{len(reason)}"
    running = Listening(stream_config(cpo_id, server.url, "sse"), 0.4)
    totals = running.result()
    assert totals.refusals >= 2
    assert len(contacts_of(connection, cpo_id, "failed")) == totals.refusals
    refusals = [line for line in running.said if "no connection" in line]
    assert len(refusals) == totals.refusals
    assert all(reason in line for line in refusals)
    assert totals.failure() == f"none of {totals.refusals} connections came about; the last: {totals.last_refusal}"


def test_the_source_is_left_alone_for_as_long_as_it_asks(connection: psycopg.Connection, server: EventServer) -> None:
    config = stream_config("left_alone", server.url, "sse")
    running = Listening(config, 2.5, pace=replace(QUICK, backoff_cap_seconds=1.0))
    until(lambda: len(server.clients) == 1)
    server.send("retry: 3600000\n\n")
    server.event("{}")
    until(lambda: any("connected" in line for line in running.said))
    began = datetime.now(UTC)
    server.hang_up()
    until(lambda: len(server.requests) == 2)
    # An hour is asked for; the bound is a second.
    assert timedelta(seconds=0.9) < datetime.now(UTC) - began < timedelta(seconds=2)
    running.result()


def test_no_secret_of_an_event_stream_is_said(
    module_warehouse: str, server: EventServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    auth = {"kind": "query", "name": "key", "secret": "THEIR_SECRET"}
    config = stream_config("sse_secret", server.url, "sse", auth=auth)
    running = Listening(config, 0.5, secrets={"THEIR_SECRET": "s3cr3t-value"})
    until(lambda: len(server.clients) == 1)
    server.hang_up()
    server.status = 401
    running.result()
    assert server.requests[0]["path"] == "/live?key=s3cr3t-value"
    assert "s3cr3t" not in "\n".join(running.said) + caplog.text


def test_hand_overs_of_an_event_stream_store_every_change_once(
    connection: psycopg.Connection, server: EventServer
) -> None:
    config = stream_config("sse_handed_on", server.url, "sse", resumes=True)
    describe(config, ["a", "b"])
    collectors = [Listening(config, 1.5)]
    until(lambda: len(server.clients) == 1)
    truth: dict[str, list[str | None]] = {"a": [], "b": []}
    number = 0
    while len(collectors) < 4 or any(one.thread.is_alive() for one in collectors[:-1]):
        number += 1
        evse, word = "ab"[number % 2], ("CHARGING", "AVAILABLE")[number // 2 % 2]
        truth[evse].append(word)
        server.event(status(evse, word), str(number))
        collectors[-1].thread.join(0.003)
        if len(collectors) < 4 and datetime.now(UTC) - collectors[-1].started > timedelta(seconds=1):
            collectors.append(Listening(config, 1.5))
    totals = [one.result() for one in collectors]
    assert words_of(connection, "sse_handed_on") == truth
    assert all(one.had_turn and one.messages > 20 for one in totals[:-1])
    assert contacts_of(connection, "sse_handed_on", "lost") == []
