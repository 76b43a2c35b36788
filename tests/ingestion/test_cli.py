"""``python -m ingestion``: what a person types, and what it says and returns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ingestion.__main__ import main
from tests.feeds import count, history_config
from warehouse.connection import REPOSITORY, Role, connect

COMMANDS = (
    "import-history",
    "import-waiting",
    "collect",
    "try",
    "convert-snapshots",
    "quarantine",
    "serve",
    "tokens",
    "register",
    "health",
    "check-config",
)

ASSETS = """\
site_id,site_name,address,suburb,postcode,state,latitude,longitude,time_zone,charger_id,evse_id,connector_id,connector_standard,power_kw
S1,Main St,1 Main St,Orange,2800,NSW,-33.28,149.1,Australia/Sydney,C1,E1,1,IEC_62196_T2,7.4
"""
CHANGES = """\
evse_id,status,observed_at
E1,available,2026-10-05T00:00:00Z
E1,charging,last Tuesday
"""
CONTACT = """\
contact_at,is_complete
2026-10-05T00:00:00Z,true
"""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ingestion", *map(str, arguments)],
        cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of one CPO, `wattle`, and its configuration."""
    document = history_config("wattle").model_dump(mode="json", exclude_none=True)
    (tmp_path / "cpos").mkdir()
    (tmp_path / "cpos" / "wattle.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path / "cpos"))
    for name, text in {"assets.csv": ASSETS, "changes.csv": CHANGES, "contact.csv": CONTACT}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_says_how_it_is_used(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([command, "--help"] if command else ["--help"])
    assert raised.value.code == 0
    assert f"python -m ingestion {command}".strip() in capsys.readouterr().out


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert [command for command in COMMANDS if command not in done.stdout] == []
    # Both ways: the list above is whole.
    assert "{" + ",".join(COMMANDS) + "}" in done.stdout


def test_files_are_imported_and_what_was_refused_can_be_read(
    folder: Path, warehouse: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        argument for kind in ("assets", "changes", "contact") for argument in (f"--{kind}", folder / f"{kind}.csv")
    ]
    done = run("import-history", "--cpo", "wattle", *files)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "assets.csv: 1 asset records read",
        "changes.csv: 2 change records read",
        "contact.csv: 1 contact records read",
        "wattle: 1 asset versions, 1 changes, 1 contacts, 1 quarantined",
        "see why: python -m ingestion quarantine --cpo wattle",
    ]
    again = run("import-history", "--cpo", "wattle", *files)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1] == "wattle: 0 asset versions, 0 changes, 0 contacts, 0 quarantined"

    assert main(["quarantine", "--cpo", "wattle"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "wattle  open  changes.csv record 2 observed_at: 'last Tuesday' is not an ISO 8601 time" in first
    assert '"status": "charging"' in second
    for arguments, lines in ((["--cpo", "mulga"], 0), ([], 2), (["--most", "0"], 0)):
        assert main(["quarantine", *arguments]) == 0
        assert len(capsys.readouterr().out.splitlines()) == lines, arguments


def test_a_bad_file_is_a_message_and_not_a_traceback(folder: Path, warehouse: str) -> None:
    (folder / "changes.csv").write_text("evse_id,status\n", encoding="utf-8")
    done = run(
        "import-history", "--cpo", "wattle", "--assets", folder / "assets.csv", "--changes", folder / "changes.csv"
    )
    assert done.returncode == 2
    assert done.stderr == f"{folder / 'changes.csv'}: column observed_at is missing; it has evse_id, status\n"
    with connect(Role.INGEST) as connection:
        assert count(connection, "asset_version", "wattle") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import-history", "--cpo", "mulga", "--changes", "x"], "mulga.yml does not exist"),
        (["import-history", "--cpo", "wattle"], "name at least one of --assets, --changes, --contact"),
        (["import-history", "--cpo", "wattle", "--changes", "nowhere.csv"], "nowhere.csv: no such file"),
        (["collect", "--cpo", "wattle"], "a feed of kind history is not polled"),
        (["convert-snapshots", "--config", "nowhere.yml", "--input", "x", "--output", "y"], "nowhere.yml: cannot be"),
    ],
)
def test_a_mistake_is_told_with_status_2(
    folder: Path, warehouse: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err


def test_without_a_warehouse_the_command_says_how_to_get_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WAREHOUSE_URL", "WAREHOUSE_INGEST_URL", "WAREHOUSE_URL_FILE", "WAREHOUSE_INGEST_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAR_DIR", str(folder / "var"))
    assert main(["import-history", "--cpo", "wattle", "--contact", str(folder / "contact.csv")]) == 2
    assert "no warehouse: set WAREHOUSE_URL" in capsys.readouterr().err


def test_waiting_hand_overs_are_imported(folder: Path, warehouse: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("2026-09", "2026-10"):
        (folder / "inbox" / "wattle" / name).mkdir(parents=True)
    (folder / "inbox" / "wattle" / "2026-10" / "contact.csv").write_text(CONTACT, encoding="utf-8")
    command = ["import-waiting", "--cpo", "wattle", "--inbox", str(folder / "inbox")]
    assert main(command) == 0
    assert "2026-10: 0 asset versions, 0 changes, 1 contacts, 0 quarantined" in capsys.readouterr().out
    (folder / "inbox" / "wattle" / "2026-09" / "changes.csv").write_text("x", encoding="utf-8")
    assert main(command) == 2
    said = capsys.readouterr()
    assert "2026-10: imported before" in said.out
    assert said.err.startswith("2026-09: ")


def test_check_config_reads_every_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config"]) == 0
    assert capsys.readouterr().out == "wattle: history, status profile history\n"
    (folder / "cpos" / "mulga.yml").write_text("cpo_id: mulga\n", encoding="utf-8")
    assert main(["check-config"]) == 2
    assert "mulga.yml: feed: missing key" in capsys.readouterr().err


def test_snapshots_are_converted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assets = dict.fromkeys(ASSETS.splitlines()[0].split(","), "") | {"site_id": "S1", "evse_id": "{evse_id}"}
    config = {
        "time": {"columns": ["at"], "widths": [1], "format": "%Y-%m-%d %H:%M", "time_zone": "UTC"},
        "evse": {"columns": ["plug"]},
        "status": "word",
        "empty_marker": {"plug": ""},
        "assets": assets,
    }
    (folder / "map.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "map.csv").write_text("at,plug,word\n2026-10-05 00:00,E1,free\n2026-10-05 00:05,,\n", encoding="utf-8")
    command = ["convert-snapshots", "--config", str(folder / "map.yml"), "--input", str(folder / "map.csv")]
    assert main([*command, "--output", str(folder / "out")]) == 0
    assert "1 snapshots, 1 empty ones (no contact), 1 EVSEs" in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "assets.csv.gz", "changes.csv.gz", "contact.csv.gz",
    ]  # fmt: skip


def test_a_warehouse_that_does_not_answer_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://somebody:hidden@127.0.0.1:9/warehouse")
    assert main(["quarantine"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("the warehouse does not answer: ")
    assert "make db" in said
    assert said.count("\n") == 1
    assert "hidden" not in said
