"""How a list is told in pages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ingestion.mapping_settings import Expression
from ingestion.settings import Strict

Count = Annotated[int, Field(strict=True, ge=0)]


class NoPaging(Strict):
    """One answer holds all."""

    kind: Literal["none"] = "none"


class PagePaging(Strict):
    """Pages have numbers. An empty page is the end, or ``total`` (an expression for the number of items) reached."""

    kind: Literal["page"]
    parameter: str = "page"
    first: Count = 1
    size_parameter: str | None = None
    size: Count | None = None
    total: Expression | None = None


class OffsetPaging(Strict):
    """Pages begin at an offset: the items received so far. An empty page is the end, or ``total`` reached."""

    kind: Literal["offset"]
    parameter: str = "offset"
    size_parameter: str | None = "limit"
    size: Count | None = 100
    total: Expression | None = None


class CursorPaging(Strict):
    """Each page names the next: ``next`` gives a cursor for ``parameter``, or a whole URL when there is no parameter; null or empty at the end."""

    kind: Literal["cursor"]
    next: Expression
    parameter: str | None = None


class LinkPaging(Strict):
    """Each page names the next in its ``Link`` header, ``rel="next"``."""

    kind: Literal["link"]


Paging = Annotated[NoPaging | PagePaging | OffsetPaging | CursorPaging | LinkPaging, Field(discriminator="kind")]
