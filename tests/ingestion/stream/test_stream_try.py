"""``python -m ingestion try`` of a feed that speaks by itself: connected to, listened to for a moment, and nothing stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from stream_world import Hub, hub, status, stream_config
from test_stream_sse import EventServer, events

from ingestion.__main__ import main
from ingestion.config import CpoConfig
from tests.ingestion.ocpi.scripted_server import Reply, ScriptedServer
from tests.waiting import until

SNAPSHOT_MAPPING: dict[str, Any] = {
    "sites": "sites",
    "site": {"site_id": "ref", "time_zone": "zone"},
    "evses": "points",
    "evse": {"evse_id": "id", "status": "status"},
}
EVSES_MAPPING: dict[str, Any] = {"site": {"site_id": "site", "time_zone": "zone"}, "evse": {"evse_id": "id"}}
PERTH = "Australia/Perth"


@pytest.fixture(autouse=True)
def _no_warehouse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://nobody@127.0.0.1:9/nothing")


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as running:
        yield running


def save(folder: Path, config: CpoConfig) -> None:
    document = config.model_dump(mode="json", exclude_none=True)
    (folder / f"{config.cpo_id}.yml").write_text(yaml.safe_dump(document), encoding="utf-8")


def snapshot(*points: tuple[str, str | None]) -> str:
    described = [{"id": evse_id, "status": word} for evse_id, word in points]
    return json.dumps({"type": "all", "sites": [{"ref": "S1", "zone": PERTH, "points": described}]})


def evses_list(*evse_ids: str, **more: object) -> Reply:
    rows = [{"id": evse_id, "site": "S1", "zone": PERTH, **more} for evse_id in evse_ids]
    return Reply(json.dumps(rows).encode(), headers={"Content-Type": "application/json"})


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Act in another thread, as the other side does; whatever it finds wrong is raised here."""
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised by the test
            wrong.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(20)
    assert not thread.is_alive()
    if wrong:
        raise wrong[0]


