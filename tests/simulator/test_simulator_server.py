"""The OCPI server, over real connections."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from simulator.faults import faults_of_month
from simulator.history import OCPI_WORDS
from simulator.months import Month
from simulator.server import Replay, Source, WorldSource, build_app, serve_in_thread
from simulator.timeline import status_at
from simulator.world import build_world

WORLD = build_world()
NOON = datetime(2026, 10, 14, 2, 0, 0, tzinfo=UTC)
TOKENS = {"banksia": "b-secret", "mallee": "m-secret", "replayed": "r-secret"}
LOCATIONS = "ocpi/2.2.1/locations"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class Client:
    """Asks one feed with its token."""

    def __init__(self, url: str, name: str, clock: Clock) -> None:
        self.base, self.name, self.clock = url, name, clock
        self.headers = {"Authorization": "Token " + base64.b64encode(TOKENS[name].encode()).decode()}

    def get(self, path: str, headers: dict[str, str] | None = None, **params: Any) -> requests.Response:
        url = f"{self.base}/{self.name}/{path}"
        return requests.get(url, headers=self.headers | (headers or {}), params=params, timeout=10)

    def switch(self, **fault: Any) -> None:
        url = f"{self.base}/control/{self.name}/fault"
        requests.post(url, json=fault, timeout=10).raise_for_status()

    def switch_off(self, **which: str) -> None:
        url = f"{self.base}/control/{self.name}/fault"
        requests.delete(url, params=which, timeout=10).raise_for_status()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Clock]]:
    clock = Clock()
    items = [{"id": str(number), "evses": [{"uid": f"e{number}", "status": "AVAILABLE"}]} for number in range(45)]
    sources: dict[str, Source] = {
        "banksia": WorldSource(WORLD, WORLD.cpo("banksia")),
        "mallee": WorldSource(WORLD, WORLD.cpo("mallee")),
        "replayed": Replay.of({"next": "n", "items": items}),
    }
    with serve_in_thread(build_app(sources, TOKENS, clock)) as url:
        yield url, clock


@pytest.fixture
def banksia(served: tuple[str, Clock]) -> Iterator[Client]:
    client = Client(served[0], "banksia", served[1])
    client.clock.now = NOON
    yield client
    client.switch_off()


def all_evses(client: Client) -> dict[str, dict[str, Any]]:
    locations, offset, total = [], 0, 1
    while offset < total:
        page = client.get(LOCATIONS, offset=offset)
        page.raise_for_status()
        locations += page.json()["data"]
        offset, total = len(locations), int(page.headers["X-Total-Count"])
    return {evse["uid"]: evse for location in locations for evse in location["evses"]}


def test_versions_lead_to_details_lead_to_locations(banksia: Client) -> None:
    version = banksia.get("ocpi/versions").json()
    assert version["status_code"] == 1000
    assert version["timestamp"] == "2026-10-14T02:00:00Z"
    assert [entry["version"] for entry in version["data"]] == ["2.1.1", "2.2.1", "2.3.0"]
    details = requests.get(version["data"][1]["url"], headers=banksia.headers, timeout=10).json()
    endpoints = {entry["identifier"]: entry for entry in details["data"]["endpoints"]}
    assert endpoints["locations"]["role"] == "SENDER"
    first = requests.get(endpoints["locations"]["url"], headers=banksia.headers, timeout=10).json()
    assert first["data"][0]["id"] == "BAN-LOC-001"


def test_following_the_links_gives_every_location_once(banksia: Client) -> None:
    answer = banksia.get(LOCATIONS)
    assert (answer.headers["X-Total-Count"], answer.headers["X-Limit"]) == ("22", "20")
    sizes, ids = [], []
    while True:
        sizes.append(len(answer.json()["data"]))
        ids += [location["id"] for location in answer.json()["data"]]
        if "next" not in answer.links:
            break
        answer = requests.get(answer.links["next"]["url"], headers=banksia.headers, timeout=10)
    assert sizes == [20, 2]
    assert ids == [site.site_id for site in WORLD.sites if site.cpo_id == "banksia"]


@pytest.mark.parametrize(("limit", "served_size"), [(7, 7), (100, 20)])
def test_a_page_has_the_limit_asked_for_up_to_the_cap(banksia: Client, limit: int, served_size: int) -> None:
    answer = banksia.get(LOCATIONS, limit=limit)
    assert len(answer.json()["data"]) == served_size
    assert f"offset={served_size}" in answer.links["next"]["url"]
    assert f"limit={served_size}" in answer.links["next"]["url"]
    past_the_end = banksia.get(LOCATIONS, offset=22)
    assert past_the_end.json()["data"] == []
    assert "next" not in past_the_end.links


@pytest.mark.parametrize("token", [None, "b-secret", base64.b64encode(b"m-secret").decode(), ""])
@pytest.mark.parametrize("path", ["ocpi/2.2.1", LOCATIONS])
def test_without_the_feed_s_own_token_in_base64_nothing_is_told(banksia: Client, path: str, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Token {token}"}
    answer = requests.get(f"{banksia.base}/banksia/{path}", headers=headers, timeout=10)
    assert answer.status_code == 401
    assert answer.json()["status_code"] == 2001
    assert answer.json()["data"] is None


def test_statuses_are_the_truth_of_the_clock(banksia: Client) -> None:
    fault = next(fault for fault in faults_of_month(Month(2026, 10)) if fault.name == "outage_of_days")
    banksia.clock.now = datetime.fromtimestamp(fault.span.start - 1, UTC)
    uid = WORLD.by_emi3[fault.emi3_id or ""].uid
    before = all_evses(banksia)
    banksia.clock.now += timedelta(seconds=1)
    after = all_evses(banksia)
    assert before[uid]["status"] != "OUTOFORDER"
    assert after[uid]["status"] == "OUTOFORDER"
    assert after[uid]["last_updated"] == banksia.clock.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    standing = {evse.uid: evse for evse in WORLD.standing if evse.cpo_id == "banksia"}
    assert set(after) == set(standing)
    at = int(banksia.clock.now.timestamp())
    for other, evse in standing.items():
        assert after[other]["status"] == OCPI_WORDS[status_at(WORLD, evse, at)]
        assert after[other]["evse_id"] == evse.emi3_id


def test_the_gaps_and_absences_of_the_history_are_not_served(banksia: Client) -> None:
    names = {"gap_over_month_end", "absent_over_midnight"}
    faults = [fault for fault in faults_of_month(Month(2026, 10)) if fault.name in names and fault.cpo_id == "banksia"]
    assert len(faults) == 2
    for fault in faults:
        banksia.clock.now = datetime.fromtimestamp(fault.span.start + 60, UTC)
        assert len(all_evses(banksia)) == 77


def test_an_unchanged_page_is_not_sent_again(banksia: Client) -> None:
    first = banksia.get(LOCATIONS)
    known = {"If-None-Match": first.headers["ETag"]}
    banksia.clock.now = NOON + timedelta(seconds=1)
    again = banksia.get(LOCATIONS, known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["X-Total-Count"] == "22"
    assert banksia.get(LOCATIONS, known, offset=20).status_code == 200
    banksia.clock.now = NOON + timedelta(hours=3)
    assert banksia.get(LOCATIONS, known).status_code == 200


@pytest.mark.parametrize(("name", "status"), [("down", 503), ("error_500", 500), ("rate_limited", 429)])
def test_a_feed_that_fails_fails_everywhere_until_it_is_switched_off(banksia: Client, name: str, status: int) -> None:
    banksia.switch(name=name, seconds=17)
    for path in ("ocpi/versions", "ocpi/2.2.1", LOCATIONS):
        answer = banksia.get(path)
        assert answer.status_code == status
        assert answer.headers.get("Retry-After") == ("17" if name == "rate_limited" else None)
    assert Client(banksia.base, "mallee", banksia.clock).get(LOCATIONS).status_code == 200
    banksia.switch_off(fault=name)
    assert banksia.get(LOCATIONS).status_code == 200


def test_a_fault_can_last_for_a_number_of_requests(banksia: Client) -> None:
    banksia.switch(name="error_500", requests=2)
    assert [banksia.get(LOCATIONS).status_code for _ in range(3)] == [500, 500, 200]


def test_an_ocpi_error_comes_with_http_200_and_no_data(banksia: Client) -> None:
    banksia.switch(name="status_3000")
    answer = banksia.get(LOCATIONS)
    assert (answer.status_code, answer.json()["status_code"], answer.json()["data"]) == (200, 3000, [])


def test_a_truncated_answer_ends_early(banksia: Client) -> None:
    banksia.switch(name="truncated")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        banksia.get(LOCATIONS)
    banksia.switch(name="truncated", variant="json")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        banksia.get(LOCATIONS).json()


def test_a_slow_answer_takes_its_time(banksia: Client) -> None:
    banksia.switch(name="slow", seconds=0.4)
    started = time.monotonic()
    assert banksia.get(LOCATIONS).status_code == 200
    assert time.monotonic() - started >= 0.4


def test_a_page_that_does_not_advance_points_at_itself(banksia: Client) -> None:
    first = banksia.get(LOCATIONS, limit=5)
    banksia.switch(name="non_advancing_page")
    stuck = banksia.get(LOCATIONS, offset=5, limit=5)
    assert stuck.json()["data"] == first.json()["data"]
    assert "offset=5" in stuck.links["next"]["url"]


def test_an_evse_can_be_left_out_or_broken(banksia: Client) -> None:
    uids = [evse.uid for evse in WORLD.standing if evse.cpo_id == "banksia"]
    banksia.switch(name="missing_evse", uid=uids[3])
    assert set(uids) - set(all_evses(banksia)) == {uids[3]}
    banksia.switch_off()
    banksia.switch(name="missing_evse")
    assert set(uids) - set(all_evses(banksia)) == {uids[0]}
    banksia.switch_off()
    banksia.switch(name="bad_object", uid=uids[3], variant="null_status")
    assert [uid for uid, evse in all_evses(banksia).items() if evse["status"] is None] == [uids[3]]
    banksia.switch(name="bad_object")
    first = banksia.get(LOCATIONS).json()["data"][0]["evses"][0]
    assert "uid" not in first
    assert first["evse_id"] == "AU*BAN*E0101*1"


def test_faults_are_listed_and_unknown_ones_refused(banksia: Client) -> None:
    control = f"{banksia.base}/control/banksia/fault"
    banksia.switch(name="down")
    assert [fault["name"] for fault in requests.get(control, timeout=10).json()] == ["down"]
    assert requests.post(control, json={"name": "gremlins"}, timeout=10).status_code == 422
    assert requests.post(control, json={"name": "down", "for": 3}, timeout=10).status_code == 422
    elsewhere = f"{banksia.base}/control/tidewater/fault"
    assert requests.post(elsewhere, json={"name": "down"}, timeout=10).status_code == 404


def test_health_lists_the_feeds_and_others_are_not_found(banksia: Client) -> None:
    health = requests.get(f"{banksia.base}/health", timeout=10)
    assert health.json() == {"status": "ok", "feeds": ["banksia", "mallee", "replayed"]}
    assert requests.get(f"{banksia.base}/tidewater/ocpi/versions", timeout=10).status_code == 404


def test_a_file_is_served_page_by_page(served: tuple[str, Clock]) -> None:
    client = Client(served[0], "replayed", served[1])
    assert list(all_evses(client)) == [f"e{number}" for number in range(45)]
    client.switch(name="missing_evse", requests=1)
    assert len(all_evses(client)) == 44
    assert len(all_evses(client)) == 45


def test_a_file_may_wrap_its_locations_or_not() -> None:
    items = [{"id": "1"}]
    for document in (items, {"data": items}, {"next": "", "items": items}):
        assert Replay.of(document).locations(NOON) == items
    nothing: list[Any] = [{}, [], {"items": []}, ["1"], "x"]
    for wrong in nothing:
        with pytest.raises(ValueError, match="OCPI locations"):
            Replay.of(wrong)


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "town.json"
    file.write_text(json.dumps([{"id": "1", "evses": []}]), encoding="utf-8")
    secret = tmp_path / "token"
    secret.write_text("t-secret\n", encoding="utf-8")
    environment = {
        **os.environ,
        "BANKSIA_TOKEN": "b-secret",
        "MALLEE_TOKEN": "m",
        "TOWN_TOKEN_FILE": str(secret),
    }
    command = [sys.executable, "-m", "simulator", "serve", "--port", str(port), "--replay", f"town={file}"]
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", process)
        headers = {"Authorization": "Token " + base64.b64encode(b"t-secret").decode()}
        assert requests.get(f"{url}/town/{LOCATIONS}", headers=headers, timeout=10).json()["data"][0]["id"] == "1"
        now = Client(url, "banksia", Clock()).get(LOCATIONS).json()["timestamp"]
        assert abs(datetime.fromisoformat(now) - datetime.now(UTC)) < timedelta(minutes=1)
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_serving_without_a_token_names_the_variable(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith(("_TOKEN", "_TOKEN_FILE"))}
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "serve", "--port", "0"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "BANKSIA_TOKEN" in done.stderr


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server stopped"
        try:
            requests.get(url, timeout=2).raise_for_status()
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server did not come up")
