"""One window of polling, with a clock that is set and a feed that answers what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from ingestion import runs
from ingestion.batch import Written
from ingestion.collector import JUST_NOW, SystemClock, Totals, _on_time, collect, next_on_grid
from ingestion.config import CpoConfig
from ingestion.feeds import open_polled
from ingestion.model import FeedError, Poll, Rejected
from ingestion.runs import NotPolledError, collect_window, import_waiting_files, window_end
from ingestion.writer import Writer
from tests.feeds import at, changes_of, history_config, poll, polled_config
from warehouse.connection import Role, connect
from warehouse.strict_yaml import ConfigError

SECOND = timedelta(seconds=1)


class SetClock:
    """Time passes only by waiting, and by asking (`Feed.poll`)."""

    def __init__(self, now: datetime, wakes_late: timedelta = timedelta(0)) -> None:
        self.time, self.wakes_late = now, wakes_late
        self.waits: list[datetime] = []

    def now(self) -> datetime:
        return self.time

    def wait_until(self, at: datetime) -> None:
        assert at > self.time
        self.waits.append(at)
        self.time = at + self.wakes_late


Answer = dict[str, str] | Exception


class Feed:
    """Answers one after the other, the last one for ever; says unchanged when it has just read the same."""

    def __init__(self, clock: SetClock, answers: list[Answer], takes: timedelta = SECOND) -> None:
        self.clock, self.takes = clock, takes
        self.answers = answers
        self.asked: list[datetime] = []
        self.forgot_after: list[int] = []
        self.is_closed = False
        self.last: bytes | None = None
        self.before_answering: Callable[[int], None] = lambda number: None

    def poll(self) -> Poll:
        assert not self.is_closed
        self.asked.append(self.clock.time)
        self.clock.time += self.takes
        self.before_answering(len(self.asked))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        full = poll(answer)
        if full.body_sha256 == self.last:
            return Poll(full.body_sha256, is_unchanged=True)
        self.last = full.body_sha256
        return full

    def forget(self) -> None:
        self.forgot_after.append(len(self.asked))
        self.last = None

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def connection(module_warehouse: str) -> Iterator[psycopg.Connection]:
    with connect(Role.INGEST) as opened:
        yield opened


def contacts(connection: psycopg.Connection, cpo_id: str) -> list[tuple[datetime, str, datetime, str | None]]:
    return connection.execute(
        "select contact_from, outcome, received_at, detail from raw.feed_contact inner join raw.feed using (feed_key)"
        " where cpo_id = %s order by contact_from, outcome",
        (cpo_id,),
    ).fetchall()


def run(config: CpoConfig, clock: SetClock, feed: Feed, seconds: float) -> tuple[Totals, list[str]]:
    said: list[str] = []
    totals = collect(config, seconds=seconds, report=said.append, clock=clock, make_feed=lambda config: feed)
    return totals, said


def test_polls_follow_the_clocks_grid(connection: psycopg.Connection) -> None:
    clock = SetClock(at(0) + 20 * SECOND)
    feed = Feed(clock, [{"A": "AVAILABLE"}])
    totals, _ = run(polled_config("grid"), clock, feed, 200)
    assert feed.asked == [at(0) + 20 * SECOND, at(1), at(2), at(3)]
    assert (totals.complete_polls, totals.unchanged_polls, totals.failed_polls) == (4, 3, 0)
    assert totals.written == Written(assets=1, changes=1, contacts=4)
    assert feed.is_closed
    assert feed.forgot_after == []
    assert contacts(connection, "grid") == [(asked, "complete", asked + SECOND, None) for asked in feed.asked]


def test_a_slow_answer_leaves_out_the_polls_that_it_outlasted(connection: psycopg.Connection) -> None:
    clock = SetClock(at(0))
    feed = Feed(clock, [{"A": "AVAILABLE"}], takes=timedelta(seconds=90))
    run(polled_config("slow"), clock, feed, 300)
    assert feed.asked == [at(0), at(2), at(4)]


def test_a_failure_is_stored_and_polling_goes_on(connection: psycopg.Connection) -> None:
    clock = SetClock(at(0))
    feed = Feed(clock, [{"A": "AVAILABLE"}, FeedError("503 from the feed"), {"A": "CHARGING"}])
    totals, said = run(polled_config("failing"), clock, feed, 180)
    assert contacts(connection, "failing") == [
        (at(0), "complete", at(0) + SECOND, None),
        (at(1), "failed", at(1) + SECOND, "503 from the feed"),
        (at(2), "complete", at(2) + SECOND, None),
    ]
    assert (totals.complete_polls, totals.failed_polls) == (2, 1)
    assert changes_of(connection, "failing") == [("a", at(0), "AVAILABLE"), ("a", at(2), "CHARGING")]
    assert said[1] == "00:01:00 failed: 503 from the feed"


def test_a_window_that_is_over_is_polled_once(connection: psycopg.Connection) -> None:
    for seconds in (0.0, -5.0, 59.0):
        clock = SetClock(at(0) + SECOND)
        feed = Feed(clock, [{"A": "AVAILABLE"}])
        run(polled_config("over"), clock, feed, seconds)
        assert len(feed.asked) == 1
        assert clock.waits == []


def test_an_unchanged_answer_is_read_in_full_when_another_collector_has_read_a_different_one(
    connection: psycopg.Connection,
) -> None:
    config = polled_config("two_collectors")
    clock = SetClock(at(0))
    feed = Feed(clock, [{"A": "AVAILABLE"}])
    other = Writer(connection, config)

    def meanwhile(number: int) -> None:
        # Between the second question and its answer.
        if number == 2:
            other.write_poll(poll({"A": "CHARGING"}), at(0.5), at(0.6))

    feed.before_answering = meanwhile
    totals, _ = run(config, clock, feed, 180)
    assert feed.forgot_after == [2]
    assert feed.asked == [at(0), at(1), at(1) + SECOND, at(2)]
    assert changes_of(connection, "two_collectors") == [
        ("a", at(0), "AVAILABLE"), ("a", at(0.5), "CHARGING"), ("a", at(1) + SECOND, "AVAILABLE"),
    ]  # fmt: skip
    assert (totals.complete_polls, totals.unchanged_polls) == (3, 1)


def test_a_failure_of_the_second_question_is_a_failed_contact(connection: psycopg.Connection) -> None:
    config = polled_config("second_question")
    clock = SetClock(at(0))
    first: Answer = {"A": "AVAILABLE"}
    feed = Feed(clock, [first, first, FeedError("gone")])
    other = Writer(connection, config)

    def meanwhile(number: int) -> None:
        if number == 2:
            other.write_poll(poll({"A": "CHARGING"}), at(0.5), at(0.6))

    feed.before_answering = meanwhile
    run(config, clock, feed, 61)
    assert [(moment, outcome) for moment, outcome, _, _ in contacts(connection, "second_question")] == [
        (at(0), "complete"), (at(0.5), "complete"), (at(1) + SECOND, "failed"),
    ]  # fmt: skip


def test_a_feed_that_says_unchanged_to_a_fresh_question_has_failed(connection: psycopg.Connection) -> None:
    clock = SetClock(at(0))
    feed = Feed(clock, [{"A": "AVAILABLE"}])
    feed.forget = lambda: None  # type: ignore[method-assign]
    feed.last = poll({"A": "AVAILABLE"}).body_sha256
    totals, _ = run(polled_config("stubborn"), clock, feed, 0)
    assert (totals.complete_polls, totals.failed_polls) == (0, 1)
    assert [outcome for _, outcome, _, _ in contacts(connection, "stubborn")] == ["failed"]


def test_the_feed_is_closed_whatever_happens(module_warehouse: str) -> None:
    clock = SetClock(at(0))
    feed = Feed(clock, [ZeroDivisionError()])
    with pytest.raises(ZeroDivisionError):
        run(polled_config("crashing"), clock, feed, 60)
    assert feed.is_closed


def test_only_what_is_new_is_reported(connection: psycopg.Connection) -> None:
    clock = SetClock(at(0))
    feed = Feed(clock, [{"A": "AVAILABLE"}, {"A": "AVAILABLE"}, {"A": "CHARGING"}])
    _, said = run(polled_config("reporting"), clock, feed, 180)
    assert said == [
        "00:00:00 1 EVSEs: 1 asset versions, 1 changes, 1 contacts, 0 quarantined",
        "00:02:00 1 EVSEs: 0 asset versions, 1 changes, 1 contacts, 0 quarantined",
    ]


def test_quarantined_records_of_an_answer_are_kept(connection: psycopg.Connection) -> None:
    clock = SetClock(at(0))
    feed = Feed(clock, [{}])
    rejected = Rejected("locations", "S1", "evses", "no EVSE", "{}")
    feed.poll = lambda: poll({"A": "AVAILABLE"}, rejected=(rejected,))  # type: ignore[method-assign]
    totals, _ = run(polled_config("rejecting"), clock, feed, 0)
    assert totals.written.quarantined == 1


def test_a_feed_of_files_is_not_polled() -> None:
    for ask in (
        lambda: open_polled(history_config("files")),
        lambda: collect(history_config("files"), seconds=1, report=print),
    ):
        with pytest.raises(ConfigError, match="files: a feed of kind history is not polled"):
            ask()


def test_the_grid_begins_at_the_epoch() -> None:
    minute = timedelta(minutes=1)
    assert next_on_grid(at(0), minute) == at(1)
    assert next_on_grid(at(1) - timedelta(microseconds=1), minute) == at(1)
    assert next_on_grid(datetime(2026, 10, 1, 0, 0, 7, tzinfo=UTC), 7 * SECOND) == datetime.fromtimestamp(
        (int(at(0).timestamp()) + 7) // 7 * 7 + 7, UTC
    )


def test_a_poll_within_a_second_of_the_grid_is_one_of_the_grid() -> None:
    minute, tick = timedelta(minutes=1), timedelta(microseconds=1)
    assert JUST_NOW == SECOND
    for now, expected in (
        (at(1), at(1)),
        (at(1) + tick, at(1)),
        (at(1) + SECOND, at(1)),
        (at(1) + SECOND + tick, at(1) + SECOND + tick),
        # Before the grid's time it is not made at it.
        (at(1) - tick, at(1) - tick),
    ):
        assert _on_time(now, minute) == expected, now


def test_two_windows_that_wake_a_little_apart_ask_at_one_time(connection: psycopg.Connection) -> None:
    for late in (timedelta(milliseconds=20), timedelta(milliseconds=130)):
        clock = SetClock(at(0) + late, wakes_late=late)
        run(polled_config("apart"), clock, Feed(clock, [{"A": "AVAILABLE"}]), 61)
    assert [moment for moment, *_ in contacts(connection, "apart")] == [at(0), at(1)]


def test_the_machines_clock_waits() -> None:
    clock = SystemClock()
    soon = clock.now() + timedelta(milliseconds=20)
    clock.wait_until(soon)
    assert clock.now() >= soon
    clock.wait_until(soon - 60 * SECOND)


# Windows


@pytest.mark.parametrize(
    ("due", "ends"),
    [("12:00:00", "12:15:30"), ("12:00:01", "12:15:30"), ("12:14:59", "12:15:30"), ("12:15:00", "12:30:30")],
)
def test_a_window_ends_a_little_after_the_next_quarter_hour(
    due: str, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLLECTION_WINDOW_SECONDS", raising=False)
    assert window_end(datetime.fromisoformat(f"2026-10-01T{due}+00:00")) == datetime.fromisoformat(
        f"2026-10-01T{ends}+00:00"
    )


def test_a_window_can_be_made_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTION_WINDOW_SECONDS", "12.5")
    assert window_end(at(3)) == at(3) + timedelta(seconds=12.5)


@pytest.fixture
def cpo_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for config in (polled_config("window"), history_config("handed_over")):
        document = config.model_dump(mode="json", exclude_none=True)
        (tmp_path / f"{config.cpo_id}.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    monkeypatch.setenv("CPO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("COLLECTION_WINDOW_SECONDS", "60")
    return tmp_path


def test_a_run_polls_what_is_left_of_its_window(cpo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def collect_nothing(config: CpoConfig, *, seconds: float, report: Any, make_feed: Any) -> Totals:
        asked.append(seconds)
        return Totals(complete_polls=1)

    monkeypatch.setattr(runs, "collect", collect_nothing)
    now = datetime.now(UTC)
    collect_window("window", now - timedelta(seconds=20))
    collect_window("window", now - timedelta(seconds=3600))
    assert 0 < asked[0] <= 40
    assert asked[1] == 0


def test_a_run_without_one_complete_poll_fails(
    cpo_folder: Path, module_warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SetClock(at(0))
    feed = Feed(clock, [FeedError("down")])
    monkeypatch.setattr(runs, "open_polled", lambda config, find_secret: feed)
    monkeypatch.setattr(runs, "collect", partial(collect, clock=clock))
    with pytest.raises(FeedError, match="window: none of 1 polls was answered in full"):
        collect_window("window", datetime.now(UTC) - timedelta(hours=1))


def test_a_run_in_which_no_full_list_was_due_is_no_failure(
    cpo_folder: Path, module_warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "collect", lambda *args, **settings: Totals())
    assert collect_window("window", datetime.now(UTC)) == Totals()


def test_a_run_of_a_feed_of_files_is_not_polled_but_imports_what_waits(
    cpo_folder: Path, module_warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotPolledError, match="handed_over hands over files"):
        collect_window("handed_over", datetime.now(UTC))
    folder = cpo_folder / "inbox" / "handed_over" / "2026-10"
    folder.mkdir(parents=True)
    (folder / "contact.csv").write_text("contact_at,is_complete\n2026-10-05T00:00:00Z,true\n", encoding="utf-8")
    monkeypatch.setenv("VAR_DIR", str(cpo_folder))
    assert [imported.written for imported in import_waiting_files("handed_over")] == [Written(contacts=1)]
    assert import_waiting_files("handed_over") == []
