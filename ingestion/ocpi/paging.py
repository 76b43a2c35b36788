"""Reading a paged OCPI list to its proven end.

A list that may lack something is an error, never a shorter list. What proves the end: ``X-Total-Count``
reached; a page that follows a ``Link`` and names no other; a page shorter than the server's own ``X-Limit``;
an empty page. A page shorter than the limit asked for proves nothing, as servers cap pages without saying
so.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import requests

from ingestion.model import FeedError

PAGE_LIMIT = 100
"""How many objects are asked for at once."""
MAX_PAGES = 10_000

MAX_PASSES = 3
"""How often a list that moves while it is read is read again, within one poll."""

Key = tuple[str, ...]
Repeat = tuple[Key, int, int]
"""An object that stands on two pages: its key and its places in the list."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it was answered. ``keys`` identify its objects in order; ``body`` is there as long as it may have to be read again."""

    url: str
    body: bytes | None
    sha256: bytes
    keys: tuple[Key, ...]
    etag: str | None = None
    total: int | None = None
    limit: int | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A complete list. ``repeats``: objects on two pages.

    ``is_merged``: ``pages`` come from several passes, the latest first; of objects with one key the first
    counts.
    """

    pages: tuple[Page, ...]
    repeats: frozenset[Repeat] = frozenset()
    is_merged: bool = False


class MovedListError(FeedError):
    """The list changed while it was read."""


def read_list(
    fetch: Callable[[str], Page],
    endpoint: str,
    shown: Callable[[str], str],
    known_repeats: frozenset[Repeat] = frozenset(),
    *,
    may_be_empty: bool = False,
) -> Listing:
    """Read all objects of ``endpoint``. Raises ``FeedError`` unless all were read.

    ``may_be_empty``: an empty list is an answer, also without ``X-Total-Count: 0``.

    An object met on two pages says that the list moved meanwhile, and that another object may have slipped
    through (a list in order of ``last_updated`` does that all the time). Then the list is read again, until
    a pass is clean, or all passes together have as many objects as announced. When two passes meet the very
    same repeats in the same places, the source lists these objects twice: that is no movement.
    ``known_repeats`` are those of the last poll.
    """
    passes: list[Listing] = []
    total: int | None = None
    moved = MovedListError("never raised")
    for _ in range(MAX_PASSES):
        try:
            listing, pass_total = _read_pages(fetch, endpoint, shown, may_be_empty)
        except MovedListError as error:
            passes, moved = [], error
            continue
        if not listing.repeats or listing.repeats == known_repeats:
            return listing
        known_repeats = listing.repeats
        if pass_total != total:
            passes, total = [], pass_total
        passes.insert(0, listing)
        pages = tuple(page for earlier in passes for page in earlier.pages)
        count = len({key for page in pages for key in page.keys})
        if count == total:
            return Listing(pages, listing.repeats, is_merged=True)
        said = "" if total is None else f", {count} of {total} were found"
        moved = MovedListError(
            f"GET {shown(endpoint)}: the list moved while it was read{said}: {len(listing.repeats)} of its"
            " objects stand on two pages"
        )
    raise moved


def _read_pages(
    fetch: Callable[[str], Page], endpoint: str, shown: Callable[[str], str], may_be_empty: bool
) -> tuple[Listing, int | None]:
    """One pass over all pages, to the proven end; with the announced number of objects."""
    pages: list[Page] = []
    asked: set[str] = set()
    met: set[tuple[Key, ...]] = set()
    count = 0
    total: int | None = None
    by_link: bool | None = None
    url = with_place(endpoint, 0)
    while True:
        where = f"GET {shown(url)}"
        if url in asked:
            raise FeedError(f"{where}: the link to the next page leads back to a page already read")
        if len(pages) >= MAX_PAGES:
            raise FeedError(f"{where}: no end after {MAX_PAGES} pages")
        asked.add(url)
        page = fetch(url)
        if page.total is not None:
            if total is not None and page.total != total:
                raise MovedListError(f"{where}: X-Total-Count went from {total} to {page.total} between pages")
            total = page.total
        if page.keys and page.keys in met:
            raise FeedError(f"{where}: the page does not advance, it repeats an earlier one")
        met.add(page.keys)
        pages.append(page)
        count += len(page.keys)
        if not page.keys:
            break
        following = next_by_link(endpoint, url, page.link)
        if by_link is None:
            # One way for the whole list: the two count differently where a link skips something.
            by_link = following is not None
        if by_link:
            if following is None and page.link and total is None:
                raise FeedError(f"{where}: the link to the next page points elsewhere")
            if following is None:
                break
            url = following
        else:
            is_short = page.limit is not None and len(page.keys) < page.limit
            is_end = is_short if total is None else count >= total
            if is_end:
                break
            url = with_place(endpoint, count)
    if total is None and count == 0 and not may_be_empty:
        raise FeedError(f"GET {shown(endpoint)}: an empty list without X-Total-Count: 0 may be a failure")
    if total is not None and count != total:
        raise FeedError(f"GET {shown(endpoint)}: answered {count} of {total}")
    return Listing(tuple(pages), _repeats(pages)), total


def _repeats(pages: Sequence[Page]) -> frozenset[Repeat]:
    """Objects on more than one page."""
    first: dict[Key, int] = {}
    found: set[Repeat] = set()
    for place, key in enumerate(key for page in pages for key in page.keys):
        if first.setdefault(key, place) != place:
            found.add((key, first[key], place))
    return frozenset(found)


def changed_since(endpoint: str, date_from: datetime) -> str:
    """The endpoint's URL, asking for what was updated at ``date_from`` or later."""
    parts = urlsplit(endpoint)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "date_from"]
    query.append(("date_from", f"{date_from.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def with_place(endpoint: str, offset: int) -> str:
    """The endpoint's URL, asking for the page from ``offset``."""
    parts = urlsplit(endpoint)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
    query = [pair for pair in query if pair[0] not in ("offset", "limit")]
    query += [("offset", str(offset)), ("limit", str(PAGE_LIMIT))]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def next_by_link(endpoint: str, url: str, link: str | None) -> str | None:
    """The next page by its ``Link`` header, if that points at the endpoint itself (scheme, host and path)."""
    if not link:
        return None
    for entry in requests.utils.parse_header_links(link):
        if "next" not in entry.get("rel", "").lower().split() or not entry.get("url"):
            continue
        try:
            target = urljoin(url, entry["url"])
            if _address(target) == _address(endpoint):
                return target.partition("#")[0]
        except ValueError:
            continue
    return None


def _address(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port, parts.path


def object_keys(items: Sequence[object]) -> tuple[Key, ...]:
    """What tells the objects of a page apart: party and id where they can be read, else the whole object.

    One that stands twice on the same page is the source's own doing, no movement: each has its number in the
    key.
    """
    met: Counter[Key] = Counter()
    keys = []
    for item in items:
        key: Key
        if isinstance(item, dict) and isinstance(item.get("id"), str | int):
            names = ("country_code", "party_id", "id")
            key = tuple(str(item.get(name, "")).strip().casefold() for name in names)
        else:
            key = ("", json.dumps(item, sort_keys=True))
        met[key] += 1
        keys.append((*key, str(met[key])))
    return tuple(keys)


def header_count(headers: Mapping[str, str], name: str) -> int | None:
    """A count from a header; ``None`` when it is absent or no count."""
    value = headers.get(name, "").strip()
    return int(value) if re.fullmatch(r"\d{1,12}", value, re.ASCII) else None
