"""A feed of JSON that is pulled in full at each poll: one list, or descriptions and statuses apart."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from ingestion.config import CpoConfig, Request, RestPullFeed, StreamSettings
from ingestion.http import Answer, HttpTransport, shown_url
from ingestion.mapping import (
    NoListError,
    describe_key,
    join,
    records,
    refs_by_id,
    search,
    translate_records,
    translate_status_records,
)
from ingestion.mapping_settings import Mapping
from ingestion.model import FeedError, Poll, Translated, reference
from ingestion.paging import Key, Listing, Page, Repeat, numbered, read_passes
from ingestion.rest.credentials import Credentials
from ingestion.rest.listing import first_url, following, reads
from ingestion.values import parse_json, payload_text
from warehouse.strict_yaml import ConfigError

log = logging.getLogger(__name__)

_MAX_SOURCE_LENGTH = 300


class RestPull:
    """One CPO's own JSON over HTTP: a ``PolledFeed``.

    Where statuses stand apart, they make the poll: the descriptions are asked for once every ``assets.every_seconds``, and when they cannot be had, those of
    the last time serve on (that is logged). Whoever could not store a poll must `forget`.
    """

    def __init__(
        self,
        config: CpoConfig,
        find_secret: Callable[[str], str],
        transport: HttpTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ``ConfigError`` when the secret is not there."""
        feed = config.feed
        if not isinstance(feed, RestPullFeed):
            raise ConfigError(f"{config.cpo_id}: feed.kind is {feed.kind}, not rest_pull")
        self._cpo_id = config.cpo_id
        self._feed = feed
        self._monotonic = monotonic
        self._transport = transport or HttpTransport()
        client = RestClient(self._transport, Credentials(feed.auth, find_secret, self._transport, monotonic))
        mapping, statuses = feed.mapping, feed.status_mapping
        self._assets = PulledList(client, feed.assets, mapping.sites, describe_key(mapping))
        self._statuses = (
            None
            if feed.statuses is None or statuses is None
            else PulledList(client, feed.statuses, statuses.items, (statuses.evse_id,))
        )
        self._described: tuple[bytes, Translated] | None = None
        """The descriptions of the last time, where statuses stand apart."""
        self._described_at = 0.0
        self._unknown: set[str] = set()
        """EVSEs that had a status and no description at the last poll."""
        self._body_sha256: bytes | None = None

    def poll(self) -> Poll:
        """Ask for the whole list (or both). Raises ``FeedError`` for anything short of a complete answer."""
        return self._poll_of_one(self._assets) if self._statuses is None else self._poll_of_two(self._statuses)

    def _poll_of_one(self, assets: PulledList) -> Poll:
        listing = assets.read()
        body_sha256 = listing_sha256(listing)
        if body_sha256 == self._body_sha256:
            return self._unchanged(body_sha256)
        return self._changed(body_sha256, self._translate(listing))

    def _poll_of_two(self, statuses: PulledList) -> Poll:
        described = self._descriptions()
        listing = statuses.read()
        body_sha256 = _both(described, listing)
        if body_sha256 == self._body_sha256:
            return self._unchanged(body_sha256)
        mapping = self._feed.status_mapping
        assert mapping is not None
        told = translate_status_records(statuses.objects(listing), mapping, self._feed, statuses.source)
        ids = {reference(status.evse_id) for status in told.told}
        if self._feed.assets.every_seconds is not None and ids - refs_by_id(described[1].assets).keys() - self._unknown:
            # An EVSE that is new: its description is not waited for.
            described = self._descriptions(is_wanted=True)
            body_sha256 = _both(described, listing)
        self._unknown = ids - refs_by_id(described[1].assets).keys()
        return self._changed(body_sha256, join(described[1], told))

    def _must_list(self, read: Translated) -> Translated:
        if read.evse_count == 0:
            raise FeedError(f"{self._assets.where}: no EVSE is listed; an empty list is never taken for the truth")
        return read

    def _unchanged(self, body_sha256: bytes) -> Poll:
        log.info("%s: unchanged", self._cpo_id)
        return Poll(body_sha256, is_unchanged=True)

    def _changed(self, body_sha256: bytes, read: Translated) -> Poll:
        self._must_list(read)
        self._body_sha256 = body_sha256
        log.info(
            "%s: %d EVSEs listed, %d with a status, %d rejected",
            self._cpo_id,
            read.evse_count,
            len(read.statuses),
            len(read.rejected),
        )
        return Poll(
            body_sha256, assets=read.assets, statuses=read.statuses, rejected=read.rejected, evse_count=read.evse_count
        )

    def forget(self) -> None:
        """Forget the last complete answer, so that the next is told in full."""
        self._body_sha256 = None
        self._described = None
        self._assets.forget()
        if self._statuses is not None:
            self._statuses.forget()

    def close(self) -> None:
        """Give back connections."""
        self._transport.close()

    def _descriptions(self, *, is_wanted: bool = False) -> tuple[bytes, Translated]:
        """Hash and content of the descriptions, asked for when it is time or when ``is_wanted``."""
        held, every = self._described, self._feed.assets.every_seconds
        is_due = every is None or self._monotonic() >= self._described_at + every
        if held is not None and not (is_due or is_wanted):
            return held
        try:
            listing = self._assets.read()
            sha256 = listing_sha256(listing)
            if held is None or held[0] != sha256:
                held = (sha256, self._must_list(self._translate(listing)))
        except FeedError as error:
            if held is None:
                raise
            log.warning("%s: the descriptions of the last time serve on: %s", self._cpo_id, error)
            return held
        self._described = held
        self._described_at = self._monotonic()
        return held

    def _translate(self, listing: Listing) -> Translated:
        return translate_records(self._assets.objects(listing), self._feed.mapping, self._feed, self._assets.source)


