"""Load reference files from an object store or a folder: all that were asked for, or none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from reference.kinds import KINDS, Kind, Numbered
from reference.locating import locate
from reference.reading import ReferenceFileError, read
from warehouse.object_store import ObjectStoreError, open_store

PREFIX = "reference"
"""Folder of the files in the object store."""


@dataclass(frozen=True)
class Found:
    """A file of a kind."""

    kind: Kind
    place: str
    sha256: str
    rows: list[Numbered]


@dataclass(frozen=True)
class Loaded:
    """What became of a file. ``load_key`` is None when the load in force has the same content."""

    kind: str
    place: str
    row_count: int
    load_key: int | None

    def __str__(self) -> str:
        done = "as it was" if self.load_key is None else f"load {self.load_key}"
        return f"{self.kind}: {self.row_count} rows, {done} ({self.place})"


def load(
    connection: psycopg.Connection, *, url: str | None = None, kinds: Collection[str] = (), loaded_by: str
) -> list[Loaded]:
    """Load files in one transaction of role ``registrar``, and locate all known coordinates in new boundaries.

    ``url`` is a folder or the URL of one; by default ``reference/`` of the object store. Of named ``kinds`` every file must be there; without
    names, those of all required kinds. A file whose content is in force already is not loaded again.
    Raises ``ReferenceFileError`` with all that is wrong or missing; then nothing is loaded.
    """
    found = _read_all(url, kinds)
    with connection.transaction():
        # Two loads at once: the second sees what the first has loaded.
        connection.execute("select pg_advisory_xact_lock(hashtextextended('chargeatlarge reference', 0))")
        loaded = [_store(connection, file, loaded_by) for file in found]
        # Files are loaded one by one, and must agree with each other all the same.
        if reasons := [*_names_that_disagree(connection), *_decisions_about_nothing(connection)]:
            raise ReferenceFileError(reasons)
        locate(connection)
    return loaded


def _read_all(url: str | None, kinds: Collection[str]) -> list[Found]:
    get, place_of = _source(url)
    found: list[Found] = []
    reasons: list[str] = []
    for kind in KINDS.values():
        if kinds and kind.name not in kinds:
            continue
        place = place_of(kind.file)
        try:
            content = get(kind.file)
        except FileNotFoundError:
            if kinds or kind.is_required:
                reasons.append(f"{kind.file} is not there: looked for it at {place}; it is for {kind.purpose}")
            continue
        except OSError as error:
            reasons.append(f"{kind.file} cannot be read at {place}: {error.strerror}; it is for {kind.purpose}")
            continue
        try:
            found.append(Found(kind, place, hashlib.sha256(content).hexdigest(), read(kind, content)))
        except ReferenceFileError as error:
            reasons += error.reasons
    if reasons:
        raise ReferenceFileError(reasons)
    return found


def _source(url: str | None) -> tuple[Callable[[str], bytes], Callable[[str], str]]:
    """How to get a file, and where it would be."""
    if url is not None and "://" not in url:
        folder = Path(url).resolve()
        return (lambda name: (folder / name).read_bytes()), (lambda name: str(folder / name))
    store = open_store(url)
    prefix = "" if url else f"{PREFIX}/"

    def get(name: str) -> bytes:
        try:
            return store.get(prefix + name)
        except ObjectStoreError as error:
            raise ReferenceFileError([str(error)]) from error

    return get, lambda name: store.locate(prefix + name)


def _store(connection: psycopg.Connection, found: Found, loaded_by: str) -> Loaded:
    kind = found.kind
    in_force = sql.SQL("select content_sha256 from reference.load where load_key = ({})").format(_in_force(kind.name))
    if connection.execute(in_force).fetchone() == (found.sha256,):
        return Loaded(kind.name, found.place, len(found.rows), None)
    row = connection.execute(
        "insert into reference.load (kind, place, content_sha256, row_count, loaded_by)"
        " values (%s, %s, %s, %s, %s) returning load_key",
        (kind.name, found.place, found.sha256, len(found.rows), loaded_by),
    ).fetchone()
    assert row is not None
    statement = sql.SQL("insert into reference.{} ({}) values ({})").format(
        sql.Identifier(kind.table),
        sql.SQL(", ").join(map(sql.Identifier, ("load_key", *kind.columns))),
        sql.SQL(", ").join([sql.Placeholder()] * (1 + len(kind.columns))),
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, [(row[0], *values) for values in kind.rows(found.rows)])
    return Loaded(kind.name, found.place, len(found.rows), row[0])


def _in_force(kind: str) -> sql.Composed:
    """Query for the load of a kind that is in force now."""
    return sql.SQL(
        "select load_key from reference.load where kind = {} order by loaded_at desc, load_key desc limit 1"
    ).format(sql.Literal(kind))


def _names_that_disagree(connection: psycopg.Connection) -> list[str]:
    """One area must not have two names, nor one name mean two areas: they would be two groups, or one."""
    query = sql.SQL(
        r"""
        select listed.written_name, listed.lga_code, listed.lga_name, area.code, area.name
        from reference.lga_name as listed
        inner join reference.area as area
            on area.code = listed.lga_code and area.name <> listed.lga_name
                or area.code <> listed.lga_code
                and left(area.code, 1) = left(listed.lga_code, 1)
                and lower(regexp_replace(area.name, '\s+', '', 'g'))
                = lower(regexp_replace(listed.written_name, '\s+', '', 'g'))
        where listed.load_key = ({}) and area.load_key = ({})
        order by listed.written_name, listed.lga_code, area.code
        """
    ).format(_in_force("lga_lookup"), _in_force("lga_boundaries"))
    return [
        f"{KINDS['lga_lookup'].file}, written_name '{written}': means {code} '{name}';"
        f" {KINDS['lga_boundaries'].file} has {area_code} '{area}'"
        for written, code, name, area_code, area in connection.execute(query)
    ]


def _decisions_about_nothing(connection: psycopg.Connection) -> list[str]:
    """A decision was about a row as it stood: when that has changed, somebody must look again."""
    query = sql.SQL(
        """
        select decision.asset_id
        from reference.funding_decision as decision
        where decision.load_key = ({})
            and not exists (
                select from reference.funded_asset as asset
                where asset.load_key = ({}) and asset.asset_id = decision.asset_id
            )
        order by decision.asset_id
        """
    ).format(_in_force("funding_decisions"), _in_force("government_funded"))
    return [
        f"{KINDS['funding_decisions'].file}, asset_id {asset_id}: no row of {KINDS['government_funded'].file} has this id"
        for (asset_id,) in connection.execute(query)
    ]
