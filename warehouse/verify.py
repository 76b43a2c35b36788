"""Build the marts anew beside those that stand, and compare: increments must have left what one run over everything makes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from warehouse.connection import Role, connect
from warehouse.transform import TransformError, code_sha256, dbt_folder, previous_as_of, run_dbt, wait_for_turn

PREFIX = "verify_"
EXAMPLES = 3
"""Different rows that are shown of each table and side."""


@dataclass(frozen=True)
class Compared:
    """One table: its rows, and those that only it, or only the rebuilt one, has."""

    name: str
    row_count: int
    only_standing: int
    only_rebuilt: int
    examples: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        return self.only_standing == 0 and self.only_rebuilt == 0

    def __str__(self) -> str:
        if self.is_equal:
            return f"{self.name}: {self.row_count} rows, equal"
        found = f"{self.name}: {self.only_standing} of {self.row_count} rows are not in the rebuilt table, {self.only_rebuilt} are only there"
        return "\n  ".join((found, *self.examples))


def verify() -> list[Compared]:
    """Compare every table that runs build upon; the marts stay as they are, and no run begins meanwhile.

    Views are not compared: they say what the tables say. Raises ``TransformError`` when dbt fails, or when the marts are not those of a
    finished run of this code and these settings.
    """
    with connect(Role.TRANSFORM) as connection:
        connection.autocommit = True
        wait_for_turn(connection)
        row = connection.execute(
            "select finished_at is null from state.transform_run order by run_key desc limit 1"
        ).fetchone()
        as_of = previous_as_of(connection, code_sha256())
        if row is None or row[0] or as_of is None:
            raise TransformError(
                "there are no marts of a finished run of this code and these settings: `make transform` first"
            )
        folder = dbt_folder("verify")
        try:
            run_dbt(
                [
                    "build",
                    "--full-refresh",
                    "--resource-type",
                    "model",
                    "--resource-type",
                    "seed",
                    "--exclude",
                    "path:models/live",
                ],
                {"as_of": as_of.isoformat(), "previous_as_of": "", "schema_prefix": PREFIX},
                folder,
            )
            manifest = json.loads((folder / "target" / "manifest.json").read_text(encoding="utf-8"))
            return [_compare(connection, schema, table) for schema, table in tables_built_upon(manifest)]
        finally:
            _drop_rebuilt(connection)


def tables_built_upon(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Schema and name of each table that the next run builds upon or a reader reads; not what a run notes of itself."""
    return sorted(
        (node["schema"].removeprefix(PREFIX), node["alias"])
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
        and (
            node["config"]["materialized"] == "incremental"
            or (node["config"]["materialized"] == "table" and node["schema"] == f"{PREFIX}marts")
        )
    )


def _compare(connection: psycopg.Connection, schema: str, table: str) -> Compared:
    standing, rebuilt = sql.Identifier(schema, table), sql.Identifier(PREFIX + schema, table)
    names = connection.execute(
        "select column_name from information_schema.columns where table_schema = %s and table_name = %s order by ordinal_position",
        (PREFIX + schema, table),
    ).fetchall()
    columns = sql.SQL(", ").join(sql.Identifier(name) for (name,) in names)
    connection.execute("drop table if exists pg_temp.difference")
    connection.execute(
        sql.SQL(
            """
            create temporary table difference as
            select true as is_standing, it.* from (
                select {columns} from {standing} except all select {columns} from {rebuilt}
            ) as it
            union all
            select false, it.* from (
                select {columns} from {rebuilt} except all select {columns} from {standing}
            ) as it
            """
        ).format(columns=columns, standing=standing, rebuilt=rebuilt)
    )
    counted = connection.execute(
        sql.SQL(
            "select (select count(*) from {standing}), count(*) filter (where is_standing), count(*) filter (where not is_standing)"
            " from pg_temp.difference"
        ).format(standing=standing)
    ).fetchone()
    assert counted is not None
    examples = connection.execute(
        """
        select case when is_standing then 'only standing: ' else 'only rebuilt: ' end || (to_jsonb(it) - 'is_standing' - 'place')::text
        from (
            select *, row_number() over (partition by is_standing order by difference::text) as place
            from pg_temp.difference as difference
        ) as it
        where place <= %s
        order by place, is_standing desc
        """,
        (EXAMPLES,),
    ).fetchall()
    row_count, only_standing, only_rebuilt = counted
    return Compared(f"{schema}.{table}", row_count, only_standing, only_rebuilt, tuple(text for (text,) in examples))


def _drop_rebuilt(connection: psycopg.Connection) -> None:
    for schema, name, kind in connection.execute(
        """
        select pg_namespace.nspname, pg_class.relname, pg_class.relkind
        from pg_class
        inner join pg_namespace on pg_namespace.oid = pg_class.relnamespace
        where pg_namespace.nspname = any(%s) and pg_class.relkind in ('r', 'v')
        """,
        ([PREFIX + schema for schema in ("staging", "intermediate", "marts")],),
    ).fetchall():
        verb = sql.SQL("drop view" if kind == "v" else "drop table")
        connection.execute(sql.SQL("{} if exists {} cascade").format(verb, sql.Identifier(schema, name)))
