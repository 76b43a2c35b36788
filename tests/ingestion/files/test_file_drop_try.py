"""``python -m ingestion try`` of a feed of files: the newest is read where it lies, and nothing is stored, taken or moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from test_file_drop import changes_config, drop_config, put, rows

from ingestion.__main__ import main
from ingestion.config import CpoConfig
from tests.feeds import at

NEW = at(550)


@pytest.fixture(autouse=True)
def _no_warehouse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://nobody@127.0.0.1:9/nothing")


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


def save(config: CpoConfig, folder: Path) -> None:
    document = config.model_dump(mode="json", exclude_none=True)
    (folder.parent / f"{config.cpo_id}.yml").write_text(yaml.safe_dump(document), encoding="utf-8")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tried(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["try", "--cpo", "abc"]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_newest_file_is_read_and_stays(drop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(drop_config("abc", drop, pattern="s_*"), drop)
    put(drop, "s_20261001T0800.csv", rows(("old", "AVAILABLE")))
    put(
        drop, "s_20261001T0700.csv", rows(("E1", "AVAILABLE"), ("E2", "Odd"), ("E3", ""), ("E4", "")) + "too,few\n", NEW
    )
    put(drop, ".s_20261001T0900.csv", "hidden", at(560))
    put(drop, "s_20261001T0900.csv.part", "unfinished", at(560))
    put(drop, "other.csv", "not ours", at(560))
    put(drop, "rejected/1234/s_20261001T0900.csv", "refused", at(560))
    before = content(drop)
    assert tried(capsys) == [
        f"abc: {drop}/s_20261001T0700.csv, which tells of 2026-10-01T07:00:00+00:00",
        "abc: 1 sites, 4 chargers, 4 EVSEs, 4 connectors",
        "statuses, by profile ocpi_2_2_1:",
        "       1  AVAILABLE -> available",
        "       1  Odd -> NOT IN THE PROFILE, counts as unknown",
        "       2  described without a status -> missing",
        "rejected, or noted: 3",
        "       2  csv file evse.status (status): described without a status: gives nothing; the first is S1/E3",
        "       1  csv file the record: has 2 values, the header has 7; the first is record 5",
        "the first record, as it is read:",
        "  site_id: S1",
        "  charger_id: E1",
        "  evse_id: E1",
        "  connector_id: 1",
        "  time_zone: Australia/Sydney",
        "  power_kw: 22.000",
        "  attributes: {}",
        "  status: AVAILABLE",
    ]
    assert content(drop) == before


def test_a_file_that_tells_of_some_is_read_record_by_record(drop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(changes_config("abc", drop), drop)
    put(drop, "c.csv", rows(("E1", "AVAILABLE", "2026-10-01T07:00:00Z"), ("E2", "CHARGING")))
    said = tried(capsys)
    assert said[:6] == [
        f"abc: {drop}/c.csv, which tells of the times of its records",
        "abc: 1 sites, 2 chargers, 2 EVSEs, 2 connectors",
        "statuses, by profile ocpi_2_2_1:",
        "       1  AVAILABLE -> available",
        "       1  described without a status -> missing",
        "rejected, or noted: 1",
    ]
    assert said[6] == ("       1  c.csv updated_at: no time: it is not known since when; the first is record 2: s1/e2")
    assert said[-1] == "  status: AVAILABLE, since 2026-10-01T07:00:00+00:00"


@pytest.mark.parametrize("is_complete", [True, False])
def test_statuses_of_evses_that_are_described_elsewhere_are_shown(
    drop: Path, capsys: pytest.CaptureFixture[str], is_complete: bool
) -> None:
    mapping = {"evse_id": "evse", "status": "status", "updated_at": "at"}
    elsewhere: dict[str, Any] = {
        "mapping": None,
        "status_mapping": mapping,
        "observed_at": "modified",
        "name_time": None,
    }
    save(drop_config("abc", drop, is_complete=is_complete, **elsewhere), drop)
    put(drop, "c.csv", rows(("E1", "AVAILABLE"), ("E2", "AVAILABLE")))
    assert tried(capsys)[1:] == [
        "abc: 0 sites, 0 chargers, 0 EVSEs, 0 connectors",
        "statuses, by profile ocpi_2_2_1:",
        "       2  AVAILABLE -> available",
        "rejected, or noted: 0",
        "no EVSE is described here",
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("", "", "{drop}/: no file that is like *"),
        ("odd.csv", "", "{drop}/odd.csv: its name does not read as s_%Y%m%dT%H%M.csv"),
        ("s_99991231T2359.csv", "", "{drop}/s_99991231T2359.csv: its time 9999-12-31T23:59:00+00:00 cannot be"),
        ("s_20261001T0700.csv", "", "{drop}/s_20261001T0700.csv: is empty; its first line must name the columns"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_and_stays(
    drop: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    save(drop_config("abc", drop), drop)
    if name:
        put(drop, name, text)
    before = content(drop)
    assert main(["try", "--cpo", "abc"]) == 2
    assert capsys.readouterr() == ("", said.format(drop=drop) + "\n")
    assert content(drop) == before


def test_a_folder_that_is_not_there_is_said_and_not_made(drop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(drop_config("abc", drop), drop)
    drop.rmdir()
    assert main(["try", "--cpo", "abc"]) == 2
    assert capsys.readouterr().err == f"no such folder: {drop}\n"
    assert not drop.exists()
