"""A feed of OCPI Locations that is pulled: in full, or what changed since the last complete contact."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic
from urllib.parse import urlsplit

from ingestion.config import CpoConfig, OcpiFeed
from ingestion.http import HttpTransport
from ingestion.model import FeedError, Poll
from ingestion.ocpi.client import EndpointLostError, OcpiClient, clean_token
from ingestion.ocpi.paging import changed_since, header_count, object_keys, read_list
from ingestion.ocpi.translate import translate_locations
from ingestion.paging import Key, Listing, Page, Repeat
from warehouse.strict_yaml import ConfigError

log = logging.getLogger(__name__)

DELTA_OVERLAP = timedelta(seconds=120)
"""How far before the last complete contact a delta reaches back: the sender stamps ``last_updated`` by its own clock, and may publish a little later."""

_MAX_SOURCE_LENGTH = 300


class OcpiPull:
    """One CPO's Locations over OCPI: a ``DeltaFeed``. ``versions_url`` and ``token`` come from its file, or from its registration.

    It remembers the endpoint, the spelling of the token that works, and the last complete answer, against
    which the next is called unchanged. Whoever could not store a poll must go on with a new instance (or
    `forget` this one's memory): else the next poll would be unchanged against something never stored.
    """

    def __init__(
        self, config: CpoConfig, versions_url: str, token: str, transport: HttpTransport | None = None
    ) -> None:
        feed = config.feed
        if not isinstance(feed, OcpiFeed):
            raise ConfigError(f"{config.cpo_id}: feed.kind is {feed.kind}, not ocpi_pull or ocpi_push")
        token = clean_token(token)
        if not token:
            raise ConfigError(f"{config.cpo_id}: the secret {feed.token_secret} is empty")
        self._cpo_id = config.cpo_id
        self._feed = feed
        self._transport = transport or HttpTransport()
        self._client = OcpiClient(self._transport, versions_url, feed.version, token)
        self._endpoint: str | None = None
        self._unconfirmable: set[str] = set()
        """Pages whose 304 did not tell where the list ends: no longer asked conditionally."""
        self._parsed: dict[bytes, list[object]] = {}
        """Objects of the pages parsed in this poll, by the page's hash."""
        self._pages: dict[str, Page] = {}
        self._repeats: frozenset[Repeat] = frozenset()
        self._body_sha256: bytes | None = None
        self._has_delta_failed = False
        self._deadline = 0.0

    def poll(self) -> Poll:
        """Ask for the whole list. Raises ``FeedError`` for anything short of a complete answer."""
        poll = self._ask(None)
        self._has_delta_failed = False
        return poll

    def poll_since(self, since: datetime) -> Poll:
        """Ask for the Locations updated since ``since``, or a little before. Raises ``FeedError`` for anything short of a complete answer.

        An EVSE that changed without its Location's ``last_updated`` is not among them; the next full list tells it, and is read whole.
        After a delta that failed the whole list is asked for.
        """
        if self._has_delta_failed:
            return self.poll()
        self.forget()
        self._has_delta_failed = True
        poll = self._ask(since - DELTA_OVERLAP)
        self._has_delta_failed = False
        return poll

    def _ask(self, date_from: datetime | None) -> Poll:
        self._deadline = monotonic() + self._feed.liveness_seconds
        try:
            listing = self._read_again_if_lost(date_from)
            return self._poll_of(listing) if date_from is None else self._translated(listing, None)
        except FeedError:
            # What was kept of the pages may be the reason: nothing is asked conditionally next time.
            self._pages = {}
            raise
        finally:
            self._parsed = {}

    def forget(self) -> None:
        """Forget the last complete answer, so that the next is told in full."""
        self._pages = {}
        self._repeats = frozenset()
        self._body_sha256 = None

    def close(self) -> None:
        """Give back connections."""
        self._transport.close()

    def _read_again_if_lost(self, date_from: datetime | None) -> Listing:
        was_discovered = self._endpoint is not None
        try:
            return self._read(date_from)
        except EndpointLostError:
            self._endpoint = None
            if not was_discovered:
                raise
        return self._read(date_from)

    def _read(self, date_from: datetime | None) -> Listing:
        if self._endpoint is None:
            self._endpoint = self._client.locations_url()
        if date_from is None:
            return read_list(self._fetch, self._endpoint, self._client.shown, self._repeats)
        return read_list(self._fetch, changed_since(self._endpoint, date_from), self._client.shown, may_be_empty=True)

    def _poll_of(self, listing: Listing) -> Poll:
        body_sha256 = hashlib.sha256(b"".join(page.sha256 for page in listing.pages)).digest()
        is_unchanged = body_sha256 == self._body_sha256
        poll = Poll(body_sha256, is_unchanged=True)
        if is_unchanged:
            log.info("%s: %d pages, unchanged", self._cpo_id, len(listing.pages))
        else:
            poll = self._translated(listing, body_sha256)
        self._body_sha256 = body_sha256
        self._repeats = listing.repeats
        # A page is read again only where a 304 stands for it, and that needs an ETag.
        self._pages = {page.url: page if page.etag else replace(page, body=None) for page in listing.pages}
        return poll

    def _translated(self, listing: Listing, body_sha256: bytes | None) -> Poll:
        """What a list tells; without ``body_sha256`` it is a delta."""
        source = urlsplit(self._client.shown(self._endpoint or "")).path[:_MAX_SOURCE_LENGTH]
        told = translate_locations(self._objects(listing), self._feed, source)
        log.info(
            "%s: %d pages, %s, %d EVSEs, %d rejected, %d Locations of other parties",
            self._cpo_id,
            len(listing.pages),
            "delta" if body_sha256 is None else "changed",
            len(told.statuses),
            len(told.rejected),
            told.other_count,
        )
        return Poll(
            body_sha256,
            assets=told.assets,
            statuses=told.statuses,
            rejected=told.rejected,
            is_full=body_sha256 is not None,
            documents=told.documents,
        )

    def _objects(self, listing: Listing) -> Iterator[object]:
        met: set[Key] = set()
        for page in listing.pages:
            if met.issuperset(page.keys):
                # Told by a later pass, or empty.
                continue
            items = self._parsed.pop(page.sha256, None)
            if items is None:
                assert page.body is not None
                items = self._items(page.url, page.body)
            for key, item in zip(page.keys, items, strict=True):
                if listing.is_merged:
                    if key in met:
                        continue
                    met.add(key)
                yield item

    def _fetch(self, url: str) -> Page:
        if monotonic() > self._deadline:
            # By now its first page proves nothing any more.
            seconds = self._feed.liveness_seconds
            raise FeedError(
                f"GET {self._client.shown(url)}: the list did not arrive within liveness_seconds, {seconds} s"
            )
        known = self._pages.get(url)
        etag = known.etag if known and url not in self._unconfirmable else None
        answer = self._client.get(url, {"If-None-Match": etag} if etag else None)
        if answer.status == 304:
            if known is None or etag is None:
                raise FeedError(f"GET {self._client.shown(url)}: HTTP 304 to a question without a condition")
            total = header_count(answer.headers, "X-Total-Count")
            link = answer.headers.get("Link", known.link)
            if total is None and not link:
                # The page's bytes are the same, but nothing says that it still is the last one.
                self._unconfirmable.add(url)
                return self._fetch(url)
            return replace(known, total=total, link=link)
        sha256 = page_sha256(answer.body)
        body: bytes | None = answer.body
        etag = answer.headers.get("ETag")
        if known is not None and known.sha256 == sha256:
            keys = known.keys
        else:
            items = self._items(url, answer.body)
            self._parsed[sha256] = items
            keys = object_keys(items)
            if not etag:
                body = None
        return Page(
            url=url,
            body=body,
            sha256=sha256,
            keys=keys,
            etag=etag,
            total=header_count(answer.headers, "X-Total-Count"),
            limit=header_count(answer.headers, "X-Limit"),
            link=answer.headers.get("Link"),
        )

    def _items(self, url: str, body: bytes) -> list[object]:
        data = self._client.data(url, body)
        if not isinstance(data, list):
            raise FeedError(f"GET {self._client.shown(url)}: data is not a list")
        return data


# Other members of the envelope that may stand between its brace and its timestamp.
_SCALARS = rb'"status_(?:code|message)"\s*:\s*(?:\d+|null|"(?:[^"\\]|\\.)*")'
_TIMESTAMP = rb'"timestamp"\s*:\s*"([^"\\]*)"'
_TIMESTAMP_FIRST = re.compile(rb"\s*\{\s*(?:" + _SCALARS + rb"\s*,\s*)*" + _TIMESTAMP)
_TIMESTAMP_LAST = re.compile(rb"(?<!\\)" + _TIMESTAMP + rb"\s*(?:,\s*" + _SCALARS + rb"\s*)*\}\s*\Z")
_TAIL_BYTES = 2048


def page_sha256(body: bytes) -> bytes:
    """SHA-256 of a page without its envelope's ``timestamp``, which tells the time of the answer.

    Only a timestamp that is surely the envelope's own is left out: one before or after everything but
    ``status_code`` and ``status_message``. Any other is hashed like the rest, and the page counts as changed.
    """
    match = _TIMESTAMP_FIRST.match(body) or _TIMESTAMP_LAST.search(body, max(0, len(body) - _TAIL_BYTES))
    if match is None:
        return hashlib.sha256(body).digest()
    view = memoryview(body)
    digest = hashlib.sha256(view[: match.start(1)])
    digest.update(view[match.end(1) :])
    return digest.digest()
