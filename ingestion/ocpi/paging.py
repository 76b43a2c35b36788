"""How an OCPI list is told in pages, and what proves its end.

``X-Total-Count`` reached; a page that follows a ``Link`` and names no other; a page shorter than the server's own ``X-Limit``; an empty page. A page shorter
than the limit asked for proves nothing, as servers cap pages without saying so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from ingestion.model import FeedError
from ingestion.paging import Following, Key, Listing, Page, Repeat, next_links, numbered, read_passes

PAGE_LIMIT = 100
"""How many objects are asked for at once."""


def read_list(
    fetch: Callable[[str], Page],
    endpoint: str,
    shown: Callable[[str], str],
    known_repeats: frozenset[Repeat] = frozenset(),
) -> Listing:
    """Read all objects of ``endpoint``. Raises ``FeedError`` unless all were read. ``known_repeats`` are those of the last poll."""
    listing = read_passes(fetch, with_place(endpoint, 0), lambda: _following(endpoint, shown), shown, known_repeats)
    if listing.total is None and not any(page.keys for page in listing.pages):
        raise FeedError(f"GET {shown(endpoint)}: an empty list without X-Total-Count: 0 may be a failure")
    return listing


def _following(endpoint: str, shown: Callable[[str], str]) -> Following:
    """The way through one pass over the pages."""
    by_link: bool | None = None

    def following(page: Page, count: int, total: int | None) -> str | None:
        nonlocal by_link
        if not page.keys:
            return None
        linked = next_by_link(endpoint, page.url, page.link)
        if by_link is None:
            # One way for the whole list: the two count differently where a link skips something.
            by_link = linked is not None
        if by_link:
            if linked is None and page.link and total is None:
                raise FeedError(f"GET {shown(page.url)}: the link to the next page points elsewhere")
            return linked
        is_short = page.limit is not None and len(page.keys) < page.limit
        is_end = is_short if total is None else count >= total
        return None if is_end else with_place(endpoint, count)

    return following


def with_place(endpoint: str, offset: int) -> str:
    """The endpoint's URL, asking for the page from ``offset``."""
    parts = urlsplit(endpoint)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
    query = [pair for pair in query if pair[0] not in ("offset", "limit")]
    query += [("offset", str(offset)), ("limit", str(PAGE_LIMIT))]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def next_by_link(endpoint: str, url: str, link: str | None) -> str | None:
    """The next page by its ``Link`` header, if that points at the endpoint itself (scheme, host and path)."""
    for address in next_links(link):
        try:
            target = urljoin(url, address)
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
    """What tells the objects of a page apart: party and id where they can be read, else the whole object."""
    keys = []
    for item in items:
        key: Key = ("", json.dumps(item, sort_keys=True))
        if isinstance(item, dict) and isinstance(item.get("id"), str | int):
            names = ("country_code", "party_id", "id")
            key = tuple(str(item.get(name, "")).strip().casefold() for name in names)
        keys.append(key)
    return numbered(keys)


def header_count(headers: Mapping[str, str], name: str) -> int | None:
    """A count from a header; ``None`` when it is absent or no count."""
    value = headers.get(name, "").strip()
    return int(value) if re.fullmatch(r"\d{1,12}", value, re.ASCII) else None
