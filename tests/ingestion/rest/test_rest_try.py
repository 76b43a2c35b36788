"""``python -m ingestion try``: what a data engineer sees of a new CPO before anything is stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from rest_script import ASSETS, STATUSES, pair_config, port, ports, rest_config, serve

from ingestion.__main__ import main
from ingestion.config import CpoConfig
from ingestion.rest.auth import BasicAuth
from tests.ingestion.ocpi.scripted_server import Reply, ScriptedServer, location


@pytest.fixture(autouse=True)
def _no_warehouse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://nobody@127.0.0.1:9/nothing")


def save(folder: Path, config: CpoConfig) -> None:
    document = config.model_dump(mode="json", exclude_none=True)
    (folder / f"{config.cpo_id}.yml").write_text(yaml.safe_dump(document), encoding="utf-8")


def test_it_asks_once_and_shows_counts_words_reasons_and_the_first_record(
    server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, rest_config(server.url))
    serve(
        server,
        [
            *ports(2, "available"),
            port("P3", "Occupied"),
            port("P4", "gone fishing"),
            port("P5", None),
            port("P6", id=None),
        ],
    )
    assert main(["try", "--cpo", "abc"]) == 0
    assert capsys.readouterr().out == (
        "abc: 1 sites, 5 chargers, 5 EVSEs, 5 connectors\n"
        "statuses, by profile history:\n"
        "       2  available -> available\n"
        "       1  Occupied -> charging\n"
        "       1  gone fishing -> NOT IN THE PROFILE, counts as unknown\n"
        "       1  described without a status -> missing\n"
        "rejected, or noted: 2\n"
        "       1  /v1/ports evse.status (state): described without a status: gives nothing; the first is S1/P5\n"
        "       1  /v1/ports evse.evse_id (id): gives nothing; the first is S1/#0\n"
        "the first record, as it is read:\n"
        "  site_id: S1\n"
        "  charger_id: P1\n"
        "  evse_id: P1\n"
        "  connector_id: 1\n"
        "  time_zone: Australia/Sydney\n"
        "  latitude: -33.87\n"
        "  longitude: 151.21\n"
        "  power_kw: 50.000\n"
        "  attributes: {}\n"
        "  status: available\n"
    )
    assert len(server.requests) == 1


def test_a_feed_that_fails_says_why(server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, rest_config(server.url))
    server.routes[ASSETS] = lambda _: Reply(b"<html>", 200)
    assert main(["try", "--cpo", "abc"]) == 2
    assert capsys.readouterr().err == f"GET {server.url}{ASSETS}: the body is not JSON, it looks like HTML (6 bytes)\n"


def test_captured_files_are_read_without_asking_and_without_a_secret(
    server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = pair_config(server.url)
    auth = BasicAuth.model_validate({"kind": "basic", "user": "u", "secret": "NOT_SET"})
    save(
        tmp_path,
        config.model_copy(update={"feed": config.feed.model_copy(update={"auth": auth})}),
    )
    described, told = tmp_path / "assets.json", tmp_path / "states.json"
    described.write_text(json.dumps({"items": ports(2, None)}))
    told.write_text(json.dumps({"states": [{"id": "P1", "state": "free"}, {"id": "P9", "state": "free"}]}))
    assert main(["try", "--cpo", "abc", "--file", str(described), "--file", str(told)]) == 0
    said = capsys.readouterr().out
    assert "abc: 1 sites, 2 chargers, 2 EVSEs, 2 connectors\n" in said
    assert "       1  states.json evse_id: this EVSE is not described; the first is P9\n" in said
    assert main(["try", "--cpo", "abc", "--file", str(described)]) == 2
    assert capsys.readouterr().err == "abc: name 2 file(s): descriptions, then statuses\n"
    assert main(["try", "--cpo", "abc", "--file", str(told), "--file", str(told)]) == 2
    assert capsys.readouterr().err == f"{told}: 'items' gives null where a list belongs\n"
    told.write_text("{")
    assert main(["try", "--cpo", "abc", "--file", str(described), "--file", str(told)]) == 2
    assert capsys.readouterr().err.startswith(f"{told}: is not JSON: ")
    assert server.asked(ASSETS) + server.asked(STATUSES) == []


@pytest.mark.parametrize(
    "envelope", [lambda items: items, lambda items: {"data": items}, lambda items: {"items": items}]
)
def test_a_captured_ocpi_answer_is_read_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], envelope: object
) -> None:
    assert callable(envelope)
    (tmp_path / "abc.yml").write_text(
        "cpo_id: abc\nname: ABC\nfeed: {kind: ocpi_pull, version: 2.2.1, versions_url: '${NOT_SET}', party: AU*ABC, token_secret: T,"
        " poll_seconds: 60, liveness_seconds: 300, status_profile: ocpi_2_2_1}\n"
    )
    file = tmp_path / "page.json"
    file.write_text(json.dumps(envelope([location(evse_count=2)])))
    assert main(["try", "--cpo", "abc", "--file", str(file)]) == 0
    assert "abc: 1 sites, 2 chargers, 2 EVSEs, 2 connectors\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        ("history", ["python -m ingestion import-history --cpo abc"]),
        ("rest_push", ["python -m ingestion tokens issue --cpo abc", "python -m ingestion serve"]),
    ],
)
def test_a_feed_that_cannot_be_asked_is_tried_by_another_command_which_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, commands: list[str]
) -> None:
    (tmp_path / "abc.yml").write_text(
        f"cpo_id: abc\nname: ABC\nfeed: {{kind: {kind}, liveness_seconds: 300, status_profile: history}}\n"
    )
    assert main(["try", "--cpo", "abc"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"abc: a feed of kind {kind} is not asked")
    assert [command for command in commands if f"`{command}`" not in said.err] == []
    assert main(["try", "--cpo", "abc", "--file", str(tmp_path / "abc.yml")]) == 2
    assert f"files of a feed of kind {kind} cannot be tried" in capsys.readouterr().err
