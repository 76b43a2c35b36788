"""What a right warehouse finds: sums, hand-worked figures, and two slower ways to the same seconds."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from simulator.faults import Effect, faults_within
from simulator.feeds import Feed, feed_of_month
from simulator.history import OCPI_WORDS, emit_month
from simulator.months import Month, Span, local_midnight
from simulator.timeline import absences, status_at
from simulator.truth import Expected, expected_seconds, in_service_spans
from simulator.world import CPOS, Evse, FeedKind, build_world

WORLD = build_world()
CPO_IDS = [cpo.cpo_id for cpo in CPOS]
MONTHS = ["2026-02", "2026-04", "2026-10"]
OCTOBER = Month(2026, 10)


def of_day(expected: Expected, evse: Evse, day: date) -> dict[str, int]:
    return {key[2]: seconds for key, seconds in expected.items() if key[:2] == (evse.ref, day)}


def day_seconds(day: date, zone: str) -> int:
    return local_midnight(day + timedelta(days=1), zone) - local_midnight(day, zone)


@pytest.mark.parametrize("cpo_id", CPO_IDS)
@pytest.mark.parametrize("month", MONTHS)
def test_seconds_add_up_to_the_local_day_of_every_evse_in_service(month: str, cpo_id: str) -> None:
    expected = expected_seconds(month, cpo_id)
    sums: Counter[tuple[str, date]] = Counter()
    for (ref, day, _), seconds in expected.items():
        sums[ref, day] += seconds
    first = Month.parse(month).first_day
    days = [first + timedelta(days=index) for index in range(31)]
    days = [day for day in days if day.month == first.month]
    # Who is in service for a part of the month has figures of its own below.
    partly = {"planned_all_month", "removed_all_month", "removed_and_back"}
    span = Month.parse(month).span("UTC")
    exceptions = {fault.emi3_id for fault in faults_within(span, cpo_id) if fault.name in partly}
    checked = 0
    for evse in WORLD.standing:
        zone = evse.site.time_zone
        if evse.cpo_id == cpo_id and evse.emi3_id not in exceptions:
            for day in days:
                whole = day_seconds(day, zone)
                if evse.commissioned_on and day < evse.commissioned_on:
                    whole = 0
                assert sums[evse.ref, day] == whole, (evse.emi3_id, day)
                checked += 1
    assert checked >= 25 * len(days)
    assert {day for _, day in sums} == set(days)
    assert min(expected.values()) > 0
    assert not {status for _, _, status in expected} & {"planned", "removed"}


@pytest.mark.parametrize(
    ("emi3_id", "day", "hours"),
    [
        ("AU*BAN*E0101*1", date(2026, 10, 4), 23),
        ("AU*BAN*E0101*1", date(2026, 4, 5), 25),
        ("AU*BAN*E1701*1", date(2026, 10, 4), 23.5),
        ("AU*BAN*E1701*1", date(2026, 4, 5), 24.5),
        ("AU*MAL*E0101*1", date(2026, 10, 4), 23),
        ("AU*BAN*E1901*1", date(2026, 10, 4), 24),
    ],
)
def test_the_day_of_a_clock_change_has_its_own_length(emi3_id: str, day: date, hours: float) -> None:
    evse = WORLD.by_emi3[emi3_id]
    expected = expected_seconds(f"{day:%Y-%m}", evse.cpo_id)
    assert sum(of_day(expected, evse, day).values()) == hours * 3600


def test_a_gap_counts_from_liveness_after_the_last_poll_to_the_next_one() -> None:
    expected = expected_seconds("2026-10", "mallee")
    evse = WORLD.by_emi3["AU*MAL*E0301*1"]
    # 13:20:10 to 16:01:00; polled at second 38: 13:19:38 + 300 s to 16:01:38
    assert of_day(expected, evse, date(2026, 10, 15))["missing"] == 9420


@pytest.mark.parametrize(("month", "day", "shift"), [("2026-10", 4, -3600), ("2026-04", 5, 3600)])
def test_a_gap_over_a_clock_change_is_an_hour_shorter_or_longer(month: str, day: int, shift: int) -> None:
    evse = WORLD.by_emi3["AU*MAL*E0301*1"]
    expected = expected_seconds(month, "mallee")
    # 00:31:00 to 05:03:00 on the clock; polled at second 38: 00:30:38 + 300 s to 05:03:38
    assert of_day(expected, evse, date(2026, int(month[5:]), day))["missing"] == 4 * 3600 + 28 * 60 + shift


def test_a_gap_over_the_month_s_end_counts_on_both_sides() -> None:
    evse = WORLD.by_emi3["AU*BAN*E0101*1"]
    # 18:47:40 to 03:47:10; polled at second 7: 18:47:07 + 300 s to midnight, and from there to 03:48:07
    assert of_day(expected_seconds("2026-10", "banksia"), evse, date(2026, 10, 31))["missing"] == 18473
    assert of_day(expected_seconds("2026-11", "banksia"), evse, date(2026, 11, 1))["missing"] == 13687
    assert of_day(expected_seconds("2026-10", "banksia"), evse, date(2026, 10, 1))["missing"] == 13687


def test_gaps_up_to_liveness_do_not_count() -> None:
    # Only the third gap of the day counts: 360 seconds between polls, 301 of the stream.
    day = date(2026, 10, 20)
    assert of_day(expected_seconds("2026-10", "banksia"), WORLD.by_emi3["AU*BAN*E0701*1"], day)["missing"] == 60
    assert of_day(expected_seconds("2026-10", "mallee"), WORLD.by_emi3["AU*MAL*E0101*2"], day)["missing"] == 60
    tidewater = expected_seconds("2026-10", "tidewater")
    for evse in standing("tidewater"):
        if evse.commissioned_on is None:
            assert of_day(tidewater, evse, day)["missing"] >= 1


def test_an_evse_stays_missing_after_a_silent_return_until_it_changes() -> None:
    expected = expected_seconds("2026-10", "tidewater")
    faulty = WORLD.by_emi3["AU*TID*E0102*1"]
    busy = WORLD.by_emi3["AU*TID*E0201*2"]
    # Out of order all month: missing from the gap of the 9th (02:00:09 + 300 s) to the snapshot of the 16th.
    assert of_day(expected, faulty, date(2026, 10, 9)) == {"out_of_order": 7509, "missing": 78891}
    for day in range(10, 16):
        assert of_day(expected, faulty, date(2026, 10, day)) == {"missing": 86400}
    assert of_day(expected, faulty, date(2026, 10, 16)) == {"missing": 7855, "out_of_order": 78545}
    assert "missing" not in of_day(expected, busy, date(2026, 10, 12))


def test_time_in_service_of_those_that_come_and_go() -> None:
    tidewater = expected_seconds("2026-10", "tidewater")
    planned, commissioned, late = WORLD.newcomers(OCTOBER)
    assert {key[1].day for key in tidewater if key[0] == planned.ref} == set(range(12, 32))
    assert sum(of_day(tidewater, planned, date(2026, 10, 12)).values()) == 86400 - 38477  # opens at 10:41:17
    assert {key[1].day for key in tidewater if key[0] == commissioned.ref} == set(range(14, 32))
    assert sum(of_day(tidewater, commissioned, date(2026, 10, 14)).values()) == 86400
    for day in (5, 6, 7):
        assert of_day(tidewater, late, date(2026, 10, day)) == {"missing": 86400}
    # Seen from 11:20:23, and the stream is lost for the night at 23:00:09.
    assert of_day(tidewater, late, date(2026, 10, 8))["missing"] == 40823 + 3291
    assert {key[1].day for key in tidewater if key[0] == late.ref} == set(range(5, 32))
    removed = WORLD.newcomers(OCTOBER.plus(-1))[0]
    assert {key[1].day for key in tidewater if key[0] == removed.ref} == set(range(1, 18))
    assert sum(of_day(tidewater, removed, date(2026, 10, 17)).values()) == 37305  # until 10:21:45

    mallee = expected_seconds("2026-10", "mallee")
    back = WORLD.by_emi3["AU*MAL*E0402*1"]
    assert {key[1].day for key in mallee if key[0] == back.ref} == set(range(3, 18))
    assert sum(of_day(mallee, back, date(2026, 10, 3)).values()) == 86400 - 29738  # polled at 08:15:38
    assert sum(of_day(mallee, back, date(2026, 10, 17)).values()) == 37298  # polled at 10:21:38
    refs = {key[0] for key in mallee} | {key[0] for key in expected_seconds("2026-10", "banksia")}
    assert not {WORLD.by_emi3[never].ref for never in ("AU*MAL*E0602*2", "AU*BAN*E1102*2")} & refs


def test_an_absent_evse_is_missing_while_it_is_off_the_list() -> None:
    expected = expected_seconds("2026-10", "mallee")
    evse = WORLD.by_emi3["AU*MAL*E0302*2"]
    # 03:10:20 to 10:44:50, polled at second 38
    assert of_day(expected, evse, date(2026, 10, 19))["missing"] == 27300


@pytest.mark.parametrize("cpo_id", CPO_IDS)
@pytest.mark.parametrize("month", MONTHS)
def test_a_month_has_the_same_truth_when_its_neighbours_were_told_too(month: str, cpo_id: str) -> None:
    alone = feed_of_month(WORLD, cpo_id, Month.parse(month))
    before = feed_of_month(WORLD, cpo_id, Month.parse(month).plus(-1))
    after = feed_of_month(WORLD, cpo_id, Month.parse(month).plus(1))
    long = Feed(WORLD, alone.cpo, Span(before.told.start, after.told.end))
    for evse in WORLD.evses(cpo_id, alone.told):
        window = Month.parse(month).span(evse.site.time_zone)
        short_spans, long_spans = (seconds_of(feed, evse, window) for feed in (alone, long))
        assert short_spans == long_spans, evse.emi3_id


def test_the_first_days_of_a_month_are_those_of_the_whole_month() -> None:
    whole = expected_seconds("2026-10", "banksia")
    part = expected_seconds("2026-10", "banksia", days=4)
    assert part == {key: seconds for key, seconds in whole.items() if key[1] <= date(2026, 10, 4)}


def test_another_month_or_cpo_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match="2026-13"):
        expected_seconds("2026-13", "banksia")
    with pytest.raises(KeyError, match="karri"):
        expected_seconds("2026-10", "karri")
    with pytest.raises(ValueError, match="zone"):
        expected_seconds((datetime(2026, 10, 1), datetime(2026, 10, 2)), "banksia")  # noqa: DTZ001


def seconds_of(feed: Feed, evse: Evse, window: Span) -> Counter[tuple[int, str]]:
    """Count by UTC hour, so that a shifted span shows."""
    counted: Counter[tuple[int, str]] = Counter()
    for span, status in in_service_spans(feed, evse, window):
        start = span.start
        while start < span.end:
            end = min(span.end, (start // 3600 + 1) * 3600)
            counted[start // 3600, status] += end - start
            start = end
    return counted


def standing(cpo_id: str) -> list[Evse]:
    return [evse for evse in WORLD.standing if evse.cpo_id == cpo_id]


# A slower way, second by second, from the rules alone.

WINDOWS = [
    ("banksia", "2026-10-31T07:30", "2026-10-31T17:00", ["AU*BAN*E0501*1", "AU*BAN*E0702*1"]),
    ("banksia", "2026-10-20T00:50", "2026-10-20T02:20", ["AU*BAN*E0101*2", "AU*BAN*E1801*2"]),
    ("banksia", "2026-10-18T12:00", "2026-10-18T14:00", ["AU*BAN*E0602*1"]),
    ("mallee", "2026-10-21T17:50", "2026-10-21T19:30", ["AU*MAL*E0102*1", "AU*MAL*E0501*2"]),
    ("mallee", "2026-10-22T00:00", "2026-10-22T00:30", ["AU*MAL*E0501*1", "AU*MAL*E0801*1"]),
    ("mallee", "2026-10-03T14:00", "2026-10-03T18:20", ["AU*MAL*E0101*1", "AU*MAL*E0901*1"]),
    ("tidewater", "2026-10-08T14:30", "2026-10-09T00:30", ["AU*TID*E0901*1", "AU*TID*E0101*2"]),
    ("tidewater", "2026-10-20T00:50", "2026-10-20T03:00", ["AU*TID*E0201*2", "AU*TID*E0401*2"]),
    ("tidewater", "2026-10-15T12:00", "2026-10-15T15:30", ["AU*TID*E0201*2", "AU*TID*E0101*2"]),
]


@pytest.mark.parametrize(("cpo_id", "start", "end", "emi3_ids"), WINDOWS)
def test_counting_second_by_second_gives_the_same(cpo_id: str, start: str, end: str, emi3_ids: list[str]) -> None:
    window = (datetime.fromisoformat(f"{start}+00:00"), datetime.fromisoformat(f"{end}+00:00"))
    expected = expected_seconds(window, cpo_id)
    for emi3_id in emi3_ids:
        evse = WORLD.by_emi3[emi3_id]
        counted: Counter[tuple[str, date, str]] = Counter()
        for at, status in every_second(evse, int(window[0].timestamp()), int(window[1].timestamp())):
            day = datetime.fromtimestamp(at, ZoneInfo(evse.site.time_zone)).date()
            counted[evse.ref, day, status] += 1
        assert counted == {key: seconds for key, seconds in expected.items() if key[0] == evse.ref}


def every_second(evse: Evse, start: int, end: int) -> Iterator[tuple[int, str]]:
    """Yield what is known of an EVSE at each second, given normal contact in the hour before."""
    cpo = WORLD.cpo(evse.cpo_id)
    lead = 3600
    faults = faults_within(Span(start - lead, end), cpo.cpo_id)
    gaps = [fault for fault in faults if fault.effect in (Effect.NO_CONTACT, Effect.SILENT_RETURN)]
    incomplete = [fault.span for fault in faults if fault.effect is Effect.INCOMPLETE]
    away = absences(evse, Span(start - lead, end))
    last_contact = start - lead
    known = before = status_at(WORLD, evse, start - lead)
    for at in range(start - lead, end):
        is_gap = any(gap.span.start <= at < gap.span.end for gap in gaps)
        is_contact = not is_gap and (cpo.kind is FeedKind.STREAM or at % 60 == cpo.poll_second)
        # A stream that breaks at a second lived until then.
        if is_contact or (cpo.kind is FeedKind.STREAM and any(gap.span.start == at for gap in gaps)):
            if at > last_contact + 300:
                known = "missing"
            last_contact = at
        if cpo.kind is FeedKind.STREAM:
            status = status_at(WORLD, evse, at)
            returned = [gap for gap in gaps if gap.span.end == at]
            if is_contact and returned:
                if returned[0].effect is Effect.NO_CONTACT:
                    known = status
            elif is_contact and status != before:
                known = status
            before = status
        elif is_contact and not any(span.start <= at < span.end for span in incomplete):
            is_absent = any(span.start <= at < span.end for span in away)
            known = "missing" if is_absent else status_at(WORLD, evse, at)
        if at >= start:
            yield at, known if at < last_contact + 300 else "missing"


# Another way, from the files alone, by the words of the design.


@pytest.mark.parametrize("cpo_id", CPO_IDS)
@pytest.mark.parametrize("month", MONTHS)
def test_the_files_say_what_is_expected_of_them(tmp_path: Path, month: str, cpo_id: str) -> None:
    emit_month(WORLD, Month.parse(month), tmp_path, [cpo_id])
    assert from_files(tmp_path / cpo_id / month, Month.parse(month)) == expected_seconds(month, cpo_id)


def rows_of(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def instant(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())


def from_files(folder: Path, month: Month) -> Expected:
    canonical = {word: status for status, word in OCPI_WORDS.items()}
    assets = {row["evse_id"]: row for row in rows_of(folder / "assets.csv.gz")}
    changes: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in rows_of(folder / "changes.csv.gz"):
        changes[row["evse_id"]].append((instant(row["observed_at"]), canonical.get(row["status"], row["status"])))
    assert set(changes) <= set(assets)
    life, complete = [], []
    for row in rows_of(folder / "contact.csv.gz"):
        life.append(
            (
                instant(row.get("contact_at") or row["contact_from"]),
                instant(row.get("contact_at") or row["contact_until"]),
            )
        )
        if row.get("is_complete") == "true":
            complete.append(life[-1][0])
    life += [(at, at) for rows in changes.values() for at, _ in rows]
    islands: list[list[int]] = []
    for start, end in sorted(life):
        if islands and start <= islands[-1][1]:
            islands[-1][1] = max(islands[-1][1], end + 300)
        else:
            islands.append([start, end + 300])
    firsts = [next((at for at in complete if start <= at < end), None) for start, end in islands]

    found: Counter[tuple[str, date, str]] = Counter()
    for uid, asset in assets.items():
        zone = asset["time_zone"]
        own = changes[uid]
        window = month.span(zone)
        cuts = {window.start, window.end}
        cuts |= {local_midnight(month.first_day + timedelta(days=index), zone) for index in range(32)}
        cuts |= {at for at, _ in own} | {edge for island in islands for edge in island}
        known_from = []
        for (start, end), first in zip(islands, firsts, strict=True):
            candidates = [at for at, _ in own if start <= at < end][:1]
            if first is not None and own and own[0][0] <= first:
                candidates.append(first)
            known_from.append(min(candidates, default=end))
        cuts |= set(known_from)
        commissioned = asset["commissioned_on"]
        service_from = local_midnight(date.fromisoformat(commissioned), zone) if commissioned else None
        if service_from is None:
            service_from = next((at for at, word in own if word not in ("planned", "removed", "missing")), None)
        edges = sorted(cut for cut in cuts if window.start <= cut <= window.end)
        for start, end in itertools.pairwise(edges):
            if service_from is None or start < service_from:
                continue
            in_force = [word for at, word in own if at <= start][-1:]
            said = [word for word in (w for at, w in own if at <= start) if word != "missing"][-1:]
            if said == ["removed"]:
                continue
            status = "missing"
            for (alive_from, alive_until), known in zip(islands, known_from, strict=True):
                if alive_from <= start < alive_until and start >= known:
                    status = in_force[0]
            day = datetime.fromtimestamp(start, ZoneInfo(zone)).date()
            found[f"{asset['site_id']}/{uid}".casefold(), day, status] += end - start
    return dict(found)
