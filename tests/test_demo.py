"""The demo as people run it: real Airflow, Postgres, dbt and gate, and the figures that it prints against the truth."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from simulator.truth import expected_seconds
from stack.demo import last_full_month
from warehouse.connection import REPOSITORY, var_dir

UP = {"available", "charging", "finishing", "preparing", "suspended", "reserved"}
NOT_KNOWN = {"unknown", "missing"}


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder for all that the demo writes; it and what still runs in it are removed."""
    folder = var_dir() / "test" / "demo"
    yield folder
    stack("clean", folder)
    assert not folder.exists()


def stack(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m stack`` on a state folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WAREHOUSE_", "DBT_"))}
    return subprocess.run(
        [sys.executable, "-m", "stack", command],
        cwd=REPOSITORY,
        env={**environment, "VAR_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )


def percentages(month: str, cpo_id: str) -> tuple[str, ...]:
    """Uptime, bounds and coverage of a CPO by the rules of evc_2025, from the truth alone."""
    seconds: Counter[str] = Counter()
    for (_, _, status), count in expected_seconds(month, cpo_id).items():
        seconds[status] += count
    total = sum(seconds.values())
    up = sum(seconds[status] for status in UP)
    not_known = sum(seconds[status] for status in NOT_KNOWN)
    ratios = (up / (total - not_known), up / total, (up + not_known) / total, (total - not_known) / total)
    return tuple(f"{100 * ratio:.2f}" for ratio in ratios)


def test_the_demo_prints_the_truth_and_leaves_packages_whose_hashes_hold(state: Path) -> None:
    done = stack("demo", state)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    month = last_full_month(datetime.now(UTC))
    printed = dict(re.findall(r"^(banksia|mallee|tidewater) +(.*)$", done.stdout, re.MULTILINE))
    assert {cpo_id: tuple(line.split()[:4]) for cpo_id, line in printed.items()} == {
        cpo_id: percentages(month, cpo_id) for cpo_id in ("banksia", "mallee", "tidewater")
    }
    for recipient, state_of_sites in (("nsw_dcceew", "NSW"), ("wa_government", "WA")):
        package = state / "object_store" / "extracts" / recipient / month / "r1"
        manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
        assert set(manifest["files"]) == {path.name for path in package.iterdir()} - {"manifest.json"}
        for name, described in manifest["files"].items():
            assert hashlib.sha256((package / name).read_bytes()).hexdigest() == described["sha256"]
        with (package / "sites.csv").open(encoding="utf-8", newline="") as file:
            assert {row["state"] for row in csv.DictReader(file)} == {state_of_sites}
    # Nothing that the collector was given as a secret stands in any log.
    tokens = [path.read_text(encoding="utf-8").strip() for path in (state / "secrets").glob("*_TOKEN")]
    assert len(tokens) == 2
    logs = [path for path in state.rglob("*.log") if path.is_file()]
    assert any("complete polls" in path.read_text(encoding="utf-8", errors="replace") for path in logs)
    assert [
        path for path in logs for token in tokens if token in path.read_text(encoding="utf-8", errors="replace")
    ] == []
