"""What a scheduler calls: one hand-over import, one collection window, one look at a feed. Needs no scheduler to exist."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from ingestion.collector import Totals, collect, next_on_grid
from ingestion.config import CpoConfig, FileDropFeed, HistoryFeed, RestPushFeed, StreamSettings, load_cpo, secret
from ingestion.feeds import FindSecret, open_polled, open_stream
from ingestion.handover import import_waiting
from ingestion.health import SilentFeedError, describe, is_watched, read_health, silence
from ingestion.history import Imported
from ingestion.model import FeedError
from ingestion.writer import register_feed
from warehouse.connection import Role, connect, var_dir

if TYPE_CHECKING:
    from ingestion.file_drop import FileTotals
    from ingestion.streams import StreamTotals

    AnyTotals = Totals | StreamTotals | FileTotals

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


def collect_feed(
    config: CpoConfig, *, seconds: float, report: Callable[[str], None], find_secret: FindSecret = secret
) -> AnyTotals:
    """Poll, listen or look for files for ``seconds``, whatever the feed's kind asks for."""
    if isinstance(config.feed, StreamSettings):
        from ingestion.streams import collect_stream

        open_feed = partial(open_stream, find_secret=find_secret)
        return collect_stream(config, seconds=seconds, report=report, open_feed=open_feed)
    if isinstance(config.feed, FileDropFeed):
        from ingestion.file_drop import collect_files

        return collect_files(config, seconds=seconds, report=report)
    return collect(config, seconds=seconds, report=report, make_feed=partial(open_polled, find_secret=find_secret))


def collect_window(cpo_id: str, run_after: datetime, find_secret: FindSecret = secret) -> AnyTotals:
    """Collect until the window ends; poll or look for files at least once. A retry does what is left of it.

    Raises ``NotPolledError``, and ``FeedError`` when all of it was in vain.
    """
    config = load_cpo(cpo_id, expand=True)
    if isinstance(config.feed, HistoryFeed | RestPushFeed):
        raise NotPolledError(
            f"{cpo_id} hands over files and is not polled"
            if isinstance(config.feed, HistoryFeed)
            else f"{cpo_id} pushes and is not polled"
        )
    rest = (window_end(run_after) - datetime.now(UTC)).total_seconds()
    totals = collect_feed(config, seconds=max(rest, 0.0), report=log.info, find_secret=find_secret)
    log.info("%s: %s", cpo_id, totals)
    if reason := totals.failure():
        raise FeedError(f"{cpo_id}: {reason}")
    return totals


def watch_feed(cpo_id: str, now: datetime) -> str | None:
    """Say how a feed stands, in one line; ``None`` when there is nothing to watch. Raises ``SilentFeedError``."""
    config = load_cpo(cpo_id)
    if not is_watched(config, now):
        return None
    with connect(Role.INGEST) as connection:
        health = read_health(connection, config, now)
        if health.registered_at is None:
            # Expected from now on: of a CPO that never sends anything nobody else would say so.
            register_feed(connection, config)
            health = read_health(connection, config, now)
    if reason := silence(health, config, now):
        raise SilentFeedError(reason)
    return describe(health, config, now)
