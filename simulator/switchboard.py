"""Faults by name, switched on and off while a feed is served, and what each leaves an honest observer to know.

Where nothing new is told, the last answer holds until the feed's liveness is over.

``simulator/faults.py`` is about the past: what goes wrong in every month's history. Here it is about now.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

ASKED = ("ocpi", "rest")
"""Protocols in which the feed is asked."""
PUSHED = ("ocpi_push", "rest_push")
"""Protocols in which the feed calls the receiver."""
HELD = ("websocket", "sse")
"""Protocols in which the feed speaks over a connection that the observer holds."""
TOLD = (*PUSHED, *HELD)
"""Protocols in which the feed speaks by itself."""
FILES = ("files",)

_NO_ANSWER = "nothing new"
_NOT_AFFECTED = "all is told"
_DEFECT = "that record tells nothing, every other does"
_LOST = "what changes meanwhile is not told again: it shows in the next full list or snapshot only"


class FaultKind(NamedTuple):
    """A fault that there is. ``truth``: what can still be known while it is on."""

    name: str
    does: str
    truth: str
    protocols: tuple[str, ...]
    variants: tuple[str, ...] = ()
    """The first is the default."""
    seconds: float | None = None
    """Default of ``seconds``; ``None``: it has none."""


_KINDS = (
    FaultKind("slow", "answers after `seconds`", "the answer is that of when it is given", ASKED, seconds=30),
    FaultKind("down", "HTTP 503, and the connection closes", _NO_ANSWER, (*ASKED, *HELD)),
    FaultKind("error_500", "HTTP 500 (with `probability`: now and then)", _NO_ANSWER, (*ASKED, *HELD)),
    FaultKind("rate_limited", "HTTP 429, Retry-After is `seconds` or their date", _NO_ANSWER, ASKED, ("seconds", "date"), 30),
    FaultKind("token_refused", "HTTP 401 whatever the token", _NO_ANSWER, (*ASKED, *HELD)),
    FaultKind("unknown_version", "offers OCPI 9.9 only, and knows no other", _NO_ANSWER, ("ocpi",)),
    FaultKind("status_3000", "HTTP 200 with OCPI status_code 3000 and data []", _NO_ANSWER, ("ocpi",)),
    FaultKind("empty_data", "success with an empty list; the total is as ever, or 0 too", "told the total: nothing; told 0: a full list without EVSEs", ASKED, ("total", "zero")),
    FaultKind("truncated", "the connection ends in mid-body, or the JSON does in a whole answer", _NO_ANSWER, (*ASKED, *FILES), ("connection", "json")),
    FaultKind("html", "HTTP 200 with a web page", _NO_ANSWER, (*ASKED, *FILES)),
    FaultKind("wrong_content_type", "the right JSON said to be text/html", _NOT_AFFECTED, ASKED),
    FaultKind("gzip", "Content-Encoding gzip, asked for or not", _NOT_AFFECTED, ASKED),
    FaultKind("depth_bomb", "HTTP 200 with 100,000 lists in each other", _NO_ANSWER, (*ASKED, *HELD)),
    FaultKind("huge_body", "a body of `size` megabytes (50): the right JSON after a long key", "all is told to whoever reads on; refusing it is right too", ASKED),
    FaultKind("capped_page", "pages of `size` items (3) at most, which X-Limit does not say; no Link, or a right one", _NOT_AFFECTED, ASKED, ("no_link", "link")),
    FaultKind("non_advancing_page", "every page is the first", "no more than its items", ASKED),
    FaultKind("bad_link", "the next page's Link has a wrong path, nothing in it, another host, or the other scheme; or is missing", _NOT_AFFECTED, ASKED, ("path", "empty", "foreign", "scheme", "missing")),
    FaultKind("missing_evse", "EVSE `uid` (the first) is not told of", "a full list without it says absent; else nothing is told of it", (*ASKED, *TOLD, *FILES)),
    FaultKind("bad_object", "EVSE `uid` (the first) is without id, or its status is null", _DEFECT, (*ASKED, *TOLD, *FILES), ("without_uid", "null_status")),
    FaultKind("null_lists", "null where a list belongs: optional ones, the first EVSE's connectors, the first location's EVSEs", "optional: all; else what stands there is not told", ("ocpi", "rest", "files"), ("optional", "connectors", "evses")),
    FaultKind("numeric_ids", "ids of digits are JSON numbers", _NOT_AFFECTED, (*ASKED, *HELD, "rest_push", *FILES)),
    FaultKind("unknown_word", "EVSE `uid` (all, without one) has status `word` (OCCUPIED_MAYBE)", "that word, which nobody has mapped", (*ASKED, *TOLD, *FILES)),
    FaultKind("flip_all", "all EVSEs have status `word` (UNKNOWN)", "that word: it was told", (*ASKED, *TOLD, *FILES)),
    FaultKind("frozen_last_updated", "a location's last_updated does not move with its EVSEs", "full lists: all; deltas: nothing of what changes meanwhile", ("ocpi",)),
    FaultKind("clock_skew", "its own times are `seconds` off (may be negative)", "own times cannot be trusted; times of receipt can", (*ASKED, *TOLD, *FILES), seconds=3600),
    FaultKind("without_time", "its own times are left out", "each change at the time of its receipt", (*TOLD, *FILES)),
    FaultKind("silence", "nothing is sent though things change; connections stay, with their pings", _LOST, (*TOLD, *FILES)),
    FaultKind("half_open", "nothing is sent and no ping answered on a connection that stays", _LOST, ("websocket",)),
    FaultKind("disconnect", "ends all connections of now with close code `code` (1011); with `requests`, those of the next clients too", "what changes until the observer is back is told by a snapshot, or (SSE) when it resumes", HELD),
    FaultKind("no_resume", "Last-Event-ID is disregarded", _LOST, ("sse",)),
    FaultKind("duplicate", "every message is sent twice: with its idempotency key (REST push), or another", _NOT_AFFECTED, (*TOLD, *FILES), ("same_key", "new_key")),
    FaultKind("reordering", "messages are held for up to `seconds`, each its own time", "all, from own times; without those the order is wrong", TOLD, seconds=2),
    FaultKind("late", "messages are held for `seconds` and keep their own time", "all, once it is told; those held when a connection ends are lost", (*TOLD, *FILES), seconds=30),
    FaultKind("big_batch", "changes are held and sent together every `seconds`", "all, once it is told", ("rest_push", *HELD), seconds=10),
)  # fmt: skip

FAULTS = {kind.name: kind for kind in _KINDS}
"""Every fault by name."""


class FaultSwitch(BaseModel):
    """What ``POST /control/<feed>/fault`` takes."""

    model_config = ConfigDict(extra="forbid")

    name: str
    requests: int | None = Field(default=None, gt=0)
    """How many requests or messages it spoils; without it all, until it is switched off."""
    probability: float = Field(default=1, gt=0, le=1)
    """How likely it spoils each of them, drawn from ``seed``."""
    seed: int = 0
    protocol: str | None = None
    """Only in this protocol (default: in each that has the fault)."""
    seconds: float | None = None
    size: int | None = Field(default=None, gt=0)
    uid: str | None = None
    word: str | None = None
    code: int = Field(default=1011, ge=1000, le=4999)
    variant: str | None = None

    @model_validator(mode="after")
    def _is_known(self) -> FaultSwitch:
        kind = FAULTS.get(self.name)
        if kind is None:
            raise ValueError(f"no fault '{self.name}', there are: {', '.join(FAULTS)}")
        if self.variant is not None and self.variant not in kind.variants:
            raise ValueError(f"{self.name} has variants: {', '.join(kind.variants) or 'none'}")
        if self.protocol is not None and self.protocol not in kind.protocols:
            raise ValueError(f"{self.name} is a fault of: {', '.join(kind.protocols)}")
        if self.seconds is None:
            self.seconds = kind.seconds
        elif self.seconds < 0 and self.name != "clock_skew":
            raise ValueError("seconds must not be negative")
        if self.variant is None and kind.variants:
            self.variant = kind.variants[0]
        return self

    @property
    def wait(self) -> float:
        """``seconds``, of a fault that has them."""
        return self.seconds or 0.0


class Switchboard:
    """The faults that are on, of one feed."""

    def __init__(self, switched_on: Iterable[FaultSwitch] = ()) -> None:
        self._on: dict[str, tuple[FaultSwitch, random.Random]] = {}
        for fault in switched_on:
            self.switch_on(fault)

    def switch_on(self, fault: FaultSwitch) -> None:
        """Switch on a fault, in the place of one of its name."""
        self._on[fault.name] = fault.model_copy(), random.Random(fault.seed)

    def switch_off(self, name: str | None = None) -> None:
        """Switch off one fault, or all."""
        for switched_on in [name] if name else list(self._on):
            self._on.pop(switched_on, None)

    def is_on(self, name: str) -> bool:
        """Whether a fault is on, without counting that."""
        return name in self._on

    def listed(self) -> list[FaultSwitch]:
        """Return the faults that are on, with the ``requests`` that are left to them."""
        return [fault for fault, _ in self._on.values()]

    def spoils(self, name: str, protocol: str) -> FaultSwitch | None:
        """Return the fault if it strikes this request or message, and count that."""
        fault, drawn = self._on.get(name, (None, None))
        if fault is None or drawn is None or protocol not in FAULTS[name].protocols:
            return None
        if fault.protocol not in (None, protocol) or drawn.random() >= fault.probability:
            return None
        if fault.requests is not None:
            fault.requests -= 1
            if fault.requests == 0:
                del self._on[name]
        return fault


def catalogue(protocol: str | None = None) -> str:
    """Describe every fault (of one protocol) for people."""
    lines = []
    for kind in _KINDS:
        if protocol in (None, *kind.protocols):
            variants = f" Variants: {', '.join(kind.variants)}." if kind.variants else ""
            of = "" if protocol else f" [{', '.join(kind.protocols)}]"
            lines.append(f"  {kind.name:20} {kind.does}.{variants} Known still: {kind.truth}.{of}")
    return "\n".join(lines).replace("%", "%%")
