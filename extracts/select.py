"""Read one recipient's rows of one month from the marts, in one snapshot, and set them aside as a
candidate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from expectations.candidate import (
    LEVEL_KEYS,
    LEVELS,
    SCHEMAS,
    STATUSES,
    Candidate,
    make_candidate,
    store_candidate,
)
from expectations.months import days, first_day
from extracts.recipients import Recipient
from extracts.snapshot import SelectError, marts_snapshot
from warehouse.connection import Role, connect
from warehouse.object_store import ObjectStore

_ROWS_AT_ONCE = 20_000

_CASTS = {
    "string": "text",
    "int64": "bigint",
    "double": "double precision",
    "date32[day]": "date",
    "timestamp[us, tz=UTC]": "timestamptz",
    "decimal128(11, 10)": "numeric(11, 10)",
    "decimal128(9, 3)": "numeric(9, 3)",
}

_PLACE = (
    "site_id",
    "site_name",
    "address",
    "suburb",
    "postcode",
    "state",
    "latitude",
    "longitude",
    "time_zone",
)
_HOMES = {
    **dict.fromkeys(("cpo_id", "cpo_name"), "dim_cpo"),
    **dict.fromkeys(_PLACE, "dim_site"),
    "charger_id": "dim_charger",
    **dict.fromkeys(("evse_id", "emi3_id", "in_service_from", "in_service_until"), "dim_evse"),
    **dict.fromkeys(("connector_id", "connector_standard", "power_kw"), "dim_connector"),
}
"""Which dimension has a column; every other column is the fact's own."""

_JOINS = {
    "sites": ("dim_cpo", "dim_site"),
    "chargers": ("dim_cpo", "dim_site", "dim_charger"),
    "connectors": ("dim_cpo", "dim_site", "dim_charger", "dim_evse", "dim_connector"),
}


def _columns(table: str, homes: Mapping[str, str], own: str) -> sql.Composed:
    """The columns of a candidate's table, each cast to its type."""
    return sql.SQL(", ").join(
        sql.SQL("{}.{}::{} as {}").format(
            sql.Identifier(homes.get(field.name, own)),
            sql.Identifier(field.name),
            sql.SQL(_CASTS[str(field.type)]),
            sql.Identifier(field.name),
        )
        for field in SCHEMAS[table]
    )


def _level_query(level: str) -> sql.Composed:
    """Rows of a level's monthly mart with the natural columns of its dimensions, by natural key."""
    joins = sql.SQL(" ").join(
        sql.SQL("inner join marts.{dim} on {dim}.{key} = fact.{key}").format(
            dim=sql.Identifier(dim), key=sql.Identifier(dim.replace("dim_", "") + "_key")
        )
        for dim in _JOINS[level]
    )
    natural = ["dim_cpo.cpo_id", "dim_site.site_id", "dim_charger.charger_id", "dim_evse.evse_id"]
    natural = [*natural, "dim_connector.connector_id"]
    order = natural[: {"sites": 2, "chargers": 3, "connectors": 5}[level]]
    return sql.SQL(
        "select {columns} from marts.{mart} as fact {joins}"
        " where fact.local_month = %(local_month)s and fact.rule_set = %(rule_set)s"
        " and fact.rule_set_version = %(rule_set_version)s and dim_site.state = any(%(states)s)"
        " order by {order}"
    ).format(
        columns=_columns(level, _HOMES, "fact"),
        mart=sql.Identifier(f"fct_{level.removesuffix('s')}_uptime_monthly"),
        joins=joins,
        # Code point order, whatever the database's collation; the key settles what is equal.
        order=sql.SQL(", ").join(
            [*(sql.SQL(name + ' collate "C"') for name in order), sql.SQL("fact." + LEVEL_KEYS[level][-1])]
        ),
    )


def _register_query() -> sql.Composed:
    """Every EVSE of the states, in service or not: which are is for the gate to work out."""
    return sql.SQL(
        "select {columns} from marts.dim_evse"
        " inner join marts.dim_charger on dim_charger.charger_key = dim_evse.charger_key"
        " inner join marts.dim_site on dim_site.site_key = dim_evse.site_key"
        " inner join marts.dim_cpo on dim_cpo.cpo_key = dim_evse.cpo_key"
        " where dim_site.state = any(%(states)s) order by dim_evse.evse_key"
    ).format(columns=_columns("register", _HOMES, "dim_evse"))


