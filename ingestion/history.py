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

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
import pyarrow.parquet

from ingestion.config import CpoConfig, HistoryFeed
from ingestion.model import Asset, Contact, Outcome, Rejected, reference
from ingestion.times import EARLIEST, FUTURE_SKEW, is_time_zone
from ingestion.writer import Batch, Writer, Written

HISTORY_PROFILE = "history"
"""Status words of history files: the canonical statuses, OCPI 2.2.1 and OCPP words (seed ``status_profiles.csv``)."""

ABSENT = "missing"
"""The word that says: from here on the source did not list this EVSE any more."""

RECORDS_AT_A_TIME = 200_000

MOST_CHARACTERS = 200
"""Of an id or a status word; a longer one is no such thing, and too long for the keys of the database."""

ASSET_COLUMNS = (
    "site_id", "site_name", "address", "suburb", "postcode", "state", "latitude", "longitude", "time_zone",
    "charger_id", "evse_id", "connector_id", "connector_standard", "power_kw",
)  # fmt: skip
ASSET_OPTIONAL = ("country", "emi3_id", "valid_from", "commissioned_on")


class HistoryFileError(ValueError):
    """A file cannot be taken at all; the message names it and says why."""


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
    writer = Writer(connection, config)
    counts = {"assets": 0, "changes": 0, "contact": 0}
    if status_profile is None:
        status_profile = config.feed.status_profile if isinstance(config.feed, HistoryFeed) else HISTORY_PROFILE
    with writer.batch(status_profile) as batch:
        if assets is not None:
            counts["assets"] = _import_assets(batch, config, assets, now)
            report(f"{assets.name}: {counts['assets']} asset records read")
        if changes is not None:
            counts["changes"] = _import_changes(batch, config, changes, now, report)
        if contact is not None:
            counts["contact"] = _import_contact(batch, config, contact, now, report)
    return Imported(counts["assets"], counts["changes"], counts["contact"], batch.written)


# Reading tables

UNREADABLE = (UnicodeDecodeError, EOFError, lzma.LZMAError, zlib.error, OSError, pyarrow.ArrowException, csv.Error)
"""What reading a damaged file raises, or one that is not what it seems."""


def _open_plain(path: Path) -> IO[bytes]:
    """Open a file as its uncompressed bytes, by what it is and not by its name."""
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if magic == b"\xfd7zXZ\x00":
        return lzma.open(path, "rb")
    if magic.startswith(b"BZh"):
        return bz2.open(path, "rb")
    return path.open("rb")


def open_text(path: Path, encoding: str = "utf-8-sig") -> IO[str]:
    """Open a CSV file as text: by default UTF-8 with or without a byte order mark; gzip, xz, bzip2 or plain."""
    return io.TextIOWrapper(_open_plain(path), encoding=encoding, errors="strict", newline="")


def _tables(path: Path) -> Iterator[tuple[int, pd.DataFrame, list[Rejected]]]:
    """Yield (number of the first record, frame of texts, records that are not rows) chunk by chunk.

    Record numbers start at 1 after the header. Parquet values that are typed stay typed.
    """
    if not path.exists():
        raise HistoryFileError(f"{path}: no such file")
    try:
        plain = _open_plain(path)
        with plain:
            is_parquet = plain.read(4) == b"PAR1"
        if is_parquet:
            yield from _parquet_tables(path)
        else:
            yield from _csv_tables(path)
    except UNREADABLE as error:
        raise HistoryFileError(f"{path}: cannot be read: {error}") from error


def _parquet_tables(path: Path) -> Iterator[tuple[int, pd.DataFrame, list[Rejected]]]:
    with _open_plain(path) as plain:
        source = pyarrow.parquet.ParquetFile(io.BytesIO(plain.read()))
        first = 1
        names = [name.strip() for name in source.schema_arrow.names]
        _require_different(path, names)
        for batch in source.iter_batches(RECORDS_AT_A_TIME):
            # Without pandas' own notes in the file, by which a column may come back as the labels of the rows.
            frame = batch.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
            frame.columns = names
            yield first, frame.drop(columns=[name for name in names if _ROW_LABELS.fullmatch(name)]), []
            first += len(frame)
        if first == 1:
            yield 1, pd.DataFrame(columns=names, dtype="object"), []


_ROW_LABELS = re.compile(r"__index_level_\d+__")
"""Row labels that pandas stores beside the columns; no data of anybody's."""


