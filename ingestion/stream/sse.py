"""JSON messages as Server-Sent Events."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta

import httpx
from httpx_sse import ServerSentEvent, SSEError, connect_sse

from ingestion.config import SseFeed
from ingestion.http import USER_AGENT, HttpTransport, shown_url
from ingestion.model import FeedError, Frame
from ingestion.rest.credentials import Credentials
from ingestion.stream.pace import MAX_MESSAGE_BYTES, Pace

# The library writes each URL, which may hold a secret, to its log at INFO.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)


class _Watched(httpx.SyncByteStream):
    """A body, each piece of which is a sign of life: comments too, which the parser of events passes over."""

    def __init__(self, inner: httpx.SyncByteStream, notice: Callable[[int], None]) -> None:
        self._inner, self._notice = inner, notice

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._notice(len(piece))
            yield piece

    def close(self) -> None:
        self._inner.close()


class SseStream:
    """One connection at a time. ``transport`` knows what no message may hold; ``now`` gives the time."""

    def __init__(
        self,
        feed: SseFeed,
        credentials: Credentials,
        transport: HttpTransport,
        now: Callable[[], datetime],
        pace: Pace,
    ) -> None:
        self._feed, self._credentials, self._transport = feed, credentials, transport
        self._now, self._pace = now, pace
        self._stack = ExitStack()
        self._events: Iterator[ServerSentEvent] = iter(())
        self._socket: socket.socket | None = None
        self._bytes = 0
        self._alive_at = now()
        self._retry_seconds: float | None = None

    @property
    def alive_at(self) -> datetime:
        """When the last byte came."""
        return self._alive_at

    @property
    def retry_seconds(self) -> float | None:
        """``retry`` of the stream."""
        return self._retry_seconds

    def connect(self, after_event_id: str) -> bool:
        """Open. The source resumes if its file says so and there is an event to go on after."""
        url, headers = self._credentials.apply(self._feed.url)
        # Packed, small events would wait in the packer for more to come.
        headers = {**headers, "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if after_event_id:
            headers["Last-Event-ID"] = after_event_id
        try:
            client = self._stack.enter_context(
                httpx.Client(
                    timeout=httpx.Timeout(self._pace.open_seconds, read=self._feed.quiet_seconds),
                    event_hooks={"response": [self._watch]},
                )
            )
            source = self._stack.enter_context(
                connect_sse(client, "GET", url, headers={name: value.encode() for name, value in headers.items()})
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise FeedError(self._explain(error)) from None
        status = source.response.status_code
        if status in (401, 403):
            self._credentials.renew()
            raise FeedError(f"{self._place}: HTTP {status}: access refused")
        if status != 200:
            raise FeedError(f"{self._place}: HTTP {status} instead of an event stream")
        content_type = source.response.headers.get("Content-Type", "")
        if content_type.partition(";")[0].strip().casefold() != "text/event-stream":
            raise FeedError(f"{self._place}: Content-Type '{content_type[:100]}' instead of text/event-stream")
        self._socket = source.response.extensions["network_stream"].get_extra_info("socket")
        self._events = source.iter_sse()
        self._alive_at = self._now()
        return self._feed.resumes and bool(after_event_id)

    def receive(self) -> Frame | None:
        """The next event; waits for it as long as the connection may be silent."""
        try:
            event = next(self._events, None)
        except (httpx.HTTPError, httpx.StreamError, OSError, ValueError) as error:
            raise FeedError(self._explain(error)) from None
        if event is None:
            raise FeedError(f"{self._place}: ended by the source")
        self._bytes = 0
        if event.retry is not None:
            self._retry_seconds = max(event.retry, 0) / 1000
        if not event.data or (self._feed.events and event.event not in self._feed.events):
            return None
        return Frame(event.data.encode("utf-8", "surrogatepass"), event.id)

    def held_until(self, now: datetime) -> datetime:
        """Nothing can be asked over such a connection: open and not silent for too long, it counts as held."""
        return min(now, self._alive_at + timedelta(seconds=self._feed.quiet_seconds))

    def interrupt(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                # The other side was quicker.
                logging.getLogger(__name__).debug("already closed: %s", error)

    def close(self) -> None:
        self._socket = None
        self._events = iter(())
        self._stack.close()

    def _watch(self, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _Watched(response.stream, self._notice)

    def _notice(self, length: int) -> None:
        self._alive_at = self._now()
        self._bytes += length
        if self._bytes > MAX_MESSAGE_BYTES:
            raise ValueError("too long")

    @property
    def _place(self) -> str:
        return shown_url(self._feed.url)

    def _explain(self, error: Exception) -> str:
        """What went wrong, without the URL and its secrets."""
        if isinstance(error, httpx.ConnectTimeout):
            text = f"no connection within {self._pace.open_seconds:g} s"
        elif isinstance(error, httpx.ReadTimeout):
            text = f"silent for {self._feed.quiet_seconds} s"
        elif isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
            text = "broke off"
        elif isinstance(error, SSEError | httpx.ConnectError):
            text = str(error)
        elif isinstance(error, ValueError):
            text = f"an event is longer than {MAX_MESSAGE_BYTES} bytes"
        else:
            text = type(error).__name__
        return self._transport.redact(f"{self._place}: {text}")
