"""WebSocket and Server-Sent Events, over real connections and the real clock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import httpx_sse
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.simulator.served import QUICK, TOKENS, Simulator, simulator
from tests.waiting import until

HEADERS = {"X-Api-Key": TOKENS["quick"]}
SUBSCRIBE = {"action": "subscribe"}


@pytest.fixture(scope="module")
def served() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


@pytest.fixture
def quick(served: Simulator) -> Iterator[Simulator]:
    yield served
    served.switch_off()


@contextmanager
def websocket(asked: Simulator, subscribe: dict[str, Any] | None = SUBSCRIBE) -> Iterator[ClientConnection]:
    url = f"{asked.url.replace('http', 'ws')}/{asked.name}/ws"
    with connect(
        url, additional_headers={"X-Api-Key": TOKENS[asked.name]}, ping_interval=None, close_timeout=1
    ) as held:
        if subscribe is not None:
            held.send(json.dumps(subscribe))
            assert json.loads(held.recv(timeout=5))["type"] == "subscribed"
        yield held


def received(held: ClientConnection, seconds: float) -> list[dict[str, Any]]:
    """Whatever comes within a time."""
    found = []
    deadline = time.monotonic() + seconds
    while (rest := deadline - time.monotonic()) > 0:
        try:
            found.append(json.loads(held.recv(timeout=rest)))
        except TimeoutError:
            break
    return found


def listen(held: ClientConnection) -> None:
    """Until it ends."""
    for _ in range(1000):
        held.recv(timeout=5)


def updates(messages: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """What status messages say: own time, evse_ref, word."""
    return [
        (one["changed"], f"{one['station']}/{one['ref']}", one["state"])
        for message in messages
        if message["type"] == "status"
        for one in message["updates"]
    ]


def truth(told: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """What really changed from the first to the last change that was told."""
    first, last = (datetime.fromisoformat(told[index][0]) for index in (0, -1))
    changes = QUICK.changes(first - timedelta(milliseconds=1), last)
    return [(written(change.at), change.evse_ref, change.word) for change in changes]


def written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def test_every_change_is_told_once_in_order(quick: Simulator) -> None:
    with websocket(quick) as held:
        told = updates(received(held, 1.5))
    assert len(told) >= 24
    assert told == truth(told)


def test_a_snapshot_and_the_changes_after_it_leave_nothing_out(quick: Simulator) -> None:
    with websocket(quick, {"action": "subscribe", "snapshot": True}) as held:
        snapshot, *messages = received(held, 1.2)
    words = {
        f"{place['code']}/{point['ref']}": point["state"] for place in snapshot["stations"] for point in place["points"]
    }
    told = updates(messages)
    words |= {ref: word for _, ref, word in told}
    at = datetime.fromisoformat(told[-1][0])
    changes = QUICK.changes(datetime.fromisoformat(snapshot["at"]), at)
    assert told == [(written(change.at), change.evse_ref, change.word) for change in changes]
    assert words == quick_words(quick, told[-1][0])


def quick_words(asked: Simulator, at: str) -> dict[str, str]:
    found: dict[str, str] = httpx.get(f"{asked.url}/control/quick/words", params={"at": at}, timeout=10).json()
    return found


def test_nothing_is_told_to_whoever_does_not_subscribe(quick: Simulator) -> None:
    with websocket(quick, None) as held:
        assert received(held, 1) == []
        held.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            held.recv(timeout=5)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


@pytest.mark.parametrize(("fault", "status"), [(None, 401), ("token_refused", 401), ("down", 503), ("error_500", 500)])
def test_a_connection_is_refused_with_a_status(quick: Simulator, fault: str | None, status: int) -> None:
    if fault:
        quick.switch(fault)
    headers = {"X-Api-Key": TOKENS["quick"] if fault else "wrong"}
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"{quick.url.replace('http', 'ws')}/quick/ws", additional_headers=headers),
    ):
        pass
    assert refused.value.response.status_code == status
    assert httpx.get(f"{quick.url}/quick/sse", headers=headers, timeout=5).status_code == status


def test_the_server_pings_and_answers_pings(quick: Simulator) -> None:
    with websocket(quick) as held:
        assert held.ping().wait(timeout=5)


def test_a_half_open_connection_stays_and_is_deaf_and_dumb(quick: Simulator) -> None:
    with websocket(quick) as held:
        quick.switch("half_open")
        time.sleep(0.1)
        received(held, 0)
        while True:
            try:
                held.recv(timeout=0)
            except TimeoutError:
                break
        assert not held.ping().wait(timeout=1.2)
        assert received(held, 0.1) == []
        quick.switch_off()
        assert held.ping().wait(timeout=5)
        assert updates(received(held, 1.5))


def test_silence_loses_what_changes_meanwhile_and_keeps_the_connection(quick: Simulator) -> None:
    with websocket(quick) as held:
        quick.switch("silence")
        time.sleep(0.1)
        before = updates(received(held, 0.05))
        assert received(held, 1.2) == []
        assert held.ping().wait(timeout=5)
        quick.switch_off()
        after = updates(received(held, 1.2))
    assert after
    assert after == truth(after)
    assert after[0][0] > (before[-1][0] if before else "")


def test_connections_end_with_the_code_that_was_asked_for(quick: Simulator) -> None:
    with websocket(quick) as held:
        quick.switch("disconnect", code=4321)
        with pytest.raises(ConnectionClosed) as closed:
            listen(held)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4321
    with websocket(quick) as held:
        assert updates(received(held, 1))
    quick.switch("disconnect", requests=2)
    for ends in (True, True, False):
        with websocket(quick) as held:
            if ends:
                with pytest.raises(ConnectionClosed):
                    listen(held)
            else:
                assert updates(received(held, 1))


def test_messages_can_be_sent_twice(quick: Simulator) -> None:
    quick.switch("duplicate")
    with websocket(quick) as held:
        told = updates(received(held, 1.2))
    told = told[: len(told) // 2 * 2]
    assert told[::2] == told[1::2]
    assert told[::2] == truth(told[::2])


def test_messages_can_be_out_of_order_and_keep_their_own_time(quick: Simulator) -> None:
    quick.switch("reordering", seconds=0.5)
    with websocket(quick) as held:
        told = updates(received(held, 2.5))
    assert told != sorted(told)
    settled = sorted(told)[: -len(told) // 3]
    assert settled == [one for one in truth(settled) if one in set(told)]
    assert len(settled) > 24


def test_messages_can_be_late_and_keep_their_own_time(quick: Simulator) -> None:
    quick.switch("late", seconds=1)
    began = time.time()
    with websocket(quick) as held:
        first = json.loads(held.recv(timeout=5))
        assert time.time() - began >= 1
        told = updates([first, *received(held, 0.5)])
    assert told == truth(told)
    for line in quick.log()[-len(told) :]:
        delay = datetime.fromisoformat(line["sent_at"]) - datetime.fromisoformat(line["changed_at"])
        assert timedelta(seconds=1) <= delay < timedelta(seconds=1.5)


def test_changes_can_come_together(quick: Simulator) -> None:
    quick.switch("big_batch", seconds=1)
    with websocket(quick) as held:
        messages = received(held, 2.5)
    assert 2 <= len(messages) <= 4
    told = updates(messages)
    assert told == truth(told)


def test_own_times_can_be_wrong_or_left_out(quick: Simulator) -> None:
    with websocket(quick) as held:
        quick.switch("clock_skew", seconds=3600)
        time.sleep(0.1)
        received(held, 0)
        until(
            lambda: (
                json.loads(held.recv(timeout=5))["updates"][0]["changed"]
                > written(datetime.now(UTC) + timedelta(minutes=50))
            )
        )
        quick.switch_off()
        quick.switch("without_time")
        time.sleep(0.1)
        messages = received(held, 1.2)[-3:]
    assert len(messages) == 3
    assert all("changed" not in one for message in messages for one in message["updates"])


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"name": "bad_object", "uid": "100101"}, {"ref": None}),
        ({"name": "bad_object", "variant": "null_status"}, {"ref": "100100", "state": None}),
        ({"name": "unknown_word"}, {"state": "OCCUPIED_MAYBE"}),
        ({"name": "flip_all"}, {"state": "UNKNOWN"}),
        ({"name": "numeric_ids"}, {"station": 1001, "ref": 100_100}),
    ],
)
def test_records_in_messages_can_be_bad(quick: Simulator, fault: dict[str, Any], expected: dict[str, Any]) -> None:
    quick.switch(**fault)

    def is_told(held: ClientConnection) -> bool:
        (one,) = json.loads(held.recv(timeout=5))["updates"]
        return {key: one.get(key) for key in expected} == expected

    with websocket(quick) as held:
        until(lambda: is_told(held))


def test_an_evse_can_be_left_out_of_the_messages(quick: Simulator) -> None:
    quick.switch("missing_evse")
    with websocket(quick) as held:
        told = updates(received(held, 2))
    assert {ref for _, ref, _ in told} == {f"{1001 + number // 10}/{100_100 + number}" for number in range(1, 24)}


def test_a_depth_bomb_comes_beside_the_messages(quick: Simulator) -> None:
    quick.switch("depth_bomb", requests=1)
    with websocket(quick) as held:
        assert held.recv(timeout=5) == "[" * 100_000 + "]" * 100_000
        told = updates(received(held, 0.5))
    assert told == truth(told)


def test_the_log_tells_what_was_sent(quick: Simulator) -> None:
    before = len(quick.log())
    with websocket(quick) as held:
        told = updates(received(held, 1))
    lines = quick.log()[before:][: len(told)]
    assert [(line["told_at"], line["evse_ref"], line["word"]) for line in lines] == told
    assert {(line["protocol"], line["outcome"], line["party"]) for line in lines} == {("websocket", "sent", "AU*QCK")}
    assert len({line["message"] for line in lines}) == len(lines)


def events(
    asked: Simulator, count: int, last_event_id: str | None = None, **params: Any
) -> list[httpx_sse.ServerSentEvent]:
    headers = HEADERS | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    found: list[httpx_sse.ServerSentEvent] = []
    url = f"{asked.url}/quick/sse"
    with (
        httpx.Client(timeout=10) as client,
        httpx_sse.connect_sse(client, "GET", url, headers=headers, params=params) as held,
    ):
        for event in held.iter_sse():
            if event.data:
                found.append(event)
            if len(found) >= count:
                break
    return found


def test_events_begin_with_a_snapshot_and_tell_every_change(quick: Simulator) -> None:
    snapshot, *others = events(quick, 30, snapshot=True)
    assert snapshot.event == "snapshot"
    told = updates([json.loads(event.data) for event in others])
    changes = QUICK.changes(
        datetime.fromisoformat(json.loads(snapshot.data)["at"]), datetime.fromisoformat(told[-1][0])
    )
    assert told == [(written(change.at), change.evse_ref, change.word) for change in changes][: len(told)]


@pytest.mark.parametrize("fault", [None, {"name": "reordering", "seconds": 0.3}])
def test_events_go_on_where_they_were_left(quick: Simulator, fault: dict[str, Any] | None) -> None:
    if fault:
        quick.switch(**fault)
    first = events(quick, 20)
    time.sleep(0.7)
    again = events(quick, 40, last_event_id=first[-1].id)
    told = updates([json.loads(event.data) for event in [*first, *again]])
    whole = truth(sorted(told)[: len(told) // 2])
    assert set(whole) <= set(told)
    if fault is None:
        assert told == truth(told)
    quick.switch("no_resume")
    late = updates([json.loads(event.data) for event in events(quick, 1, last_event_id=first[-1].id)])
    assert late[0][0] > told[-1][0]


def test_an_event_stream_can_be_ended(quick: Simulator) -> None:
    with (
        httpx.Client(timeout=10) as client,
        httpx_sse.connect_sse(client, "GET", f"{quick.url}/quick/sse", headers=HEADERS) as held,
    ):
        seen = 0
        for event in held.iter_sse():
            seen += 1
            if seen == 3:
                quick.switch("disconnect", protocol="sse")
            assert event is not None
            assert seen < 1000
    assert seen >= 3
