"""All marts at one cut-off, read in one snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import psycopg


class SelectError(RuntimeError):
    """The marts cannot be read as they are."""


@contextmanager
def marts_snapshot(connection: psycopg.Connection) -> Iterator[datetime]:
    """Hold a read-only snapshot of the marts on a connection without an open transaction; yields their cut-off.

    Raises ``SelectError`` when the latest transform run has not finished.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.autocommit = True
    connection.execute("set default_transaction_read_only = on")
    # Not while the marts are being rebuilt: they would be of two cut-offs. A run under way is waited for, before the snapshot is taken.
    connection.execute("select pg_advisory_lock_shared(hashtextextended('chargeatlarge transform', 0))")
    with connection.transaction():
        connection.execute("set local time zone 'UTC'")
        row = connection.execute(
            "select as_of, finished_at from marts.fct_transform_run order by run_key desc limit 1"
        ).fetchone()
        if row is None or row[1] is None:
            raise SelectError("the latest transform run has not finished: let transform_warehouse succeed first")
        yield row[0]
