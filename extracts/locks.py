"""One publication of a recipient's month at a time, wherever the processes run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import psycopg
from psycopg import sql

from warehouse.connection import Role, connect

WAIT_SECONDS = 600


class LockLostError(RuntimeError):
    """The lock could not be had in time, or the connection that held it is gone: nothing more may be
    written."""


class Lock(Protocol):
    """A lock that is held for now."""

    def assert_held(self) -> None:
        """Raise ``LockLostError`` when another process may hold it by now."""
        ...


Locks = Callable[[str], AbstractContextManager[Lock]]
"""Gives a lock by name, for as long as the context lasts."""


class _WarehouseLock:
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def assert_held(self) -> None:
        try:
            self._connection.execute("select 1")
        except psycopg.OperationalError as error:
            raise LockLostError("the connection that held the lock is gone: run it again") from error


@contextmanager
def warehouse_lock(name: str) -> Iterator[Lock]:
    """Hold an advisory lock of the warehouse. It ends with the connection: a crash leaves none behind."""
    with connect(Role.EXTRACT) as connection:
        connection.autocommit = True
        connection.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(f"{WAIT_SECONDS}s")))
        try:
            connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [name])
        except psycopg.errors.LockNotAvailable as error:
            raise LockLostError(f"{name} is held by another run for {WAIT_SECONDS} s: try later") from error
        yield _WarehouseLock(connection)
