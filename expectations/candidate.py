"""The rows that would leave, set aside in the object store until the gate has judged them.

A candidate lives at ``candidates/<recipient>/<month>/<candidate_id>/``: one Parquet file per table and
``header.json``, written last. Its id is made of its cut-off and of the SHA-256 of the header, which names the
SHA-256 of every file: the same rows have the same id, and other rows cannot take it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from warehouse.object_store import ObjectStore

STATUSES = (
    "available",
    "charging",
    "finishing",
    "preparing",
    "suspended",
    "reserved",
    "unavailable",
    "out_of_order",
    "blocked",
    "blocked_by_sibling",
    "inoperative",
    "unknown",
    "missing",
)
CLASS_SECONDS = (
    "in_service_seconds",
    "measured_seconds",
    "up_seconds",
    "down_seconds",
    "excluded_seconds",
    "not_measured_seconds",
    "in_use_seconds",
)
STATUS_SECONDS = tuple(f"{status}_seconds" for status in STATUSES)
SECONDS = CLASS_SECONDS + STATUS_SECONDS
RATIOS = (
    "uptime_ratio",
    "uptime_lower_ratio",
    "uptime_upper_ratio",
    "coverage_ratio",
    "utilisation_ratio",
    "unavailability_ratio",
)

LEVELS = ("connectors", "chargers", "sites")
LEVEL_KEYS = {
    "connectors": ("cpo_key", "site_key", "charger_key", "evse_key", "connector_key"),
    "chargers": ("cpo_key", "site_key", "charger_key"),
    "sites": ("cpo_key", "site_key"),
}
NATURAL_KEYS = {
    "connectors": ("cpo_id", "site_id", "charger_id", "evse_id", "connector_id"),
    "chargers": ("cpo_id", "site_id", "charger_id"),
    "sites": ("cpo_id", "site_id"),
}
"""What names a row to people, in the order in which the rows stand."""

_TIME = pa.timestamp("us", tz="UTC")
_RATIO = pa.decimal128(11, 10)


def _fields(kind: Any, *names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names]


def _level_schema(level: str) -> Any:
    text, whole, real = pa.string(), pa.int64(), pa.float64()
    fields = [
        ("local_month", pa.date32()),
        ("rule_set", text),
        ("rule_set_version", whole),
        *_fields(text, "cpo_id", "cpo_name", "site_id", "site_name", "address", "suburb", "postcode", "state"),
        *_fields(real, "latitude", "longitude"),
        ("time_zone", text),
    ]
    if level != "sites":
        fields += _fields(text, "charger_id")
    if level == "connectors":
        fields += _fields(text, "evse_id", "emi3_id", "connector_id", "connector_standard")
        fields += _fields(pa.decimal128(9, 3), "power_kw")
        fields += _fields(_TIME, "in_service_from", "in_service_until")
    else:
        fields += _fields(whole, "evse_count")
    fields += _fields(whole, *SECONDS)
    fields += _fields(real, *(f"{status}_minutes" for status in STATUSES))
    fields += _fields(_RATIO, *RATIOS, "target_ratio")
    fields += _fields(text, "target_comparison", "target_result")
    fields += _fields(whole, *LEVEL_KEYS[level])
    return pa.schema(fields)


SCHEMAS: dict[str, Any] = {
    **{level: _level_schema(level) for level in LEVELS},
    # Every EVSE of the recipient's states, in service or not: what the connectors must be complete against.
    "register": pa.schema(
        [
            *_fields(pa.string(), "cpo_id", "site_id", "charger_id", "evse_id", "state", "time_zone"),
            *_fields(_TIME, "in_service_from", "in_service_until"),
            *_fields(pa.int64(), "cpo_key", "site_key", "charger_key", "evse_key"),
        ]
    ),
    # Time inside an EVSE's window in which it was not in service, cut at local midnight.
    "service_breaks": pa.schema(
        [("evse_key", pa.int64()), ("local_date", pa.date32()), *_fields(_TIME, "break_from", "break_until")]
    ),
    # Seconds per EVSE and local day of the month; other_seconds are those of a status no rule-set knows.
    "evse_days": pa.schema(
        [
            ("evse_key", pa.int64()),
            ("local_date", pa.date32()),
            *_fields(pa.int64(), *STATUS_SECONDS, "other_seconds"),
        ]
    ),
}


class CandidateError(RuntimeError):
    """A stored candidate is absent, half-written or not what its id says."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """One file and what it must be."""

    sha256: str
    size_bytes: int
    row_count: int


class CandidateHeader(_Strict):
    """Who would get the rows, which rows they are, and when the marts were cut off."""

    format_version: Literal[1] = 1
    recipient_id: str
    recipient_name: str
    month: str
    states: tuple[str, ...]
    rule_set: str
    rule_set_version: int
    as_of: AwareDatetime
    """The marts' cut-off: nothing learnt later is in the rows."""
    unplaced_evse_count: int
    """In-service EVSEs of the whole warehouse whose site has no state:
    no recipient's extract can hold them.
    """
    status_profiles: dict[str, str | None]
    """By which profiles the words of each CPO's feed were translated; null when it has told none yet."""
    files: dict[str, FileEntry]

    def content(self) -> bytes:
        """The header as stored: the same header gives the same bytes."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the header, and with it of every file."""
        return hashlib.sha256(self.content()).hexdigest()

    @property
    def candidate_id(self) -> str:
        """Cut-off and the first part of the digest."""
        return f"{self.as_of:%Y%m%dT%H%M%SZ}-{self.digest[:16]}"

    @property
    def path(self) -> str:
        """Folder of the candidate in the object store."""
        return f"candidates/{self.recipient_id}/{self.month}/{self.candidate_id}"


