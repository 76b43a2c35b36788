"""The benchmark of uptime runs, on small figures, and ends with 1 when one of its bounds is broken."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.benchmarks.uptime import Bounds, Run, ancestors, busy_seconds, judge
from warehouse.connection import REPOSITORY

MONTH = Run(wall_seconds=90, dbt_seconds=5, postgres_cpu_seconds=70, postgres_peak_mb=600, nodes={}, daily_seconds=33)
INCREMENT = replace(MONTH, wall_seconds=30)


def test_it_measures_and_ends_with_1_when_a_bound_is_broken() -> None:
    script = (
        "import sys; from tests.benchmarks.uptime import Bounds, main;"
        " sys.exit(main(['--evses', '100', '--days', '3'], Bounds(1e9, 1e9, increment_seconds=0)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert (done.stdout.count("BROKEN"), done.stdout.count(" holds")) == (1, 2)
    assert "rows are those of the marts, to the second" in done.stdout
    assert "100 EVSEs in 10 feeds, 3 days: " in done.stdout
    assert "43,200 contacts" in done.stdout
    assert re.search(r"^  marts\.dim_evse +100 rows$", done.stdout, re.M)
    assert done.stdout.count("data tests") == 2


@pytest.mark.parametrize(
    ("month", "increment", "duckdb_seconds", "is_good"),
    [
        (MONTH, INCREMENT, 270, True),
        (replace(MONTH, wall_seconds=90.1), INCREMENT, 300, False),
        (MONTH, INCREMENT, 269, False),
        (MONTH, replace(INCREMENT, wall_seconds=30.1), 300, False),
    ],
)
def test_each_bound_can_be_broken(
    month: Run, increment: Run, duckdb_seconds: float, is_good: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(month, increment, duckdb_seconds, Bounds()) == is_good
    assert capsys.readouterr().out.count("BROKEN") == (not is_good)


def test_nodes_at_work_at_once_are_counted_once() -> None:
    start = datetime(2026, 10, 1, tzinfo=UTC)
    intervals = [(0, 4), (1, 2), (3, 7), (9, 10)]
    assert (
        busy_seconds([(start + timedelta(seconds=begin), start + timedelta(seconds=end)) for begin, end in intervals])
        == 8
    )


def test_a_model_is_made_from_what_its_parents_are_made_from() -> None:
    parents = {"daily": ["spans", "touched"], "spans": ["touched", "raw"], "other": ["spans"], "touched": ["raw"]}
    assert ancestors(parents, "daily") == {"daily", "spans", "touched", "raw"}