class Descriptions:
    """A list that describes EVSEs whose statuses come another way."""

    def __init__(
        self, feed: StreamSettings, request: Request, mapping: Mapping, find_secret: Callable[[str], str]
    ) -> None:
        """Raises ``ConfigError`` when the secret is not there."""
        self._feed, self._mapping = feed, mapping
        self._transport = HttpTransport()
        client = RestClient(self._transport, Credentials(feed.auth, find_secret, self._transport))
        self._list = PulledList(client, request, mapping.sites, describe_key(mapping))

    def read(self) -> Translated:
        """Ask for the whole list. Raises ``FeedError`` for anything short of it, and for one without any EVSE."""
        listing = self._list.read()
        described = translate_records(self._list.objects(listing), self._mapping, self._feed, self._list.source)
        if not described.evse_count:
            raise FeedError(f"{self._list.where}: no EVSE is described")
        return described

    def close(self) -> None:
        """Give back connections."""
        self._transport.close()


class RestClient:
    """Asks with the feed's credentials."""

    def __init__(self, transport: HttpTransport, credentials: Credentials) -> None:
        self._transport = transport
        self._credentials = credentials

    def get(self, url: str, headers: dict[str, str] | None = None) -> Answer:
        """Ask for one URL; the answer's status is 200 or 304. Raises ``FeedError`` for any other."""
        answer = self._ask(url, headers)
        if answer.status == 401 and self._credentials.renew():
            answer = self._ask(url, headers)
        if answer.status not in (200, 304):
            refused = ", the credentials are refused" if answer.status == 401 else ""
            raise FeedError(f"GET {self.shown(url)}: HTTP {answer.status}{refused}")
        return answer

    def shown(self, url: str) -> str:
        """A URL fit for messages."""
        return self._transport.redact(shown_url(url))

    def _ask(self, url: str, headers: dict[str, str] | None) -> Answer:
        asked, own = self._credentials.apply(url)
        return self._transport.get(asked, {"Accept": "application/json", **(headers or {}), **own})


