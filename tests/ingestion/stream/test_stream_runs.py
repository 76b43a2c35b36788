"""What a scheduler and the command line call, for streams and files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import yaml
from stream_world import describe, hub, status, stream_config

from ingestion.__main__ import main
from ingestion.config import CpoConfig
from ingestion.model import FeedError
from ingestion.runs import NotPolledError, collect_window
from ingestion.streams import StreamTotals
from tests.feeds import changes_of, count
from tests.waiting import until
from warehouse.connection import Role, connect


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        opened.autocommit = True
        yield opened


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("VAR_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("COLLECTION_WINDOW_SECONDS", "2.5")


def save(folder: Path, config: CpoConfig) -> None:
    document = config.model_dump(mode="json", exclude_none=True)
    (folder / f"{config.cpo_id}.yml").write_text(yaml.safe_dump(document), encoding="utf-8")


def test_a_run_of_a_stream_listens_until_its_window_ends(connection: psycopg.Connection, tmp_path: Path) -> None:
    with hub() as server:
        config = stream_config("streamed", server.url)
        save(tmp_path, config)
        describe(config, ["a"])
        threading.Thread(
            target=lambda: (until(lambda: len(server.connections) == 1), server.tell(status("a", "CHARGING")))
        ).start()
        began = datetime.now(UTC)
        totals = collect_window("streamed", began)
    assert isinstance(totals, StreamTotals)
    assert (totals.messages, totals.written.changes) == (1, 1)
    assert 2.4 < (datetime.now(UTC) - began).total_seconds() < 6
    assert [word for _, _, word in changes_of(connection, "streamed")] == ["CHARGING"]


def test_a_run_without_one_connection_fails_and_says_why(module_warehouse: str, tmp_path: Path) -> None:
    save(tmp_path, stream_config("nobody", "ws://127.0.0.1:9/live"))
    with pytest.raises(FeedError, match=r"nobody: none of \d+ connections came about; the last: .*ConnectionRefused"):
        collect_window("nobody", datetime.now(UTC))


def test_files_are_collected_from_the_command_line(
    connection: psycopg.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop = tmp_path / "drop"
    feed = {
        "kind": "file_drop", "url": drop.as_uri(), "format": "csv", "is_complete": True, "observed_at": "name",
        "name_time": "%Y%m%dT%H%M.csv", "poll_seconds": 60, "liveness_seconds": 300, "status_profile": "ocpi_2_2_1",
        "time_zone": "Australia/Sydney", "mapping": {"site": {"site_id": "s"}, "evse": {"evse_id": "e", "status": "w"}},
    }  # fmt: skip
    save(tmp_path, CpoConfig.model_validate({"cpo_id": "dropped", "name": "Dropped", "feed": feed}))
    assert main(["collect", "--cpo", "dropped", "--seconds", "0"]) == 1
    assert "no such folder" in capsys.readouterr().out
    drop.mkdir()
    (drop / "20261001T0000.csv").write_text("s,e,w\nS1,a,AVAILABLE\n", encoding="utf-8")
    # Written this moment: it waits, and a look that finds nothing ready is no failure.
    assert main(["collect", "--cpo", "dropped", "--seconds", "0"]) == 0
    assert "0 files taken, 0 repeated, 0 refused, 1 waiting" in capsys.readouterr().out
    assert count(connection, "file_receipt", "dropped") == 0


def test_a_feed_that_pushes_is_not_polled(tmp_path: Path) -> None:
    feed = {"kind": "rest_push", "liveness_seconds": 300, "status_profile": "ocpi_2_2_1"}
    save(tmp_path, CpoConfig.model_validate({"cpo_id": "pushing", "name": "Pushing", "feed": feed}))
    with pytest.raises(NotPolledError, match="pushing pushes and is not polled"):
        collect_window("pushing", datetime.now(UTC))
