"""Every fault does what its line says: here those of feeds that are asked, and what they do to records."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from simulator.sources import words_at
from simulator.switchboard import ASKED, FAULTS, FILES, HELD, PUSHED, FaultSwitch, Switchboard, catalogue
from tests.simulator.served import NOON, QUICK, TOKENS, Clock, Simulator, authorization, simulator

OCPI = "2.2.1/locations"


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def served(clock: Clock) -> Iterator[Simulator]:
    with simulator(clock) as running:
        yield running


@pytest.fixture
def quick(served: Simulator, clock: Clock) -> Iterator[Simulator]:
    clock.now = NOON
    yield served
    served.switch_off()


def both(asked: Simulator) -> list[httpx.Response]:
    return [asked.ocpi(OCPI), asked.rest("none/stations")]


def evses(asked: Simulator) -> list[dict[str, Any]]:
    return [evse for place in asked.ocpi(OCPI).json()["data"] for evse in place["evses"] or []]


def points(asked: Simulator) -> list[dict[str, Any]]:
    return [point for place in asked.rest("none/stations").json()["stations"] for point in place["points"] or []]


def test_the_catalogue_names_every_fault_and_its_protocols(quick: Simulator) -> None:
    listed = httpx.get(f"{quick.url}/control/faults", timeout=10).json()
    assert [kind["name"] for kind in listed] == list(FAULTS)
    protocols = {*ASKED, *PUSHED, *HELD, *FILES}
    for kind in listed:
        assert kind["does"]
        assert kind["truth"]
        assert set(kind["protocols"]) <= protocols
        assert kind["protocols"]
        assert f"  {kind['name']} " in catalogue()


@pytest.mark.parametrize(
    ("name", "status"), [("down", 503), ("error_500", 500), ("rate_limited", 429), ("token_refused", 401)]
)
def test_a_status_that_is_no_success(quick: Simulator, name: str, status: int) -> None:
    quick.switch(name)
    assert [answer.status_code for answer in both(quick)] == [status, status]


def test_retry_after_is_seconds_or_a_date(quick: Simulator) -> None:
    quick.switch("rate_limited", seconds=120)
    assert {answer.headers["Retry-After"] for answer in both(quick)} == {"120"}
    quick.switch("rate_limited", seconds=120, variant="date")
    for answer in both(quick):
        ahead = parsedate_to_datetime(answer.headers["Retry-After"]) - datetime.now(UTC)
        assert timedelta(seconds=110) < ahead <= timedelta(seconds=120)


def test_a_fault_can_strike_now_and_then_and_always_the_same_requests() -> None:
    def struck(seed: int) -> list[bool]:
        board = Switchboard([FaultSwitch(name="error_500", probability=0.3, seed=seed)])
        return [board.spoils("error_500", "ocpi") is not None for _ in range(1000)]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 250 < sum(struck(1)) < 350


def test_a_fault_can_be_kept_to_one_protocol(quick: Simulator) -> None:
    quick.switch("down", protocol="rest")
    assert [answer.status_code for answer in both(quick)] == [200, 503]


def test_slow_takes_its_time_and_tells_what_is_true_then(quick: Simulator) -> None:
    quick.switch("slow", seconds=0.3)
    started = time.monotonic()
    assert both(quick)[1].status_code == 200
    assert time.monotonic() - started >= 0.6


def test_ocpi_failures_with_http_200(quick: Simulator) -> None:
    quick.switch("status_3000")
    answer = quick.ocpi(OCPI)
    assert (answer.status_code, answer.json()["status_code"], answer.json()["data"]) == (200, 3000, [])
    quick.switch_off()
    quick.switch("unknown_version")
    assert [entry["version"] for entry in quick.ocpi("versions").json()["data"]] == ["9.9"]
    assert quick.ocpi(OCPI).status_code == 404


@pytest.mark.parametrize(("variant", "total"), [("total", 3), ("zero", 0)])
def test_an_empty_list_that_claims_success(quick: Simulator, variant: str, total: int) -> None:
    quick.switch("empty_data", variant=variant)
    answer = quick.ocpi(OCPI)
    assert (answer.json()["status_code"], answer.json()["data"]) == (1000, [])
    assert answer.headers["X-Total-Count"] == str(total)
    assert quick.rest("page/stations").json() == {"meta": {"total": total}, "stations": []}


def test_a_body_that_ends_early(quick: Simulator) -> None:
    quick.switch("truncated")
    for ask in (lambda: quick.ocpi(OCPI), lambda: quick.rest("none/stations")):
        with pytest.raises(httpx.RemoteProtocolError):
            ask()
    quick.switch("truncated", variant="json")
    for answer in both(quick):
        assert answer.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            answer.json()


def test_a_web_page_and_a_wrong_content_type(quick: Simulator) -> None:
    plain = [answer.json()["data" if number == 0 else "stations"] for number, answer in enumerate(both(quick))]
    quick.switch("html")
    for answer in both(quick):
        assert (answer.status_code, answer.text[:15]) == (200, "<!doctype html>")
    quick.switch_off()
    quick.switch("wrong_content_type")
    answers = both(quick)
    assert [answer.json()["data" if number == 0 else "stations"] for number, answer in enumerate(answers)] == plain
    assert all(answer.headers["Content-Type"].startswith("text/html") for answer in answers)


def test_gzip_comes_asked_for_or_not(quick: Simulator) -> None:
    quick.switch("gzip")
    url = f"{quick.url}/quick/ocpi/{OCPI}"
    headers = {**authorization("2.2.1", TOKENS["quick"]), "Accept-Encoding": "identity"}
    with httpx.stream("GET", url, headers=headers) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(raw))["data"]) == 3
    assert both(quick)[1].json()["meta"]["total"] == 3


def test_bodies_that_are_too_deep_or_too_big(quick: Simulator) -> None:
    quick.switch("depth_bomb")
    for answer in both(quick):
        assert answer.content == b"[" * 100_000 + b"]" * 100_000
    quick.switch_off()
    quick.switch("huge_body", size=2)
    for answer in both(quick):
        assert len(answer.content) > 2_000_000
        assert len(answer.json()["padding"]) == 2_000_000


def test_pages_that_are_capped_below_what_was_asked(quick: Simulator) -> None:
    quick.switch("capped_page", size=2)
    answer = quick.ocpi(OCPI, params={"limit": 3})
    assert len(answer.json()["data"]) == 2
    assert (answer.headers["X-Total-Count"], "Link" in answer.headers) == ("3", False)
    quick.switch("capped_page", size=2, variant="link")
    assert "offset=2" in quick.ocpi(OCPI, params={"limit": 3}).links["next"]["url"]


def test_a_page_that_does_not_advance(quick: Simulator) -> None:
    quick.switch("non_advancing_page")
    first = quick.ocpi(OCPI, params={"limit": 1})
    stuck = quick.ocpi(OCPI, params={"limit": 1, "offset": 1})
    assert stuck.json()["data"] == first.json()["data"]
    assert "offset=1" in stuck.links["next"]["url"]
    assert quick.rest("page/statuses", page=2, size=5).json() == quick.rest("page/statuses", page=1, size=5).json()


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("path", '<http://127.0.0.1:{port}/internal/api/quick/ocpi/2.2.1/locations?offset=1&limit=1>; rel="next"'),
        ("foreign", '<http://elsewhere.invalid/quick/ocpi/2.2.1/locations?offset=1&limit=1>; rel="next"'),
        ("scheme", '<https://127.0.0.1:{port}/quick/ocpi/2.2.1/locations?offset=1&limit=1>; rel="next"'),
        ("empty", ""),
        ("missing", None),
    ],
)
def test_a_link_that_leads_astray(quick: Simulator, variant: str, expected: str | None) -> None:
    quick.switch("bad_link", variant=variant)
    link = quick.ocpi(OCPI, params={"limit": 1}).headers.get("Link")
    assert link == (None if expected is None else expected.format(port=quick.url.rpartition(":")[2]))


def test_an_evse_that_is_left_out(quick: Simulator) -> None:
    quick.switch("missing_evse", uid="100105")
    assert {evse["uid"] for evse in evses(quick)} == {str(100_100 + number) for number in range(24)} - {"100105"}
    assert len(points(quick)) == 23
    quick.switch("missing_evse", uid="nobody")
    assert quick.ocpi(OCPI).status_code == 500


def test_a_record_that_is_bad(quick: Simulator) -> None:
    quick.switch("bad_object", uid="100105")
    assert [evse.get("evse_id") for evse in evses(quick) if "uid" not in evse] == ["AU*QCK*E100105"]
    assert [point["label"] for point in points(quick) if point["ref"] is None] == ["AU*QCK*E100105"]
    quick.switch("bad_object", variant="null_status")
    assert [evse["uid"] for evse in evses(quick) if evse["status"] is None] == ["100100"]


def test_null_where_a_list_belongs(quick: Simulator) -> None:
    quick.switch("null_lists")
    assert all(evse["capabilities"] is None for evse in evses(quick))
    assert quick.ocpi(OCPI).json()["data"][0]["images"] is None
    quick.switch("null_lists", variant="connectors")
    assert [evse["uid"] for evse in evses(quick) if evse["connectors"] is None] == ["100100"]
    assert [point["ref"] for point in points(quick) if point["plugs"] is None] == ["100100"]
    quick.switch("null_lists", variant="evses")
    assert (len(evses(quick)), len(points(quick))) == (14, 14)
    assert quick.ocpi("2.1.1/locations", "2.1.1").json()["data"][0]["evses"] is None


def test_ids_that_are_numbers(quick: Simulator) -> None:
    quick.switch("numeric_ids")
    assert quick.ocpi(OCPI).json()["data"][0]["id"] == 1001
    assert {evse["uid"] for evse in evses(quick)} == {100_100 + number for number in range(24)}
    assert all(isinstance(point["ref"], int) for point in points(quick))


def test_words_that_nobody_knows_and_a_feed_that_flips(quick: Simulator) -> None:
    before = words_at(QUICK, NOON)
    quick.switch("unknown_word", uid="100105", word="ON_HOLIDAY")
    told = {
        f"{place['id']}/{evse['uid']}": evse["status"]
        for place in quick.ocpi(OCPI).json()["data"]
        for evse in place["evses"]
    }
    assert told == before | {"1001/100105": "ON_HOLIDAY"}
    quick.switch("unknown_word")
    assert {evse["status"] for evse in evses(quick)} == {"OCCUPIED_MAYBE"}
    quick.switch("flip_all", word="OUTOFORDER")
    quick.control("DELETE", "fault?fault=unknown_word")
    assert {evse["status"] for evse in evses(quick)} == {"OUTOFORDER"}
    assert {point["state"] for point in points(quick)} == {"OUTOFORDER"}


def test_a_clock_that_is_wrong(quick: Simulator) -> None:
    right = [datetime.fromisoformat(evse["last_updated"]) for evse in evses(quick)]
    quick.switch("clock_skew", seconds=-90)
    wrong = [datetime.fromisoformat(evse["last_updated"]) for evse in evses(quick)]
    assert wrong == [at - timedelta(seconds=90) for at in right]
    assert [datetime.fromisoformat(point["changed"]) for point in points(quick)] == wrong


def test_what_a_fault_does_not_have_is_refused(quick: Simulator) -> None:
    url = f"{quick.url}/control/quick/fault"
    for wrong, said in (
        ({"name": "gremlins"}, "no fault 'gremlins'"),
        ({"name": "down", "variant": "sideways"}, "has variants: none"),
        ({"name": "silence", "protocol": "ocpi"}, "is a fault of: ocpi_push"),
        ({"name": "slow", "seconds": -1}, "must not be negative"),
        ({"name": "down", "probability": 0}, "greater than 0"),
    ):
        answer = httpx.post(url, json=wrong, timeout=10)
        assert answer.status_code == 422
        assert said in answer.text
    assert quick.control("GET", "fault") == []


def test_switching_off_one_fault_leaves_the_others(quick: Simulator) -> None:
    quick.switch("down")
    quick.switch("gzip", requests=5)
    quick.control("DELETE", "fault?fault=down")
    assert [(fault["name"], fault["requests"]) for fault in quick.control("GET", "fault")] == [("gzip", 5)]
    both(quick)
    assert quick.control("GET", "fault")[0]["requests"] == 3
