"""From marts in a database to a package, as the role that extracts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Barrier
from typing import Any

import psycopg
import pytest
from psycopg import sql

from expectations.__main__ import main as gate_main
from expectations.candidate import RATIOS, SECONDS, STATUSES
from expectations.gate import GateBlocked, GateError
from extracts import tasks
from extracts.__main__ import main
from extracts.locks import LockLostError, warehouse_lock
from extracts.select import read_candidate
from extracts.snapshot import SelectError
from tests.extract_world import AS_OF, NSW, World
from warehouse.connection import Role, connect

BUILD = ["build", "--recipient", "nsw_dcceew", "--month", "2026-10"]

_TYPES = {
    **dict.fromkeys(("local_month", "local_date", "commissioned_on"), "date"),
    **dict.fromkeys(
        ("in_service_from", "in_service_until", "break_from", "break_until", "as_of", "started_at", "finished_at"),
        "timestamptz",
    ),
    **dict.fromkeys(("latitude", "longitude"), "double precision"),
    **dict.fromkeys(SECONDS, "bigint"),
    **{f"{status}_minutes": "double precision" for status in STATUSES},
    **dict.fromkeys((*RATIOS, "target_ratio"), "numeric(11, 10)"),
    **dict.fromkeys(("rule_set_version", "seconds", "evse_count"), "integer"),
    "power_kw": "numeric(9, 3)",
    "is_full_refresh": "boolean",
}


def _type(column: str) -> str:
    return _TYPES.get(column) or ("integer" if column.endswith("_key") else "text")


def run(statement: str, *values: Any) -> None:
    """Change the marts, as the role that builds them."""
    with connect(Role.TRANSFORM) as connection:
        connection.execute(statement.encode(), values)


def fill(world: World) -> None:
    """Create the marts of a world as the transform does: as its role, which makes them readable to the extract."""
    with connect(Role.TRANSFORM) as connection:
        for mart, rows in world.marts().items():
            names = list(rows[0])
            table = sql.Identifier("marts", mart)
            columns = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(_type(name))) for name in names]
            connection.execute(sql.SQL("create table {} ({})").format(table, sql.SQL(", ").join(columns)))
            insert = sql.SQL("insert into {} values ({})").format(
                table, sql.SQL(", ").join([sql.Placeholder()] * len(names))
            )
            with connection.cursor() as cursor:
                # Not in the order in which they must come out.
                cursor.executemany(insert, [list(row.values()) for row in reversed(rows)])


@pytest.fixture
def marts(warehouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Marts of the small network; returns the folder of an empty object store."""
    monkeypatch.setenv("OBJECT_STORE_URL", (tmp_path / "store").as_uri())
    fill(World())
    return tmp_path / "store"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_read_is_what_the_marts_hold(marts: Path) -> None:
    with connect(Role.EXTRACT) as connection:
        found = read_candidate(connection, NSW, "2026-10")
    expected = World().candidate()
    assert {name: table.to_pylist() for name, table in found.tables.items()} == {
        name: table.to_pylist() for name, table in expected.tables.items()
    }
    assert found.header == expected.header


def test_another_month_rule_set_or_state_is_not_read(marts: Path) -> None:
    for level in ("connector", "charger", "site"):
        table = f"marts.fct_{level}_uptime_monthly"
        for change in (
            "local_month = date '2026-09-01'",
            "rule_set = 'nevi_680_116'",
            "rule_set_version = 2",
        ):
            run(
                f"create temp table t as select * from {table} where local_month = '2026-10-01'"
                f" and rule_set = 'evc_2025' and rule_set_version = 1; update t set {change};"
                f" insert into {table} select * from t; drop table t"
            )
    run("insert into marts.fct_evse_status_daily values (101, date '2026-11-01', 'available', 86400)")
    run("insert into marts.fct_evse_status_daily values (101, date '2026-09-30', 'available', 86400)")
    with connect(Role.EXTRACT) as connection:
        found = read_candidate(connection, NSW, "2026-10")
    assert {name: table.num_rows for name, table in found.tables.items()} == {
        **{"connectors": 6, "chargers": 4, "sites": 3, "register": 6, "service_breaks": 2, "evse_days": 135}
    }


