"""The records of one file, one after the other: CSV, Parquet or JSON, plain, gzip, xz or bzip2.

Held in memory are at most some thousand rows (Parquet: one batch of a row group), or a whole JSON document of at most ``MAX_DOCUMENT_BYTES``.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet

from ingestion.config import FileDropFeed
from ingestion.mapping import NoListError, records, search
from ingestion.model import Rejected
from ingestion.tables import UNREADABLE, open_plain, open_text
from ingestion.values import parse_json

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""How long a JSON document, or a line of one, may be."""
ROWS_AT_A_TIME = 5_000


class FileDropError(ValueError):
    """A file cannot be taken at all; the message says why, ``rejected`` what is wrong with its records."""

    def __init__(self, reason: str, rejected: Iterable[Rejected] = ()) -> None:
        super().__init__(reason)
        self.rejected = tuple(rejected)


@dataclass(frozen=True, slots=True)
class Record:
    """``number`` counts from 1, after a header. ``problem``: why the record is none; then ``raw`` is what stood there."""

    number: int
    raw: object
    problem: str | None = None


def read_records(path: Path, feed: FileDropFeed) -> Iterator[Record]:
    """Records of a file in order. Raises ``FileDropError`` when it breaks off, or is not what it should be."""
    try:
        if feed.format == "csv":
            yield from _csv_records(path, feed.delimiter)
        elif feed.format == "parquet":
            yield from _parquet_records(path)
        else:
            yield from _json_records(path, feed)
    except UNREADABLE as error:
        raise FileDropError(f"cannot be read as {feed.format}: {error}") from error


def _csv_records(path: Path, delimiter: str) -> Iterator[Record]:
    with open_text(path) as text:
        reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True)
        header = [name.strip() for name in next(reader, [])]
        if not any(header):
            raise FileDropError("is empty; its first line must name the columns")
        if len(set(header)) < len(header):
            raise FileDropError(f"a column stands twice in {header}")
        number = 0
        for row in reader:
            if not row:
                continue
            number += 1
            if len(row) == len(header):
                yield Record(number, {name: value.strip() for name, value in zip(header, row, strict=True)})
            else:
                yield Record(number, row, f"has {len(row)} values, the header has {len(header)}")


def _parquet_records(path: Path) -> Iterator[Record]:
    with open_plain(path) as packed:
        if packed.read(4) != b"PAR1":
            raise FileDropError("cannot be read as parquet: it does not begin like one")
    plain = path.with_name(f"{path.name}.plain")
    with open_plain(path) as packed, plain.open("wb") as file:
        shutil.copyfileobj(packed, file)
    try:
        with pyarrow.parquet.ParquetFile(plain) as source:
            number = 0
            for batch in source.iter_batches(ROWS_AT_A_TIME):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, row)
    finally:
        plain.unlink()


def _json_records(path: Path, feed: FileDropFeed) -> Iterator[Record]:
    """The lines of a file of several documents; else what the mapping finds in the one document."""
    with open_plain(path) as file:
        has_lines = _is_object(_line(file.readline(MAX_DOCUMENT_BYTES + 1))) and bool(file.read(4096).strip())
    if has_lines:
        yield from _json_lines(path)
        return
    with open_plain(path) as file:
        body = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(body) > MAX_DOCUMENT_BYTES:
        raise FileDropError(f"one document of more than {MAX_DOCUMENT_BYTES} bytes; write a larger one a record a line")
    try:
        document = parse_json(body)
    except ValueError as error:
        raise FileDropError(f"is not JSON: {error}") from error
    expression = feed.mapping.sites if feed.mapping else feed.status_mapping.items if feed.status_mapping else "@"
    try:
        found = search(expression, document)
        items = [found] if isinstance(found, dict) else records(document, expression)
    except (NoListError, ValueError) as error:
        raise FileDropError(str(error)) from error
    for number, item in enumerate(items, 1):
        yield Record(number, item)


def _json_lines(path: Path) -> Iterator[Record]:
    with open_plain(path) as file:
        number = 0
        while line := _line(file.readline(MAX_DOCUMENT_BYTES + 1)):
            if not line.strip():
                continue
            number += 1
            try:
                yield Record(number, parse_json(line))
            except ValueError as error:
                yield Record(number, line.decode("utf-8", "replace").rstrip("\n"), f"is not JSON: {error}")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return False


def _line(line: bytes) -> bytes:
    if len(line) > MAX_DOCUMENT_BYTES:
        raise FileDropError(f"a line of more than {MAX_DOCUMENT_BYTES} bytes")
    return line


def payload_of(record: Record) -> str:
    """A record that is none, as text."""
    return record.raw if isinstance(record.raw, str) else json.dumps(record.raw, ensure_ascii=False, default=str)
