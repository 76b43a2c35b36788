"""JSON messages over a WebSocket."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta

from websockets.exceptions import (
    ConnectionClosed,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)
from websockets.sync.client import ClientConnection, reconnect
from websockets.typing import Subprotocol

from ingestion.config import WebSocketFeed
from ingestion.http import USER_AGENT, HttpTransport, shown_url
from ingestion.model import FeedError, Frame
from ingestion.rest.credentials import Credentials
from ingestion.stream.pace import MAX_MESSAGE_BYTES, Pace

REFUSED_CODES = frozenset({1008, 4401, 4403})
"""Close codes that say that we may not listen: policy, and what WebSocket servers make of HTTP 401 and 403."""

# The library writes headers, with the secret, to its log when that is set to DEBUG.
_QUIET = logging.getLogger("ingestion.stream.websockets")
_QUIET.setLevel(logging.WARNING)


class _Opening(reconnect):
    """One connection to the very place that was named: our secret goes nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class WebSocketStream:
    """One connection at a time. ``transport`` knows what no message may hold; ``now`` gives the time."""

    def __init__(
        self,
        feed: WebSocketFeed,
        credentials: Credentials,
        transport: HttpTransport,
        now: Callable[[], datetime],
        pace: Pace,
    ) -> None:
        self._feed, self._credentials, self._transport = feed, credentials, transport
        self._now, self._pace = now, pace
        self._quiet = timedelta(seconds=feed.quiet_seconds)
        self._ping_after = min(timedelta(seconds=pace.ping_seconds), self._quiet / 3)
        self._stack = ExitStack()
        self._socket: ClientConnection | None = None
        self._ping: tuple[datetime, threading.Event] | None = None
        self._alive_at = now()

    @property
    def alive_at(self) -> datetime:
        """When the last message came, or the last ping was sent that was answered."""
        return self._alive_at

    @property
    def retry_seconds(self) -> float | None:
        """Nobody says over a WebSocket when to come again."""
        return None

    def connect(self, after_event_id: str) -> bool:
        """Open, and send what is to be sent first. A WebSocket resumes nothing."""
        url, headers = self._credentials.apply(self._feed.url)
        opening = _Opening(
            url,
            additional_headers=headers,
            user_agent_header=USER_AGENT,
            subprotocols=[Subprotocol(self._feed.subprotocol)] if self._feed.subprotocol else None,
            open_timeout=self._pace.open_seconds,
            close_timeout=self._pace.close_seconds,
            # Pings are sent below: any message is as good a sign of life as a pong.
            ping_interval=None,
            max_size=MAX_MESSAGE_BYTES,
            logger=_QUIET,
        )
        try:
            socket = self._stack.enter_context(opening)
            for message in self._feed.subscribe:
                socket.send(message if isinstance(message, str) else json.dumps(message))
        except (WebSocketException, OSError, EOFError, ValueError) as error:
            raise FeedError(self._explain(error)) from None
        self._socket, self._ping, self._alive_at = socket, None, self._now()
        return False

    def receive(self) -> Frame | None:
        assert self._socket is not None
        try:
            # As bytes: text that is not UTF-8 costs its message, not the connection.
            data = self._socket.recv(self._pace.slice_seconds, decode=False)
        except TimeoutError:
            self._look_for_a_pong()
            return None
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                self._alive_at = self._now()
            raise FeedError(self._explain(closed)) from None
        self._alive_at = self._now()
        return Frame(data)

    def held_until(self, now: datetime) -> datetime:
        return self._alive_at

    def interrupt(self) -> None:
        """`receive` never takes long."""

    def close(self) -> None:
        self._socket = None
        self._stack.close()

    def _look_for_a_pong(self) -> None:
        assert self._socket is not None
        if self._ping is not None and self._ping[1].is_set():
            # What the other side sent before its pong has arrived before it.
            self._alive_at = max(self._alive_at, self._ping[0])
            self._ping = None
        now = self._now()
        if now - self._alive_at >= self._quiet:
            raise FeedError(f"{self._place}: neither message nor pong for {self._feed.quiet_seconds} s")
        if self._ping is None and now - self._alive_at >= self._ping_after:
            try:
                self._ping = (now, self._socket.ping())
            except ConnectionClosed as closed:
                raise FeedError(self._explain(closed)) from None

    @property
    def _place(self) -> str:
        return shown_url(self._feed.url)

    def _explain(self, error: Exception) -> str:
        """What went wrong, without the URL and its secrets."""
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            if status in (401, 403):
                self._credentials.renew()
            text = f"HTTP {status} instead of a WebSocket" + (": access refused" if status in (401, 403) else "")
        elif isinstance(error, ConnectionClosed) and error.rcvd is not None:
            if error.rcvd.code in REFUSED_CODES:
                self._credentials.renew()
            refused = "access refused: " if error.rcvd.code in REFUSED_CODES else ""
            text = f"{refused}closed by the source with {error.rcvd.code} {error.rcvd.reason}".rstrip()
        elif isinstance(error, ConnectionClosed) and error.sent is not None:
            text = f"given up with {error.sent.code} {error.sent.reason}".rstrip()
        elif isinstance(error, ConnectionClosed):
            text = "broke off"
        elif isinstance(error, TimeoutError):
            text = f"not open within {self._pace.open_seconds:g} s"
        elif isinstance(error, InvalidURI | InvalidProxy | ProxyError | ValueError):
            text = type(error).__name__
        else:
            text = f"{type(error).__name__}: {error}"
        return self._transport.redact(f"{self._place}: {text}")
