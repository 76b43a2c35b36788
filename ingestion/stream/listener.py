"""A thread that holds the connection, and what it has heard and nobody has written yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingestion.model import FeedError, Frame, StreamFeed
from ingestion.stream.pace import BUFFER_BYTES, Pace

TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Connected:
    """From ``at`` on all messages are received; when the source ``resumed``, also those sent since the last one before."""

    at: datetime
    resumed: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """A message. No two have the same time, and none an earlier one than those before."""

    at: datetime
    frame: Frame


@dataclass(frozen=True, slots=True)
class Broke:
    """The connection broke at ``at``; its last sign of life was at ``alive_at``."""

    at: datetime
    alive_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """No connection came about."""

    asked_at: datetime
    at: datetime
    reason: str


Event = Connected | Heard | Broke | Refused


class Buffer:
    """Events between two threads, stamped as they come in; bounded in bytes.

    While its content is only kept for the case that another collector dies, a full buffer begins anew: what it held has been written by the other one.
    Once it is written from here, a full buffer makes the reader wait.
    """

    def __init__(self, now: Callable[[], datetime], most_bytes: int = BUFFER_BYTES) -> None:
        self._now = now
        self._most_bytes = most_bytes
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._last: datetime | None = None
        self._changed = threading.Condition()
        self._is_spare = True
        self._is_closed = False

    def put(self, make: Callable[[datetime], Event]) -> None:
        """Add an event, made from its time: of the clock, but later than that of every one before."""
        with self._changed:
            while self._bytes > self._most_bytes and not self._is_spare and not self._is_closed:
                self._changed.wait()
            at = self._now()
            if self._last is not None and at <= self._last:
                at = self._last + TICK
            self._last = at
            event = make(at)
            if self._bytes > self._most_bytes and self._is_spare:
                self._events.clear()
                self._bytes = 0
                self._events.append(Connected(at, resumed=False))
            self._events.append(event)
            self._bytes += len(event.frame.data) if isinstance(event, Heard) else 0
            self._changed.notify_all()

    def take(self, seconds: float, most: int, *, until_full: bool = True) -> list[Event]:
        """The events that wait, at most ``most`` of them; waits up to ``seconds`` for so many."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._is_spare = False
            while (rest := deadline - time.monotonic()) > 0 and len(self._events) < (most if until_full else 1):
                # Nobody waits for more while the reader waits for room.
                if self._bytes > self._most_bytes:
                    break
                self._changed.wait(rest)
            taken = [self._events.popleft() for _ in range(min(most, len(self._events)))]
            self._bytes -= sum(len(event.frame.data) for event in taken if isinstance(event, Heard))
            self._changed.notify_all()
        return taken

    def close(self) -> None:
        """Let a reader that waits for room go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class Listener:
    """Connects, receives and connects again until it is stopped."""

    def __init__(self, feed: StreamFeed, now: Callable[[], datetime], pace: Pace, after_event_id: str) -> None:
        self.buffer = Buffer(now)
        self.crash: BaseException | None = None
        self.is_connected = False
        self._feed, self._now, self._pace = feed, now, pace
        self._event_id = after_event_id
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Receive no more; what was received stays in the buffer, the connection open until the feed is closed."""
        self._stopping.set()
        self.buffer.close()
        self._feed.interrupt()
        self._thread.join(self._pace.join_seconds)

    def wait(self, seconds: float) -> None:
        """Return after ``seconds``, or when the thread has ended."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            tries = 0
            while not self._stopping.is_set():
                held = self._hold_one_connection()
                if self._stopping.is_set():
                    return
                self._feed.close()
                tries = 0 if held >= self._pace.held_seconds else tries + 1
                self._stopping.wait(self._pace.backoff(max(tries - 1, 0), self._feed.retry_seconds))
        except BaseException as error:
            # For the thread that writes: it raises it.
            self.crash = error
            raise

    def _hold_one_connection(self) -> float:
        """Connect and receive until the connection breaks; seconds for which it held."""
        asked_at = self._now()
        try:
            resumed = self._feed.connect(self._event_id)
        except FeedError as error:
            reason = str(error)
            self.buffer.put(lambda at: Refused(asked_at, at, reason))
            return 0.0
        began = time.monotonic()
        self.is_connected = True
        self.buffer.put(lambda at: Connected(at, resumed))
        try:
            while not self._stopping.is_set():
                frame = self._feed.receive()
                if frame is not None:
                    self._hear(frame)
        except FeedError as error:
            # When it is interrupted on purpose, the connection has not broken.
            if not self._stopping.is_set():
                reason = str(error)
                self.is_connected = False
                self.buffer.put(lambda at: Broke(at, self._feed.alive_at, reason))
        return time.monotonic() - began

    def _hear(self, frame: Frame) -> None:
        self._event_id = frame.event_id or self._event_id
        self.buffer.put(lambda at: Heard(at, frame))