def tried(capsys: pytest.CaptureFixture[str], seconds: float = 2.0) -> list[str]:
    assert main(["try", "--cpo", "abc", "--seconds", str(seconds)]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_snapshot_and_what_is_told_after_it_are_shown_as_a_poll_is(
    server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, stream_config("abc", server.url, mapping=SNAPSHOT_MAPPING, snapshot_when="type == 'all'"))
    server.greet = lambda connection: connection.send(
        snapshot(("a", "AVAILABLE"), ("b", "AVAILABLE"), ("c", "Odd"), ("d", None))
    )

    def tell() -> None:
        until(lambda: len(server.connections) == 1)
        server.tell(status("B", "CHARGING"), '{"type": "hello"}', status("zz", "CHARGING"), "{")

    with meanwhile(tell):
        said = tried(capsys)
    assert said == [
        "abc: 5 messages in 2 s, 1 of them with every EVSE (snapshot_when), 1 of them without anything that is read",
        "abc: 1 sites, 4 chargers, 4 EVSEs, 4 connectors",
        "statuses, by profile ocpi_2_2_1:",
        "       1  AVAILABLE -> available",
        "       1  CHARGING -> charging",
        "       1  Odd -> NOT IN THE PROFILE, counts as unknown",
        "       1  described without a status -> missing",
        "rejected, or noted: 3",
        "       1  websocket message evse.status (status): described without a status: gives nothing; the first is S1/d",
        "       1  websocket message evse_id: this EVSE is not described; the first is zz",
        said[-9],
        "the first record, as it is read:",
        "  site_id: S1",
        "  charger_id: a",
        "  evse_id: a",
        "  connector_id: 1",
        "  time_zone: Australia/Perth",
        "  attributes: {}",
        "  status: AVAILABLE",
    ]
    assert "websocket message the record: is not JSON" in said[-9]
    assert server.accepted == 1


def test_a_list_that_the_file_names_is_asked_for(
    server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer() as lists:
        lists.routes["/evses"] = lambda _: evses_list("a", "b", status="AVAILABLE")
        mapping = {**EVSES_MAPPING, "evse": {"evse_id": "id", "status": "status"}}
        save(tmp_path, stream_config("abc", server.url, mapping=mapping, snapshot={"url": f"{lists.url}/evses"}))

        def tell() -> None:
            until(lambda: len(server.connections) == len(lists.requests) == 1)
            server.tell(status("a", "CHARGING"))

        with meanwhile(tell):
            said = tried(capsys)
        assert said[:5] == [
            "abc: 1 messages in 2 s, 0 of them without anything that is read",
            "abc: 1 sites, 2 chargers, 2 EVSEs, 2 connectors",
            "statuses, by profile ocpi_2_2_1:",
            "       1  CHARGING -> charging",
            "       1  AVAILABLE -> available",
        ]
        lists.routes["/evses"] = lambda _: Reply(b"", 503)
        assert main(["try", "--cpo", "abc"]) == 2
        assert capsys.readouterr().err == f"GET {lists.url}/evses: HTTP 503\n"


def test_descriptions_are_asked_for_and_what_nothing_was_told_of_is_missing(
    server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer() as lists:
        lists.routes["/evses"] = lambda _: evses_list("a", "b")
        save(
            tmp_path,
            stream_config("abc", server.url, mapping=EVSES_MAPPING, descriptions={"url": f"{lists.url}/evses"}),
        )

        def tell() -> None:
            until(lambda: len(server.connections) == 1)
            server.tell(status("a", "CHARGING"))

        with meanwhile(tell):
            said = tried(capsys)
    assert said[1:6] == [
        "abc: 1 sites, 2 chargers, 2 EVSEs, 2 connectors",
        "statuses, by profile ocpi_2_2_1:",
        "       1  CHARGING -> charging",
        "       1  described without a status -> missing",
        "rejected, or noted: 0",
    ]


def test_words_are_shown_also_where_descriptions_come_another_way(
    server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, stream_config("abc", server.url))

    def tell() -> None:
        until(lambda: len(server.connections) == 1)
        server.tell(status("a", "CHARGING"), status("b", "CHARGING"), status("A", "BLOCKED"))
        server.cut_all()

    with meanwhile(tell):
        said = tried(capsys)
    assert said[0] == "abc: 3 messages in 2 s, 0 of them without anything that is read"
    assert said[1].startswith("the connection broke: ")
    assert said[2:] == [
        "abc: 0 sites, 0 chargers, 0 EVSEs, 0 connectors",
        "statuses, by profile ocpi_2_2_1:",
        "       1  BLOCKED -> blocked",
        "       1  CHARGING -> charging",
        "rejected, or noted: 0",
        "no EVSE is described here",
    ]


def test_a_stream_that_says_nothing_is_shown_to_say_nothing(
    server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, stream_config("abc", server.url, mapping=SNAPSHOT_MAPPING, snapshot_when="type == 'all'"))
    said = tried(capsys, 0.2)
    assert said[0] == (
        "abc: 0 messages in 0.2 s, 0 of them with every EVSE (snapshot_when), 0 of them without anything that is read"
    )
    assert said[-1] == "no record could be read"


def test_a_stream_that_refuses_says_why(server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, stream_config("abc", server.url))
    server.answer = lambda connection, request: connection.respond(HTTPStatus.FORBIDDEN, "no")
    assert main(["try", "--cpo", "abc"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "HTTP 403" in said.err


@pytest.fixture
def source() -> Iterator[EventServer]:
    with events() as running:
        yield running


def test_events_are_listened_to_as_well(
    source: EventServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(
        tmp_path,
        stream_config(
            "abc", source.url, "sse", mapping=SNAPSHOT_MAPPING, snapshot_when="type == 'all'", events=["status"]
        ),
    )

    def tell() -> None:
        until(lambda: len(source.clients) == 1)
        source.event(snapshot(("a", "AVAILABLE"), ("b", "BLOCKED")), "1", "status")
        source.event(status("a", "OUTOFORDER"), "2", "advertisement")
        source.event(status("a", "CHARGING"), "3", "status")

    with meanwhile(tell):
        said = tried(capsys)
    assert said[:6] == [
        "abc: 2 messages in 2 s, 1 of them with every EVSE (snapshot_when), 0 of them without anything that is read",
        "abc: 1 sites, 2 chargers, 2 EVSEs, 2 connectors",
        "statuses, by profile ocpi_2_2_1:",
        "       1  CHARGING -> charging",
        "       1  BLOCKED -> blocked",
        "rejected, or noted: 0",
    ]
