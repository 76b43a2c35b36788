"""Turn a file of snapshots (at each time, a row per EVSE) into the three history files.

The YAML beside the file says which column is what. An EVSE that a non-empty snapshot does not list is either in ``absent_status`` or, when that
is not given, absent. A snapshot that holds nothing but an empty marker is no contact.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingestion.records import ASSET_COLUMNS
from ingestion.settings import TimeZone
from ingestion.tables import UNREADABLE, HistoryFileError, open_text
from warehouse.strict_yaml import ConfigError, explain, read_strict_yaml

ROWS_AT_A_TIME = 200_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Time(_Strict):
    columns: list[str] = Field(min_length=1)
    widths: list[int]
    """Each column's text is padded with zeros on the left to this width before they are joined."""
    format: str
    time_zone: TimeZone


class _Evse(_Strict):
    columns: list[str] = Field(min_length=1)
    """Columns that together identify an EVSE; their texts are joined by ``/``."""


class SnapshotConfig(_Strict):
    """Description of a snapshot file."""

    delimiter: str = ","
    encoding: str = "utf-8-sig"
    columns: list[str] | None = None
    """Names in file order when the file has no header line."""
    time: _Time
    evse: _Evse
    status: str
    """Column with the status word."""
    empty_marker: dict[str, str]
    """Column and text that mark an empty snapshot: the source did not answer at that time."""
    absent_status: str | None = None
    """Word for an EVSE that a non-empty snapshot does not list."""
    assets: dict[str, str]
    """Column of the assets file to ``{column}`` patterns or fixed texts; the latest row of each EVSE is used."""


def load_snapshot_config(path: Path) -> SnapshotConfig:
    """Read and check the description. Raises ``ConfigError``."""
    try:
        config = SnapshotConfig.model_validate(read_strict_yaml(path))
    except ValidationError as error:
        raise explain(path, error) from error
    missing = [name for name in ASSET_COLUMNS if name not in config.assets]
    if missing:
        raise ConfigError(f"{path}: assets: missing {', '.join(missing)} (give an empty text for what is not known)")
    if len(config.time.widths) != len(config.time.columns):
        raise ConfigError(f"{path}: time.widths: needs one number per column of time.columns")
    return config


