"""Servers that tell statuses over real connections, and what a test needs to listen to them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import psycopg
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from ingestion.config import CpoConfig
from ingestion.feeds import Stream, open_stream
from ingestion.model import Poll
from ingestion.stream.pace import Pace
from ingestion.streams import StreamTotals, collect_stream
from ingestion.writer import Writer
from tests.feeds import asset
from warehouse.connection import Role, connect

QUICK = Pace(
    open_seconds=2,
    close_seconds=0.5,
    slice_seconds=0.02,
    ping_seconds=0.2,
    backoff_seconds=0.01,
    backoff_cap_seconds=0.05,
    held_seconds=30,
    commit_seconds=0.05,
    turn_seconds=0.02,
    handover_seconds=0.3,
    stretch_seconds=0.2,
    snapshot_seconds=0.5,
    snapshot_again_seconds=0.1,
    report_seconds=0.2,
    join_seconds=5,
)
"""Everything soon."""

STATUSES = {"evse_id": "id", "status": "status", "updated_at": "at"}


def stream_config(cpo_id: str, url: str, kind: str = "websocket", **feed: Any) -> CpoConfig:
    settings = {
        "kind": kind,
        "url": url,
        "status_profile": "ocpi_2_2_1",
        "liveness_seconds": 300,
        "messages": STATUSES,
        "quiet_seconds": 5,
        **feed,
    }
    return CpoConfig.model_validate({"cpo_id": cpo_id, "name": cpo_id.title(), "feed": settings})


def describe(config: CpoConfig, evse_ids: list[str]) -> None:
    """Store descriptions, as a hand-over of files would."""
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, config)
        with writer.batch() as batch:
            batch.add_assets([asset(one) for one in evse_ids], datetime(2026, 1, 1, tzinfo=UTC), is_whole_evse=True)


def status(evse_id: str, word: str, at: datetime | str | None = None) -> str:
    message = {"id": evse_id, "status": word}
    if at is not None:
        message["at"] = at.isoformat() if isinstance(at, datetime) else at
    return json.dumps(message)


class Hub:
    """A WebSocket server that tells the same to all who listen, in one order.

    ``greet`` is called with each new connection before it is told anything; ``answer`` may refuse the handshake; ``heard`` is what clients sent.
    """

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.requests: list[Request] = []
        self.heard: list[str | bytes] = []
        self.greet: Callable[[ServerConnection], None] = lambda connection: None
        self.answer: Callable[[ServerConnection, Request], Response | None] = lambda connection, request: None
        self.accepted = 0
        self.lock = threading.Lock()
        self.url = ""

    def tell(self, *messages: str | bytes) -> None:
        with self.lock:
            for connection in list(self.connections):
                try:
                    for message in messages:
                        connection.send(message)
                except ConnectionClosed:
                    self.connections.remove(connection)

    def close_all(self, code: int = 1001, reason: str = "") -> None:
        with self.lock:
            leaving, self.connections = self.connections, []
        for connection in leaving:
            connection.close(code, reason)

    def cut_all(self) -> None:
        """Hang up without a word."""
        with self.lock:
            leaving, self.connections = self.connections, []
        for connection in leaving:
            connection.close_socket()

    def _handle(self, connection: ServerConnection) -> None:
        with self.lock:
            self.accepted += 1
            self.greet(connection)
            self.connections.append(connection)
        try:
            for message in connection:
                self.heard.append(message)
        except ConnectionClosed:
            pass
        with self.lock:
            if connection in self.connections:
                self.connections.remove(connection)


@contextmanager
def hub(**options: Any) -> Iterator[Hub]:
    running = Hub()

    def process(connection: ServerConnection, request: Request) -> Response | None:
        running.requests.append(request)
        return running.answer(connection, request)

    options = {"ping_interval": None, "open_timeout": 2, "close_timeout": 0.5, **options}
    with serve(running._handle, "127.0.0.1", 0, process_request=process, **options) as server:
        running.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/live"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield running
    thread.join()


class Listening:
    """A collector in a thread."""

    def __init__(
        self,
        config: CpoConfig,
        seconds: float,
        *,
        pace: Pace = QUICK,
        secrets: Mapping[str, str] | None = None,
        snapshot: Callable[[], Poll] | None = None,
    ) -> None:
        self.began = time.monotonic()
        self.started = datetime.now(UTC)
        self.said: list[str] = []
        self.totals: StreamTotals | None = None
        self.error: BaseException | None = None

        def open_feed(config: CpoConfig, now: Callable[[], datetime], pace: Pace) -> Stream:
            stream = open_stream(config, now, pace, (secrets or {}).__getitem__)
            return stream if snapshot is None else replace(stream, snapshot=snapshot)

        def run() -> None:
            try:
                self.totals = collect_stream(
                    config, seconds=seconds, report=self.said.append, pace=pace, open_feed=open_feed
                )
            except BaseException as error:
                self.error = error
                raise

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def result(self) -> StreamTotals:
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert self.error is None, self.error
        assert self.totals is not None
        return self.totals


def contacts_of(connection: psycopg.Connection, cpo_id: str, *outcomes: str) -> list[tuple[datetime, datetime, str]]:
    return connection.execute(
        "select contact_from, contact_until, outcome from raw.feed_contact inner join raw.feed using (feed_key)"
        " where cpo_id = %s and outcome = any(%s) order by contact_from, contact_until",
        (cpo_id, list(outcomes)),
    ).fetchall()


def sequences(rows: list[tuple[str, datetime, str | None]]) -> dict[str, list[str | None]]:
    """Words of each EVSE, in order."""
    found: dict[str, list[str | None]] = {}
    for evse_id, _, word in rows:
        found.setdefault(evse_id, []).append(word)
    return found


class FreezingProxy:
    """Passes bytes on to a server until it is frozen: then connections stay open and nothing comes through."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.port is not None
        self._target = ("127.0.0.1", parts.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self.url = f"{parts.scheme}://127.0.0.1:{self._listening.getsockname()[1]}{parts.path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        self._open.clear()

    def thaw(self) -> None:
        """New connections come through; those that were frozen are lost."""
        for one in self._sockets:
            one.close()
        self._sockets = []
        self._open.set()

    def close(self) -> None:
        self._listening.close()
        self.thaw()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                if not self._open.is_set():
                    return
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            return