@dataclass(frozen=True)
class Candidate:
    """The rows of one recipient and month: ``tables`` by the names of ``SCHEMAS``."""

    header: CandidateHeader
    tables: dict[str, Any]


def parquet_bytes(table: Any) -> bytes:
    """Write a table as Parquet; the same rows give the same bytes with the same release of the writer."""
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        row_group_size=65_536,
        use_dictionary=True,
        write_statistics=True,
    )
    return sink.getvalue()


def _file_entry(table: Any, content: bytes) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), row_count=table.num_rows)


def make_candidate(tables: dict[str, Any], **header: Any) -> Candidate:
    """Build a candidate of tables in the shape of ``SCHEMAS``;
    ``header`` is every other key of ``CandidateHeader``.
    """
    if set(tables) != set(SCHEMAS):
        raise ValueError(f"a candidate has the tables {sorted(SCHEMAS)}, not {sorted(tables)}")
    for name, table in tables.items():
        if not table.schema.equals(SCHEMAS[name]):
            raise ValueError(f"table {name} does not have the columns of a candidate")
    files = {name: _file_entry(tables[name], parquet_bytes(tables[name])) for name in sorted(tables)}
    return Candidate(CandidateHeader(files=files, **header), tables)


def store_candidate(candidate: Candidate, store: ObjectStore) -> str:
    """Write a candidate aside, its header last, and return its path. Safe to repeat."""
    path = candidate.header.path
    for name, table in sorted(candidate.tables.items()):
        store.overwrite(f"{path}/{name}.parquet", parquet_bytes(table))
    store.overwrite(f"{path}/header.json", candidate.header.content())
    return path


def load_header(path: str, store: ObjectStore) -> CandidateHeader:
    """Read a stored candidate's header. Raises ``CandidateError`` when it is not what its path says."""
    try:
        content = store.get(f"{path}/header.json")
    except FileNotFoundError:
        raise CandidateError(f"no candidate at {path}: it was not selected, or not to the end") from None
    try:
        header = CandidateHeader.model_validate_json(content)
    except ValidationError as error:
        count = error.error_count()
        raise CandidateError(f"{path}/header.json: {count} keys are wrong: select again") from error
    if header.path != path:
        raise CandidateError(f"{path}/header.json was changed after it was selected: select again")
    return header


def load_candidate(path: str, store: ObjectStore) -> Candidate:
    """Read a stored candidate and check every byte of it. Raises ``CandidateError``."""
    header = load_header(path, store)
    tables = {}
    for name, schema in SCHEMAS.items():
        file = f"{path}/{name}.parquet"
        try:
            content = store.get(file)
        except FileNotFoundError:
            raise CandidateError(f"{file} is gone: select again") from None
        entry = header.files.get(name)
        if entry is None or entry.sha256 != hashlib.sha256(content).hexdigest():
            raise CandidateError(f"{file} was changed after it was selected: select again")
        table = pq.read_table(io.BytesIO(content))
        if not table.schema.equals(schema):
            raise CandidateError(f"{file} has other columns than this version expects: select again")
        tables[name] = table
    return Candidate(header, tables)


def newest_candidate(recipient_id: str, month: str, store: ObjectStore) -> str:
    """Path of the last candidate stored for a recipient and month.

    Raises ``CandidateError`` when there is none.
    """
    pattern = re.compile(rf"(candidates/{re.escape(recipient_id)}/{re.escape(month)}/[^/]+)/header\.json")
    for path in store.newest_first(f"candidates/{recipient_id}/{month}"):
        if match := pattern.fullmatch(path):
            return match.group(1)
    raise CandidateError(f"no candidate of {recipient_id} for {month}: select one with `python -m extracts select`")
