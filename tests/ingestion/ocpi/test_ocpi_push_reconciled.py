"""The full lists of a feed that pushes: what they hold, and when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from scripted_server import LOCATIONS, OcpiScript, Reply, ScriptedServer, evse, location, pull_config

from ingestion.__main__ import main
from ingestion.collector import LOOK, RETRY, Totals, collect
from ingestion.config import CpoConfig
from ingestion.feeds import open_polled
from ingestion.http import HttpTransport
from ingestion.ocpi.pull import OcpiPull
from ingestion.writer import Writer
from tests.feeds import at, count
from warehouse.connection import Role, connect

SECOND = timedelta(seconds=1)


def push_config(server: ScriptedServer, cpo_id: str = "abc", **feed: Any) -> CpoConfig:
    settings = pull_config(server.url).feed.model_dump(exclude={"kind", "poll_seconds", "full_seconds"})
    settings |= {"kind": "ocpi_push", "reconcile_seconds": 3600, "liveness_seconds": 7200} | feed
    return CpoConfig.model_validate({"cpo_id": cpo_id, "name": "ABC", "feed": settings})


def test_a_full_list_of_a_feed_that_pushes_holds_every_readable_location_as_it_was_sent(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No warehouse, so no registration: the token is the one of the CPO's file.
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    items = [
        location("L1", novelty={"a": [1, None]}),
        location(" L2 ", party_id="xyz", evses=[evse("1", status=None)]),
        location("L3", time_zone=None, coordinates=None),
        location("", name="unreadable"),
    ]
    OcpiScript(items).mount(server)
    feed = open_polled(push_config(server), lambda name: {"ABC_TOKEN": "token"}[name])
    poll = feed.poll()
    assert poll.documents == (("AU*ABC", "L1", items[0]), ("AU*XYZ", "L2", items[1]), ("AU*ABC", "L3", items[2]))
    assert list(poll.statuses) == ["l1/l1-1"]
    assert feed.poll().is_unchanged
    feed.close()


def test_it_is_tried_by_its_full_list_and_the_command_for_the_rest_is_named(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("ABC_TOKEN", "token")
    document = push_config(server).model_dump(mode="json", exclude_none=True)
    (tmp_path / "abc.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    OcpiScript([location("L1")]).mount(server)
    assert main(["try", "--cpo", "abc"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "abc: 1 sites, 1 chargers, 1 EVSEs, 1 connectors"
    assert (
        "try what it pushes with `python -m ingestion register --cpo abc` while `python -m ingestion serve`" in said[-1]
    )


def test_a_feed_that_is_pulled_keeps_no_documents(server: ScriptedServer) -> None:
    OcpiScript([location("L1")]).mount(server)
    feed = OcpiPull(pull_config(server.url), f"{server.url}/ocpi/versions", "token", HttpTransport())
    assert feed.poll().documents == ()
    feed.close()


class SetClock:
    """Time passes only by waiting; ``at_times`` is what happens then."""

    def __init__(self, now: datetime, at_times: dict[datetime, Callable[[], None]] | None = None) -> None:
        self.time = now
        self.at_times = at_times or {}

    def now(self) -> datetime:
        return self.time

    def wait_until(self, at: datetime) -> None:
        assert at - self.time <= LOOK
        self.time = at
        self.at_times.get(at, lambda: None)()


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        yield opened


def window(server: ScriptedServer, config: CpoConfig, clock: SetClock, seconds: float) -> tuple[Totals, list[datetime]]:
    """What one window saw, and when it asked."""
    asked: list[datetime] = []
    script = OcpiScript([location("L1")]) if LOCATIONS not in server.routes else None
    if script:
        script.mount(server)
    plain = server.routes[LOCATIONS]

    def noted(request: Any) -> Reply:
        asked.append(clock.time)
        return plain(request)

    server.routes[LOCATIONS] = noted
    url = f"{server.url}/ocpi/versions"
    totals = collect(
        config,
        seconds=seconds,
        report=lambda line: None,
        clock=clock,
        make_feed=lambda config: OcpiPull(config, url, "token", HttpTransport(backoff_seconds=0)),
    )
    server.routes[LOCATIONS] = plain
    return totals, asked


def test_full_lists_keep_to_their_schedule_over_windows(server: ScriptedServer, connection: psycopg.Connection) -> None:
    config = push_config(server, "scheduled")
    asked = []
    for quarter in range(9):
        clock = SetClock(at(15 * quarter + 5))
        totals, times = window(server, config, clock, 15 * 60 + 30)
        assert clock.time == at(15 * quarter + 20.5)
        assert totals.failed_polls == 0
        asked += times
    assert asked == [at(5), at(60), at(120)]
    assert count(connection, "ocpi_location", "scheduled") == 1


def test_a_full_list_that_somebody_wants_is_asked_for_at_once(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    config = push_config(server, "wanted")
    writer = Writer(connection, config)
    wishes = {moment: lambda moment=moment: writer.ask_for_full_list(moment) for moment in (at(2), at(2.5))}
    totals, asked = window(server, config, SetClock(at(0), wishes), 300)
    assert asked == [at(0), at(2), at(2.5)]
    assert (totals.complete_polls, totals.failed_polls) == (3, 0)


def test_a_wish_from_between_two_windows_is_met_by_the_next(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    config = push_config(server, "between")
    assert window(server, config, SetClock(at(1)), 60)[1] == [at(1)]
    assert window(server, config, SetClock(at(3)), 60)[1] == []
    Writer(connection, config).ask_for_full_list(at(5))
    assert window(server, config, SetClock(at(6)), 60)[1] == [at(6)]


def test_a_full_list_that_fails_is_asked_for_again_after_a_while_and_not_at_each_look(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    config = push_config(server, "failing")
    failures = iter([True, True])
    OcpiScript([location("L1")]).mount(server).after_page = lambda _, reply: (
        Reply(b"", 400) if next(failures, False) else reply
    )
    totals, asked = window(server, config, SetClock(at(0)), 300)
    assert asked == [at(0), at(0) + RETRY, at(0) + 2 * RETRY]
    assert (totals.complete_polls, totals.failed_polls) == (1, 2)


def test_a_window_that_is_over_asks_when_a_list_is_due_and_not_otherwise(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    config = push_config(server, "over")
    assert window(server, config, SetClock(at(1)), 0)[1] == [at(1)]
    totals, asked = window(server, config, SetClock(at(2)), 0)
    assert (asked, totals.complete_polls, totals.failed_polls) == ([], 0, 0)
