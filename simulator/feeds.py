"""What a CPO tells of the truth: when there was contact, and what was then said of each EVSE.

A polled CPO is asked for its full list at one second of every minute; a change is seen at the first poll from
then on. A live stream tells each change in its own second and, after a gap, the state of every EVSE (but for
the gaps with a silent return, see `faults`).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from simulator.faults import Effect, Fault, faults_within
from simulator.months import Month, Span
from simulator.timeline import Step, absences, timeline
from simulator.world import Cpo, Evse, FeedKind, World

ABSENT = "missing"
"""What a history file says of an EVSE that a full list left out."""

LEAD_SECONDS = 24 * 3600
TAIL_SECONDS = 6 * 3600


class Contact(NamedTuple):
    """A poll (``start == end``) or a stretch of a stream, told to the end of ``end``."""

    start: int
    end: int
    is_complete: bool


def month_told(world: World, cpo_id: str, month: Month, days: int | None = None) -> Span:
    """Return what the files of a month cover: every site's local month, a day before and some hours after.

    ``days`` cuts the month to its first local days.
    """
    zones = {site.time_zone for site in world.sites if site.cpo_id == cpo_id}
    spans = [month.span(zone) for zone in zones]
    end = max(span.end for span in spans)
    if days is not None:
        end = min(end, max(span.start for span in spans) + days * 86_400 + 3600)
    return Span(min(span.start for span in spans) - LEAD_SECONDS, end + TAIL_SECONDS)


@dataclass(frozen=True)
class Feed:
    """What one CPO tells in a span of time."""

    world: World
    cpo: Cpo
    told: Span

    @cached_property
    def _faults(self) -> list[Fault]:
        return [fault for fault in faults_within(self.told, self.cpo.cpo_id) if fault.emi3_id is None]

    @cached_property
    def gaps(self) -> list[Fault]:
        """Faults in which nobody was reached."""
        return [fault for fault in self._faults if fault.effect in (Effect.NO_CONTACT, Effect.SILENT_RETURN)]

    @cached_property
    def contacts(self) -> list[Contact]:
        """All contact, in order."""
        if self.cpo.kind is FeedKind.POLLED:
            return self._polls()
        return self._stretches()

    def _polls(self) -> list[Contact]:
        incomplete = [fault.span for fault in self._faults if fault.effect is Effect.INCOMPLETE]
        first = self.told.start + (self.cpo.poll_second - self.told.start) % self.cpo.poll_seconds
        return [
            Contact(at, at, not any(span.start <= at < span.end for span in incomplete))
            for at in range(first, self.told.end, self.cpo.poll_seconds)
            if not any(gap.span.start <= at < gap.span.end for gap in self.gaps)
        ]

    def _stretches(self) -> list[Contact]:
        found = []
        start = self.told.start
        for gap in self.gaps:
            if gap.span.start > start:
                found.append(Contact(start, gap.span.start, is_complete=False))
            start = gap.span.end
        if start < self.told.end:
            found.append(Contact(start, self.told.end, is_complete=False))
        return found

    @cached_property
    def alive(self) -> list[Span]:
        """When the feed was alive: contact prolonged by liveness, joined where it touches."""
        islands: list[Span] = []
        for contact in self.contacts:
            end = contact.end + self.cpo.liveness_seconds
            if islands and contact.start <= islands[-1].end:
                islands[-1] = Span(islands[-1].start, max(end, islands[-1].end))
            else:
                islands.append(Span(contact.start, end))
        return islands

    @cached_property
    def _complete_polls(self) -> list[int]:
        return [contact.start for contact in self.contacts if contact.is_complete]

    def reports(self, evse: Evse) -> list[Step]:
        """Return what was said of an EVSE, and when: every change, and its state whenever a gap was over.

        `ABSENT` is said of an EVSE that was on the list before and is not now.
        """
        if self.cpo.kind is FeedKind.POLLED:
            return self._poll_reports(evse)
        return self._stream_reports(evse)

    def _poll_reports(self, evse: Evse) -> list[Step]:
        """Look at the list at the first poll of each island and at the first poll after each change."""
        polls = self._complete_polls
        away = absences(evse, self.told)
        steps = timeline(self.world, evse, self.told)
        moments = [step.at for step in steps] + [at for span in away for at in span]
        moments += [island.start for island in self.alive]
        seen = sorted({bisect_left(polls, moment) for moment in moments})
        reports: list[Step] = []
        for at in [polls[index] for index in seen if index < len(polls)]:
            if any(span.start <= at < span.end for span in away):
                if reports:
                    reports.append(Step(at, ABSENT))
            else:
                reports.append(Step(at, steps[bisect_left(steps, at + 1, key=lambda step: step.at) - 1].status))
        return reports

    def _stream_reports(self, evse: Evse) -> list[Step]:
        """Tell the state at the start of each stretch, unless it came back silent, and the changes in it."""
        silent = {gap.span.end for gap in self.gaps if gap.effect is Effect.SILENT_RETURN}
        life = evse.lifecycle
        reports = []
        for stretch in self.contacts:
            span = Span(stretch.start, stretch.end)
            if life is not None:
                span = Span(max(span.start, life.appears), min(span.end, life.forgotten))
            if span.start >= span.end:
                continue
            steps = timeline(self.world, evse, span)
            is_news = span.start > stretch.start or stretch.start not in silent
            reports += steps if is_news else steps[1:]
        return reports


def feed_of_month(world: World, cpo_id: str, month: Month, days: int | None = None) -> Feed:
    """Return the feed as a month's files tell it."""
    return Feed(world, world.cpo(cpo_id), month_told(world, cpo_id, month, days))
