"""What a scheduler calls: one hand-over import, one collection window, one look at a feed. Needs no scheduler to exist."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta

from ingestion.collector import Totals, collect, next_on_grid
from ingestion.config import HistoryFeed, load_cpo
from ingestion.handover import import_waiting
from ingestion.health import SilentFeedError, describe, is_watched, read_health, silence
from ingestion.history import Imported
from ingestion.model import FeedError
from warehouse.connection import Role, connect, var_dir

WINDOW = timedelta(minutes=15)
"""Windows begin on the clock's quarter hours, as the schedule does."""
OVERLAP = timedelta(seconds=30)
"""How long a window goes on after the next one has begun."""

log = logging.getLogger(__name__)


class NotPolledError(Exception):
    """The feed is not one that is polled."""


def window_end(run_after: datetime) -> datetime:
    """When the window of a run that was due at ``run_after`` ends; ``COLLECTION_WINDOW_SECONDS`` shortens it."""
    if seconds := os.environ.get("COLLECTION_WINDOW_SECONDS"):
        return run_after + timedelta(seconds=float(seconds))
    return next_on_grid(run_after, WINDOW) + OVERLAP


def import_waiting_files(cpo_id: str) -> list[Imported]:
    """Import the hand-over folders below ``var/inbox/<cpo_id>/`` that were not imported yet."""
    config = load_cpo(cpo_id)
    inbox = var_dir() / "inbox"
    with connect(Role.INGEST) as connection:
        return import_waiting(connection, config, inbox, datetime.now(UTC), log.info)


def collect_window(cpo_id: str, run_after: datetime) -> Totals:
    """Poll until the window ends, at least once. A retry polls what is left of it.

    Raises ``NotPolledError``, and ``FeedError`` when no poll was answered in full.
    """
    config = load_cpo(cpo_id, expand=True)
    if isinstance(config.feed, HistoryFeed):
        raise NotPolledError(f"{cpo_id} hands over files and is not polled")
    rest = (window_end(run_after) - datetime.now(UTC)).total_seconds()
    totals = collect(config, seconds=max(rest, 0.0), report=log.info)
    log.info("%s: %s", cpo_id, totals)
    if not totals.complete_polls:
        raise FeedError(f"{cpo_id}: none of {totals.failed_polls} polls was answered in full; see above")
    return totals


def watch_feed(cpo_id: str, now: datetime) -> str | None:
    """Say how a feed stands, in one line; ``None`` when there is nothing to watch. Raises ``SilentFeedError``."""
    config = load_cpo(cpo_id)
    if not is_watched(config, now):
        return None
    with connect(Role.INGEST) as connection:
        health = read_health(connection, config, now)
    if reason := silence(health, config, now):
        raise SilentFeedError(reason)
    return describe(health, config, now) if health.is_registered else None