class PulledList:
    """One list of a feed, read whole each time; remembers its pages, so that a page with the same bytes is not parsed again."""

    def __init__(self, client: RestClient, request: Request, expression: str, key: tuple[str, ...]) -> None:
        """``expression`` gives the objects of a page; ``key`` are those that tell objects apart."""
        self._client = client
        self._request = request
        self._expression = expression
        self._key = key
        self.where = f"GET {client.shown(request.url)}"
        self.source = urlsplit(client.shown(request.url)).path[:_MAX_SOURCE_LENGTH] or "/"
        self._pages: dict[str, Page] = {}
        self._repeats: frozenset[Repeat] = frozenset()
        self._parsed: dict[bytes, list[object]] = {}
        """Objects of the pages parsed in this poll, by the page's hash."""

    def read(self) -> Listing:
        """Ask for all pages. Raises ``FeedError`` unless all were read."""
        self._parsed = {}
        paging, url = self._request.paging, self._request.url
        try:
            listing = read_passes(
                self._fetch,
                first_url(url, paging),
                lambda: following(url, paging, self._client.shown),
                self._client.shown,
                self._repeats,
            )
        except FeedError:
            # What was kept of the pages may be the reason: nothing is asked conditionally next time.
            self.forget()
            raise
        self._repeats = listing.repeats
        self._pages = {page.url: page for page in listing.pages}
        return listing

    def objects(self, listing: Listing) -> Iterator[object]:
        """The objects of a list that `read` gave."""
        met: set[Key] = set()
        for page in listing.pages:
            items = self._parsed.get(page.sha256)
            if items is None:
                assert page.body is not None
                items = self._items(page.url, self._document(page.url, page.body))
            for key, item in zip(page.keys, items, strict=True):
                if not (listing.is_merged and key in met):
                    met.add(key)
                    yield item
        self._parsed = {}

    def forget(self) -> None:
        """Ask for every page anew."""
        self._pages = {}
        self._repeats = frozenset()

    def _fetch(self, url: str) -> Page:
        known = self._pages.get(url)
        asked: dict[str, str] = {}
        if known is not None and known.etag:
            asked["If-None-Match"] = known.etag
        if known is not None and known.modified:
            asked["If-Modified-Since"] = known.modified
        answer = self._client.get(url, asked)
        link = answer.headers.get("Link")
        if answer.status == 304:
            if known is None or not asked:
                raise FeedError(f"GET {self._client.shown(url)}: HTTP 304 to a question without a condition")
            return replace(known, link=link or known.link)
        sha256 = hashlib.sha256(answer.body).digest()
        etag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
        if known is not None and known.sha256 == sha256:
            return replace(known, etag=etag, modified=modified, link=link)
        document = self._document(url, answer.body)
        items = self._parsed[sha256] = self._items(url, document)
        told = reads(self._request.paging, document, f"GET {self._client.shown(url)}")
        return Page(
            url, answer.body, sha256, self._keys(items), etag, modified, told.total, link=link, cursor=told.cursor
        )

    def _document(self, url: str, body: bytes) -> object:
        try:
            return parse_json(body)
        except ValueError:
            looks = ", it looks like HTML" if body.lstrip()[:1] == b"<" else ", or cut short"
            raise FeedError(f"GET {self._client.shown(url)}: the body is not JSON{looks} ({len(body)} bytes)") from None

    def _items(self, url: str, document: object) -> list[object]:
        try:
            return records(document, self._expression)
        except NoListError as error:
            raise FeedError(f"GET {self._client.shown(url)}: {error}") from None

    def _keys(self, items: list[object]) -> tuple[Key, ...]:
        return numbered([_key_of(item, self._key) for item in items])


def _key_of(item: object, expressions: tuple[str, ...]) -> Key:
    """What tells an object apart: its ids where all can be read, else the whole object."""
    try:
        found = [search(expression, item) for expression in expressions]
    except ValueError:
        found = []
    if found and all(isinstance(one, str | int | float) for one in found):
        return tuple(str(one).strip().casefold() for one in found)
    return ("", payload_text(item))


def _both(described: tuple[bytes, Translated], statuses: Listing) -> bytes:
    return hashlib.sha256(described[0] + listing_sha256(statuses)).digest()


def listing_sha256(listing: Listing) -> bytes:
    """Hash of a whole list."""
    return hashlib.sha256(b"".join(page.sha256 for page in listing.pages)).digest()
