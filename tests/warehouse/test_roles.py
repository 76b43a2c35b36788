"""Each role may do what it is for, and is refused the rest by the database."""

from __future__ import annotations

import psycopg
import pytest

from warehouse.connection import Role, connect
from warehouse.transform import transform

READ_RAW = "select count(*) from raw.status_change"
WRITE_RAW = (
    "insert into raw.feed (feed_id, cpo_id, cpo_name, kind, status_profile, liveness_seconds)"
    " values ('a', 'a', 'A', 'history', 'history', 300)"
)
DELETE_RAW = "delete from raw.status_change"
READ_MART = "select count(*) from marts.fct_site_uptime_monthly"
WRITE_MART = "delete from marts.fct_evse_status_daily"
MAKE_TABLE = "create table marts.mine (x integer)"
READ_INTERMEDIATE = "select count(*) from intermediate.int_evse__status_span"
READ_LIVE = "select count(*) from live.evse_status"
READ_REFERENCE = "select count(*) from reference.funding_decision"
WRITE_REFERENCE = (
    "insert into reference.load (kind, place, content_sha256, row_count, loaded_by) values ('x', '', '', 0, '')"
)
CHANGE_REFERENCE = "update reference.load set kind = 'x'"
DELETE_REFERENCE = "delete from reference.load"
READ_STATE = "select count(*) from state.transform_run"

ALLOWED = {
    Role.INGEST: {READ_RAW, WRITE_RAW},
    Role.REGISTRAR: {READ_REFERENCE, WRITE_REFERENCE},
    Role.TRANSFORM: {
        READ_RAW,
        READ_MART,
        WRITE_MART,
        MAKE_TABLE,
        READ_INTERMEDIATE,
        READ_LIVE,
        READ_STATE,
        READ_REFERENCE,
    },
    Role.ANALYST: {READ_MART, READ_LIVE},
    Role.PORTAL: {READ_LIVE},
    Role.EXTRACT: {READ_MART},
}
EVERYTHING = set().union(*ALLOWED.values()) | {DELETE_RAW, CHANGE_REFERENCE, DELETE_REFERENCE}


@pytest.fixture(scope="module", autouse=True)
def built(module_warehouse: str) -> None:
    """Marts to be refused."""
    transform()


@pytest.mark.parametrize("role", ALLOWED)
@pytest.mark.parametrize("statement", sorted(EVERYTHING))
def test_a_role_may_do_exactly_this(role: Role, statement: str) -> None:
    with connect(role) as connection:
        try:
            connection.execute(statement)  # type: ignore[call-overload]
            was_allowed = True
        except psycopg.errors.InsufficientPrivilege:
            was_allowed = False
        connection.rollback()
    assert was_allowed == (statement in ALLOWED[role])


def test_nobody_but_the_owner_may_read_what_others_do() -> None:
    with connect(Role.PORTAL) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select raw.settled_at()")
