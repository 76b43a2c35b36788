"""Reading a list that is told in pages, to its end: what every paged feed shares.

A list that may lack something is an error, never a shorter list. Which page follows, and what proves the end, is each kind's own (`Following`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import requests

from ingestion.model import FeedError

MAX_PAGES = 10_000

MAX_PASSES = 3
"""How often a list that moves while it is read is read again, within one poll."""

Key = tuple[str, ...]
Repeat = tuple[Key, int, int]
"""An object that stands on two pages: its key and its places in the list."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it was answered. ``keys`` identify its objects in order; ``body`` is kept to be read again."""

    url: str
    body: bytes
    sha256: bytes
    keys: tuple[Key, ...]
    etag: str | None = None
    modified: str | None = None
    """Its ``Last-Modified``."""
    total: int | None = None
    limit: int | None = None
    link: str | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A complete list. ``repeats``: objects on two pages. ``total``: how many objects were announced.

    ``is_merged``: ``pages`` come from several passes, the latest first; of objects with one key the first counts.
    """

    pages: tuple[Page, ...]
    repeats: frozenset[Repeat] = frozenset()
    is_merged: bool = False
    total: int | None = None


class MovedListError(FeedError):
    """The list changed while it was read."""


Following = Callable[[Page, int, int | None], str | None]
"""The URL after a page, by the objects read so far and the announced total; ``None``: that was the last. Raises ``FeedError``."""


def read_passes(
    fetch: Callable[[str], Page],
    first: str,
    start: Callable[[], Following],
    shown: Callable[[str], str],
    known_repeats: frozenset[Repeat] = frozenset(),
) -> Listing:
    """Read all objects from the page ``first`` on. Raises ``FeedError`` unless all were read.

    An object met on two pages says that the list moved meanwhile, and that another object may have slipped through (a list in order of ``last_updated`` does
    that all the time). Then the list is read again, until a pass is clean, or all passes together have as many objects as announced. When two passes
    meet the very same repeats in the same places, the source lists these objects twice: that is no movement. ``known_repeats`` are those of the last poll.
    """
    passes: list[Listing] = []
    moved = MovedListError("never raised")
    for _ in range(MAX_PASSES):
        try:
            listing = _read_pass(fetch, first, start(), shown)
        except MovedListError as error:
            passes, moved = [], error
            continue
        if not listing.repeats or listing.repeats == known_repeats:
            return listing
        known_repeats = listing.repeats
        if passes and listing.total != passes[0].total:
            passes = []
        passes.insert(0, listing)
        pages = tuple(page for earlier in passes for page in earlier.pages)
        count = len({key for page in pages for key in page.keys})
        if count == listing.total:
            return Listing(pages, listing.repeats, is_merged=True, total=listing.total)
        said = "" if listing.total is None else f", {count} of {listing.total} were found"
        moved = MovedListError(
            f"GET {shown(first)}: the list moved while it was read{said}: {len(listing.repeats)} of its"
            " objects stand on two pages"
        )
    raise moved


def _read_pass(fetch: Callable[[str], Page], first: str, following: Following, shown: Callable[[str], str]) -> Listing:
    """One pass over all pages, to the end."""
    pages: list[Page] = []
    asked: set[str] = set()
    met: set[tuple[Key, ...]] = set()
    count = 0
    total: int | None = None
    url: str | None = first
    while url is not None:
        where = f"GET {shown(url)}"
        if url in asked:
            raise FeedError(f"{where}: the link to the next page leads back to a page already read")
        if len(pages) >= MAX_PAGES:
            raise FeedError(f"{where}: no end after {MAX_PAGES} pages")
        asked.add(url)
        page = fetch(url)
        if page.total is not None:
            if total is not None and page.total != total:
                raise MovedListError(f"{where}: the announced total went from {total} to {page.total} between pages")
            total = page.total
        if page.keys and page.keys in met:
            raise FeedError(f"{where}: the page does not advance, it repeats an earlier one")
        met.add(page.keys)
        pages.append(page)
        count += len(page.keys)
        url = following(page, count, total)
    if total is not None and count != total:
        raise FeedError(f"GET {shown(first)}: answered {count} of {total}")
    return Listing(tuple(pages), _repeats(pages), total=total)


def _repeats(pages: Sequence[Page]) -> frozenset[Repeat]:
    """Objects on more than one page."""
    first: dict[Key, int] = {}
    found: set[Repeat] = set()
    for place, key in enumerate(key for page in pages for key in page.keys):
        if first.setdefault(key, place) != place:
            found.add((key, first[key], place))
    return frozenset(found)


def next_links(header: str | None) -> Iterator[str]:
    """The addresses with ``rel="next"`` of a ``Link`` header."""
    for entry in requests.utils.parse_header_links(header or ""):
        if "next" in entry.get("rel", "").lower().split() and entry.get("url"):
            yield entry["url"]


def numbered(keys: Sequence[Key]) -> tuple[Key, ...]:
    """The keys of a page, those that stand twice on it with their number: that is the source's own doing, no movement."""
    met: dict[Key, int] = {}
    made = []
    for key in keys:
        met[key] = met.get(key, 0) + 1
        made.append((*key, str(met[key])))
    return tuple(made)
