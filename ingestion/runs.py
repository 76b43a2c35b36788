"""What a scheduler calls: one hand-over import, one collection window. Needs no scheduler to exist."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta

from ingestion.collector import Totals, collect, next_on_grid
from ingestion.config import FileDropFeed, HistoryFeed, StreamSettings, load_cpo
from ingestion.file_drop import FileTotals, collect_files
from ingestion.handover import import_waiting
from ingestion.history import Imported
from ingestion.model import FeedError
from ingestion.streams import StreamTotals, collect_stream
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


def collect_window(cpo_id: str, run_after: datetime) -> Totals | StreamTotals | FileTotals:
    """Poll, listen or look for files until the window ends; a poll or look is done at least once. A retry does what is left of it.

    Raises ``NotPolledError``, ``FeedError`` when no poll was answered in full or no connection came about, and ``FileDropError`` when a file was refused.
    """
    config = load_cpo(cpo_id, expand=True)
    if isinstance(config.feed, HistoryFeed | RestPushFeed):
        raise NotPolledError(f"{cpo_id} sends by itself and is not polled")
    seconds = max((window_end(run_after) - datetime.now(UTC)).total_seconds(), 0.0)
    if isinstance(config.feed, StreamSettings):
        listened = collect_stream(config, seconds=seconds, report=log.info)
        log.info("%s: %s", cpo_id, listened)
        if listened.had_turn and not listened.connections and listened.refusals:
            raise FeedError(f"{cpo_id}: none of {listened.refusals} connections came about; the last: {listened.last_refusal}")
        return listened
    if isinstance(config.feed, FileDropFeed):
        found = collect_files(config, seconds=seconds, report=log.info)
        log.info("%s: %s", cpo_id, found)
        return found
    totals = collect(config, seconds=seconds, report=log.info)
    log.info("%s: %s", cpo_id, totals)
    if not totals.complete_polls:
        raise FeedError(f"{cpo_id}: none of {totals.failed_polls} polls was answered in full; see above")
    return totals
