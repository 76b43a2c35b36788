"""What a right warehouse makes of what the CPOs told: seconds per EVSE, local day and status.

Worked out from the truth alone, by the rules of the design and nothing of its SQL:

* a status holds from its report until the next one, never beyond the feed's life (last contact + liveness);
* after a gap an EVSE is missing until it is reported again;
* an EVSE is in service from its commissioning date (local midnight) if it has one, else from its first report
  that is neither planned, removed nor absent; ``removed`` ends that until the next report of another status;
* days are the site's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime

from simulator.feeds import ABSENT, Feed, feed_of_month, month_told
from simulator.months import Month, Span, local_days, local_midnight
from simulator.timeline import Step
from simulator.world import Evse, World, build_world

MISSING = "missing"

Expected = dict[tuple[str, date, str], int]
"""(evse_ref, local date, canonical status) to seconds. Only what is more than zero is there."""


def expected_seconds(
    period: Month | str | tuple[datetime, datetime],
    cpo_id: str,
    *,
    world: World | None = None,
    days: int | None = None,
) -> Expected:
    """Return the in-service seconds of every EVSE of a CPO, when the warehouse was given the period's files.

    ``period``: a month (``Month`` or ``YYYY-MM``), meaning each site's own local month, of which ``days``
    keeps the first local days; or two aware instants ``[from, until)``, when the files of all (UTC) months
    they touch were given.
    """
    world = world or build_world()
    if isinstance(period, str):
        period = Month.parse(period)
    if isinstance(period, Month):
        month = period
        feed = feed_of_month(world, cpo_id, month, days)
        windows = {zone: _first_days(month, zone, days) for zone in {site.time_zone for site in world.sites}}
    else:
        window = Span(*(_whole_second(moment) for moment in period))
        feed = Feed(world, world.cpo(cpo_id), _told_of_months(world, cpo_id, window))
        windows = {site.time_zone: window for site in world.sites}
    seconds: Counter[tuple[str, date, str]] = Counter()
    for evse in world.evses(cpo_id, feed.told):
        zone = evse.site.time_zone
        for span, status in in_service_spans(feed, evse, windows[zone]):
            for day, part in local_days(span, zone):
                seconds[evse.ref, day, status] += part.end - part.start
    return dict(seconds)


def in_service_spans(feed: Feed, evse: Evse, window: Span) -> Iterator[tuple[Span, str]]:
    """Yield the spans of one EVSE in service within a window, in order, each with its status."""
    reports = feed.reports(evse)
    service = list(_service(evse, reports, feed.told.end))
    for span, status in _known(feed, reports):
        for served in service:
            start = max(span.start, served.start, window.start)
            end = min(span.end, served.end, window.end)
            if start < end:
                yield Span(start, end), status


def _known(feed: Feed, reports: list[Step]) -> Iterator[tuple[Span, str]]:
    """Yield what is known, without a hole from the ages before the feed's first contact to its last."""
    until = -(1 << 40)
    for alive in feed.alive:
        told = [report for report in reports if alive.start <= report.at < alive.end]
        known_from = told[0].at if told else alive.end
        yield Span(until, known_from), MISSING
        for report, following in zip(told, [*[report.at for report in told[1:]], alive.end], strict=False):
            yield Span(report.at, following), MISSING if report.status == ABSENT else report.status
        until = alive.end
    yield Span(until, feed.told.end), MISSING


def _service(evse: Evse, reports: list[Step], end: int) -> Iterator[Span]:
    since: int | None = None
    if evse.commissioned_on is not None:
        since = local_midnight(evse.commissioned_on, evse.site.time_zone)
    for report in reports:
        if report.status == "removed":
            if since is not None:
                yield Span(since, report.at)
            since = None
        elif since is None and report.status not in ("planned", ABSENT):
            since = report.at
    if since is not None:
        yield Span(since, end)


def _first_days(month: Month, zone: str, days: int | None) -> Span:
    span = month.span(zone)
    if days is None:
        return span
    return Span(span.start, list(local_days(span, zone))[:days][-1][1].end)


def _told_of_months(world: World, cpo_id: str, window: Span) -> Span:
    first, last = Month.of(window.start), Month.of(window.end - 1)
    return Span(month_told(world, cpo_id, first).start, month_told(world, cpo_id, last).end)


def _whole_second(moment: datetime) -> int:
    if moment.tzinfo is None or moment.microsecond:
        raise ValueError(f"{moment} must have a zone and be a whole second")
    return int(moment.timestamp())
