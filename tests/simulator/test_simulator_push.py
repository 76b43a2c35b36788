"""What the simulator pushes, as a receiver that believes everything sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from simulator.quick import moment_text
from simulator.server import serve_in_thread
from tests.simulator.served import QUICK, TOKENS, Simulator, authorization, simulator
from tests.waiting import until

RECEIVER_KEY = TOKENS["hub"]


@dataclass
class Push:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    status: int


@dataclass
class Stub:
    """Takes whatever is pushed; ``statuses`` are the answers to the next pushes, then 200."""

    url: str = ""
    pushes: list[Push] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()
        app.state.feeds = {}

        def enveloped(data: Any) -> dict[str, Any]:
            return {"status_code": 1000, "data": data, "timestamp": "2026-10-14T00:00:00Z"}

        @app.get("/ocpi/versions")
        def versions(request: Request) -> Any:
            if request.headers.get("authorization") not in [
                authorization(v, RECEIVER_KEY)["Authorization"] for v in ("2.1.1", "2.2.1")
            ]:
                return JSONResponse({"status_code": 2001, "data": None}, 401)
            return enveloped([{"version": v, "url": f"{self.url}/ocpi/{v}"} for v in ("2.1.1", "2.2.1", "2.3.0")])

        @app.get("/ocpi/{version}")
        def details(version: str) -> Any:
            endpoint = {"identifier": "locations", "url": f"{self.url}/ocpi/{version}/locations"}
            if version != "2.1.1":
                endpoint["role"] = "RECEIVER"
            return enveloped({"version": version, "endpoints": [endpoint]})

        @app.api_route("/{path:path}", methods=["PUT", "PATCH", "POST"])
        async def pushed(path: str, request: Request) -> Any:
            status = self.statuses.pop(0) if self.statuses else 200
            self.pushes.append(Push(request.method, path, dict(request.headers), await request.json(), status))
            return JSONResponse(enveloped(None), status)

        return app


@contextmanager
def _stub() -> Iterator[Stub]:
    stub = Stub()
    with serve_in_thread(stub.app()) as url:
        stub.url = url
        yield stub


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Simulator, Stub]]:
    with simulator() as served, _stub() as stub:
        yield served, stub


@pytest.fixture
def quick(running: tuple[Simulator, Stub]) -> Iterator[Simulator]:
    yield running[0]
    running[0].control("DELETE", "push")
    running[0].switch_off()


@pytest.fixture
def stub(running: tuple[Simulator, Stub]) -> Stub:
    running[1].pushes.clear()
    running[1].statuses.clear()
    return running[1]


def begin(quick: Simulator, stub: Stub, kind: str = "ocpi", **order: Any) -> None:
    url = f"{stub.url}/ocpi/versions" if kind == "ocpi" else f"{stub.url}/v1/observations"
    quick.control("POST", "push", kind=kind, url=url, token=RECEIVER_KEY, **order)
    assert quick.control("GET", "push") == {"state": "running"}


def told(stub: Stub) -> list[tuple[str, str, str]]:
    """Own time, evse_ref and word of each PATCH or observation."""
    found = []
    for push in list(stub.pushes):
        if "observations" in push.path:
            found += [
                (one["observed_at"], f"{one['site_id']}/{one['evse_id']}", one["status"])
                for one in push.body["observations"]
            ]
        else:
            found.append((push.body["last_updated"], "/".join(push.path.split("/")[5:7]), push.body["status"]))
    return found


def between(found: list[tuple[str, str, str]]) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """What was told between the first and the last time, and what really changed then: of several at one end, not all need have been told."""
    first, last = min(found)[0], max(found)[0]
    told = [one for one in found if first < one[0] < last]
    changes = QUICK.changes(datetime.fromisoformat(first), datetime.fromisoformat(last) - timedelta(milliseconds=1))
    return told, [(moment_text(change.at), change.evse_ref, change.word) for change in changes]


@pytest.mark.parametrize("version", ["2.1.1", "2.2.1", "2.3.0"])
def test_every_change_is_patched_in_its_moment(quick: Simulator, stub: Stub, version: str) -> None:
    begin(quick, stub, version=version)
    until(lambda: len(stub.pushes) >= 40)
    quick.control("DELETE", "push")
    found, expected = between(told(stub))
    assert found == expected
    assert len(found) > 30
    push = stub.pushes[0]
    assert push.method == "PATCH"
    assert push.path.startswith(f"ocpi/{version}/locations/AU/QCK/100")
    assert push.headers["authorization"] == authorization(version, RECEIVER_KEY)["Authorization"]
    assert quick.control("GET", "push") == {"state": "off"}


def test_a_failed_push_is_logged_and_never_sent_again(quick: Simulator, stub: Stub) -> None:
    before = len(quick.log())
    stub.statuses = [200, 503, 200]
    begin(quick, stub)
    until(lambda: len(stub.pushes) >= 30)
    quick.control("DELETE", "push")
    found = told(stub)
    assert len(set(found)) == len(found)
    lines = quick.log()[before:]
    assert [line["outcome"] for line in lines[:4]] == ["200/1000", "503", "200/1000", "200/1000"]
    assert (lines[1]["told_at"], lines[1]["evse_ref"], lines[1]["word"]) == found[1]


@pytest.mark.parametrize(("style", "depth"), [("put_evse", 7), ("put_location", 6)])
def test_a_change_can_be_put_with_all_that_stands_around_it(
    quick: Simulator, stub: Stub, style: str, depth: int
) -> None:
    begin(quick, stub, style=style)
    until(lambda: len(stub.pushes) >= 5)
    quick.control("DELETE", "push")
    for push in stub.pushes[:5]:
        assert push.method == "PUT"
        assert len(push.path.split("/")) == depth
        evses = push.body["evses"] if style == "put_location" else [push.body]
        changed = [(one["last_updated"], one["uid"], one["status"]) for one in evses]
        at = datetime.fromisoformat(push.body["last_updated"])
        expected = [
            (moment_text(change.at), change.uid, change.word)
            for change in QUICK.changes(at - timedelta(milliseconds=1), at)
        ]
        assert set(expected) & set(changed)


def test_all_locations_can_be_put_first(quick: Simulator, stub: Stub) -> None:
    begin(quick, stub, puts_first=True, version="2.1.1")
    until(lambda: len(stub.pushes) >= 4)
    assert [push.method for push in stub.pushes[:4]] == ["PUT", "PUT", "PUT", "PATCH"]
    assert [push.body["id"] for push in stub.pushes[:3]] == ["1001", "1002", "1003"]
    assert stub.pushes[0].body["type"] == "OTHER"


def test_pushes_suffer_from_the_faults_of_messages(quick: Simulator, stub: Stub) -> None:
    quick.switch("duplicate")
    quick.switch("clock_skew", seconds=-600)
    begin(quick, stub)
    until(lambda: len(stub.pushes) >= 20)
    found = told(stub)[:20]
    assert found[::2] == found[1::2]
    assert datetime.fromisoformat(found[0][0]).timestamp() < time.time() - 590
    quick.switch("silence")
    time.sleep(0.3)
    count = len(stub.pushes)
    time.sleep(1)
    assert len(stub.pushes) == count
    quick.switch_off()
    quick.switch("without_time")
    quick.switch("bad_object", variant="null_status")
    stub.pushes.clear()
    until(lambda: any(push.body == {"status": None} for push in stub.pushes))
    quick.switch("bad_object")
    stub.pushes.clear()
    until(lambda: any(push.method == "PUT" and "uid" not in push.body for push in stub.pushes))


def test_observations_are_posted_in_batches_and_again_with_their_key(quick: Simulator, stub: Stub) -> None:
    stub.statuses = [200, 503, 429, 200, 400]
    begin(quick, stub, "rest", batch_seconds=0.3)
    until(lambda: len(stub.pushes) >= 7, 30)
    quick.control("DELETE", "push")
    keys = [push.headers["idempotency-key"] for push in stub.pushes]
    assert [len(set(keys[:1])), len(set(keys[1:4])), len(set(keys[4:]))] == [1, 1, len(keys) - 4]
    assert stub.pushes[1].body == stub.pushes[3].body
    assert stub.pushes[0].headers["authorization"] == f"Bearer {RECEIVER_KEY}"
    # The one that was refused is not posted again.
    stub.pushes = [stub.pushes[0], *stub.pushes[3:]]
    found, expected = between(told(stub))
    assert found == expected
    assert len(found) > 30
    outcomes = {line["message"]: line["outcome"] for line in quick.log() if line["protocol"] == "rest_push"}
    assert list(outcomes.values())[:4] == ["200", "200", "400", "200"]


@pytest.mark.parametrize(("variant", "key_count"), [("same_key", 1), ("new_key", 2)])
def test_a_batch_can_be_posted_twice(quick: Simulator, stub: Stub, variant: str, key_count: int) -> None:
    quick.switch("duplicate", variant=variant)
    begin(quick, stub, "rest", batch_seconds=0.2)
    until(lambda: len(stub.pushes) >= 2)
    first, again = stub.pushes[:2]
    assert first.body == again.body
    assert len({first.headers["idempotency-key"], again.headers["idempotency-key"]}) == key_count


def test_whoever_is_to_be_pushed_to_must_be_there(quick: Simulator, stub: Stub) -> None:
    url = f"{quick.url}/control/quick/push"
    for order, status in (
        ({"kind": "ocpi"}, 502),
        ({"kind": "ocpi", "url": f"{stub.url}/ocpi/versions", "token": "wrong"}, 502),
        ({"kind": "ocpi", "url": f"{quick.url}/hub/ocpi/versions", "token": TOKENS["hub"]}, 502),
        ({"kind": "rest", "url": f"{stub.url}/v1/observations"}, 422),
        ({"kind": "pigeon"}, 422),
    ):
        assert httpx.post(url, json=order, timeout=10).status_code == status
    assert quick.control("GET", "push") == {"state": "off"}


def test_descriptions_and_present_states_can_be_posted_first(quick: Simulator, stub: Stub) -> None:
    begin(quick, stub, "rest", assets_url=f"{stub.url}/v1/assets", batch_seconds=0.2)
    until(lambda: len(stub.pushes) >= 3)
    described, states, _ = stub.pushes[:3]
    assert (described.path, states.path) == ("v1/assets", "v1/observations")
    refs = {f"{1001 + number // 10}/{100_100 + number}" for number in range(24)}
    assert {f"{one['site_id']}/{one['evse_id']}" for one in described.body["assets"]} == refs
    assert {f"{one['site_id']}/{one['evse_id']}" for one in states.body["observations"]} == refs
    assert {one["power_kw"] for one in described.body["assets"]} == {75}
