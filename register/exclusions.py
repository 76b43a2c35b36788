"""The exclusion register: who says, on what evidence, that down time of an EVSE is not to be counted against it.

One CSV row is one entry: ``exclusion_id, cpo_id, site_id, evse_id, excluded_from, excluded_until, category, evidence, entered_by, entered_at,
decision, decided_by, decided_at, note`` (``site_id`` and ``note`` may be left out; times are RFC 3339 with their offset). An entry that is
handed in again with other content is a new version of it, and the version recorded last holds; none is ever changed or deleted.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import psycopg
from psycopg.rows import class_row
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

OPTIONAL = {"site_id", "note"}
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")


class RegisterError(ValueError):
    """A file that cannot be read as a whole; the message names it."""


def _instant(value: object) -> datetime:
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("not a time with its offset, such as 2026-10-04T09:30:00+11:00")
    return datetime.fromisoformat(value.upper())


Text = Annotated[str, Field(min_length=1, max_length=2000)]
Instant = Annotated[datetime, BeforeValidator(_instant)]


class Entry(BaseModel):
    """One row of a file."""

    model_config = ConfigDict(frozen=True)

    exclusion_id: Text
    cpo_id: Text
    site_id: Text | None = None
    evse_id: Text
    excluded_from: Instant
    excluded_until: Instant
    category: Literal[
        "scheduled_maintenance",
        "utility_interruption",
        "communication_outage",
        "vehicle_fault",
        "vandalism",
        "natural_disaster",
    ]
    evidence: Text | None = None
    entered_by: Text
    entered_at: Instant
    decision: Literal["pending", "approved", "rejected"]
    decided_by: Text | None = None
    decided_at: Instant | None = None
    note: Text | None = None


COLUMNS = tuple(Entry.model_fields)
"""Columns of a file."""

VERSIONED = tuple(name for name in COLUMNS if name not in {"cpo_id", "site_id", "evse_id"})
"""What a version says beside its EVSE."""


@dataclass(frozen=True)
class Problem:
    """Why a row did not go in."""

    file: Path
    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.reason}"


@dataclass(frozen=True)
class Loaded:
    """What became of the rows of one file."""

    new: int
    changed: int
    unchanged: int
    problems: Sequence[Problem]

    def __str__(self) -> str:
        return f"{self.new} new, {self.changed} changed, {self.unchanged} as they were, {len(self.problems)} problems"


@dataclass(frozen=True)
class Holding:
    """An entry as it holds."""

    exclusion_id: str
    cpo_id: str
    evse_id: str
    excluded_from: datetime
    excluded_until: datetime
    category: str
    evidence: str | None
    entered_by: str
    decision: str
    decided_by: str | None
    version_count: int


def contradictions(entry: Entry, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield (field, reason) for each way in which an entry contradicts itself or the rules of deciding."""
    if entry.excluded_from >= entry.excluded_until:
        yield "excluded_until", "not after excluded_from"
    if entry.entered_at > now:
        yield "entered_at", "in the future"
    is_decided = entry.decision != "pending"
    for name in ("decided_by", "decided_at"):
        if is_decided != (getattr(entry, name) is not None):
            yield name, f"missing: the entry is {entry.decision}" if is_decided else "given, but the entry is pending"
    if entry.decided_at is not None and not entry.entered_at <= entry.decided_at <= now:
        yield "decided_at", "before entered_at, or in the future"
    if entry.decision == "approved":
        if entry.evidence is None:
            yield "evidence", "missing: nothing is approved without it"
        if entry.decided_by is not None and entry.decided_by.casefold() == entry.entered_by.casefold():
            yield "decided_by", "the one who entered it: a second person must approve"


def load(connection: psycopg.Connection, file: Path, now: datetime) -> Loaded:
    """Add the good rows of a CSV file to the register, in one transaction; the same row again adds nothing.

    Raises ``RegisterError`` when the file has no table of the right columns.
    """
    entries, problems = read(file, now)
    counts = {"new": 0, "changed": 0, "unchanged": 0}
    with connection.transaction():
        # Two loads at once: the second one sees what the first one added.
        connection.execute("select pg_advisory_xact_lock(hashtextextended('chargeatlarge exclusion register', 0))")
        for line, entry in entries:
            evse_key, reason = _find_evse(connection, entry)
            if evse_key is None:
                problems.append(Problem(file, line, "evse_id", reason))
            else:
                counts[_add(connection, entry, evse_key)] += 1
    return Loaded(problems=sorted(problems, key=lambda problem: problem.line), **counts)


