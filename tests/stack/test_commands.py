"""The commands themselves, each in a process of its own, with all state in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from stack.airflow_api import FINISHED, AirflowApi
from stack.databases import OWNER, login_of
from stack.identity import all_pids, session_members
from stack.postgres import EmbeddedPostgres
from stack.processes import SIMULATOR_TOKENS
from stack.supervisor import recorded_pid
from tests.waiting import until
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


@contextmanager
def new_machine() -> Iterator[Machine]:
    parent = var_dir() / "test"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="machine-", dir=parent))
    folder.chmod(0o711)
    found = Machine(folder / "var")
    yield found
    done = found.run("clean")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine on which nothing was started yet."""
    with new_machine() as found:
        yield found


@pytest.fixture(scope="module")
def with_db() -> Iterator[tuple[Machine, subprocess.CompletedProcess[str]]]:
    """A machine on which `db` was called, and what it printed; for tests that change nothing."""
    with new_machine() as found:
        yield found, found.run("db")


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


WithDb = tuple[Machine, subprocess.CompletedProcess[str]]


def test_db_prints_nothing_but_a_url_that_connects_and_holds_no_password(with_db: WithDb) -> None:
    machine, first = with_db
    assert first.returncode == 0, first.stderr
    (url,) = first.stdout.splitlines()
    with psycopg.connect(url) as connection:
        assert connection.execute("select current_user").fetchone() == (OWNER,)
        assert connection.execute("select count(*) from raw.feed").fetchone() == (0,)
    passwords = {machine.server().password(login_of(role)) for role in Role}
    assert [password for password in passwords if password in first.stdout + first.stderr] == []


def test_db_called_again_finds_the_same_server(with_db: WithDb) -> None:
    machine, first = with_db
    pid = machine.server().pid()
    assert machine.run("db").stdout == first.stdout
    assert machine.server().pid() == pid is not None


def test_db_gives_every_role_its_own_password_in_a_file_for_the_owner_only(with_db: WithDb) -> None:
    machine, _ = with_db
    path = machine.var / "postgres" / "warehouse.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = json.loads(path.read_text(encoding="utf-8"))
    assert set(found["roles"]) == set(Role)
    assert len({login["password"] for login in found["roles"].values()}) == len(Role)
    place = {"host": found["host"], "port": found["port"], "dbname": found["database"]}
    for login in found["roles"].values():
        with psycopg.connect(**place, user=login["user"], password=login["password"]) as connection:
            assert connection.execute("select current_user").fetchone() == (login["user"],)


def test_psql_opens_the_warehouse_as_the_role_that_was_asked_for(with_db: WithDb) -> None:
    machine, _ = with_db
    done = machine.run("psql", "--role", "portal", "--", "-Atc", "select current_user")
    assert done.stdout == "portal\n", done.stderr


def test_status_says_what_runs(with_db: WithDb) -> None:
    machine, _ = with_db
    done = machine.run("status")
    assert done.returncode == 3
    assert f"runs (pid {machine.server().pid()})" in done.stdout
    assert "scheduler      is not running" in done.stdout


def test_down_stops_what_db_started_and_clean_removes_it(machine: Machine) -> None:
    assert machine.run("db").returncode == 0
    assert processes_of(machine.var) != []
    assert machine.run("down").returncode == 0
    assert processes_of(machine.var) == []
    again = machine.run("down")
    assert (again.returncode, "nothing is running" in again.stdout) == (0, True)
    assert machine.run("db").returncode == 0
    assert machine.run("clean").returncode == 0
    assert processes_of(machine.var) == []
    assert not machine.var.exists()
    assert machine.run("clean").returncode == 0


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


DAG_FILE = """
from datetime import UTC, datetime

from airflow.sdk import DAG, task

with DAG(dag_id="write_environment", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):

    @task
    def write() -> None:
        import json, os, pathlib

        names = ("BANKSIA_TOKEN", "MALLEE_TOKEN", "SIMULATOR_URL", "VAR_DIR", "DO_NOT_TRACK")
        found = {name: os.environ.get(name) for name in names}
        (pathlib.Path(os.environ["VAR_DIR"]) / "seen.json").write_text(json.dumps(found))

    write()
"""


def test_up_runs_a_task_through_airflow_survives_a_killed_scheduler_and_leaves_nothing(machine: Machine) -> None:
    """The real Airflow, with a DAG of this test's own."""
    dags = machine.var.parent / "dags"
    dags.mkdir()
    (dags / "write_environment.py").write_text(DAG_FILE, encoding="utf-8")
    output = machine.var.parent / "up.log"
    script = (
        "import sys; from pathlib import Path; from stack import control; control.up(print, dags=Path(sys.argv[1]))"
    )
    with output.open("w", encoding="utf-8") as file:
        up = subprocess.Popen(
            [sys.executable, "-u", "-c", script, str(dags)],
            cwd=REPOSITORY,
            env=machine.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:

        def has_said(text: str) -> bool:
            assert up.poll() is None, output.read_text(encoding="utf-8")
            return text in output.read_text(encoding="utf-8")

        until(lambda: has_said("everything is up"), 180)
        run_dir = machine.var / "run"
        leaders = {
            name: recorded_pid(name, run_dir)
            for name in ("simulator", "receiver", "api-server", "scheduler", "dag-processor")
        }
        assert None not in leaders.values()
        secrets = machine.var / "secrets"
        values = [path.read_text(encoding="utf-8") for path in secrets.iterdir() if not path.name.startswith(".")]
        assert len(values) == 6
        for pid in leaders.values():
            command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
            assert [value for value in values if value in command] == []

        second = machine.run("up")
        assert (second.returncode, "already running" in second.stdout) == (0, True)
        demo = machine.run("demo")
        assert (demo.returncode, "already running" in demo.stderr) == (1, True)

        scheduler = leaders["scheduler"]
        assert scheduler is not None
        os.kill(scheduler, signal.SIGKILL)
        until(lambda: has_said("scheduler is healthy again"), 120)
        assert session_members(scheduler) == []

        (address,) = re.findall(r"Airflow +(http://127\.0\.0\.1:\d+)", output.read_text(encoding="utf-8"))
        api = AirflowApi(address)
        until(lambda: api.parsed_at("write_environment") is not None, 60)
        assert api.import_failures() == []
        run = api.trigger("write_environment", {})
        until(lambda: api.run(run).state in FINISHED, 120)
        assert api.run(run).state == "success"
        seen = json.loads((machine.var / "seen.json").read_text(encoding="utf-8"))
        tokens = {name: (secrets / name).read_text(encoding="utf-8") for name in SIMULATOR_TOKENS}
        assert tokens.items() <= seen.items()
        assert (seen["VAR_DIR"], seen["DO_NOT_TRACK"]) == (str(machine.var), "1")
        assert seen["SIMULATOR_URL"] in output.read_text(encoding="utf-8")

        leaders = {name: recorded_pid(name, run_dir) for name in leaders}
        assert machine.run("down").returncode == 0
        assert up.wait(timeout=180) == 0
        assert "killing it" not in output.read_text(encoding="utf-8")
        assert [members for pid in leaders.values() if pid and (members := session_members(pid))] == []
        assert processes_of(machine.var) == []
        assert list(run_dir.glob("*.json")) == [run_dir / "ports.json"]
    finally:
        up.terminate()
        up.wait(timeout=120)
    order = re.findall(r"stopping (\S+)", output.read_text(encoding="utf-8"))
    assert order == ["scheduler", "dag-processor", "simulator", "receiver", "api-server"]
