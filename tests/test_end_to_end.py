"""From what CPOs send to the marts, against a truth that is known to the second."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion.collector import collect
from ingestion.config import CpoConfig, cpo_ids, load_cpo
from ingestion.handover import import_waiting
from ingestion.ocpi.pull import OcpiPull
from simulator.history import emit_month
from simulator.months import Month
from simulator.server import WorldSource, build_app, serve_in_thread
from simulator.truth import expected_seconds
from simulator.world import build_world
from tests.warehouse.oracle import Change, Contact, Scenario, seconds_by_status
from warehouse.connection import Role, connect
from warehouse.transform import transform

MONTH = "2026-10"
NIGHT = datetime(2026, 10, 3, 15, 20, tzinfo=UTC)
"""Shortly before New South Wales puts its clocks forward."""
MEANING = {
    "AVAILABLE": "available", "CHARGING": "charging", "RESERVED": "reserved", "BLOCKED": "blocked",
    "OUTOFORDER": "out_of_order", "INOPERATIVE": "inoperative", "UNKNOWN": "unknown", "PLANNED": "planned",
    "REMOVED": "removed",
}  # fmt: skip

Seconds = Counter[tuple[str, date, str]]


def daily_seconds(cpo_id: str, first: date, last: date) -> Seconds:
    """What the hub says: (evse_ref, local date, status) to seconds."""
    with connect(Role.OWNER) as connection:
        rows = connection.execute(
            """
            select evse_ref, local_date, status, seconds
            from marts.fct_evse_status_daily
            inner join raw.evse using (evse_key)
            inner join raw.feed using (feed_key)
            where cpo_id = %s and local_date between %s and %s
            """,
            (cpo_id, first, last),
        ).fetchall()
    return Counter({(evse, day, status): seconds for evse, day, status, seconds in rows})


@pytest.mark.usefixtures("warehouse")
def test_a_month_of_history_gives_the_truth_to_the_second(tmp_path: Path) -> None:
    world = build_world()
    emit_month(world, Month.parse(MONTH), tmp_path)
    for cpo_id in cpo_ids():
        with connect(Role.INGEST) as connection:
            (imported,) = import_waiting(connection, load_cpo(cpo_id), tmp_path, datetime.now(UTC), lambda line: None)
            assert imported.written.quarantined == 0
            assert import_waiting(connection, load_cpo(cpo_id), tmp_path, datetime.now(UTC), lambda line: None) == []
    transform()
    for cpo_id in cpo_ids():
        truth = expected_seconds(MONTH, cpo_id, world=world)
        assert len(truth) > 1000
        assert daily_seconds(cpo_id, date(2026, 10, 1), date(2026, 10, 31)) == Counter(truth), cpo_id


class FastClock:
    """A clock that is moved, not waited for; shared by the collector and the server it asks."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def wait_until(self, at: datetime) -> None:
        self.at = max(self.at, at)


class Recording:
    """Spoils some polls, and keeps what the world really was at each one that was answered."""

    def __init__(self, feed: OcpiPull, clock: FastClock, truth: WorldSource, silent: tuple[range, ...]) -> None:
        self._feed, self._clock, self._truth, self._silent = feed, clock, truth, silent
        self.scenario = Scenario("banksia", 300, int(NIGHT.timestamp()), 0)
        self.polls = 0

    def poll(self) -> Any:
        from ingestion.model import FeedError

        self.polls += 1
        if any(self.polls in stretch for stretch in self._silent):
            raise FeedError("silence")
        at = self._clock.now().timestamp()
        for location in self._truth.locations(self._clock.now()):
            for evse in location["evses"]:
                ref = f"{location['id']}/{evse['uid']}".casefold()
                self.scenario.time_zones[ref] = location["time_zone"]
                self.scenario.changes.append(Change(ref, at, MEANING[evse["status"]]))
        self.scenario.contacts.append(Contact(at, at, True))
        return self._feed.poll()

    def forget(self) -> None:
        self._feed.forget()

    def close(self) -> None:
        self._feed.close()


@pytest.fixture
def clock() -> FastClock:
    return FastClock(NIGHT)


@pytest.mark.usefixtures("warehouse")
def test_polling_a_live_feed_gives_what_the_polls_could_see(clock: FastClock, monkeypatch: pytest.MonkeyPatch) -> None:
    source = WorldSource(build_world(), build_world().cpo("banksia"))
    made: list[Recording] = []
    with serve_in_thread(build_app({"banksia": source}, {"banksia": "secret-token"}, clock=clock.now)) as url:
        monkeypatch.setenv("SIMULATOR_URL", url)
        config = load_cpo("banksia", expand=True)
        feed = config.feed.model_copy(update={"poll_seconds": 60, "ended_at": NIGHT + timedelta(seconds=60 * 99)})
        config = config.model_copy(update={"feed": feed})

        def make_feed(asked: CpoConfig) -> Recording:
            # Five polls lost are a gap of six minutes; three are no gap.
            made.append(
                Recording(
                    OcpiPull(asked, asked.feed.versions_url, "secret-token"),
                    clock,
                    source,
                    (range(40, 45), range(70, 73)),
                )
            )
            return made[-1]

        totals = collect(config, seconds=60 * 100, report=lambda line: None, clock=clock, make_feed=make_feed)
    (recording,) = made
    assert (totals.complete_polls, totals.failed_polls) == (92, 8)
    assert 0 < totals.unchanged_polls < 92
    assert totals.written.quarantined == 0
    transform()

    scenario = recording.scenario
    scenario.end = int(NIGHT.timestamp()) + 60 * 99
    truth = seconds_by_status(scenario)
    assert sum(seconds for (_, _, status), seconds in truth.items() if status == "missing") == 60 * len(
        {ref for ref, _, _ in truth}
    )
    assert daily_seconds("banksia", date(2026, 10, 3), date(2026, 10, 4)) == truth

    with connect(Role.OWNER) as connection:
        repeated = connection.execute(
            """
            select count(*) from (
                select status_word, lag(status_word) over (partition by evse_key order by observed_at) as before
                from raw.status_change
            ) as pairs where status_word is not distinct from before
            """
        ).fetchone()
        observed = connection.execute("select count(*), count(distinct observed_at) from raw.observation").fetchone()
    # Changes and contact only, and yet every poll can be listed again.
    assert repeated == (0,)
    assert observed == (len(scenario.changes), 92)
