"""A feed of OCPI Locations that is pulled in full at each poll."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from ingestion.config import CpoConfig, OcpiPullFeed
from ingestion.http import HttpTransport
from ingestion.model import FeedError, Poll
from ingestion.ocpi.client import EndpointLostError, OcpiClient, clean_token, token_spellings
from ingestion.ocpi.paging import header_count, object_keys, read_list
from ingestion.ocpi.translate import translate_locations
from ingestion.paging import Key, Listing, Page, Repeat
from warehouse.strict_yaml import ConfigError

log = logging.getLogger(__name__)

_MAX_SOURCE_LENGTH = 300


class OcpiPull:
    """One CPO's Locations over OCPI: a ``PolledFeed``.

    It remembers the endpoint, the spelling of the token that works, and the last complete answer, against
    which the next is called unchanged. Whoever could not store a poll must go on with a new instance (or
    `forget` this one's memory): else the next poll would be unchanged against something never stored.
    """

    def __init__(self, config: CpoConfig, token: str, transport: HttpTransport | None = None) -> None:
        feed = config.feed
        if not isinstance(feed, OcpiPullFeed):
            raise ConfigError(f"{config.cpo_id}: feed.kind is {feed.kind}, not ocpi_pull")
        token = clean_token(token)
        if not token:
            raise ConfigError(f"{config.cpo_id}: the secret {feed.token_secret} is empty")
        self._cpo_id = config.cpo_id
        self._feed = feed
        self._transport = transport or HttpTransport()
        self._transport.add_secrets((token, *token_spellings(token)))
        self._client = OcpiClient(self._transport, feed.versions_url, feed.version, token)
        self._endpoint: str | None = None
        self._unconfirmable: set[str] = set()
        """Pages whose 304 did not tell where the list ends: no longer asked conditionally."""
        self._parsed: dict[bytes, list[object]] = {}
        """Objects of the pages parsed in this poll, by the page's hash."""
        self._pages: dict[str, Page] = {}
        self._repeats: frozenset[Repeat] = frozenset()
        self._body_sha256: bytes | None = None

    def poll(self) -> Poll:
        """Ask for the whole list. Raises ``FeedError`` for anything short of a complete answer."""
        try:
            return self._poll_of(self._read_again_if_lost())
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

    def _read_again_if_lost(self) -> Listing:
        was_discovered = self._endpoint is not None
        try:
            return self._read()
        except EndpointLostError:
            self._endpoint = None
            if not was_discovered:
                raise
        return self._read()

    def _read(self) -> Listing:
        if self._endpoint is None:
            self._endpoint = self._client.locations_url()
        return read_list(self._fetch, self._endpoint, self._client.shown, self._repeats)

    def _poll_of(self, listing: Listing) -> Poll:
        body_sha256 = hashlib.sha256(b"".join(page.sha256 for page in listing.pages)).digest()
        is_unchanged = body_sha256 == self._body_sha256
        poll = Poll(body_sha256, is_unchanged=True)
        if not is_unchanged:
            source = urlsplit(self._client.shown(self._endpoint or "")).path[:_MAX_SOURCE_LENGTH]
            translated = translate_locations(self._objects(listing), self._feed, source)
            poll = Poll(
                body_sha256,
                assets=translated.assets,
                statuses=translated.statuses,
                rejected=translated.rejected,
            )
        self._body_sha256 = body_sha256
        self._repeats = listing.repeats
        self._pages = {page.url: page for page in listing.pages}
        log.info(
            "%s: %d pages, %s, %d EVSEs, %d rejected",
            self._cpo_id,
            len(listing.pages),
            "unchanged" if is_unchanged else "changed",
            len(poll.statuses),
            len(poll.rejected),
        )
        return poll

    def _objects(self, listing: Listing) -> Iterator[object]:
        met: set[Key] = set()
        for page in listing.pages:
            items = self._parsed.get(page.sha256)
            if items is None:
                items = self._items(page.url, page.body)
            for key, item in zip(page.keys, items, strict=True):
                if listing.is_merged and key in met:
                    continue
                met.add(key)
                yield item

    def _fetch(self, url: str) -> Page:
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
        if known is not None and known.sha256 == sha256:
            keys = known.keys
        else:
            items = self._items(url, answer.body)
            self._parsed[sha256] = items
            keys = object_keys(items)
        return Page(
            url=url,
            body=answer.body,
            sha256=sha256,
            keys=keys,
            etag=answer.headers.get("ETag"),
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
