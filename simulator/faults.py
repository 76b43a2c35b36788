"""What goes wrong, by name. All of it happens in every month.

A fault is placed by the local calendar, so that it straddles what it is meant to straddle: a midnight, the
end of the month, a change of clocks. No EVSE has named faults of two kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache

from simulator.months import Month, Span, local_instant
from simulator.world import BROKEN_HILL, LORD_HOWE, PERTH, SYDNEY


class Effect(StrEnum):
    """What a fault does."""

    STATUS = "status"
    """The EVSE has this status."""
    ABSENT = "absent"
    """The EVSE is left out of the full list (polled CPOs)."""
    NO_CONTACT = "no_contact"
    """Nobody is reached; a live stream tells the state of every EVSE when it is back."""
    SILENT_RETURN = "silent_return"
    """As before, but the live stream tells nothing until an EVSE changes."""
    INCOMPLETE = "incomplete"
    """Polls are answered, but not in full: they prove life and tell nothing."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong in ``span``. Without ``emi3_id`` it concerns the CPO's whole feed."""

    name: str
    cpo_id: str
    span: Span
    effect: Effect
    emi3_id: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class _Calendar:
    month: Month

    def at(self, day: int, clock: str, time_zone: str = SYDNEY) -> int:
        """Return the instant of a local time; day 1 is the first of the month, 0 the day before."""
        return self.on(self.month.first_day + timedelta(days=day - 1), clock, time_zone)

    def after(self, day: int, clock: str, time_zone: str = SYDNEY) -> int:
        """As `at`, counted in the following month."""
        return self.on(self.month.plus(1).first_day + timedelta(days=day - 1), clock, time_zone)

    def on(self, day: date, clock: str, time_zone: str = SYDNEY) -> int:
        return local_instant(day, clock, time_zone)


@lru_cache(maxsize=1000)
def faults_of_month(month: Month) -> tuple[Fault, ...]:
    """Return the faults that belong to a month. Some begin before it and some end after it."""
    calendar = _Calendar(month)
    return (*_evse_faults(calendar), *_feed_faults(calendar))


def faults_within(span: Span, cpo_id: str) -> list[Fault]:
    """Return the faults of one CPO that touch a span, in order of their start."""
    found = []
    month = Month.of(span.start).plus(-2)
    while month <= Month.of(span.end).plus(2):
        found += [
            fault
            for fault in faults_of_month(month)
            if fault.cpo_id == cpo_id and fault.span.start < span.end and span.start < fault.span.end
        ]
        month = month.plus(1)
    return sorted(found, key=lambda fault: (fault.span, fault.name))


def _evse_faults(calendar: _Calendar) -> Iterator[Fault]:
    at, after = calendar.at, calendar.after

    def status(name: str, cpo_id: str, evse: str, word: str, start: int, end: int) -> Fault:
        party = {"banksia": "BAN", "mallee": "MAL", "tidewater": "TID"}[cpo_id]
        return Fault(name, cpo_id, Span(start, end), Effect.STATUS, f"AU*{party}*{evse}", word)

    down = "out_of_order"
    yield status("outage_of_days", "banksia", "E0701*1", down, at(4, "09:12:40"), at(8, "23:31:05"))
    yield status("outage_of_days", "tidewater", "E0201*1", down, at(3, "18:04:11"), at(6, "07:20:00"))
    yield status("outage_over_month_end", "banksia", "E0501*1", down, after(-2, "17:20:31"), after(2, "10:03:17"))
    yield status(
        "outage_over_month_end",
        "mallee",
        "E0101*2",
        down,
        after(-1, "17:20:31", BROKEN_HILL),
        after(2, "10:03:17"),
    )
    yield status("outage_over_month_end", "tidewater", "E0601*2", down, after(-3, "08:00:01"), after(3, "06:03:17"))
    for cpo_id, evse, zone in (
        ("banksia", "E0302*1", SYDNEY),
        ("banksia", "E1701*1", LORD_HOWE),
        ("banksia", "E1901*2", PERTH),
        ("mallee", "E0201*1", BROKEN_HILL),
        ("tidewater", "E0901*1", PERTH),
    ):
        start, end = at(11, "22:47:13", zone), at(12, "01:12:40", zone)
        yield status("outage_over_midnight", cpo_id, evse, down, start, end)
    yield status("outage_of_minutes", "banksia", "E0302*2", "inoperative", at(13, "14:05:09"), at(13, "14:12:20"))
    yield status("outage_of_minutes", "tidewater", "E0101*1", "unavailable", at(13, "14:05:09"), at(13, "14:12:20"))
    # Banksia is polled at second 7: nobody sees this one.
    yield status("outage_between_polls", "banksia", "E0401*2", down, at(13, "16:00:12"), at(13, "16:00:51"))
    for cpo_id, evse in (("banksia", "E0802*1"), ("mallee", "E0302*1"), ("tidewater", "E0102*1")):
        yield status("out_of_order_all_month", cpo_id, evse, down, at(-1, "00:00:00"), after(3, "00:00:00"))
    yield status("planned_all_month", "banksia", "E1102*2", "planned", at(-1, "00:00:00"), after(3, "00:00:00"))
    yield status("removed_all_month", "mallee", "E0602*2", "removed", at(-1, "00:00:00"), after(3, "00:00:00"))
    yield status("removed_and_back", "mallee", "E0402*1", "removed", at(17, "10:20:45"), after(3, "08:15:30"))
    yield status("unknown_for_hours", "banksia", "E2001*1", "unknown", at(14, "20:10:00"), at(15, "05:44:59"))
    yield status("unknown_for_hours", "tidewater", "E0401*1", "unknown", at(14, "20:10:00"), at(15, "05:44:59"))
    yield status("blocked_for_hours", "banksia", "E0201*1", "blocked", at(10, "11:00:30"), at(10, "14:07:02"))
    yield status("blocked_for_hours", "tidewater", "E0301*1", "blocked", at(10, "11:00:30"), at(10, "14:07:02"))
    yield status("reserved_for_an_hour", "mallee", "E0501*1", "reserved", at(10, "16:40:00"), at(10, "17:41:19"))
    yield Fault(
        "absent_for_hours",
        "mallee",
        Span(at(19, "03:10:20"), at(19, "10:44:50")),
        Effect.ABSENT,
        "AU*MAL*E0302*2",
    )
    yield Fault(
        "absent_over_midnight",
        "banksia",
        Span(at(18, "23:30:20"), at(19, "00:40:00")),
        Effect.ABSENT,
        "AU*BAN*E0602*1",
    )


