"""Uptime second by second, by walking through time: slow, obvious, and nothing of the SQL in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
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

MAPPED = {
    "available", "charging", "finishing", "preparing", "suspended", "reserved", "unavailable", "out_of_order",
    "blocked", "inoperative", "planned", "removed", "unknown", "missing",
}  # fmt: skip


@dataclass
class Walk:
    """What was known of one EVSE, second by second (None: not in service), and since when what was told has been down or occupied."""

    status: list[str | None]
    down_since: list[int | None]
    occupied_since: list[int | None]

    @staticmethod
    def of(length: int) -> Walk:
        return Walk([None] * length, [None] * length, [None] * length)

    def is_blocked_by(self, sibling: Walk, second: int) -> bool:
        """Whether this one is down in a second because the other is occupied, as far as when both began can tell."""
        if self.status[second] not in DOWN or sibling.status[second] not in OCCUPIED:
            return False
        down_since, occupied_since = self.down_since[second], sibling.occupied_since[second]
        assert down_since is not None
        assert occupied_since is not None
        return abs(down_since - occupied_since) <= SIBLING_TOLERANCE_SECONDS


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

    walks = {evse_id: Walk.of(length) for evse_id in scenario.time_zones}
    for evse_id, zone_name in scenario.time_zones.items():
        zone = ZoneInfo(zone_name)
        told: dict[int, tuple[float, str]] = {}
        # Of two changes in one second the later one holds.
        for change in sorted((c for c in scenario.changes if c.evse_id == evse_id), key=lambda c: c.at):
            told[int(change.at) - scenario.start] = (change.at, change.word if change.word in MAPPED else "unknown")
        commissioned = scenario.commissioned_on.get(evse_id)
        commissioned_at = None
        if commissioned is not None:
            midnight = datetime(commissioned.year, commissioned.month, commissioned.day, tzinfo=zone)
            commissioned_at = int(midnight.timestamp()) - scenario.start
        walk = walks[evse_id]
        status: str | None = None
        is_known = has_served = False
        for second in range(length):
            lost = lost_until.get(second)
            if not is_alive[second] or lost is not None:
                is_known = False
            if second in told:
                told_at, word = told[second]
                # What was removed and then is not listed any more is still removed.
                if not (word == "missing" and status == "removed"):
                    status = word
                is_known = is_known or lost is None or told_at >= lost
            if any(lost is None or at >= lost for at in complete_at.get(second, ())) and status is not None:
                is_known = True
            for since, kind in ((walk.down_since, DOWN), (walk.occupied_since, OCCUPIED)):
                if status in kind:
                    goes_on = second > 0 and since[second - 1] is not None
                    since[second] = since[second - 1] if goes_on else second
            if commissioned_at is not None:
                has_served = second >= commissioned_at
            elif status not in (None, "planned", "removed", "missing"):
                has_served = True
            if not has_served or status == "removed":
                continue
            now = status if is_known and status is not None else "missing"
            if now != "planned":
                walk.status[second] = now
    result: Counter[tuple[str, date, str]] = Counter()
    for evse_id, zone_name in scenario.time_zones.items():
        zone = ZoneInfo(zone_name)
        others = [other for other, name in scenario.time_zones.items() if name == zone_name and other != evse_id]
        siblings = [walks[other] for other in others] if scenario.virtual_evses else []
        # The local date changes only on whole half hours.
        dates: dict[int, date] = {}
        for second, now_or_not in enumerate(walks[evse_id].status):
            if now_or_not is None:
                continue
            epoch = second + scenario.start
            local_date = dates.get(epoch // 1800)
            if local_date is None:
                local_date = dates[epoch // 1800] = datetime.fromtimestamp(epoch, UTC).astimezone(zone).date()
            is_blocked = any(walks[evse_id].is_blocked_by(sibling, second) for sibling in siblings)
            result[evse_id, local_date, "blocked_by_sibling" if is_blocked else now_or_not] += 1
    return result