def read(file: Path, now: datetime) -> tuple[list[tuple[int, Entry]], list[Problem]]:
    """Return the readable entries of a CSV file, each with the line on which it ends, and what is wrong with the others."""
    entries: list[tuple[int, Entry]] = []
    problems: list[Problem] = []
    first_line: dict[str, int] = {}
    for line, row in _rows(file):
        if None in row or None in row.values():
            problems.append(Problem(file, line, "(row)", f"does not have {len(COLUMNS)} fields as the header says"))
            continue
        told = {name: value.strip() for name, value in row.items() if value.strip()}
        try:
            entry = Entry.model_validate(told)
        except ValidationError as error:
            problems += [Problem(file, line, str(found["loc"][0]), _reason(found)) for found in error.errors()]
            continue
        wrong = list(contradictions(entry, now))
        if entry.exclusion_id in first_line:
            wrong.append(("exclusion_id", f"stands on line {first_line[entry.exclusion_id]} already"))
        first_line.setdefault(entry.exclusion_id, line)
        problems += [Problem(file, line, name, reason) for name, reason in wrong]
        if not wrong:
            entries.append((line, entry))
    return entries, problems


def holding(connection: psycopg.Connection, decision: str | None = None) -> list[Holding]:
    """Every entry as it holds now, by EVSE and time; only those of one decision when it is named."""
    with connection.cursor(row_factory=class_row(Holding)) as cursor:
        return cursor.execute(
            """
            select version.exclusion_id, feed.cpo_id, asset.evse_id, version.excluded_from, version.excluded_until,
                version.category, version.evidence, version.entered_by, version.decision, version.decided_by,
                version.version_count
            from (
                select distinct on (exclusion_id) *, count(*) over (partition by exclusion_id) as version_count
                from register.exclusion_version
                order by exclusion_id, exclusion_version_key desc
            ) as version
            cross join lateral (
                select feed_key, evse_id from raw.asset_version
                where evse_key = version.evse_key
                order by asset_version_key desc limit 1
            ) as asset
            inner join raw.feed as feed on feed.feed_key = asset.feed_key
            where version.decision = coalesce(%s, version.decision)
            order by feed.cpo_id, asset.evse_id, version.excluded_from, version.exclusion_id
            """,
            (decision,),
        ).fetchall()


def _rows(file: Path) -> Iterator[tuple[int, dict[str | None, str]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            header = list(reader.fieldnames or [])
            missing, unknown = set(COLUMNS) - OPTIONAL - set(header), set(header) - set(COLUMNS)
            if missing or unknown or len(set(header)) < len(header):
                raise RegisterError(
                    f"{file}: the columns are {', '.join(COLUMNS)}; "
                    f"missing: {', '.join(sorted(missing)) or 'none'}; unknown: {', '.join(sorted(unknown)) or 'none'}"
                )
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RegisterError(f"{file}: cannot be read: {error}") from error


def _reason(found: object) -> str:
    assert isinstance(found, dict)
    if found["type"] == "missing":
        return "missing"
    return str(found["msg"]).removeprefix("Value error, ")


def _find_evse(connection: psycopg.Connection, entry: Entry) -> tuple[int | None, str]:
    """The key of an entry's EVSE, else None and why it is not found."""
    found = connection.execute(
        """
        select version.evse_key, string_agg(distinct version.site_id, ', ')
        from raw.asset_version as version
        inner join raw.feed as feed on feed.feed_key = version.feed_key
        where feed.cpo_id = %s
            and lower(version.evse_id) = lower(%s)
            and lower(version.site_id) = lower(coalesce(%s, version.site_id))
        group by version.evse_key
        """,
        (entry.cpo_id, entry.evse_id, entry.site_id),
    ).fetchall()
    if len(found) == 1:
        return found[0][0], ""
    if found:
        return None, f"stands at several sites ({', '.join(sorted(sites for _, sites in found))}): name the site_id"
    where = f" at site {entry.site_id}" if entry.site_id else ""
    return None, f"{entry.cpo_id} never described an EVSE {entry.evse_id}{where}"


def _add(connection: psycopg.Connection, entry: Entry, evse_key: int) -> Literal["new", "changed", "unchanged"]:
    told = (evse_key, *(getattr(entry, name) for name in VERSIONED))
    columns = ", ".join(("evse_key", *VERSIONED))
    latest = connection.execute(
        f"select {columns} from register.exclusion_version where exclusion_id = %s"
        " order by exclusion_version_key desc limit 1",
        (entry.exclusion_id,),
    ).fetchone()
    if latest == told:
        return "unchanged"
    connection.execute(
        f"insert into register.exclusion_version ({columns}) values ({', '.join(['%s'] * len(told))})",
        told,
    )
    return "new" if latest is None else "changed"
