"""The exclusion register: what goes in, what does not, and that nothing in it ever changes."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ingestion.writer import Writer
from register.__main__ import main
from register.exclusions import COLUMNS, load
from tests.feeds import asset, history_config
from warehouse.connection import Role, connect

pytestmark = pytest.mark.usefixtures("module_warehouse")

GOOD = {
    "exclusion_id": "X-1",
    "cpo_id": "wattle",
    "site_id": "",
    "evse_id": "e1",
    "excluded_from": "2026-10-04T09:30:00+11:00",
    "excluded_until": "2026-10-05T09:30:00+11:00",
    "category": "scheduled_maintenance",
    "evidence": "WO-17",
    "entered_by": "Ann",
    "entered_at": "2026-10-06T00:00:00Z",
    "decision": "approved",
    "decided_by": "Bob",
    "decided_at": "2026-10-07T00:00:00Z",
    "note": "",
}


@pytest.fixture(scope="module", autouse=True)
def _described(module_warehouse: str) -> None:
    now = datetime.now(UTC)
    with connect(Role.INGEST) as connection:
        with Writer(connection, history_config("wattle")).batch() as batch:
            batch.add_assets([asset("E1"), asset("E2")], now, is_whole_evse=False)
        other = asset("E1", site_ref="s2", site_id="S2", evse_ref="s2/e1", charger_ref="s2/e1")
        with Writer(connection, history_config("acacia")).batch() as batch:
            batch.add_assets([asset("E1"), other], now, is_whole_evse=False)


def write(folder: Path, *rows: dict[str, Any], header: tuple[str, ...] = COLUMNS) -> Path:
    path = folder / "exclusions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"excluded_until": "2026-10-04T09:30:00+11:00"}, "excluded_until", "not after excluded_from"),
        ({"excluded_from": "2026-10-04 09:30"}, "excluded_from", "not a time with its offset"),
        ({"category": "weather"}, "category", "scheduled_maintenance"),
        ({"evidence": ""}, "evidence", "nothing is approved without it"),
        ({"decided_by": "ANN"}, "decided_by", "a second person must approve"),
        ({"decided_by": ""}, "decided_by", "missing: the entry is approved"),
        ({"decision": "pending"}, "decided_by", "given, but the entry is pending"),
        ({"decided_at": "2026-10-05T00:00:00Z"}, "decided_at", "before entered_at"),
        ({"entered_at": "2999-01-01T00:00:00Z"}, "entered_at", "in the future"),
        ({"evse_id": "E9"}, "evse_id", "wattle never described an EVSE E9"),
        ({"cpo_id": "acacia"}, "evse_id", "stands at several sites (S1, S2): name the site_id"),
        ({"entered_by": ""}, "entered_by", "missing"),
    ],
)
def test_a_bad_row_is_named_and_the_good_one_beside_it_goes_in(
    change: dict[str, str], field: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = {**GOOD, "exclusion_id": f"beside-{field}-{reason}"}
    path = write(tmp_path, {**GOOD, "exclusion_id": "bad", **change}, beside)
    assert main(["load", str(path)]) == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"{path}:2: {field}: ")
    assert reason in told.err
    assert "1 new" in told.out
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert beside["exclusion_id"] in listed
    assert "bad  " not in listed


def test_the_same_again_is_nothing_and_another_word_is_a_new_version(tmp_path: Path) -> None:
    row = {**GOOD, "exclusion_id": "V-1", "cpo_id": "acacia", "site_id": "s2"}
    with connect(Role.REGISTRAR) as connection:
        now = datetime.now(UTC)
        assert str(load(connection, write(tmp_path, row), now)).startswith("1 new, 0 changed, 0 as they were")
        assert str(load(connection, write(tmp_path, row), now)).startswith("0 new, 0 changed, 1 as they were")
        again = write(tmp_path, {**row, "decision": "rejected"})
        assert str(load(connection, again, now)).startswith("0 new, 1 changed, 0 as they were")
        versions = connection.execute(
            "select decision from register.exclusion_version where exclusion_id = 'V-1' order by exclusion_version_key"
        ).fetchall()
    assert versions == [("approved",), ("rejected",)]


def test_a_file_without_the_columns_is_refused_as_a_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, header=(*COLUMNS[1:], "colour"))
    assert main(["load", str(path)]) == 2
    assert "missing: exclusion_id; unknown: colour" in capsys.readouterr().err


@pytest.mark.parametrize("role", [Role.INGEST, Role.TRANSFORM, Role.ANALYST, Role.EXTRACT, Role.PORTAL])
def test_nobody_else_enters_exclusions(role: Role) -> None:
    with connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("insert into register.exclusion_version default values")


def test_what_was_entered_cannot_be_changed() -> None:
    for statement in ("update register.exclusion_version set note = 'x'", "delete from register.exclusion_version"):
        with connect(Role.REGISTRAR) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
