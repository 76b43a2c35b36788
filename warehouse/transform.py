"""Run dbt on the warehouse: `raw` to `marts`, only what was touched since the last finished run."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg

from warehouse.connection import REPOSITORY, Role, connect, var_dir, warehouse_url

PROJECT = REPOSITORY / "dbt_project"
RUN_TIMES = ("as_of", "previous_as_of")


class TransformError(RuntimeError):
    """dbt did not finish; the message names the nodes that failed."""


@dataclass(frozen=True)
class Transformed:
    """One finished run."""

    as_of: datetime
    is_full_refresh: bool
    seconds: float
    node_count: int


class NodeRun(NamedTuple):
    """What became of one dbt node: its id, dbt's word for it, how long it took, and rows written where dbt says so."""

    node: str
    status: str
    seconds: float
    row_count: int | None


def code_sha256() -> str:
    """Hash of every statement, seed and policy number: when one changes, everything is computed anew."""
    digest = hashlib.sha256()
    for path in sorted(
        (
            PROJECT / "dbt_project.yml",
            *PROJECT.glob("models/**/*.sql"),
            *PROJECT.glob("macros/**/*.sql"),
            *PROJECT.glob("seeds/*.csv"),
        )
    ):
        digest.update(path.relative_to(PROJECT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def transform(*, full_refresh: bool = False, as_of: datetime | None = None) -> Transformed:
    """Build and test all models; on success remember what they were built from.

    ``as_of`` rebuilds the marts as they were at an earlier cut-off (it needs ``full_refresh``). Two runs at once: the second waits.
    Raises ``TransformError``; the next run then recomputes all that this one would have.
    """
    if as_of is not None and (as_of.tzinfo is None or not full_refresh):
        raise ValueError("as_of needs a UTC offset, and a full refresh")
    with connect(Role.TRANSFORM) as connection:
        connection.autocommit = True
        wait_for_turn(connection)
        row = connection.execute("select clock_timestamp()").fetchone()
        assert row is not None
        started_at = row[0]
        as_of = (as_of or _cut_off(connection, started_at)).replace(microsecond=0)
        code = code_sha256()
        previous = None if full_refresh else previous_as_of(connection, code)
        if previous is not None and as_of <= previous:
            as_of = previous
        run_key = _begin(connection, started_at, as_of, previous is None, code)
        results = run_dbt(
            # Unit tests hold the code, not the data: they run where the code is tested.
            ["build", "--exclude-resource-type", "unit_test", *(["--full-refresh"] if previous is None else [])],
            {"as_of": as_of.isoformat(), "previous_as_of": previous.isoformat() if previous else ""},
        )
        with connection.transaction():
            _finish(connection, run_key, results)
        finished = connection.execute("select clock_timestamp()").fetchone()
        assert finished is not None
    return Transformed(as_of, previous is None, (finished[0] - started_at).total_seconds(), len(results))


def wait_for_turn(connection: psycopg.Connection) -> None:
    """Wait until no other run is at work, and keep others waiting until the connection is closed."""
    connection.execute("select pg_advisory_lock(hashtextextended('chargeatlarge transform', 0))")


def _cut_off(connection: psycopg.Connection, asked_at: datetime) -> datetime:
    """The next full second, so that all that was recorded before this run was asked for is read; earlier if a writer is still at work."""
    target = asked_at.replace(microsecond=0) + timedelta(seconds=1)
    # A transaction shows its start a moment after it took it.
    connection.execute("select pg_sleep_until(%s::timestamptz + interval '0.2 seconds')", (target,))
    row = connection.execute("select raw.settled_at()").fetchone()
    assert row is not None
    settled_at: datetime = row[0]
    return min(target, settled_at)


def previous_as_of(connection: psycopg.Connection, code: str) -> datetime | None:
    """Cut-off of the last finished run, or None when its results cannot be built upon."""
    row = connection.execute(
        """
        select run.as_of
        from state.transform_run as run
        where run.code_sha256 = %s
            and run.run_key = (select max(run_key) from state.transform_run where finished_at is not null)
            and not exists (select from raw.feed where settings_changed_at > run.as_of)
        """,
        (code,),
    ).fetchone()
    return None if row is None else row[0]


def dbt_folder(name: str = "") -> Path:
    """Where dbt keeps what it compiled and logged. Two invocations must not share it: tests name another, and so does ``name``."""
    return Path(os.environ.get("DBT_DIR") or var_dir() / "dbt") / name


def run_dbt(arguments: list[str], variables: dict[str, str], folder: Path | None = None) -> list[NodeRun]:
    """Invoke dbt in this process as role ``transform``; return what became of every node.

    ``RUN_TIMES`` among the variables reach dbt by its environment: a changed variable would have it parse the whole project anew.
    Raises ``TransformError`` naming the nodes that failed.
    """
    # Seconds to import: only when it runs.
    from dbt.cli.main import dbtRunner
    from dbt_common.events.functions import reset_metadata_vars

    url = warehouse_url(Role.TRANSFORM)
    folder = folder or dbt_folder()
    environment = {
        "DBT_HOST": url.host or "",
        "DBT_PORT": str(url.port or 5432),
        "DBT_USER": url.username or "",
        "DBT_ENV_SECRET_PASSWORD": url.password or "",
        "DBT_DBNAME": url.database or "",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
        **{f"DBT_ENV_CUSTOM_ENV_{name}": variables.get(name, "") for name in RUN_TIMES},
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    # It keeps those of the last invocation in this process.
    reset_metadata_vars()
    try:
        result = dbtRunner().invoke(
            [
                *arguments,
                "--project-dir", str(PROJECT),
                "--profiles-dir", str(PROJECT),
                "--target-path", str(folder / "target"),
                "--log-path", str(folder / "logs"),
                "--no-version-check",
                "--log-level-file", "info",
                "--vars", json.dumps({name: value for name, value in variables.items() if name not in RUN_TIMES}),
            ]
        )  # fmt: skip
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    nodes = [] if result.result is None else list(result.result)
    if not result.success:
        failed = [
            f"{node.node.unique_id}: {node.message}"
            for node in nodes
            if node.status in ("error", "fail", "runtime error")
        ]
        raise TransformError("\n".join(failed) or str(result.exception))
    return [
        NodeRun(node.node.unique_id, str(node.status), float(node.execution_time), _row_count(node.adapter_response))
        for node in nodes
    ]


def _row_count(response: dict[str, object]) -> int | None:
    count = response.get("rows_affected")
    return count if isinstance(count, int) and count >= 0 else None


def _begin(
    connection: psycopg.Connection, started_at: datetime, as_of: datetime, is_full_refresh: bool, code: str
) -> int:
    """Note that a run begins: until it has finished, the marts are between two cut-offs."""
    row = connection.execute(
        """
        insert into state.transform_run (started_at, as_of, is_full_refresh, code_sha256)
        values (%s, %s, %s, %s) returning run_key
        """,
        (started_at, as_of, is_full_refresh, code),
    ).fetchone()
    assert row is not None
    return int(row[0])


def _finish(connection: psycopg.Connection, run_key: int, results: list[NodeRun]) -> None:
    """Write what this run was built from: the next one starts there."""
    connection.execute("update state.transform_run set finished_at = clock_timestamp() where run_key = %s", (run_key,))
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into state.model_run (run_key, model, status, seconds, row_count) values (%s, %s, %s, %s, %s)",
            [(run_key, *result) for result in results],
        )
    for table, model, columns in (
        ("applied_lifeline", "int_feed__lifelines", "feed_key, kind, line_from, complete_from, line_until"),
        ("applied_island", "int_feed__contact_islands", "feed_key, alive_from, heard_from, complete_from, alive_until"),
    ):
        connection.execute(f"delete from state.{table}")
        connection.execute(f"insert into state.{table} ({columns}) select {columns} from intermediate.{model}")
