"""Logins and grants of a migrated warehouse."""

from __future__ import annotations

import psycopg
import pytest

from stack.databases import OWNER, login_of
from stack.postgres import EmbeddedPostgres
from warehouse.connection import Role, connect


def database_of(url: str) -> str:
    return url.rsplit("/", 1)[1]


@pytest.mark.parametrize("role", list(Role))
def test_every_role_has_a_login_of_its_own_with_a_scram_password(
    postgres: EmbeddedPostgres, warehouse: str, role: Role
) -> None:
    with psycopg.connect(postgres.url(database_of(warehouse), login_of(role))) as connection:
        assert connection.execute("select current_user").fetchone() == (login_of(role),)
    stored = dict(postgres.execute("select rolname, rolpassword from pg_authid"))
    assert str(stored[login_of(role)]).startswith("SCRAM-SHA-256$")


@pytest.mark.parametrize("role", list(Role))
def test_a_wrong_password_is_refused(postgres: EmbeddedPostgres, warehouse: str, role: Role) -> None:
    right = postgres.password(login_of(role))
    wrong = postgres.url(database_of(warehouse), login_of(role)).replace(f":{right}@", ":wrong@")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_the_owner_of_the_warehouse_is_no_superuser(postgres: EmbeddedPostgres, warehouse: str) -> None:
    found = postgres.execute("select rolname, rolsuper, rolbypassrls, rolcreatedb from pg_roles")
    assert (OWNER, False, False, False) in found


@pytest.mark.parametrize("role", list(Role))
def test_the_owner_can_act_as_every_role(warehouse: str, role: Role) -> None:
    with connect(role) as connection:
        assert connection.execute("select current_user").fetchone() == (login_of(role),)


def test_a_copied_warehouse_keeps_who_may_connect(postgres: EmbeddedPostgres, warehouse: str) -> None:
    postgres.ensure_login("stranger")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(postgres.url(database_of(warehouse), "stranger"))


def test_each_warehouse_starts_empty_and_migrated(warehouse: str) -> None:
    with connect(Role.OWNER) as connection:
        assert connection.execute("select count(*) from raw.feed").fetchone() == (0,)
        connection.execute(
            "insert into raw.feed (feed_id, cpo_id, cpo_name, kind, status_profile, liveness_seconds)"
            " values ('f', 'c', 'C', 'history', 'p', 60)"
        )


def test_another_warehouse_does_not_see_the_rows_of_the_last(warehouse: str) -> None:
    test_each_warehouse_starts_empty_and_migrated(warehouse)


def test_the_owner_sees_transactions_of_other_logins(warehouse: str, postgres: EmbeddedPostgres) -> None:
    with (
        psycopg.connect(postgres.url(database_of(warehouse), "ingest")) as writer,
        psycopg.connect(postgres.url(database_of(warehouse), "transform")) as reader,
    ):
        started = writer.execute("select now()").fetchone()
        settled = reader.execute("select raw.settled_at()").fetchone()
        assert started is not None
        assert settled is not None
        # The reader's own clock is later: this instant it can only know from the open transaction.
        assert settled[0] <= started[0]
