"""The benchmark commands run, on small figures: how quick they are is theirs to say."""

from __future__ import annotations

import subprocess
import sys

from warehouse.connection import REPOSITORY


def test_the_benchmark_of_collecting_measures_each_bound_that_it_names() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.ingest", "--evses", "40", "--minutes", "1"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stderr == ""
    assert done.stdout.count(" bound 0.05 ") == 6
    assert done.stdout.count(" bound 1.5 ") == 4
    assert done.stdout.count(": bound 300 ") == 2
    assert done.stdout.count(": bound 10 % ") == 1
    # Forty EVSEs are described, each becomes something once at first and once when all of them change.
    assert "first" in done.stdout
    assert "80 asset versions, 40 changes, 1 contacts" in done.stdout
    assert "0 asset versions, 40 changes, 1 contacts" in done.stdout
