"""Poll one feed for one window of time, writing as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from ingestion.config import CpoConfig, PolledSettings
from ingestion.feeds import open_polled
from ingestion.model import FeedError, PolledFeed
from ingestion.writer import Writer, Written
from warehouse.connection import Role, connect
from warehouse.strict_yaml import ConfigError


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
            while True:
                _poll_once(writer, feed, clock, totals, report)
                following = next_on_grid(clock.now(), step)
                if following >= end:
                    return totals
                clock.wait_until(following)
    finally:
        feed.close()


def next_on_grid(now: datetime, step: timedelta) -> datetime:
    """The first multiple of ``step`` since the epoch that is later than ``now``."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + ((now - epoch) // step + 1) * step


def _poll_once(writer: Writer, feed: PolledFeed, clock: Clock, totals: Totals, report: Callable[[str], None]) -> None:
    """Ask once and store the answer, or that there was none."""
    asked_at = clock.now()
    try:
        poll = feed.poll()
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
