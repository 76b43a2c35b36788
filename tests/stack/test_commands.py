"""The commands themselves, each in a process of its own, with all state in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from stack.databases import OWNER, login_of
from stack.identity import all_pids
from stack.postgres import EmbeddedPostgres
from warehouse.connection import REPOSITORY, Role, var_dir


class Machine:
    """Runs ``python -m stack`` with ``VAR_DIR`` in a folder of its own."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("WAREHOUSE_", "AIRFLOW"))
        } | {"VAR_DIR": str(var)}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stack", *arguments],
            cwd=REPOSITORY,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def server(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.var / "postgres")


@pytest.fixture
def machine() -> Iterator[Machine]:
    parent = var_dir() / "test"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="machine-", dir=parent))
    folder.chmod(0o711)
    found = Machine(folder / "var")
    yield found
    done = found.run("clean")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder)


def processes_of(var: Path) -> list[int]:
    """Processes that name this folder in their command line."""
    found = []
    for pid in all_pids():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(var) in command and pid != os.getpid():
            found.append(pid)
    return found


def test_db_prints_nothing_but_a_url_that_connects_and_holds_no_password(machine: Machine) -> None:
    first = machine.run("db")
    assert first.returncode == 0, first.stderr
    (url,) = first.stdout.splitlines()
    with psycopg.connect(url) as connection:
        assert connection.execute("select current_user").fetchone() == (OWNER,)
        assert connection.execute("select count(*) from raw.feed").fetchone() == (0,)
    passwords = {machine.server().password(login_of(role)) for role in Role}
    assert [password for password in passwords if password in first.stdout + first.stderr] == []
    # Again: the same server, the same URL.
    pid = machine.server().pid()
    assert machine.run("db").stdout == first.stdout
    assert machine.server().pid() == pid


def test_db_gives_every_role_its_own_password_in_a_file_for_the_owner_only(machine: Machine) -> None:
    assert machine.run("db").returncode == 0
    path = machine.var / "postgres" / "warehouse.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = json.loads(path.read_text(encoding="utf-8"))
    assert set(found["roles"]) == set(Role)
    assert len({login["password"] for login in found["roles"].values()}) == len(Role)
    for login in found["roles"].values():
        with psycopg.connect(
            host=found["host"],
            port=found["port"],
            dbname=found["database"],
            user=login["user"],
            password=login["password"],
        ) as connection:
            assert connection.execute("select current_user").fetchone() == (login["user"],)


def test_psql_opens_the_warehouse_as_the_role_that_was_asked_for(machine: Machine) -> None:
    assert machine.run("db").returncode == 0
    done = machine.run("psql", "--role", "portal", "--", "-Atc", "select current_user")
    assert done.stdout == "portal\n", done.stderr


def test_down_stops_what_db_started_and_is_safe_to_repeat(machine: Machine) -> None:
    assert machine.run("db").returncode == 0
    assert machine.server().is_running()
    assert machine.run("down").returncode == 0
    assert not machine.server().is_running()
    again = machine.run("down")
    assert again.returncode == 0
    assert "nothing is running" in again.stdout


def test_status_says_what_runs(machine: Machine) -> None:
    before = machine.run("status")
    assert before.returncode == 3
    assert machine.run("db").returncode == 0
    after = machine.run("status")
    assert after.returncode == 3
    assert f"runs (pid {machine.server().pid()})" in after.stdout
    assert "scheduler      is not running" in after.stdout


def test_clean_stops_the_server_and_removes_everything(machine: Machine) -> None:
    assert machine.run("db").returncode == 0
    assert processes_of(machine.var) != []
    assert machine.run("clean").returncode == 0
    assert processes_of(machine.var) == []
    assert not machine.var.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server may live outside")
def test_clean_removes_the_place_outside_a_closed_checkout(machine: Machine) -> None:
    machine.var.parent.chmod(0o700)
    done = machine.run("db")
    assert done.returncode == 0, done.stderr
    outside = machine.server().outside()
    assert outside is not None
    assert str(outside) in done.stderr
    assert machine.run("clean").returncode == 0
    assert not outside.exists()
    assert processes_of(outside) == []
    assert not machine.var.exists()


def test_with_a_url_of_another_postgres_that_one_is_migrated_and_none_started(
    machine: Machine, postgres: EmbeddedPostgres, migrated_database: str
) -> None:
    postgres.create_database("elsewhere", owner=OWNER)
    url = postgres.url("elsewhere", OWNER)
    done = machine.run("db", WAREHOUSE_URL=url)
    assert done.returncode == 0, done.stderr
    assert postgres.execute("select count(*) from raw.feed", "elsewhere") == [(0,)]
    assert postgres.password(OWNER) not in done.stdout
    assert not machine.server().folder.exists()
    postgres.drop_database("elsewhere")


def test_a_wrong_url_is_an_error_that_does_not_tell_the_password(machine: Machine, postgres: EmbeddedPostgres) -> None:
    wrong = postgres.url("no_such_database")
    done = machine.run("db", WAREHOUSE_URL=wrong)
    assert done.returncode == 1
    assert "no_such_database" in done.stderr
    assert postgres.password("postgres") not in done.stdout + done.stderr
