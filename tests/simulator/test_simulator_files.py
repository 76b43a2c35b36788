"""Files that are left in a folder."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from simulator.dropping import NAME_TIME, DropOrder, Dropper
from simulator.quick import moment_text
from simulator.serving import Feed
from simulator.sources import words_at
from simulator.switchboard import FaultSwitch
from tests.simulator.served import NOON, QUICK, Simulator, simulator
from tests.waiting import until

LATER = NOON + timedelta(seconds=10)


def dropper(folder: Path, *faults: FaultSwitch, **order: Any) -> Dropper:
    feed = Feed("quick", QUICK, "")
    for fault in faults:
        feed.board.switch_on(fault)
    return Dropper(feed, DropOrder(folder=folder, **order), NOON)


def rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".parquet":
        found = pyarrow.parquet.read_table(path).to_pylist()
        return [{**row, "changed": row["changed"] and moment_text(row["changed"])} for row in found]
    return list(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_a_snapshot_says_everything_of_every_evse(tmp_path: Path, form: str) -> None:
    (path,) = dropper(tmp_path, format=form).step(LATER)
    assert path.name == f"snapshots_20261014T020010.000000Z.{form}"
    assert datetime.strptime(path.stem.partition("_")[2], NAME_TIME).replace(tzinfo=UTC) == LATER
    found = rows(path)
    assert {f"{row['station_code']}/{row['ref']}": row["state"] for row in found} == words_at(QUICK, LATER)
    assert {str(float(row["plug_kw"])) for row in found} == {"75.0"}
    assert max(row["changed"] for row in found) <= moment_text(LATER)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_files_of_changes_hold_every_change_once(tmp_path: Path, form: str) -> None:
    writing = dropper(tmp_path, format=form, what="changes")
    found = []
    for seconds in (1, 2.5, 2.6, 10):
        (path,) = writing.step(NOON + timedelta(seconds=seconds))
        found += [(row["changed"], f"{row['station']}/{row['ref']}", row["state"]) for row in rows(path)]
    changes = QUICK.changes(NOON, LATER)
    assert found == [(moment_text(change.at), change.evse_ref, change.word) for change in changes]


def test_a_file_can_be_cut_short_be_a_web_page_come_twice_or_not_at_all(tmp_path: Path) -> None:
    (whole,) = dropper(tmp_path / "whole").step(LATER)
    (cut,) = dropper(tmp_path / "cut", FaultSwitch(name="truncated")).step(LATER)
    assert cut.read_bytes() == whole.read_bytes()[: whole.stat().st_size // 2]
    (page,) = dropper(tmp_path / "page", FaultSwitch(name="html")).step(LATER)
    assert page.read_bytes().startswith(b"<!doctype html>")
    first, again = dropper(tmp_path / "twice", FaultSwitch(name="duplicate")).step(LATER)
    assert first.name != again.name
    assert first.read_bytes() == again.read_bytes() == whole.read_bytes()
    assert dropper(tmp_path / "none", FaultSwitch(name="silence")).step(LATER) == []
    assert not (tmp_path / "none").exists()


def test_a_file_can_be_late_under_its_own_name(tmp_path: Path) -> None:
    writing = dropper(tmp_path, FaultSwitch(name="late", seconds=60))
    assert writing.step(NOON) == []
    names = [path.name for path in writing.step(NOON + timedelta(seconds=60))]
    assert names == ["snapshots_20261014T020000.000000Z.csv"]


def test_records_in_a_file_can_be_bad(tmp_path: Path) -> None:
    faults = (FaultSwitch(name="bad_object", variant="null_status"), FaultSwitch(name="without_time"))
    (path,) = dropper(tmp_path / "a", *faults, format="json").step(LATER)
    found = rows(path)
    assert [row["ref"] for row in found if row["state"] is None] == ["100100"]
    assert {row["changed"] for row in found} == {None}
    (path,) = dropper(tmp_path / "b", FaultSwitch(name="bad_object"), what="changes", format="json").step(LATER)
    found = rows(path)
    assert [row["ref"] for row in found].count(None) == 10
    assert len(found) == len(QUICK.changes(NOON, LATER))


def test_a_served_feed_leaves_files_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with simulator() as quick:
        quick.control("POST", "drop", folder=str(tmp_path), every=0.1, what="changes", format="json")
        until(lambda: len(list(tmp_path.glob("*.json"))) >= 5)
        assert quick.control("GET", "drop") == {"state": "running"}
        quick.control("DELETE", "drop")
        count = len(list(tmp_path.glob("*.json")))
        found = [row for path in sorted(tmp_path.glob("*.json")) for row in rows(path)]
        logged = [(line["told_at"], line["word"]) for line in Simulator(quick.url).log()]
        assert [(row["changed"], row["state"]) for row in found] == logged
        assert count == len(list(tmp_path.glob("*.json")))


def test_the_command_leaves_files_until_it_is_stopped(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "simulator",
        "drop-files",
        "--cpo",
        "mallee",
        "--out",
        str(tmp_path),
        "--every",
        "0.2",
    ]
    process = subprocess.Popen(
        [*command, "--format", "parquet"],
        cwd=Path(__file__).parents[2],
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until(lambda: len(list(tmp_path.glob("*.parquet"))) >= 2, 30)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    assert {row["network"] for row in rows(min(tmp_path.glob("*.parquet")))} == {"AU*MAL"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name either --cpo or --quick"),
        (["--cpo", "mallee", "--quick", "q=1,1"], "name either --cpo or --quick"),
        (["--quick", "q=many"], "is not NAME=EVSES,SECONDS"),
        (["--cpo", "mallee", "--fault", "gremlins"], "no fault 'gremlins'"),
    ],
)
def test_the_command_says_what_is_wrong_with_it(tmp_path: Path, arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "simulator", "drop-files", "--out", str(tmp_path), *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