def convert(config_path: Path, source: Path, output: Path) -> Iterator[str]:
    """Write ``assets.csv.gz``, ``changes.csv.gz`` and ``contact.csv.gz`` below ``output``; yield lines that say what was found.

    Raises ``ConfigError`` and ``HistoryFileError``.
    """
    config = load_snapshot_config(config_path)
    rows = _read(config, source)
    yield f"{len(rows)} rows"

    joined = rows[config.time.columns[0]].str.zfill(config.time.widths[0])
    for name, width in zip(config.time.columns[1:], config.time.widths[1:], strict=True):
        joined = joined + rows[name].str.zfill(width)
    local = pd.to_datetime(joined, format=config.time.format, errors="coerce")
    at = local.dt.tz_localize(config.time.time_zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
    if at.isna().any():
        number = int(at.isna().to_numpy().argmax())
        raise HistoryFileError(
            f"{source}: row {number + 1}: '{joined.iloc[number]}' is not a time ({int(at.isna().sum())} such rows)"
        )
    rows["at"] = at

    is_empty = pd.Series(True, index=rows.index)
    for name, marker in config.empty_marker.items():
        is_empty &= rows[name] == marker
    told = rows[~is_empty].copy()
    if told.empty:
        raise HistoryFileError(f"{source}: holds no snapshot that lists an EVSE")
    first_part, *other_parts = config.evse.columns
    told["evse_id"] = told[first_part].str.cat(told[other_parts], sep="/") if other_parts else told[first_part]
    # A snapshot that holds rows beside an empty marker has answered.
    empty_times = set(rows.loc[is_empty, "at"]) - set(told["at"])
    yield f"{told['at'].nunique()} snapshots, {len(empty_times)} empty ones (no contact), {told['evse_id'].nunique()} EVSEs"

    repeated = told.duplicated(["evse_id", "at"], keep="last")
    disagreeing = told.groupby(["evse_id", "at"])[config.status].nunique().gt(1).sum()
    yield f"{int(repeated.sum())} rows repeat an EVSE in one snapshot, {int(disagreeing)} of them disagree: the last one is used"
    told = told[~repeated]

    grid = told.pivot(index="at", columns="evse_id", values=config.status).sort_index()
    if config.absent_status is not None:
        grid = grid.fillna(config.absent_status)
    grid = grid.fillna("missing")
    is_change = grid.ne(grid.shift())
    changes = grid.where(is_change).stack().dropna().reset_index()
    changes.columns = pd.Index(["observed_at", "evse_id", "status"])
    if config.absent_status is None:
        first_seen = told.groupby("evse_id")["at"].min()
        changes = changes[changes["observed_at"] >= changes["evse_id"].map(first_seen)]
    yield f"{len(changes)} changes"

    output.mkdir(parents=True, exist_ok=True)
    _write(
        output / "changes.csv.gz", changes.sort_values(["observed_at", "evse_id"])[["evse_id", "status", "observed_at"]]
    )
    contact = pd.DataFrame({"contact_at": grid.index, "is_complete": "true"})
    _write(output / "contact.csv.gz", contact)

    latest = told.sort_values("at", kind="stable").groupby("evse_id", sort=True).tail(1).sort_values("evse_id")
    records = [
        {name: pattern.format_map(row) for name, pattern in config.assets.items()} for row in latest.to_dict("records")
    ]
    _write(output / "assets.csv.gz", pd.DataFrame.from_records(records))
    moved = (
        told.groupby("evse_id")[[name for name in ("longitude", "latitude") if name in told]]
        .nunique()
        .gt(1)
        .any(axis=1)
    )
    yield f"{len(records)} assets; {int(moved.sum())} of them changed coordinates (the latest are used)"


def _read(config: SnapshotConfig, source: Path) -> pd.DataFrame:
    """All rows as texts. Raises ``HistoryFileError`` for a file without a column that is needed, or with a row of another width."""
    quoting: Literal[0, 3] = csv.QUOTE_NONE if config.delimiter == "\t" else csv.QUOTE_MINIMAL
    parts = []
    try:
        with open_text(source, config.encoding) as text:
            reader = (row for row in csv.reader(text, delimiter=config.delimiter, quoting=quoting) if row)
            columns = config.columns or next(reader, [])
            _require_columns(config, source, columns)
            first = 1
            while chunk := list(itertools.islice(reader, ROWS_AT_A_TIME)):
                for number, row in enumerate(chunk, first):
                    if len(row) != len(columns):
                        raise HistoryFileError(
                            f"{source}: row {number} has {len(row)} values, there are {len(columns)} columns"
                        )
                parts.append(pd.DataFrame(chunk, columns=columns, dtype="str"))
                first += len(chunk)
    except UNREADABLE as error:
        raise HistoryFileError(f"{source}: cannot be read: {error}") from error
    if not parts:
        raise HistoryFileError(f"{source}: holds no row")
    return pd.concat(parts, ignore_index=True)


def _require_columns(config: SnapshotConfig, source: Path, columns: list[str]) -> None:
    in_assets = [name for pattern in config.assets.values() for name in _names_in(pattern) if name != "evse_id"]
    for name in (*config.time.columns, *config.evse.columns, config.status, *config.empty_marker, *in_assets):
        if name not in columns:
            raise HistoryFileError(f"{source}: column {name} is missing; it has {', '.join(columns)}")


def _names_in(pattern: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]


def _write(path: Path, frame: pd.DataFrame) -> None:
    for name in frame.columns:
        if pd.api.types.is_datetime64_any_dtype(frame[name]):
            frame = frame.assign(**{name: frame[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ")})
    text = io.StringIO(newline="")
    frame.to_csv(text, index=False, lineterminator="\n")
    # No time of writing inside: the same input gives the same bytes.
    path.write_bytes(gzip.compress(text.getvalue().encode("utf-8"), mtime=0))