def _service_breaks_query() -> sql.Composed:
    """Time in the month's days in which an EVSE was not in service although its service had begun."""
    return sql.SQL(
        "select {columns} from marts.fct_evse_service_break as fact"
        " inner join marts.dim_evse on dim_evse.evse_key = fact.evse_key"
        " inner join marts.dim_site on dim_site.site_key = dim_evse.site_key"
        " where fact.local_date between %(first_date)s and %(last_date)s and dim_site.state = any(%(states)s)"
        " order by fact.evse_key, fact.break_from"
    ).format(columns=_columns("service_breaks", {}, "fact"))


def _evse_days_query() -> sql.Composed:
    """Seconds per EVSE and local day, a column per status."""
    sums = [
        sql.SQL("coalesce(sum(days.seconds) filter (where days.status = {}), 0)::bigint as {}").format(
            sql.Literal(status), sql.Identifier(f"{status}_seconds")
        )
        for status in STATUSES
    ]
    return sql.SQL(
        "select days.evse_key::bigint as evse_key, days.local_date, {sums},"
        " coalesce(sum(days.seconds) filter (where days.status <> all(%(statuses)s)), 0)::bigint"
        " as other_seconds"
        " from marts.fct_evse_status_daily as days"
        " inner join marts.dim_evse on dim_evse.evse_key = days.evse_key"
        " inner join marts.dim_site on dim_site.site_key = dim_evse.site_key"
        " where days.local_date between %(first_date)s and %(last_date)s and dim_site.state = any(%(states)s)"
        " group by days.evse_key, days.local_date order by days.evse_key, days.local_date"
    ).format(sums=sql.SQL(", ").join(sums))


def _batches(cursor: Any, schema: Any) -> Iterator[Any]:
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        columns = zip(*rows, strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _read(connection: psycopg.Connection, table: str, query: sql.Composed, values: Mapping[str, Any]) -> Any:
    schema = SCHEMAS[table]
    # A cursor on the server's side: a month of days need not stand in memory as Python rows.
    with connection.cursor(name=f"select_{table}") as cursor:
        cursor.execute(query, values)
        return pa.Table.from_batches(list(_batches(cursor, schema)), schema=schema).combine_chunks()


def _one(connection: psycopg.Connection, query: sql.SQL, values: Mapping[str, Any]) -> tuple[Any, ...]:
    row = connection.execute(query, values).fetchone()
    if row is None:
        raise SelectError("the warehouse gave no row where one was due")
    return tuple(row)


def read_candidate(connection: psycopg.Connection, recipient: Recipient, month: str) -> Candidate:
    """Read all tables of a candidate on a connection without an open transaction, in one read-only snapshot.

    Raises ``SelectError`` when the latest transform run has not finished.
    """
    month_days = days(month)
    values = {
        "local_month": first_day(month),
        "first_date": month_days[0],
        "last_date": month_days[-1],
        "states": list(recipient.states),
        "rule_set": recipient.rule_set,
        "rule_set_version": recipient.rule_set_version,
        "statuses": list(STATUSES),
    }
    with marts_snapshot(connection) as as_of:
        tables = {level: _read(connection, level, _level_query(level), values) for level in LEVELS}
        tables["register"] = _read(connection, "register", _register_query(), values)
        tables["service_breaks"] = _read(connection, "service_breaks", _service_breaks_query(), values)
        tables["evse_days"] = _read(connection, "evse_days", _evse_days_query(), values)
        (unplaced,) = _one(
            connection,
            sql.SQL(
                "select count(*) from marts.dim_evse"
                " left join marts.dim_site on dim_site.site_key = dim_evse.site_key"
                " where dim_site.state is null and dim_evse.in_service_from is not null"
            ),
            values,
        )
        profiles = connection.execute("select cpo_id, status_profiles from marts.dim_cpo order by cpo_id").fetchall()
    present = set(tables["sites"].column("cpo_id").to_pylist())
    return make_candidate(
        tables,
        recipient_id=recipient.recipient_id,
        recipient_name=recipient.name,
        month=month,
        states=recipient.states,
        rule_set=recipient.rule_set,
        rule_set_version=recipient.rule_set_version,
        as_of=as_of,
        unplaced_evse_count=unplaced,
        status_profiles={cpo_id: profile for cpo_id, profile in profiles if cpo_id in present},
    )


def select_candidate(recipient: Recipient, month: str, store: ObjectStore) -> str:
    """Read the rows as the database role that extracts, set them aside, and return the candidate's path.

    The path follows from the rows and their cut-off: selecting the same again writes the same again.
    """
    with connect(Role.EXTRACT) as connection:
        candidate = read_candidate(connection, recipient, month)
    return store_candidate(candidate, store)