def _feed_faults(calendar: _Calendar) -> Iterator[Fault]:
    at, after = calendar.at, calendar.after

    def gap(name: str, cpo_id: str, start: int, end: int, effect: Effect = Effect.NO_CONTACT) -> Fault:
        return Fault(name, cpo_id, Span(start, end), effect)

    # Every month has one at its start too: the one at the end of the month before.
    yield gap("gap_over_month_end", "banksia", after(0, "18:47:40"), after(1, "03:47:10"))
    yield gap("gap_over_month_end", "tidewater", after(0, "22:50:03"), after(1, "00:55:20"))
    # Mallee has contact at both ends of the month.
    sunday = calendar.month.first_sunday
    dst = calendar.on(sunday, "00:31:00"), calendar.on(sunday, "05:03:00")
    yield gap("gap_over_clock_change", "mallee", *dst)
    yield gap("gap_of_hours", "mallee", at(15, "13:20:10"), at(15, "16:01:00"))
    yield gap("gap_over_midnight", "tidewater", at(15, "23:20:10"), at(16, "02:10:55"))
    silent = Effect.SILENT_RETURN
    yield gap("gap_with_silent_return", "tidewater", at(9, "02:00:09"), at(9, "06:30:44"), silent)
    # Liveness is 300 seconds. Polls are 60 apart: leaving out 3, 4 or 5 leaves 240, 300 or 360 between two.
    for cpo_id in ("banksia", "mallee"):
        yield gap("gap_shorter_than_liveness", cpo_id, at(20, "12:00:00"), at(20, "12:03:00"))
        yield gap("gap_as_long_as_liveness", cpo_id, at(20, "12:30:00"), at(20, "12:34:00"))
        yield gap("gap_longer_than_liveness", cpo_id, at(20, "13:00:00"), at(20, "13:05:00"))
    for name, minute, seconds in (
        ("gap_shorter_than_liveness", 0, 200),
        ("gap_as_long_as_liveness", 30, 300),
        ("gap_longer_than_liveness", 59, 301),
    ):
        start = at(20, f"12:{minute:02d}:00")
        yield gap(name, "tidewater", start, start + seconds, silent)
    yield gap("gap_of_minutes", "tidewater", at(24, "13:02:00"), at(24, "13:20:30"))
    yield gap("gap_then_incomplete", "mallee", at(22, "05:00:00"), at(22, "06:00:00"))
    yield gap("gap_then_incomplete", "mallee", at(22, "06:00:00"), at(22, "06:20:00"), Effect.INCOMPLETE)
    yield gap("incomplete_answers", "mallee", at(22, "11:00:00"), at(22, "11:15:00"), Effect.INCOMPLETE)
