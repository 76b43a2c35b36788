"""Tables in files: CSV or Parquet, plain or compressed, read chunk by chunk; what is wrong with a record is noted beside it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow.parquet

from ingestion.model import Rejected
from ingestion.times import EARLIEST, FUTURE_SKEW

RECORDS_AT_A_TIME = 200_000

MOST_CHARACTERS = 200
"""Of an id or a status word; a longer one is no such thing, and too long for the keys of the database."""


class HistoryFileError(ValueError):
    """A file cannot be taken at all; the message names it and says why."""


UNREADABLE = (UnicodeDecodeError, EOFError, lzma.LZMAError, zlib.error, OSError, pyarrow.ArrowException, csv.Error)
"""What reading a damaged file raises, or one that is not what it seems."""


def open_plain(path: Path) -> IO[bytes]:
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
    return io.TextIOWrapper(open_plain(path), encoding=encoding, errors="strict", newline="")


def read_tables(path: Path) -> Iterator[tuple[int, pd.DataFrame, list[Rejected]]]:
    """Yield (number of the first record, frame of texts, records that are not rows) chunk by chunk.

    Record numbers start at 1 after the header. Parquet values that are typed stay typed.
    """
    if not path.exists():
        raise HistoryFileError(f"{path}: no such file")
    try:
        plain = open_plain(path)
        with plain:
            is_parquet = plain.read(4) == b"PAR1"
        if is_parquet:
            yield from _parquet_tables(path)
        else:
            yield from _csv_tables(path)
    except UNREADABLE as error:
        raise HistoryFileError(f"{path}: cannot be read: {error}") from error


def _parquet_tables(path: Path) -> Iterator[tuple[int, pd.DataFrame, list[Rejected]]]:
    with open_plain(path) as plain:
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


def require_columns(
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


def text_of(value: Any) -> str:
    if _is_null(value):
        return ""
    # A column of whole numbers with a null among them is written as floats by many tools: 2000.0 is the id 2000.
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def texts_of(column: pd.Series) -> pd.Series:
    """Values as stripped texts; null becomes the empty text."""
    return pd.Series([text_of(value) for value in column], index=column.index, dtype="object")


_DATE = re.compile(r"\d{4}-\d{2}(?:-\d{2})?|\d{8}")
_ZONE = re.compile(r"[T ].*(?:[zZ]|[+-]\d{2}(?::?\d{2})?)$")


def instants_of(column: pd.Series, naive_zone: str) -> pd.Series:
    """Values as UTC instants (datetime64); NaT where a value is empty or not a time.

    A time without a zone is read in ``naive_zone``; one that this zone skips or repeats has no answer and is NaT. A date is not a time.
    """
    if isinstance(column.dtype, pd.ArrowDtype) and "timestamp" in str(column.dtype):
        plain = pd.to_datetime(column.astype("object"), errors="coerce", utc=False)
        if getattr(plain.dtype, "tz", None) is None:
            plain = plain.dt.tz_localize(naive_zone, ambiguous="NaT", nonexistent="NaT")
        return plain.dt.tz_convert("UTC").dt.as_unit("us")
    # Lower-case t and z are good RFC 3339.
    text = texts_of(column).str.upper()
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


class Findings:
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
        texts = texts_of(self._frame[field])
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
        instants = instants_of(self._frame[field], zone)
        empty = texts_of(self._frame[field]) == ""
        if is_required:
            self.reject(empty, field, lambda value: "is empty")
        is_date = texts_of(self._frame[field]).str.fullmatch(_DATE)
        self.reject(is_date, field, lambda value: f"'{value}' is a date without a time of day")
        self.reject(
            instants.isna() & ~empty, field, lambda value: f"'{value}' is not an ISO 8601 time, or not one in {zone}"
        )
        self.reject(instants > pd.Timestamp(now + FUTURE_SKEW), field, lambda value: f"'{value}' is in the future")
        self.reject(instants < pd.Timestamp(EARLIEST), field, lambda value: f"'{value}' is before {EARLIEST:%Y-%m-%d}")
        return instants
