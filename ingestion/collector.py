"""Poll one feed for one window of time, writing as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from ingestion.batch import Written
from ingestion.config import CpoConfig, OcpiPullFeed, OcpiPushFeed, PolledSettings
from ingestion.feeds import open_polled
from ingestion.model import DeltaFeed, FeedError, Poll, PolledFeed
from ingestion.writer import Writer
from warehouse.connection import Role, connect
from warehouse.strict_yaml import ConfigError

LOOK = timedelta(seconds=5)
"""How often the collector of a feed that pushes looks whether a full list is wanted."""
RETRY = timedelta(seconds=60)
"""How soon a full list that is due is asked for again after it could not be read."""


JUST_NOW = timedelta(seconds=1)
"""How long after a time of the grid a poll still counts as made at it."""


class Clock(Protocol):
    """The time, and waiting for it."""

    def now(self) -> datetime:
        """Aware time, UTC."""
        ...

    def wait_until(self, at: datetime) -> None:
        """Return at ``at`` or later."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def wait_until(self, at: datetime) -> None:
        while (rest := (at - self.now()).total_seconds()) > 0:
            time.sleep(rest)


@dataclass
class Totals:
    """What one window saw."""

    complete_polls: int = 0
    unchanged_polls: int = 0
    failed_polls: int = 0
    written: Written = field(default_factory=Written)

    def failure(self) -> str | None:
        """Why the window was in vain, if it was."""
        is_vain = self.failed_polls and not self.complete_polls
        return f"none of {self.failed_polls} polls was answered in full; see above" if is_vain else None

    def __str__(self) -> str:
        return (
            f"{self.complete_polls} complete polls ({self.unchanged_polls} unchanged), {self.failed_polls} failed; "
            f"{self.written}"
        )


def collect(
    config: CpoConfig,
    *,
    seconds: float,
    report: Callable[[str], None],
    clock: Clock | None = None,
    make_feed: Callable[[CpoConfig], PolledFeed] = open_polled,
) -> Totals:
    """Poll every ``poll_seconds`` for ``seconds`` (at least once), on the clock's grid, so that overlapping windows ask at the same times.

    A feed that pushes is asked when the grid says so and no other window has done it, and at once when somebody wants a full list: perhaps not at all.
    A poll that fails is stored as a failed contact and reported; the window goes on. Returns what it saw.
    """
    if not isinstance(config.feed, PolledSettings):
        raise ConfigError(f"{config.cpo_id}: a feed of kind {config.feed.kind} is not polled")
    clock = clock or SystemClock()
    step = timedelta(seconds=config.feed.poll_seconds)
    end = clock.now() + timedelta(seconds=seconds)
    totals = Totals()
    feed = make_feed(config)
    try:
        with connect(Role.INGEST) as connection:
            writer = Writer(connection, config)
            is_pushed = isinstance(config.feed, OcpiPushFeed)
            for asked_at in _reconciliations(writer, clock, step, end) if is_pushed else _turns(clock, step, end):
                _poll_once(config, writer, feed, asked_at, clock, totals, report)
            return totals
    finally:
        feed.close()


def next_on_grid(now: datetime, step: timedelta) -> datetime:
    """The first multiple of ``step`` since the epoch that is later than ``now``."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + ((now - epoch) // step + 1) * step


def _turns(clock: Clock, step: timedelta, end: datetime) -> Iterator[datetime]:
    """Now, and then each time on the grid until the window ends; gives the time that the poll is of."""
    yield _on_time(clock.now(), step)
    while (following := next_on_grid(clock.now(), step)) < end:
        clock.wait_until(following)
        yield _on_time(clock.now(), step)


def _on_time(now: datetime, step: timedelta) -> datetime:
    """The grid's time, if it has just passed: windows that overlap then ask at the very same time, and what both learn is one thing."""
    planned = next_on_grid(now, step) - step
    return planned if now - planned <= JUST_NOW else now


def _reconciliations(writer: Writer, clock: Clock, step: timedelta, end: datetime) -> Iterator[datetime]:
    """Each time when a full list is due or wanted, until the window ends."""
    tried_at: datetime | None = None
    while True:
        now = clock.now()
        last, wanted = writer.last_complete(now), writer.full_list_wanted_at()
        is_due = last is None or next_on_grid(last, step) <= now or (wanted is not None and wanted > last)
        has_just_failed = tried_at is not None and now - tried_at < RETRY and (last is None or last < tried_at)
        if is_due and not has_just_failed:
            tried_at = now
            yield now
        elif now >= end:
            return
        else:
            clock.wait_until(min(now + LOOK, end))


def delta_since(
    settings: OcpiPullFeed, last_complete: datetime | None, last_full: datetime | None, now: datetime
) -> datetime | None:
    """Since when a delta tells the state of every EVSE; ``None`` when a full list has to be read.

    That is so when none was read for ``full_seconds``, and when the last complete contact (full or delta) proves nothing of now any more.
    """
    if settings.full_seconds is None or last_complete is None or last_full is None:
        return None
    is_alive = now - last_complete <= timedelta(seconds=settings.liveness_seconds)
    is_full_due = now - last_full >= timedelta(seconds=settings.full_seconds)
    return last_complete if is_alive and not is_full_due else None


def _ask(config: CpoConfig, writer: Writer, feed: PolledFeed, now: datetime) -> Poll:
    if isinstance(config.feed, OcpiPullFeed) and config.feed.full_seconds and isinstance(feed, DeltaFeed):
        since = delta_since(config.feed, writer.last_complete(now), writer.last_complete(now, is_full=True), now)
        if since is not None:
            return feed.poll_since(since)
    return feed.poll()


def _poll_once(
    config: CpoConfig,
    writer: Writer,
    feed: PolledFeed,
    asked_at: datetime,
    clock: Clock,
    totals: Totals,
    report: Callable[[str], None],
) -> None:
    """Ask once and store the answer, or that there was none."""
    try:
        poll = _ask(config, writer, feed, asked_at)
        written = writer.write_poll(poll, asked_at, clock.now())
        if written is None:
            # Another collector has stored a different answer since: this one has to be read in full.
            feed.forget()
            asked_at = clock.now()
            poll = feed.poll()
            written = writer.write_poll(poll, asked_at, clock.now())
        if written is None:
            raise FeedError("answered unchanged to a question that knew of no answer")
    except FeedError as error:
        totals.failed_polls += 1
        writer.write_failure(asked_at, clock.now(), str(error))
        report(f"{asked_at:%H:%M:%S} failed: {error}")
        return
    totals.complete_polls += 1
    totals.unchanged_polls += int(poll.is_unchanged)
    totals.written += written
    if written.assets or written.changes or written.quarantined:
        report(f"{asked_at:%H:%M:%S} {len(poll.statuses)} EVSEs: {written}")