def _require_different(path: Path, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise HistoryFileError(f"{path}: a column stands twice in {names}")


def _csv_tables(path: Path) -> Iterator[tuple[int, pd.DataFrame, list[Rejected]]]:
    with open_text(path) as text:
        reader = csv.reader(text, skipinitialspace=True)
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise HistoryFileError(f"{path}: is empty; its first line must name the columns")
        _require_different(path, header)
        first = 1
        while True:
            rows: list[list[str]] = []
            numbers: list[int] = []
            rejected = []
            number = first
            for row in reader:
                if not row:
                    continue
                if len(row) == len(header):
                    rows.append(row)
                    numbers.append(number)
                else:
                    rejected.append(
                        Rejected(
                            path.name, f"record {number}", None,
                            f"has {len(row)} values, the header has {len(header)}", json.dumps(row, ensure_ascii=False),
                        )
                    )  # fmt: skip
                number += 1
                if number - first >= RECORDS_AT_A_TIME:
                    break
            if number == first and first > 1:
                return
            frame = pd.DataFrame(rows, columns=header, index=pd.Index(numbers, dtype="int64") - first, dtype="object")
            yield first, frame, rejected
            if number - first < RECORDS_AT_A_TIME:
                return
            first = number


def _require_columns(
    path: Path, frame: pd.DataFrame, required: tuple[str, ...], optional: tuple[str, ...] | None
) -> None:
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise HistoryFileError(f"{path}: column {', '.join(missing)} is missing; it has {', '.join(frame.columns)}")
    if optional is not None:
        extra = [name for name in frame.columns if name not in required + optional]
        if extra:
            raise HistoryFileError(
                f"{path}: column {', '.join(extra)} is not known here and would be lost; "
                f"take it out, or put it into the assets file, which keeps it"
            )


def _is_null(value: Any) -> bool:
    return value is None or bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _text(value: Any) -> str:
    if _is_null(value):
        return ""
    # A column of whole numbers with a null among them is written as floats by many tools: 2000.0 is the id 2000.
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _texts(column: pd.Series) -> pd.Series:
    """Values as stripped texts; null becomes the empty text."""
    return pd.Series([_text(value) for value in column], index=column.index, dtype="object")


_DATE = re.compile(r"\d{4}-\d{2}(?:-\d{2})?|\d{8}")
_ZONE = re.compile(r"[T ].*(?:[zZ]|[+-]\d{2}(?::?\d{2})?)$")


def _instants(column: pd.Series, naive_zone: str) -> pd.Series:
    """Values as UTC instants (datetime64); NaT where a value is empty or not a time.

    A time without a zone is read in ``naive_zone``; one that this zone skips or repeats has no answer and is NaT. A date is not a time.
    """
    if isinstance(column.dtype, pd.ArrowDtype) and "timestamp" in str(column.dtype):
        plain = pd.to_datetime(column.astype("object"), errors="coerce", utc=False)
        if getattr(plain.dtype, "tz", None) is None:
            plain = plain.dt.tz_localize(naive_zone, ambiguous="NaT", nonexistent="NaT")
        return plain.dt.tz_convert("UTC").dt.as_unit("us")
    # Lower-case t and z are good RFC 3339.
    text = _texts(column).str.upper()
    has_zone = text.str.contains(_ZONE, regex=True)
    instants = pd.Series(pd.NaT, index=column.index, dtype="datetime64[us, UTC]")
    if has_zone.any():
        instants[has_zone] = _parsed(text[has_zone], utc=True).dt.as_unit("us")
    if (~has_zone).any():
        naive = _parsed(text[~has_zone].mask(text[~has_zone].str.fullmatch(_DATE)), utc=False)
        local = naive.dt.tz_localize(naive_zone, ambiguous="NaT", nonexistent="NaT")
        instants[~has_zone] = local.dt.tz_convert("UTC").dt.as_unit("us")
    return instants


def _parsed(text: pd.Series, *, utc: bool) -> pd.Series:
    parsed = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=utc)
    return parsed if pd.api.types.is_datetime64_any_dtype(parsed) else pd.to_datetime(parsed, errors="coerce", utc=utc)


