"""A month as history files: what a CPO hands over that can't do better, or to fill back."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from simulator.feeds import ABSENT, Feed, feed_of_month
from simulator.months import Month, rfc3339
from simulator.truth import expected_seconds
from simulator.world import CPOS, FeedKind, Words, World

OCPI_WORDS = {
    "available": "AVAILABLE",
    "charging": "CHARGING",
    "reserved": "RESERVED",
    "blocked": "BLOCKED",
    "inoperative": "INOPERATIVE",
    "out_of_order": "OUTOFORDER",
    "planned": "PLANNED",
    "removed": "REMOVED",
    "unknown": "UNKNOWN",
}
"""Canonical status to OCPI 2.2.1 word. OCPI can't say the others."""

ASSET_COLUMNS = (
    "site_id",
    "site_name",
    "address",
    "suburb",
    "postcode",
    "state",
    "country",
    "latitude",
    "longitude",
    "time_zone",
    "charger_id",
    "evse_id",
    "emi3_id",
    "connector_id",
    "connector_standard",
    "power_kw",
    "valid_from",
    "commissioned_on",
)
CHANGE_COLUMNS = ("evse_id", "status", "observed_at")
POLL_COLUMNS = ("contact_at", "is_complete")
STREAM_COLUMNS = ("contact_from", "contact_until")
TRUTH_COLUMNS = ("evse_ref", "local_date", "status", "seconds")


def emit_month(
    world: World, month: Month, out: Path, cpo_ids: Iterable[str] | None = None, days: int | None = None
) -> list[Path]:
    """Write ``<out>/<cpo_id>/<month>/{assets,changes,contact}.csv.gz``: same seed, same bytes."""
    written = []
    for cpo_id in cpo_ids or [cpo.cpo_id for cpo in CPOS]:
        feed = feed_of_month(world, cpo_id, month, days)
        folder = out / cpo_id / str(month)
        is_stream = feed.cpo.kind is FeedKind.STREAM
        written += [
            _write(folder / "assets.csv.gz", ASSET_COLUMNS, _asset_rows(feed)),
            _write(folder / "changes.csv.gz", CHANGE_COLUMNS, _change_rows(feed)),
            _write(folder / "contact.csv.gz", STREAM_COLUMNS if is_stream else POLL_COLUMNS, _contact_rows(feed)),
        ]
    return written


def emit_truth(
    world: World, month: Month, out: Path, cpo_ids: Iterable[str] | None = None, days: int | None = None
) -> list[Path]:
    """Write ``<out>/<cpo_id>/<month>/truth.csv.gz``: what a right warehouse finds in the month's files."""
    written = []
    for cpo_id in cpo_ids or [cpo.cpo_id for cpo in CPOS]:
        expected = expected_seconds(month, cpo_id, world=world, days=days)
        rows = [(*map(str, key), str(seconds)) for key, seconds in sorted(expected.items())]
        written.append(_write(out / cpo_id / str(month) / "truth.csv.gz", TRUTH_COLUMNS, rows))
    return written


def _asset_rows(feed: Feed) -> Iterator[tuple[str, ...]]:
    for evse in feed.world.evses(feed.cpo.cpo_id, feed.told):
        site = evse.site
        for connector in evse.connectors:
            yield (
                site.site_id,
                site.name,
                site.address,
                site.suburb,
                site.postcode,
                site.state,
                "AUS",
                f"{site.latitude:.4f}",
                f"{site.longitude:.4f}",
                site.time_zone,
                evse.charger_id,
                evse.uid,
                evse.emi3_id,
                connector.connector_id,
                connector.standard,
                f"{connector.power_kw.normalize():f}",
                rfc3339(evse.described_since),
                "" if evse.commissioned_on is None else evse.commissioned_on.isoformat(),
            )


def _change_rows(feed: Feed) -> Iterator[tuple[str, ...]]:
    """Yield what a collector keeps: of polls only what differs from before, of a stream all that was said."""
    rows = []
    for evse in feed.world.evses(feed.cpo.cpo_id, feed.told):
        before = None
        for at, status in feed.reports(evse):
            if feed.cpo.kind is FeedKind.STREAM or status != before:
                rows.append((at, evse.uid, _word(feed.cpo.words, status)))
            before = status
    for at, uid, word in sorted(rows):
        yield uid, word, rfc3339(at)


def _word(words: Words, status: str) -> str:
    return status if words is Words.CANONICAL or status == ABSENT else OCPI_WORDS[status]


def _contact_rows(feed: Feed) -> Iterator[tuple[str, ...]]:
    for contact in feed.contacts:
        if feed.cpo.kind is FeedKind.STREAM:
            yield rfc3339(contact.start), rfc3339(contact.end)
        else:
            yield rfc3339(contact.start), "true" if contact.is_complete else "false"


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Path:
    """Write a gzipped CSV at once: either the whole file is there or the one of before."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(gzip.compress(text.getvalue().encode("utf-8"), mtime=0))
    part.replace(path)
    return path
