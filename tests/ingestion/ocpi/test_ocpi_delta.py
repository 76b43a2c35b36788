"""Deltas: what is asked for, what an answer means, and when a full list is read instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from scripted_server import LOCATIONS, OcpiScript, Reply, Request, ScriptedServer, location, pull_config

from ingestion.collector import collect, delta_since
from ingestion.config import CpoConfig, OcpiPullFeed
from ingestion.http import HttpTransport
from ingestion.model import DeltaFeed, FeedError, Poll
from ingestion.ocpi.paging import changed_since
from ingestion.ocpi.pull import DELTA_OVERLAP, OcpiPull
from ingestion.writer import Writer
from tests.feeds import at, changes_of
from warehouse.connection import Role, connect

Make = Callable[..., OcpiPull]


def open_feed(server: ScriptedServer, **settings: Any) -> OcpiPull:
    config = pull_config(server.url, **settings)
    return OcpiPull(config, f"{server.url}/ocpi/versions", "token", HttpTransport(backoff_seconds=0))


@pytest.fixture
def pull(server: ScriptedServer) -> Iterator[Make]:
    made: list[OcpiPull] = []

    def make(**settings: Any) -> OcpiPull:
        made.append(open_feed(server, **settings))
        return made[-1]

    yield make
    for feed in made:
        feed.close()


def stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def locations(count: int) -> list[dict[str, Any]]:
    return [location(f"L{number:03}", last_updated=stamp(at(0))) for number in range(count)]


def change(script: OcpiScript, number: int, word: str, updated_at: datetime) -> None:
    script.items[number]["evses"][0]["status"] = word
    script.items[number]["last_updated"] = stamp(updated_at)


# --- the client


def test_a_delta_asks_for_what_was_updated_since_a_little_before_the_last_complete_contact(
    server: ScriptedServer, pull: Make
) -> None:
    script = OcpiScript(locations(3)).mount(server)
    change(script, 1, "CHARGING", at(9) - DELTA_OVERLAP)
    feed = pull()
    assert isinstance(feed, DeltaFeed)
    poll = feed.poll_since(at(9))
    assert {ref: word for ref, (word, _) in poll.statuses.items()} == {"l001/l001-1": "CHARGING"}
    assert (poll.is_full, poll.body_sha256, poll.is_unchanged, len(poll.assets)) == (False, None, False, 1)
    (request,) = server.asked(LOCATIONS)
    assert request.query == {"date_from": "2026-10-01T00:07:00Z", "offset": "0", "limit": "100"}


@pytest.mark.parametrize("total", [True, False])
def test_an_empty_delta_says_that_nothing_changed(server: ScriptedServer, pull: Make, total: bool) -> None:
    OcpiScript(locations(3), total=total).mount(server)
    assert pull().poll_since(at(9)) == Poll(None, is_full=False)


@pytest.mark.parametrize("link", [True, False])
def test_a_delta_has_pages_as_well(server: ScriptedServer, pull: Make, link: bool) -> None:
    script = OcpiScript(locations(120), link=link).mount(server)
    for number in range(0, 120, 2):
        change(script, number, "CHARGING", at(9))
    assert len(pull().poll_since(at(9)).statuses) == 60
    assert [(request.query["date_from"], request.query["offset"]) for request in server.asked(LOCATIONS)] == [
        ("2026-10-01T00:07:00Z", "0"),
        ("2026-10-01T00:07:00Z", "50"),
    ]


def test_a_sender_that_knows_no_deltas_answers_with_everything(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(3)).mount(server)
    server.routes[LOCATIONS] = lambda request: script.page(
        Request(request.path, {name: text for name, text in request.query.items() if name != "date_from"}, {})
    )
    poll = pull().poll_since(at(9))
    assert (len(poll.statuses), poll.is_full) == (3, False)


@pytest.mark.parametrize(
    "reply", [Reply(b"", 503), Reply(b'{"status_code": 2001, "data": []}'), Reply(b'{"status_code": 1000, "data": nul')]
)
def test_a_delta_that_fails_is_an_error(server: ScriptedServer, pull: Make, reply: Reply) -> None:
    OcpiScript(locations(3)).mount(server)
    server.routes[LOCATIONS] = lambda _: reply
    with pytest.raises(FeedError, match="date_from="):
        pull().poll_since(at(9))


def test_after_a_delta_the_full_list_is_told_in_full(server: ScriptedServer, pull: Make) -> None:
    OcpiScript(locations(3)).mount(server).etags = True
    feed = pull()
    first = feed.poll()
    feed.poll_since(at(9))
    assert feed.poll() == first
    assert feed.poll().is_unchanged


def test_the_endpoint_is_looked_for_again_when_a_delta_finds_nobody_there(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript(locations(3)).mount(server)
    feed = pull()
    feed.poll()
    lost = iter([True])
    server.routes[LOCATIONS] = lambda request: Reply(b"", 404) if next(lost, False) else script.page(request)
    assert feed.poll_since(at(9)) == Poll(None, is_full=False)
    assert len(server.asked("/ocpi/versions")) == 2


def test_the_time_asked_for_is_utc_and_replaces_one_of_the_endpoint() -> None:
    moment = datetime.fromisoformat("2026-10-01T10:00:00.9+10:00")
    assert changed_since("https://a.example/l?key=1&date_from=x", moment) == (
        "https://a.example/l?key=1&date_from=2026-10-01T00%3A00%3A00Z"
    )


# --- when


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("full_seconds", "last_complete", "last_full", "now", "since"),
    [
        (3600, at(59), at(0), at(59) + 60 * SECOND - SECOND, at(59)),
        (3600, at(59), at(0), at(60), None),
        (3600, at(55), at(0), at(59), at(55)),
        (3600, at(10), at(0), at(15), at(10)),
        (3600, at(10), at(0), at(15) + SECOND, None),
        (3600, at(10), None, at(11), None),
        (3600, None, None, at(11), None),
        (None, at(10), at(10), at(11), None),
    ],
)
def test_a_delta_reaches_back_to_a_contact_that_still_proves_something_while_no_full_list_is_due(
    full_seconds: int | None,
    last_complete: datetime | None,
    last_full: datetime | None,
    now: datetime,
    since: datetime | None,
) -> None:
    settings = pull_config(full_seconds=full_seconds).feed
    assert isinstance(settings, OcpiPullFeed)
    assert delta_since(settings, last_complete, last_full, now) == since


# --- the collector


class SetClock:
    """Time passes only by waiting."""

    def __init__(self, now: datetime) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def wait_until(self, at: datetime) -> None:
        self.time = at


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        yield opened


def delta_config(server: ScriptedServer, cpo_id: str, **feed: Any) -> CpoConfig:
    config = pull_config(server.url, full_seconds=600, **feed)
    return config.model_copy(update={"cpo_id": cpo_id})


def collect_from(server: ScriptedServer, config: CpoConfig, clock: SetClock, seconds: float) -> list[str]:
    """Which lists one window asked for: minutes since ``START`` that a delta reaches back to, or ``full``."""
    asked = len(server.asked(LOCATIONS))
    collect(config, seconds=seconds, report=lambda line: None, clock=clock, make_feed=lambda config: open_feed(server))
    texts = [request.query.get("date_from") for request in server.asked(LOCATIONS)[asked:]]
    minutes = [
        "full" if text is None else f"{(datetime.fromisoformat(text) + DELTA_OVERLAP - at(0)) / timedelta(minutes=1):g}"
        for text in texts
    ]
    return minutes


def contacts(connection: psycopg.Connection, cpo_id: str) -> list[tuple[datetime, str, int | None, bool]]:
    return connection.execute(
        "select contact_from, outcome, evse_count, body_sha256 is null from raw.feed_contact"
        " inner join raw.feed using (feed_key) where cpo_id = %s order by contact_from, outcome",
        (cpo_id,),
    ).fetchall()


def test_between_full_lists_deltas_reach_back_to_the_contact_before(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    script = OcpiScript(locations(2)).mount(server)
    script.before_page = lambda _: change(script, 1, "CHARGING", at(2.5)) if clock.time == at(3) else None
    clock = SetClock(at(0))
    config = delta_config(server, "deltas")
    assert collect_from(server, config, clock, 60 * 13) == [
        "full", "0", "1", "2", "3", "4", "5", "6", "7", "8", "full", "10", "11",
    ]  # fmt: skip
    assert changes_of(connection, "deltas") == [
        ("l000-1", at(0), "AVAILABLE"),
        ("l001-1", at(0), "AVAILABLE"),
        ("l001-1", at(3), "CHARGING"),
    ]
    assert contacts(connection, "deltas") == [
        (at(minute), "complete", 2 if minute in (0, 10) else None, minute not in (0, 10)) for minute in range(13)
    ]


def test_a_window_goes_on_from_the_contact_of_the_one_before(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    OcpiScript(locations(2)).mount(server)
    config = delta_config(server, "handed_on")
    assert collect_from(server, config, SetClock(at(0)), 121) == ["full", "0", "1"]
    assert collect_from(server, config, SetClock(at(2) + 20 * SECOND), 60) == ["2", "2.33333"]
    # The last contact was in minute 3: it proves nothing any more.
    assert collect_from(server, config, SetClock(at(8) + 2 * SECOND), 0) == ["full"]


def test_a_delta_that_fails_is_followed_by_full_lists_until_one_is_read(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    script = OcpiScript(locations(2)).mount(server)
    clock = SetClock(at(0))
    down = {at(2), at(3)}
    script.after_page = lambda _, reply: Reply(b"", 400) if clock.time in down else reply
    config = delta_config(server, "failing_deltas")
    assert collect_from(server, config, clock, 60 * 6) == ["full", "0", "1", "full", "full", "4"]
    assert [outcome for _, outcome, _, _ in contacts(connection, "failing_deltas")] == [
        "complete", "complete", "failed", "failed", "complete", "complete",
    ]  # fmt: skip


def test_a_sender_that_cannot_answer_deltas_costs_every_second_poll_and_no_more(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    script = OcpiScript(locations(2)).mount(server)

    def count_all(request: Request, reply: Reply) -> Reply:
        reply.headers["X-Total-Count"] = "2"
        return reply

    script.after_page = count_all
    assert collect_from(server, delta_config(server, "no_deltas"), SetClock(at(20)), 60 * 4) == [
        "full", "20", "full", "22",
    ]  # fmt: skip
    assert [outcome for _, outcome, _, _ in contacts(connection, "no_deltas")] == [
        "complete", "failed", "complete", "failed",
    ]  # fmt: skip


def test_a_change_that_no_delta_tells_is_found_by_the_full_list(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    script = OcpiScript(locations(2)).mount(server)
    clock = SetClock(at(0))

    def change_silently(_: Request) -> None:
        # The EVSE is newer than its Location, and another is taken down.
        if clock.time == at(5):
            script.items[1]["evses"][0]["status"] = "CHARGING"
            script.items[0]["evses"] = []

    script.before_page = change_silently
    collect_from(server, delta_config(server, "silent"), clock, 60 * 12)
    assert changes_of(connection, "silent")[2:] == [("l000-1", at(10), None), ("l001-1", at(10), "CHARGING")]


def test_a_full_list_that_is_unchanged_since_the_last_is_stored_after_deltas_that_told_something(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    script = OcpiScript(locations(1)).mount(server)
    clock = SetClock(at(0))
    words = {at(4): "CHARGING", at(6): "AVAILABLE"}
    script.before_page = lambda _: change(script, 0, words[clock.time], clock.time) if clock.time in words else None
    assert collect_from(server, delta_config(server, "back_again"), clock, 60 * 11)[10] == "full"
    assert [word for _, _, word in changes_of(connection, "back_again")] == ["AVAILABLE", "CHARGING", "AVAILABLE"]
    assert contacts(connection, "back_again")[10][2:] == (1, False)


def test_the_last_full_list_is_not_the_last_complete_contact(
    server: ScriptedServer, connection: psycopg.Connection
) -> None:
    OcpiScript(locations(1)).mount(server)
    config = delta_config(server, "last_ones")
    collect_from(server, config, SetClock(at(0)), 121)
    writer = Writer(connection, config)
    assert writer.last_complete(at(5)) == at(2)
    assert writer.last_complete(at(5), is_full=True) == at(0)
    assert writer.last_complete(at(0)) is None
    assert writer.last_complete(datetime(2026, 10, 3, tzinfo=UTC)) is None
