"""Uptime second by second, by walking through time: slow, obvious, and nothing of the SQL in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Change:
    """``word``: canonical status, ``missing`` (absent from a full list), or one that no profile maps."""

    evse_id: str
    at: float
    word: str


@dataclass(frozen=True)
class Contact:
    """A poll when ``start == end``, else a stretch of a stream. Epoch seconds."""

    start: float
    end: float
    is_complete: bool


@dataclass(frozen=True)
class Loss:
    """A stretch in which messages may have been lost. Epoch seconds."""

    start: float
    end: float


@dataclass
class Scenario:
    """All that one feed ever told, in the order in which it was true."""

    cpo_id: str
    liveness_seconds: int
    start: int
    end: int
    time_zones: dict[str, str] = field(default_factory=dict)
    commissioned_on: dict[str, date] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    virtual_evses: bool = False
    """EVSEs of one zone are plugs of one charger."""


DOWN = {"unavailable", "out_of_order", "inoperative"}
OCCUPIED = {"preparing", "charging", "suspended", "finishing"}
SIBLING_TOLERANCE_SECONDS = 120


class Second(NamedTuple):
    """What was known of an EVSE in one second since its service began (epoch seconds); ``word``: the last one told.

    ``down_since``, ``occupied_since``: since when what was told of it has been so, while it is.
    """

    evse_id: str
    at: int
    local_date: date
    status: str
    word: str | None
    down_since: int | None
    occupied_since: int | None


MAPPED = {
    "available", "charging", "finishing", "preparing", "suspended", "reserved", "unavailable", "out_of_order",
    "blocked", "inoperative", "planned", "removed", "unknown", "missing",
}  # fmt: skip


def was_held(scenario: Scenario, loss: Loss) -> bool:
    """Whether somebody else held the stream from before the loss began to after it ended."""
    reached = loss.start
    if loss.start == loss.end:
        return False
    for contact in sorted(scenario.contacts, key=lambda c: c.start):
        if contact.start < contact.end and contact.start <= reached:
            reached = max(reached, contact.end)
    return reached >= loss.end


def seconds_by_status(scenario: Scenario) -> Counter[tuple[str, date, str]]:
    """(evse_id, local date, status) to in-service seconds, from the scenario's start to its end."""
    return Counter(
        (second.evse_id, second.local_date, second.status)
        for second in walk(scenario)
        if second.status not in ("planned", "removed")
    )


class Heard(NamedTuple):
    """Contact by second since the scenario's start: where the feed is alive, complete contacts to the instant, and until when something may have been lost."""

    is_alive: bytearray
    complete_at: dict[int, list[float]]
    lost_until: dict[int, float]


def heard(scenario: Scenario) -> Heard:
    """What the feed's contact says of every second."""
    length = scenario.end - scenario.start
    is_alive = bytearray(length)
    complete_at: dict[int, list[float]] = {}

    def mark(start: float, end: float) -> None:
        first = int(start) - scenario.start
        last = int(end) - scenario.start + scenario.liveness_seconds
        for second in range(max(first, 0), min(last, length)):
            is_alive[second] = 1

    for contact in scenario.contacts:
        mark(contact.start, contact.end)
        if contact.is_complete and contact.start < scenario.end:
            complete_at.setdefault(int(contact.start) - scenario.start, []).append(contact.start)
    for change in scenario.changes:
        if change.word != "missing":
            mark(change.at, change.at)
    # Second in which something may have been lost last, to the instant.
    lost_until: dict[int, float] = {}
    for loss in scenario.losses:
        if not was_held(scenario, loss):
            for second in range(max(int(loss.start) - scenario.start, 0), min(int(loss.end) - scenario.start, length)):
                is_alive[second] = 0
                lost_until[second] = second + 1 + scenario.start
            last = int(loss.end) - scenario.start
            lost_until[last] = max(lost_until.get(last, 0), loss.end)
    return Heard(is_alive, complete_at, lost_until)


def walk(scenario: Scenario) -> Iterator[Second]:
    """Every second since each EVSE's service began, EVSE by EVSE, without a hole, to the scenario's end."""
    if not scenario.virtual_evses:
        yield from walk_alone(scenario)
        return
    walks: dict[str, dict[int, Second]] = {evse_id: {} for evse_id in scenario.time_zones}
    for second in walk_alone(scenario):
        walks[second.evse_id][second.at] = second
    for evse_id, seconds in walks.items():
        siblings = [
            walks[other]
            for other, zone in scenario.time_zones.items()
            if zone == scenario.time_zones[evse_id] and other != evse_id
        ]
        for at, second in seconds.items():
            is_blocked = any(at in sibling and is_blocked_by(second, sibling[at]) for sibling in siblings)
            yield second._replace(status="blocked_by_sibling") if is_blocked else second


def is_blocked_by(second: Second, sibling: Second) -> bool:
    """Whether an EVSE is down because the other is occupied, as far as when both began can tell."""
    if second.status not in DOWN or sibling.status not in OCCUPIED:
        return False
    assert second.down_since is not None
    assert sibling.occupied_since is not None
    return abs(second.down_since - sibling.occupied_since) <= SIBLING_TOLERANCE_SECONDS


def walk_alone(scenario: Scenario) -> Iterator[Second]:
    """The same by what was told of each EVSE alone."""
    length = scenario.end - scenario.start
    is_alive, complete_at, lost_until = heard(scenario)
    for evse_id, zone_name in scenario.time_zones.items():
        zone = ZoneInfo(zone_name)
        told: dict[int, tuple[float, str, str]] = {}
        # Of two changes in one second the later one holds.
        for change in sorted((c for c in scenario.changes if c.evse_id == evse_id), key=lambda c: c.at):
            word = change.word if change.word in MAPPED else "unknown"
            told[int(change.at) - scenario.start] = (change.at, word, change.word)
        commissioned = scenario.commissioned_on.get(evse_id)
        commissioned_at = None
        if commissioned is not None:
            midnight = datetime(commissioned.year, commissioned.month, commissioned.day, tzinfo=zone)
            commissioned_at = int(midnight.timestamp()) - scenario.start
        # The local date changes only on whole half hours.
        dates: dict[int, date] = {}
        status: str | None = None
        told_word: str | None = None
        down_since: int | None = None
        occupied_since: int | None = None
        is_known = has_served = False
        for second in range(length):
            lost = lost_until.get(second)
            if not is_alive[second] or lost is not None:
                is_known = False
            if second in told:
                told_at, word, own_word = told[second]
                # What was removed and then is not listed any more is still removed.
                if not (word == "missing" and status == "removed"):
                    status = word
                if word != "missing":
                    told_word = own_word
                is_known = is_known or lost is None or told_at >= lost
            if any(lost is None or at >= lost for at in complete_at.get(second, ())) and status is not None:
                is_known = True
            down_since = (second if down_since is None else down_since) if status in DOWN else None
            occupied_since = (second if occupied_since is None else occupied_since) if status in OCCUPIED else None
            if commissioned_at is not None:
                has_served = second >= commissioned_at
            elif status not in (None, "planned", "removed", "missing"):
                has_served = True
            if not has_served:
                continue
            now = status if status == "removed" or (is_known and status is not None) else "missing"
            epoch = second + scenario.start
            local_date = dates.get(epoch // 1800)
            if local_date is None:
                local_date = dates[epoch // 1800] = datetime.fromtimestamp(epoch, UTC).astimezone(zone).date()
            yield Second(evse_id, epoch, local_date, now, told_word, down_since, occupied_since)
