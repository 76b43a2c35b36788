"""What a feed tells by itself, and when: every change in its moment, unless a fault holds, repeats, alters or loses it."""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from simulator.serving import Feed
from simulator.sources import Change
from simulator.spoiling import FLIPPED_WORD, UNKNOWN_WORD, as_number
from simulator.switchboard import FaultSwitch

TICK_SECONDS = 0.02
LOOKAHEAD = timedelta(seconds=5)
"""Changes are drawn for this long in advance, and told when they happen."""

_FOREVER = datetime.max.replace(tzinfo=UTC)


class Told(NamedTuple):
    """A change as it is told."""

    change: Change
    word: str
    told_at: datetime | None
    bad: str | None = None
    """Variant of ``bad_object`` that spoils the record."""
    is_numeric: bool = False

    def ids(self) -> tuple[Any, Any]:
        """Location id and uid as they are written."""
        ids = (self.change.location_id, self.change.uid)
        return (as_number(ids[0]), as_number(ids[1])) if self.is_numeric else ids


class Message(NamedTuple):
    """What is sent at once."""

    told: list[Told]
    resume_at: datetime
    """All changes up to then have been sent when this message has."""

    @classmethod
    def of(cls, told: list[list[Told]], not_sent: datetime) -> list[Message]:
        """Make a message of each list, in their order; ``not_sent``: the first change that is in none of them."""
        messages: list[Message] = []
        for group in reversed(told):
            ats = [one.change.at for one in group]
            messages.append(cls(group, min(max(ats), not_sent - timedelta(milliseconds=1))))
            not_sent = min([not_sent, *ats])
        return messages[::-1]


class Follower:
    """Follows one feed in one protocol from ``since`` on; every connection has its own."""

    def __init__(self, feed: Feed, protocol: str, since: datetime) -> None:
        self._feed = feed
        self._protocol = protocol
        self._drawn_until = since
        self._upcoming: list[Change] = []
        self._held: list[tuple[datetime, Change]] = []

    def due(self, now: datetime) -> list[Message]:
        """Return the messages to be sent now, in order, and write them off."""
        if now > self._drawn_until:
            horizon = now + LOOKAHEAD
            self._upcoming += self._feed.source.changes(self._drawn_until, horizon)
            self._drawn_until = horizon
        while self._upcoming and self._upcoming[0].at <= now:
            change = self._upcoming.pop(0)
            heapq.heappush(self._held, (self._release(change), change))
        told: list[Told] = []
        while self._held and self._held[0][0] <= now:
            told += self._tell(heapq.heappop(self._held)[1])
        if not told:
            return []
        groups = [told] if self._spoils("big_batch") else [[one] for one in told]
        not_sent = min((change.at for _, change in self._held), default=_FOREVER)
        return Message.of(groups, not_sent)

    def repeated(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield each message once, or twice."""
        for message in messages:
            yield message
            if self._spoils("duplicate"):
                yield message

    async def messages(self) -> AsyncIterator[list[Message]]:
        """Yield what is due, again and again; an empty list where nothing is."""
        while True:
            yield self.due(self._feed.clock())
            await asyncio.sleep(TICK_SECONDS)

    def _spoils(self, name: str) -> FaultSwitch | None:
        return self._feed.board.spoils(name, self._protocol)

    def _release(self, change: Change) -> datetime:
        """When a change is sent: in its moment, later, somewhere in a window (for all connections alike), or with the next batch."""
        at = change.at
        if late := self._spoils("late"):
            at += timedelta(seconds=late.wait)
        if window := self._spoils("reordering"):
            at += timedelta(seconds=random.Random(f"{change.uid}/{change.at}").uniform(0, window.wait))
        if batch := self._spoils("big_batch"):
            at = datetime.fromtimestamp(math.ceil(at.timestamp() / (batch.wait or 1)) * (batch.wait or 1), UTC)
        return at

    def _tell(self, change: Change) -> list[Told]:
        if self._spoils("silence") or self._spoils("half_open"):
            return []
        missing = self._feed.board.spoils("missing_evse", self._protocol)
        if missing and self._is_meant(missing, change):
            return []
        word, told_at, bad = change.word, change.at, None
        if flipped := self._spoils("flip_all"):
            word = flipped.word or FLIPPED_WORD
        if (unknown := self._spoils("unknown_word")) and (unknown.uid in (None, change.uid)):
            word = unknown.word or UNKNOWN_WORD
        if skew := self._spoils("clock_skew"):
            told_at += timedelta(seconds=skew.wait)
        if (spoiled := self._spoils("bad_object")) and self._is_meant(spoiled, change):
            bad = spoiled.variant
        is_timeless = self._spoils("without_time") is not None
        is_numeric = self._spoils("numeric_ids") is not None
        return [Told(change, word, None if is_timeless else told_at, bad, is_numeric)]

    def _is_meant(self, fault: FaultSwitch, change: Change) -> bool:
        return change.uid == (fault.uid or self._feed.source.locations(change.at)[0]["evses"][0]["uid"])


def record(feed: Feed, protocol: str, message: Message, outcome: str = "sent") -> None:
    """Write a message to the feed's log."""
    feed.record(protocol, [(told.change, told.word, told.told_at) for told in message.told], outcome)
