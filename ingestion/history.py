"""History files: what a CPO (or an earlier collector) hands over as CSV or Parquet, plain or compressed.

Three tables, named by their columns:

* assets: ``site_id, site_name, address, suburb, postcode, state, latitude, longitude, time_zone, charger_id, evse_id, connector_id,
  connector_standard, power_kw``, optionally ``country, emi3_id, valid_from, commissioned_on``; any further column is kept in ``attributes``;
* changes: ``evse_id, status, observed_at``, optionally ``received_at``; a further column is refused. The status word ``missing`` says that from
  then on the source did not list the EVSE any more;
* contact: ``contact_at, is_complete`` (polls), or ``contact_from, contact_until`` (a live stream; optionally ``is_complete``), or both pairs
  with one filled per row; a further column is refused.

A file without a required column is refused whole. A record that cannot be read is quarantined with its number, field and reason; the others go in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg

from ingestion.batch import Batch, Written
from ingestion.config import CpoConfig, HistoryFeed
from ingestion.model import Asset, Contact, Outcome
from ingestion.records import ASSET_COLUMNS, asset_of, start_of_day
from ingestion.settings import must_be_status_profile
from ingestion.tables import Findings, HistoryFileError, instants_of, read_tables, require_columns, text_of, texts_of
from ingestion.times import is_time_zone
from ingestion.told import Change
from ingestion.writer import Writer
from warehouse.strict_yaml import ConfigError

HISTORY_PROFILE = "history"
"""Status words of history files: the canonical statuses, OCPI 2.2.1 and OCPP words (seed ``status_profiles.csv``)."""

ABSENT = "missing"
"""The word that says: from here on the source did not list this EVSE any more."""


@dataclass(frozen=True)
class Imported:
    """What an import found and added."""

    asset_records: int
    change_records: int
    contact_records: int
    written: Written


Report = Callable[[str], None]


def import_history(
    connection: psycopg.Connection,
    config: CpoConfig,
    *,
    assets: Path | None,
    changes: Path | None,
    contact: Path | None,
    now: datetime,
    report: Report = lambda line: None,
    status_profile: str | None = None,
) -> Imported:
    """Import up to three files in one transaction: all of them, or none.

    The words are read by ``status_profile``; by default that of the feed if it sends nothing but files, else ``HISTORY_PROFILE``.
    ``now`` is the time of receipt of records that state none, and the bound of what is not in the future.
    Raises ``HistoryFileError`` for a file that cannot be read or lacks a column.
    """
    if status_profile is None:
        status_profile = config.feed.status_profile if isinstance(config.feed, HistoryFeed) else HISTORY_PROFILE
    try:
        must_be_status_profile(status_profile)
    except ValueError as error:
        raise ConfigError(f"status profile: {error}") from error
    writer = Writer(connection, config)
    counts = {"assets": 0, "changes": 0, "contact": 0}
    with writer.batch(status_profile) as batch:
        if assets is not None:
            counts["assets"] = _import_assets(batch, config, assets, now)
            report(f"{assets.name}: {counts['assets']} asset records read")
        if changes is not None:
            counts["changes"] = _import_changes(batch, config, changes, now, report)
        if contact is not None:
            counts["contact"] = _import_contact(batch, config, contact, now, report)
    return Imported(counts["assets"], counts["changes"], counts["contact"], batch.written)


# Changes and contact


def _import_changes(batch: Batch, config: CpoConfig, path: Path, now: datetime, report: Report) -> int:
    keys = batch.evse_keys()
    by_id = batch.evses_by_id()
    key_of = {evse_id: keys[next(iter(refs))] for evse_id, refs in by_id.items() if len(refs) == 1}
    count = 0
    for first, frame, malformed in read_tables(path):
        require_columns(path, frame, ("evse_id", "status", "observed_at"), ("received_at",))
        found = Findings(path, first, frame)
        found.reject_nul()
        evse_id = found.words("evse_id").str.casefold()
        status = found.words("status")
        observed_at = found.times("observed_at", config.feed.naive_time_zone, now)
        received_at = pd.Series(pd.Timestamp(now).as_unit("us"), index=frame.index)
        if "received_at" in frame.columns:
            stated = found.times("received_at", config.feed.naive_time_zone, now, is_required=False)
            received_at = stated.where(stated.notna(), received_at)
        evse_key = evse_id.map(key_of)
        found.reject(
            evse_key.isna(),
            "evse_id",
            lambda value: (
                f"'{value}' stands at several sites: {', '.join(sorted(by_id[text_of(value).casefold()]))}"
                if text_of(value).casefold() in by_id
                else f"'{value}' is not described by any asset of {config.cpo_id}"
            ),
        )
        good = found.is_good
        batch.add_changes(
            map(
                Change,
                evse_key[good].astype("int64").tolist(),
                observed_at[good].dt.to_pydatetime().tolist() if good.any() else [],
                [None if word.casefold() == ABSENT else word for word in status[good]],
                received_at[good].dt.to_pydatetime().tolist() if good.any() else [],
                [None] * int(good.sum()),
            )
        )
        batch.add_rejected([*malformed, *found.rejected], now)
        count += len(frame) + len(malformed)
        report(f"{path.name}: {count} change records read")
    return count


_BOOLEANS = {
    **dict.fromkeys(("true", "t", "1", "yes", "y"), True),
    **dict.fromkeys(("false", "f", "0", "no", "n"), False),
}


def _import_contact(batch: Batch, config: CpoConfig, path: Path, now: datetime, report: Report) -> int:
    count = 0
    for first, frame, malformed in read_tables(path):
        has_poll, has_stream = "contact_at" in frame.columns, "contact_from" in frame.columns
        if not has_poll and not has_stream:
            raise HistoryFileError(f"{path}: needs contact_at, is_complete or contact_from, contact_until")
        required = (("contact_at", "is_complete") if has_poll else ()) + (
            ("contact_from", "contact_until") if has_stream else ()
        )
        require_columns(path, frame, required, ("is_complete",))
        found = Findings(path, first, frame)
        found.reject_nul()
        zone = config.feed.naive_time_zone
        nothing = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us, UTC]")
        contact_at = found.times("contact_at", zone, now, is_required=not has_stream) if has_poll else nothing
        contact_from = found.times("contact_from", zone, now, is_required=not has_poll) if has_stream else nothing
        contact_until = found.times("contact_until", zone, now, is_required=not has_poll) if has_stream else nothing
        if has_poll and has_stream:
            is_poll = contact_at.notna()
            is_stream = contact_from.notna() & contact_until.notna()
            found.reject(
                is_poll & (contact_from.notna() | contact_until.notna()),
                "contact_at",
                lambda value: "is given beside contact_from or contact_until: a record is a poll or a stretch",
            )
            found.reject(
                ~is_poll & ~is_stream, "contact_at", lambda value: "is empty, and so is contact_from or contact_until"
            )
            contact_from = contact_from.where(~is_poll, contact_at)
            contact_until = contact_until.where(~is_poll, contact_at)
        elif has_poll:
            is_poll = pd.Series(True, index=frame.index)
            contact_from = contact_until = contact_at
        else:
            is_poll = pd.Series(False, index=frame.index)
        if has_stream:
            found.reject(
                contact_until < contact_from, "contact_until", lambda value: f"'{value}' is before contact_from"
            )
        is_complete = pd.Series(False, index=frame.index)
        if "is_complete" in frame.columns:
            said = texts_of(frame["is_complete"]).str.casefold()
            found.reject(is_poll & (said == ""), "is_complete", lambda value: "is empty")
            found.reject(
                (said != "") & ~said.isin(_BOOLEANS),
                "is_complete",
                lambda value: f"'{value}' is neither true nor false",
            )
            is_complete = said.map(_BOOLEANS).fillna(False).astype(bool)
        good = found.is_good
        batch.add_contacts(
            Contact(start, end, Outcome.COMPLETE if complete else Outcome.ALIVE, now)
            for start, end, complete in zip(
                contact_from[good].dt.to_pydatetime() if good.any() else [],
                contact_until[good].dt.to_pydatetime() if good.any() else [],
                is_complete[good],
                strict=True,
            )
        )
        batch.add_rejected([*malformed, *found.rejected], now)
        count += len(frame) + len(malformed)
        report(f"{path.name}: {count} contact records read")
    return count


# Assets


def _import_assets(batch: Batch, config: CpoConfig, path: Path, now: datetime) -> int:
    count = 0
    assets: dict[tuple[str, str, datetime | None], Asset] = {}
    for first, frame, malformed in read_tables(path):
        require_columns(path, frame, ASSET_COLUMNS, None)
        found = Findings(path, first, frame)
        records = {name: texts_of(frame[name]) for name in frame.columns}
        found.reject_nul()
        for name in ("site_id", "evse_id", "connector_id"):
            found.words(name)
        found.words("charger_id", is_required=False)
        zone = records["time_zone"].where(records["time_zone"] != "", config.feed.time_zone or "")
        found.reject(
            ~zone.map(is_time_zone).astype(bool), "time_zone", lambda value: f"'{value}' is not an IANA time zone"
        )
        valid_from = None
        if "valid_from" in frame.columns:
            # A bare date is the start of that day where the site is; it is read with the site's own zone below.
            text = records["valid_from"]
            is_date = text.str.fullmatch(r"\d{4}-\d{2}-\d{2}")
            local = pd.Series(
                [
                    start_of_day(day, name) if bare and is_time_zone(name) else None
                    for day, name, bare in zip(text, zone, is_date, strict=True)
                ],
                index=frame.index,
                dtype="object",
            )
            instants = instants_of(frame["valid_from"], config.feed.naive_time_zone)
            valid_from = instants.astype("object").where(~is_date, local)
            found.reject(
                (text != "") & valid_from.isna(),
                "valid_from",
                lambda value: f"'{value}' is not an ISO 8601 time or date",
            )
        for position in frame.index[found.is_good]:
            record = {name: str(values.at[position]) for name, values in records.items()}
            since: datetime | None = None
            if valid_from is not None:
                stated: Any = valid_from.at[position]
                since = None if pd.isna(stated) else pd.Timestamp(stated).to_pydatetime()
            asset = asset_of(record, str(zone.at[position]), since, partial(found.note, position))
            place = (asset.evse_ref, asset.connector_ref, since)
            if place not in assets:
                assets[place] = asset
            elif assets[place] != asset:
                found.note(
                    position, "connector_id", "is described twice, and differently; the first description is used"
                )
        batch.add_rejected([*malformed, *found.rejected], now)
        count += len(frame) + len(malformed)
    batch.add_assets(sorted(assets.values(), key=lambda asset: asset.valid_from or now), now, is_whole_evse=False)
    return count