class _Findings:
    """Collects what is wrong with the records of one chunk: the first reason of each counts."""

    def __init__(self, path: Path, first: int, frame: pd.DataFrame) -> None:
        self._path, self._first, self._frame = path, first, frame
        self.is_good = pd.Series(True, index=frame.index)
        self.rejected: list[Rejected] = []

    def reject(self, where: pd.Series, field: str, reason: Callable[[Any], str]) -> None:
        """Reject the good records at which ``where`` is true; ``reason`` gets the field's value."""
        at = self._frame.columns.get_loc(field)
        for position, *values in self._frame.loc[where & self.is_good].itertuples(name=None):
            self._note(position, values, field, reason(values[at]))
        self.is_good &= ~where

    def note(self, position: int, field: str, reason: str) -> None:
        """Quarantine one record; the caller decides whether the rest of it is used."""
        self._note(position, list(self._frame.loc[position]), field, reason)

    def _note(self, position: int, values: list[Any], field: str, reason: str) -> None:
        payload = {
            str(name): None if _is_null(value) else str(value)
            for name, value in zip(self._frame.columns, values, strict=True)
        }
        self.rejected.append(
            Rejected(
                self._path.name,
                f"record {self._first + position}",
                field,
                reason,
                json.dumps(payload, ensure_ascii=False),
            )
        )

    def words(self, field: str, *, is_required: bool = True) -> pd.Series:
        """Stripped texts of a column of ids or words; reject what is empty, or could not be stored."""
        texts = _texts(self._frame[field])
        if is_required:
            self.reject(texts == "", field, lambda value: "is empty")
        self.reject(
            texts.str.len() > MOST_CHARACTERS, field, lambda value: f"has more than {MOST_CHARACTERS} characters"
        )
        return texts

    def reject_nul(self) -> None:
        """Reject records with a NUL character, which no text of the database can hold."""
        for name in self._frame.columns:
            has_nul = pd.Series(["\x00" in str(value) for value in self._frame[name]], index=self._frame.index)
            self.reject(has_nul.astype(bool), name, lambda value: "holds a NUL character")

    def times(self, field: str, zone: str, now: datetime, *, is_required: bool = True) -> pd.Series:
        """Parse a time column and reject what is no time, implausibly old, or in the future."""
        instants = _instants(self._frame[field], zone)
        empty = _texts(self._frame[field]) == ""
        if is_required:
            self.reject(empty, field, lambda value: "is empty")
        is_date = _texts(self._frame[field]).str.fullmatch(_DATE)
        self.reject(is_date, field, lambda value: f"'{value}' is a date without a time of day")
        self.reject(
            instants.isna() & ~empty, field, lambda value: f"'{value}' is not an ISO 8601 time, or not one in {zone}"
        )
        self.reject(instants > pd.Timestamp(now + FUTURE_SKEW), field, lambda value: f"'{value}' is in the future")
        self.reject(instants < pd.Timestamp(EARLIEST), field, lambda value: f"'{value}' is before {EARLIEST:%Y-%m-%d}")
        return instants


# Changes and contact


def _import_changes(batch: Batch, config: CpoConfig, path: Path, now: datetime, report: Report) -> int:
    keys = batch.evse_keys()
    by_id = batch.evses_by_id()
    key_of = {evse_id: keys[next(iter(refs))] for evse_id, refs in by_id.items() if len(refs) == 1}
    count = 0
    for first, frame, malformed in _tables(path):
        _require_columns(path, frame, ("evse_id", "status", "observed_at"), ("received_at",))
        found = _Findings(path, first, frame)
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
                f"'{value}' stands at several sites: {', '.join(sorted(by_id[_text(value).casefold()]))}"
                if _text(value).casefold() in by_id
                else f"'{value}' is not described by any asset of {config.cpo_id}"
            ),
        )
        good = found.is_good
        batch.add_changes(
            zip(
                evse_key[good].astype("int64").tolist(),
                observed_at[good].dt.to_pydatetime().tolist() if good.any() else [],
                [None if word.casefold() == ABSENT else word for word in status[good]],
                received_at[good].dt.to_pydatetime().tolist() if good.any() else [],
                [None] * int(good.sum()),
                strict=True,
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
    for first, frame, malformed in _tables(path):
        has_poll, has_stream = "contact_at" in frame.columns, "contact_from" in frame.columns
        if not has_poll and not has_stream:
            raise HistoryFileError(f"{path}: needs contact_at, is_complete or contact_from, contact_until")
        required = (("contact_at", "is_complete") if has_poll else ()) + (
            ("contact_from", "contact_until") if has_stream else ()
        )
        _require_columns(path, frame, required, ("is_complete",))
        found = _Findings(path, first, frame)
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
            said = _texts(frame["is_complete"]).str.casefold()
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
    for first, frame, malformed in _tables(path):
        _require_columns(path, frame, ASSET_COLUMNS, None)
        found = _Findings(path, first, frame)
        records = {name: _texts(frame[name]) for name in frame.columns}
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
                    _start_of_day(day, name) if bare and is_time_zone(name) else None
                    for day, name, bare in zip(text, zone, is_date, strict=True)
                ],
                index=frame.index,
                dtype="object",
            )
            instants = _instants(frame["valid_from"], config.feed.naive_time_zone)
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
            asset = _asset(record, str(zone.at[position]), since, found, position)
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


