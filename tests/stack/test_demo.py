"""What the demo decides and prints; the demo itself runs the real thing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest

from ingestion.config import cpo_ids
from stack import demo
from stack.airflow_api import AirflowApi, DagRun, ImportFailure, TaskRun
from stack.demo import DemoError, Watcher
from stack.progress import Progress
from stack.supervisor import Supervisor

BEGAN = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
LATER = BEGAN + timedelta(minutes=1)


class FakeAirflow:
    """Answers like ``AirflowApi``; each run goes through the states listed for it, one per question."""

    def __init__(self) -> None:
        self.parsed: dict[str, datetime] = {}
        self.failures: list[ImportFailure] = []
        self.states: dict[str, Iterator[str]] = {}
        self.task_runs: list[TaskRun] = []
        self.runs: list[DagRun] = []

    def parsed_at(self, dag_id: str) -> datetime | None:
        return self.parsed.get(dag_id)

    def import_failures(self) -> list[ImportFailure]:
        return self.failures

    def run(self, run: DagRun) -> DagRun:
        return replace(run, state=next(self.states[run.run_id]))

    def tasks(self, run: DagRun) -> list[TaskRun]:
        return [task for task in self.task_runs if task.run_id == run.run_id]

    def latest_runs(self, dag_id: str) -> list[DagRun]:
        return [run for run in self.runs if run.dag_id == dag_id]


class Quiet:
    def look_after(self) -> None:
        pass


@pytest.fixture
def airflow() -> FakeAirflow:
    return FakeAirflow()


@pytest.fixture
def watcher(airflow: FakeAirflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Watcher:
    monkeypatch.setattr(demo, "POLL_SECONDS", 0.0)
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    return Watcher(cast(AirflowApi, airflow), cast(Supervisor, Quiet()), Progress())


def run_of(run_id: str, state: str = "queued", started_at: datetime | None = None) -> DagRun:
    return DagRun("transform_warehouse", run_id, state, started_at)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-23T02:00:00+00:00", "2026-10"),
        # Already December in Sydney.
        ("2026-11-30T13:00:00+00:00", "2026-11"),
        ("2026-11-30T12:59:00+00:00", "2026-10"),
        ("2027-01-15T00:00:00+00:00", "2026-12"),
    ],
)
def test_the_month_is_the_last_full_one_where_the_recipient_is(now: str, expected: str) -> None:
    assert demo.last_full_month(datetime.fromisoformat(now)) == expected


def test_the_simulated_plan_has_one_dag_per_cpo_file() -> None:
    plan = demo.simulated_plan(BEGAN)
    assert plan.months == ("2026-10",)
    assert plan.ingest_dags == tuple(f"ingest_{cpo_id}" for cpo_id in cpo_ids()) != ()
    assert plan.extract_dags == ("extract_nsw_dcceew", "extract_wa_government")


def test_a_dag_read_by_an_earlier_start_does_not_count(
    watcher: Watcher, airflow: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.parsed = {"a": BEGAN - timedelta(seconds=1), "b": LATER}
    monkeypatch.setattr(demo, "PARSE_SECONDS", 0.0)
    with pytest.raises(DemoError, match=r"not among the DAGs after 0 s: a$"):
        watcher.wait_for_dags(["a", "b"], BEGAN)
    airflow.parsed["a"] = LATER
    watcher.wait_for_dags(["a", "b"], BEGAN)


def test_an_import_error_of_this_start_is_told_and_an_old_one_is_not(watcher: Watcher, airflow: FakeAirflow) -> None:
    airflow.parsed = {"a": LATER}
    airflow.failures = [ImportFailure("old.py", BEGAN - timedelta(days=1), "SyntaxError: old")]
    watcher.wait_for_dags(["a"], BEGAN)
    airflow.failures.append(ImportFailure("new.py", LATER, "SyntaxError: new"))
    with pytest.raises(DemoError, match=r"cannot import new\.py:\nSyntaxError: new"):
        watcher.wait_for_dags(["a"], BEGAN)


def test_a_failed_run_is_told_with_its_task_and_the_end_of_its_log(
    watcher: Watcher, airflow: FakeAirflow, tmp_path: Path
) -> None:
    log = tmp_path / "airflow" / "logs" / "dag_id=transform_warehouse" / "run_id=r" / "task_id=build" / "attempt=2.log"
    log.parent.mkdir(parents=True)
    log.write_text(
        '{"level": "info", "event": "begin"}\n'
        '{"level": "error", "event": "Task failed", "error_detail": [{"exc_type": "TransformError", "exc_value": "5 rows"}]}\n',
        encoding="utf-8",
    )
    airflow.states["r"] = iter(["running", "failed"])
    airflow.task_runs = [TaskRun("transform_warehouse", "r", "build", "failed", 2, LATER)]
    with pytest.raises(DemoError) as told:
        watcher.wait_for_success(run_of("r"), 60)
    assert "transform_warehouse, task build failed" in str(told.value)
    assert "Task failed | TransformError: 5 rows" in str(told.value)
    assert str(log) in str(told.value)


def test_a_run_that_takes_too_long_is_an_error(watcher: Watcher, airflow: FakeAirflow) -> None:
    airflow.task_runs = [TaskRun("transform_warehouse", "r", "build", "running", 1, None)]
    with pytest.raises(DemoError, match="still queued after -1 s: build running"):
        watcher.wait_for_success(run_of("r"), -1.0)


def test_only_a_transformation_that_started_after_the_data_counts(watcher: Watcher, airflow: FakeAirflow) -> None:
    airflow.runs = [
        run_of("third", "queued", None),
        run_of("second", "running", LATER),
        run_of("first", "success", BEGAN - timedelta(seconds=1)),
    ]
    airflow.states["second"] = iter(["running", "success"])
    watcher.wait_for_transform(BEGAN)
    assert next(airflow.states["second"], "used up") == "used up"


def test_no_transformation_after_the_data_is_an_error(
    watcher: Watcher, airflow: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "TRANSFORM_SECONDS", 0.0)
    airflow.runs = [run_of("first", "success", BEGAN - timedelta(seconds=1))]
    with pytest.raises(DemoError, match="no run of transform_warehouse started"):
        watcher.wait_for_transform(BEGAN)


def test_what_was_not_measured_is_a_dash_in_the_table() -> None:
    rows = [("banksia", Decimal("97.875"), 96.5, 98.0, 98.67, 76), ("mallee", None, None, None, 0.0, 3)]
    header, _, first, second = demo.table(rows).splitlines()
    assert header.split() == ["CPO", "uptime", "%", "lower", "%", "upper", "%", "coverage", "%", "EVSEs"]
    assert first.split() == ["banksia", "97.88", "96.50", "98.00", "98.67", "76"]
    assert second.split() == ["mallee", "-", "-", "-", "0.00", "3"]


def test_the_newest_package_has_the_highest_number(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="no package"):
        demo.newest_package(tmp_path)
    for name in ("r2", "r10", "r9", "rest"):
        (tmp_path / name).mkdir()
    assert demo.newest_package(tmp_path) == tmp_path / "r10"


def test_a_preparation_that_fails_is_told_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    with pytest.raises(DemoError, match=r"`python -m simulator emit-history --month never` failed(?s:.*)never"):
        demo.run_command(["simulator", "emit-history", "--month", "never"], "simulator-history")


def test_the_table_pools_seconds_and_bounds_the_uptime(module_warehouse: str) -> None:
    """Two chargers of one CPO: 100 s up and 100 s down; 100 s up and 200 s unknown or missing."""
    with demo.connect(demo.Role.OWNER) as connection:
        connection.execute("set role transform")
        connection.execute(
            """
            create table marts.dim_cpo as select 1 as cpo_key, 'banksia' as cpo_id;
            create table marts.fct_charger_uptime_monthly (
                cpo_key int, rule_set text, local_month date, evse_count bigint, in_service_seconds bigint,
                measured_seconds bigint, up_seconds bigint, unknown_seconds bigint, missing_seconds bigint
            );
            insert into marts.fct_charger_uptime_monthly values
                (1, 'evc_2025', '2026-10-01', 2, 200, 200, 100, 0, 0),
                (1, 'evc_2025', '2026-10-01', 1, 300, 100, 100, 150, 50),
                (1, 'evc_2025', '2026-09-01', 1, 300, 100, 0, 150, 50),
                (1, 'nevi_680_116', '2026-10-01', 1, 300, 100, 0, 150, 50)
            """
        )
    with demo.connect(demo.Role.ANALYST) as connection:
        month = datetime(2026, 10, 1, tzinfo=UTC).date()
        (row,) = connection.execute(demo.UPTIME_BY_CPO, {"month": month}).fetchall()
    assert row[0] == "banksia"
    assert [round(float(value), 2) for value in row[1:5]] == [66.67, 40.0, 80.0, 60.0]
    assert row[5] == 3
