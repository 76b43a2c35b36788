"""The DAGs that Airflow reads: exactly those that the configuration asks for, with owner, retries and notes; and that they run."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from extracts.recipients import load_recipients
from ingestion.config import cpo_ids
from warehouse.connection import REPOSITORY

DAGS = REPOSITORY / "dags"
# Seconds to import, or they reach out: only inside a task.
TOO_HEAVY_FOR_PARSING = {
    "pandas",
    "dbt",
    "great_expectations",
    "pyarrow",
    "requests",
    "psycopg",
    "duckdb",
    "sqlalchemy",
    "shapely",
}


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """All DAGs of the project, read once."""
    home = tmp_path_factory.mktemp("airflow")
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(dag_folder=str(DAGS), load_op_links=False, bundle_name="test")
    for name, value in before.items():
        if value is None:
            os.environ.pop(name)
        else:
            os.environ[name] = value


def test_there_is_a_dag_for_every_cpo_and_recipient_and_one_transformation(bag: Any) -> None:
    assert bag.import_errors == {}
    expected = {f"ingest_{cpo_id}" for cpo_id in cpo_ids()} | {f"extract_{key}" for key in load_recipients()}
    assert len(expected) >= 4
    assert set(bag.dags) == expected | {"load_reference", "transform_warehouse", "watch_feeds"}


def test_every_dag_says_who_owns_it_what_to_do_and_how_long_it_may_take(bag: Any) -> None:
    assert bag.dags
    for dag in bag.dags.values():
        assert {task.owner for task in dag.tasks} <= {"data-engineering", "reporting"}, dag.dag_id
        assert "When" in dag.doc_md, dag.dag_id
        assert dag.dagrun_timeout, dag.dag_id
        assert dag.catchup is False, dag.dag_id
        assert dag.max_active_runs == (2 if dag.dag_id.startswith("ingest_") else 1), dag.dag_id
        assert {tag.split(":")[0] for tag in dag.tags} >= {"kind", "impact"}, dag.dag_id
        for task in dag.tasks:
            assert task.execution_timeout is not None, task
            # A gate and an alert give answers: asking again would give the same one, later.
            is_answer = task.task_id == "check" or dag.dag_id == "watch_feeds"
            assert (task.retries == 0) == is_answer, task
            assert task.doc_md or task.python_callable.__doc__, task


def test_tasks_stand_in_this_order(bag: Any) -> None:
    order = {dag_id: {task.task_id: task.downstream_task_ids for task in dag.tasks} for dag_id, dag in bag.dags.items()}
    assert order["transform_warehouse"] == {"locate_sites": {"build_marts"}, "build_marts": set()}
    assert order["load_reference"] == {"load_files": set()}
    assert order["extract_nsw_dcceew"] == {"select": {"check"}, "check": {"publish"}, "publish": set()}
    assert order["watch_feeds"] == {f"watch_{cpo_id}": set() for cpo_id in cpo_ids()}
    assert order["ingest_banksia"] == {"import_history": set(), "collect": set()}


def test_the_transformation_listens_to_every_cpo(bag: Any) -> None:
    heard = {asset.name for asset in bag.dags["transform_warehouse"].timetable.asset_condition.objects}
    told = {
        outlet.name
        for dag_id, dag in bag.dags.items()
        if dag_id.startswith("ingest_")
        for task in dag.tasks
        for outlet in task.outlets
    }
    assert heard == told == {f"raw/{cpo_id}" for cpo_id in cpo_ids()}


def test_extracts_run_by_the_clock_of_their_recipient(bag: Any) -> None:
    for recipient_id, recipient in load_recipients().items():
        timetable = bag.dags[f"extract_{recipient_id}"].timetable
        assert str(timetable.timezone) == recipient.time_zone
        assert timetable.expression == f"0 {recipient.hour} {recipient.day} * *"


def test_no_dag_file_imports_what_is_heavy_while_it_is_parsed() -> None:
    files = sorted(DAGS.glob("*.py"))
    assert len(files) == 5
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            alias.name.split(".")[0]
            for node in tree.body
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
        }
        assert names & TOO_HEAVY_FOR_PARSING == set(), path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 110, path


def test_a_broken_cpo_file_leaves_the_other_dags_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.yml").write_text("cpo_id: good\n", encoding="utf-8")
    (tmp_path / "broken.yml").write_text(": [\n", encoding="utf-8")
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path))
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(DAGS / "ingest.py"), load_op_links=False, bundle_name="test")
    assert bag.import_errors == {}
    assert set(bag.dags) == {"ingest_good", "ingest_broken"}


def test_the_window_of_a_run_reaches_into_the_next_one() -> None:
    from ingestion.runs import window_end

    due = datetime(2026, 10, 3, 12, 15, tzinfo=UTC)
    assert window_end(due) == datetime(2026, 10, 3, 12, 30, 30, tzinfo=UTC)


def test_a_secret_is_a_variable_or_the_password_of_a_connection(bag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from warehouse.strict_yaml import ConfigError

    find_secret = bag.dags["ingest_banksia"].get_task("collect").python_callable.__globals__["find_secret"]
    monkeypatch.delenv("SOME_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"SOME_TOKEN is not set .*nor has Airflow a connection 'some_token'"):
        find_secret("SOME_TOKEN")
    monkeypatch.setenv("AIRFLOW_CONN_SOME_TOKEN", '{"conn_type": "http", "password": "of the connection"}')
    assert find_secret("SOME_TOKEN") == "of the connection"
    monkeypatch.setenv("SOME_TOKEN", "of the environment")
    assert find_secret("SOME_TOKEN") == "of the environment"
