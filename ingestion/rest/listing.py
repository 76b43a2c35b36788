"""The way through the pages of a list, by each kind of paging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from ingestion.mapping import search
from ingestion.model import FeedError
from ingestion.paging import Following, Page, next_links
from ingestion.rest.credentials import with_query
from ingestion.rest.paging import CursorPaging, LinkPaging, OffsetPaging, PagePaging, Paging


@dataclass(frozen=True, slots=True)
class Told:
    """What a page says of the list."""

    total: int | None = None
    cursor: str | None = None


def reads(paging: Paging, document: object, where: str) -> Told:
    """What the page says. Raises ``FeedError`` when an expression gives nothing of use."""
    expression = paging.total if isinstance(paging, PagePaging | OffsetPaging) else None
    if isinstance(paging, CursorPaging):
        expression = paging.next
    if expression is None:
        return Told()
    try:
        found = search(expression, document)
    except ValueError as error:
        raise FeedError(f"{where}: '{expression}': {error}") from None
    if isinstance(paging, CursorPaging):
        if isinstance(found, dict | list) or found is True:
            raise FeedError(f"{where}: '{expression}' gives no cursor")
        return Told(cursor=str(found).strip() or None if found is not None and found is not False else None)
    text = str(found).strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise FeedError(f"{where}: '{expression}' gives no number of objects")
    return Told(total=int(text))


def first_url(url: str, paging: Paging) -> str:
    """Where the list begins."""
    if isinstance(paging, PagePaging):
        return _page_url(url, paging, 0)
    if isinstance(paging, OffsetPaging):
        return _offset_url(url, paging, 0)
    return url


def following(url: str, paging: Paging, shown: Callable[[str], str]) -> Following:
    """The way through one pass over the pages of ``url``."""
    pages_read = 0

    def after(page: Page, count: int, total: int | None) -> str | None:
        nonlocal pages_read
        pages_read += 1
        is_end = not page.keys or (total is not None and count >= total)
        if isinstance(paging, PagePaging):
            return None if is_end else _page_url(url, paging, pages_read)
        if isinstance(paging, OffsetPaging):
            return None if is_end else _offset_url(url, paging, count)
        if isinstance(paging, CursorPaging) and page.cursor is not None:
            if paging.parameter is not None:
                return with_query(url, {paging.parameter: page.cursor})
            return _same_server(page.url, page.cursor, shown)
        if isinstance(paging, LinkPaging):
            for address in next_links(page.link):
                return _same_server(page.url, address, shown)
        return None

    return after


def _page_url(url: str, paging: PagePaging, pages_read: int) -> str:
    return with_query(
        url, {paging.parameter: str(paging.first + pages_read), **_size(paging.size_parameter, paging.size)}
    )


def _offset_url(url: str, paging: OffsetPaging, count: int) -> str:
    return with_query(url, {paging.parameter: str(count), **_size(paging.size_parameter, paging.size)})


def _size(parameter: str | None, size: int | None) -> dict[str, str]:
    return {} if parameter is None or size is None else {parameter: str(size)}


def _same_server(url: str, address: str, shown: Callable[[str], str]) -> str:
    """An address that an answer named. The secret never goes to another server; where ours is https, http is taken for a slip of a proxy."""
    try:
        target = urljoin(url, address).partition("#")[0]
        ours, theirs = urlsplit(url), urlsplit(target)
        is_ours = ours.hostname == theirs.hostname and (
            theirs.netloc == ours.netloc or (ours.scheme, theirs.scheme, theirs.port) == ("https", "http", None)
        )
    except ValueError:
        is_ours = False
    if not is_ours:
        raise FeedError(f"GET {shown(url)}: the address of the next page leads to another server")
    return theirs._replace(scheme=ours.scheme, netloc=ours.netloc).geturl()