def _start_of_day(day: str, zone: str) -> datetime | None:
    try:
        parsed = date.fromisoformat(day)
    except ValueError:
        return None
    return datetime(parsed.year, parsed.month, parsed.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def _asset(record: dict[str, str], zone: str, valid_from: datetime | None, found: _Findings, position: int) -> Asset:
    """Build one asset; a value that cannot be used is left out and noted, the rest of the record is used."""

    def number(name: str, low: float, high: float) -> float | None:
        if record[name] == "":
            return None
        try:
            value = float(record[name])
        except ValueError:
            value = float("nan")
        if low <= value <= high:
            return value
        found.note(position, name, f"'{record[name]}' is not a number from {low:g} to {high:g}; kept without it")
        return None

    power = None
    if record["power_kw"] != "":
        try:
            power = Decimal(record["power_kw"]).quantize(Decimal("0.001"))
        except InvalidOperation:
            power = None
        if power is None or power.is_nan() or not 0 <= power < 100_000:
            found.note(position, "power_kw", f"'{record['power_kw']}' is not a power in kW; kept without it")
            power = None
    commissioned_on = None
    if record.get("commissioned_on"):
        try:
            commissioned_on = datetime.fromisoformat(record["commissioned_on"]).date()
        except ValueError:
            found.note(
                position, "commissioned_on", f"'{record['commissioned_on']}' is not an ISO 8601 date; kept without it"
            )
    charger_id = record["charger_id"] or record["evse_id"]
    return Asset(
        site_ref=reference(record["site_id"]),
        site_id=record["site_id"],
        charger_ref=reference(record["site_id"], charger_id),
        charger_id=charger_id,
        evse_ref=reference(record["site_id"], record["evse_id"]),
        evse_id=record["evse_id"],
        connector_ref=reference(record["connector_id"]),
        connector_id=record["connector_id"],
        time_zone=zone,
        site_name=record["site_name"] or None,
        address=record["address"] or None,
        suburb=record["suburb"] or None,
        postcode=_postcode(record["postcode"], record.get("country", "")) or None,
        state=record["state"] or None,
        country=record.get("country") or None,
        latitude=number("latitude", -90, 90),
        longitude=number("longitude", -180, 180),
        emi3_id=record.get("emi3_id") or None,
        connector_standard=record["connector_standard"] or None,
        power_kw=power,
        commissioned_on=commissioned_on,
        valid_from=valid_from,
        attributes={
            name: value for name, value in record.items() if name not in ASSET_COLUMNS + ASSET_OPTIONAL and value != ""
        },
    )


def _postcode(text: str, country: str) -> str:
    """Give an Australian postcode back the zero that a spreadsheet took from it: 800 is 0800."""
    is_australian = country.upper() in ("", "AU", "AUS")
    return f"0{text}" if is_australian and re.fullmatch(r"[0-9]{3}", text) else text


# Hand-over folders


def import_waiting(
    connection: psycopg.Connection, config: CpoConfig, inbox: Path, now: datetime, report: Report
) -> list[Imported]:
    """Import every hand-over below ``inbox/<cpo_id>/`` that has not been imported: a folder with assets, changes and contact files.

    A folder is done when its ``imported.json`` holds the hashes of the very files that are there; changing a file makes it waiting again.
    A folder that cannot be imported does not keep the others waiting: raises ``HistoryFileError`` that names every such folder, at the end.
    """
    done = []
    refused = []
    for folder in sorted(path for path in (inbox / config.cpo_id).glob("*") if path.is_dir()):
        try:
            imported = _import_folder(connection, config, folder, now, report)
        except HistoryFileError as error:
            report(f"{folder.name}: refused: {error}")
            refused.append(f"{folder.name}: {error}")
            continue
        if imported is not None:
            done.append(imported)
    if refused:
        raise HistoryFileError("\n".join(refused))
    return done


def _import_folder(
    connection: psycopg.Connection, config: CpoConfig, folder: Path, now: datetime, report: Report
) -> Imported | None:
    """Import one hand-over and leave a receipt; ``None`` when there is nothing new in it."""
    assets, changes, contact = (_one_file(folder, kind) for kind in ("assets", "changes", "contact"))
    hashes = {file.name: _sha256(file) for file in (assets, changes, contact) if file is not None}
    if not hashes:
        return None
    receipt = folder / "imported.json"
    if receipt.exists() and json.loads(receipt.read_text(encoding="utf-8"))["sha256"] == hashes:
        report(f"{folder.name}: imported before")
        return None
    imported = import_history(
        connection, config, assets=assets, changes=changes, contact=contact, now=now, report=report
    )
    connection.commit()
    report(f"{folder.name}: {imported.written}")
    # Whole or not at all: a receipt cut short could not be read by the next run.
    unfinished = folder / "imported.json.part"
    unfinished.write_text(
        json.dumps({"sha256": hashes, "imported_at": now.isoformat(), "written": str(imported.written)}, indent=2),
        encoding="utf-8",
    )
    unfinished.replace(receipt)
    return imported


def _one_file(folder: Path, kind: str) -> Path | None:
    found = sorted(folder.glob(f"{kind}.*"))
    if len(found) > 1:
        raise HistoryFileError(f"{folder}: several files named {kind}: {', '.join(path.name for path in found)}")
    return found[0] if found else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