def test_all_tables_are_of_one_moment(marts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transform that commits between two reads is not seen by half."""
    from extracts import select

    original = select._read

    def read_then_change(connection: Any, table: str, *rest: Any) -> Any:
        found = original(connection, table, *rest)
        if table == "connectors":
            run("delete from marts.fct_evse_status_daily")
            run("delete from marts.fct_site_uptime_monthly")
        return found

    monkeypatch.setattr(select, "_read", read_then_change)
    with connect(Role.EXTRACT) as connection:
        found = read_candidate(connection, NSW, "2026-10")
    assert found.tables["sites"].num_rows == 3
    assert found.tables["evse_days"].num_rows == 135


def test_nothing_is_written_to_the_warehouse(marts: Path) -> None:
    with connect(Role.EXTRACT) as connection:
        read_candidate(connection, NSW, "2026-10")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("create temp table t (x integer)")


@pytest.mark.parametrize(
    "happened",
    [
        "delete from marts.fct_transform_run",
        "update marts.fct_transform_run set finished_at = null where run_key = 2",
    ],
)
def test_marts_whose_latest_run_has_not_finished_are_not_selected_from(
    marts: Path, capsys: pytest.CaptureFixture[str], happened: str
) -> None:
    run(happened)
    with (
        connect(Role.EXTRACT) as connection,
        pytest.raises(SelectError, match="the latest transform run has not finished"),
    ):
        read_candidate(connection, NSW, "2026-10")
    assert main(BUILD) == 2
    assert "the latest transform run has not finished" in capsys.readouterr().err


def test_a_build_ends_with_a_package(marts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BUILD) == 0
    told = capsys.readouterr()
    package = Path(told.out.strip())
    assert package == marts / "extracts/nsw_dcceew/2026-10/r1"
    assert told.err == ""
    manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["gate"] == {"passed": True, "expectation_count": 111, "warnings": []}
    assert "Passed, 0 warnings" in (package / "gate_report.html").read_text(encoding="utf-8")
    before = {name: (marts / name).read_bytes() for name in files(marts)}
    assert {name.split("/")[0] for name in before} == {"candidates", "gate", "extracts"}

    assert main(BUILD) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(package)
    assert "already published, nothing written" in told.err
    assert {name: (marts / name).read_bytes() for name in files(marts)} == before

    assert main([*BUILD, "--revision-reason", "asked for"]) == 0
    assert capsys.readouterr().out.strip().endswith("/r2")
    assert all((marts / name).read_bytes() == content for name, content in before.items())

    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(package), str(package.parent / "r2")]
    assert "cut-off 2026-11-02T20:05:07Z" in lines[0]
    assert lines[1].endswith("because: asked for")
    assert main(["list", "--recipient", "wa_government"]) == 0
    assert capsys.readouterr().out == ""


def test_a_blocked_build_leaves_a_report_and_no_package(marts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("delete from marts.fct_connector_uptime_monthly where evse_key = 105")
    assert main(BUILD) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "evses.evses_in_service_have_a_row" in told.err
    assert "1 of 5 rows fail: zap_coop/s-0/c-1/E-105" in told.err
    report = Path(told.err.split("report: ")[1].strip())
    assert "Blocked: " in report.read_text(encoding="utf-8")
    assert not (marts / "extracts").exists()


def test_each_step_can_be_repeated_and_publishing_waits_for_the_gate(marts: Path) -> None:
    path = tasks.select_rows("nsw_dcceew", "2026-10")
    assert tasks.select_rows("nsw_dcceew", "2026-10") == path
    with pytest.raises(GateError, match="was not asked"):
        tasks.publish_package(path)
    tasks.check_rows(path)
    tasks.check_rows(path)
    assert tasks.publish_package(path) == "extracts/nsw_dcceew/2026-10/r1"
    assert tasks.publish_package(path) == "extracts/nsw_dcceew/2026-10/r1"
    assert tasks.publish_package(path, "late data") == "extracts/nsw_dcceew/2026-10/r2"
    assert tasks.publish_package(path, "late data") == "extracts/nsw_dcceew/2026-10/r2"

    run(
        "insert into marts.fct_transform_run (run_key, as_of, started_at, finished_at, is_full_refresh)"
        " values (3, %s, now(), now(), false)",
        AS_OF + timedelta(days=1),
    )
    run(
        "update marts.fct_site_uptime_monthly set uptime_lower_ratio = %s where site_key = 1",
        Decimal("0.9999"),
    )
    later = tasks.select_rows("nsw_dcceew", "2026-10")
    assert later != path
    with pytest.raises(GateBlocked, match=r"sites\.lower_bound_is_below_headline"):
        tasks.check_rows(later)
    with pytest.raises(GateBlocked, match=r"sites\.lower_bound_is_below_headline"):
        tasks.publish_package(later, "late data")


def test_the_gate_is_asked_from_the_command_line(marts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = ["check", "--recipient", "nsw_dcceew", "--month", "2026-10"]
    assert gate_main(check) == 2
    assert "select one with" in capsys.readouterr().err
    assert main(["select", *BUILD[1:]]) == 0
    path = capsys.readouterr().out.strip()
    assert gate_main(check) == 0
    assert capsys.readouterr().out.startswith("passed: 111 expectations over " + path)
    run(
        "update marts.fct_evse_status_daily set seconds = seconds + 1 where local_date = %s",
        date(2026, 10, 7),
    )
    assert main(["select", *BUILD[1:]]) == 0
    assert gate_main(check) == 1
    told = capsys.readouterr().out
    assert "BLOCKS  evse_days.days_have_their_length" in told
    assert "report: " + str(marts / "gate") in told
    assert gate_main([*check, "--candidate", path]) == 0
    assert gate_main(["check", "--recipient", "wa_government", "--month", "2026-10", "--candidate", path]) == 2
    assert gate_main(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 111


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--recipient", "nobody", "--month", "2026-10"], "no recipient 'nobody'"),
        (["build", "--recipient", "nsw_dcceew", "--month", "2026-13"], "is not a month"),
        ([*BUILD, "--revision-reason", "  "], "say why"),
        (["build"], "required"),
    ],
)
def test_wrong_usage_ends_with_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OBJECT_STORE_URL", tmp_path.as_uri())
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(str(stop.code))
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_warehouse_that_is_down_ends_with_3_and_tells_no_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OBJECT_STORE_URL", tmp_path.as_uri())
    monkeypatch.setenv("WAREHOUSE_EXTRACT_URL", "postgresql://someone:hush@127.0.0.1:1/nowhere")
    assert main(BUILD) == 3
    told = capsys.readouterr().err
    assert told.startswith("warehouse: OperationalError")
    assert "hush" not in told


def test_the_lock_lets_one_in_and_knows_when_it_is_lost(warehouse: str) -> None:
    barrier, inside, most = Barrier(3), [0], [0]

    def enter(_: int) -> None:
        barrier.wait()
        with warehouse_lock("publish x") as lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            lock.assert_held()
            inside[0] -= 1

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(enter, range(3)))
    assert most == [1]

    with warehouse_lock("publish y") as lock:
        with psycopg.connect(warehouse.replace("+psycopg", ""), autocommit=True) as owner:
            owner.execute(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and database ="
                " (select oid from pg_database where datname = current_database())"
            )
        with pytest.raises(LockLostError, match="is gone"):
            lock.assert_held()


def test_two_builds_at_once_make_one_package(marts: Path) -> None:
    path = tasks.select_rows("nsw_dcceew", "2026-10")
    tasks.check_rows(path)
    barrier = Barrier(3)

    def publish(_: int) -> bool:
        barrier.wait()
        return tasks.publish_rows(path)[0].is_new

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(publish, range(3))) == [False, False, True]
    assert len(list((marts / "extracts").rglob("manifest.json"))) == 1


def test_a_recipient_whose_block_changed_must_be_selected_again(
    marts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tasks.select_rows("nsw_dcceew", "2026-10")
    tasks.check_rows(path)
    other = Path(__file__).resolve().parents[2] / "config" / "recipients.yml"
    text = other.read_text(encoding="utf-8").replace("states: [NSW]", "states: [NSW, ACT]")
    (tmp_path / "recipients.yml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("RECIPIENTS_CONFIG", str(tmp_path / "recipients.yml"))
    with pytest.raises(Exception, match="block was changed since: select again"):
        tasks.publish_package(path)


def test_a_package_goes_to_the_recipients_own_store(
    marts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(__file__).resolve().parents[2] / "config" / "recipients.yml"
    place = (tmp_path / "drop").as_uri()
    text = other.read_text(encoding="utf-8").replace("destination: default", f"destination: {place}")
    (tmp_path / "recipients.yml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("RECIPIENTS_CONFIG", str(tmp_path / "recipients.yml"))
    assert main(BUILD) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "drop/extracts/nsw_dcceew/2026-10/r1")
    assert {name.split("/")[0] for name in files(marts)} == {"candidates", "gate"}
