"""Every kind of feed, from a world that changes by the second to raw: through faults, a hand-over, and a kill.

The simulator is real, so are the collector, the receiver and the database. What must be in raw is worked out from the truth, from what the protocol delivered
(the simulator's log), and from when there was contact (``raw.feed_contact``): each change that could be seen is there exactly once, and nothing else is.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from simulator.sources import words_at
from stack.postgres import free_port
from tests.ingestion.kinds_world import (
    GRID_SECONDS,
    HEADER,
    MAPPING,
    POINT,
    QUICK,
    SOURCES,
    STATUSES,
    Kinds,
    absences,
    findings,
    fold,
    held,
    kinds,
    logged,
    seen_by_polls,
    truth_until,
    unlike,
)
from tests.waiting import until

Faults = list[dict[str, Any]]


def ocpi(version: str, name: str = "quick", **more: Any) -> dict[str, Any]:
    return {
        "kind": "ocpi_pull",
        "version": version,
        "versions_url": "{url}/" + name + "/ocpi/versions",
        "party": "AU*QCK",
        "token_secret": f"{name.upper()}_TOKEN",
        "poll_seconds": 2,
        **more,
    }


def rest(paging: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "kind": "rest_pull",
        "poll_seconds": 2,
        "auth": HEADER,
        "assets": {"url": "{url}/quick/rest/" + paging["kind"] + "/stations", "paging": paging},
        "mapping": MAPPING,
        **more,
    }


TWO_LISTS = rest(
    {"kind": "cursor", "next": "meta.next", "parameter": "cursor"},
    assets={"url": "{url}/quick/rest/none/points"},
    statuses={"url": "{url}/quick/rest/none/statuses"},
    status_mapping={"items": "statuses", **POINT},
    mapping={
        "sites": "points",
        "site": MAPPING["site"],
        "evse": {"evse_id": "ref"},
        "connectors": "plugs",
        "connector": MAPPING["connector"],
    },
    auth={
        "kind": "oauth2_client_credentials",
        "token_url": "{url}/quick/oauth/token",
        "client_id": "quick",
        "secret": "QUICK_TOKEN",
    },
)

BREAKING: Faults = [
    {"name": "down"},
    {"name": "truncated"},
    {"name": "html"},
    {"name": "token_refused"},
    {"name": "depth_bomb"},
    {"name": "empty_data"},
    {"name": "truncated", "variant": "json"},
]
"""Each of them spoils every poll."""

HARMLESS: Faults = [{"name": "gzip"}, {"name": "wrong_content_type"}, {"name": "error_500", "probability": 0.3}]
"""Each of them leaves something to know, or all."""

SKEWED = {"name": "clock_skew"}
NUMERIC = {"name": "numeric_ids"}
NULLED = {"name": "null_lists", "variant": "connectors"}
"""Without connectors the first EVSE, `BAD`, cannot be read: it is in no list."""

# Every kind has faults by which each poll fails, and some that are its own.
POLLED: dict[str, tuple[str, dict[str, Any], Faults]] = {
    "ocpi_2_1_1": (
        "quick",
        ocpi("2.1.1"),
        [BREAKING[0], {"name": "bad_link"}, NUMERIC, NULLED, SKEWED, {"name": "status_3000"}],
    ),
    "ocpi_2_2_1_delta": (
        "quick",
        ocpi("2.2.1", full_seconds=8),
        [BREAKING[1], {"name": "capped_page", "size": 1}, {"name": "rate_limited", "seconds": 1}, BREAKING[2]],
    ),
    "ocpi_2_3_0_hub": (
        "hub",
        ocpi("2.3.0", "hub"),
        [BREAKING[3], {"name": "bad_link", "variant": "foreign"}, {"name": "non_advancing_page"}, BREAKING[4]],
    ),
    "rest_page": (
        "quick",
        rest({"kind": "page", "size_parameter": "size", "size": 2, "total": "meta.total"}),
        [BREAKING[5], {"name": "capped_page", "size": 1}, HARMLESS[0], BREAKING[6]],
    ),
    "rest_offset": (
        "quick",
        rest({"kind": "offset", "size": 2, "total": "meta.total"}),
        [BREAKING[0], {"name": "capped_page", "size": 1}, NUMERIC, BREAKING[2]],
    ),
    "rest_link": ("quick", rest({"kind": "link"}), [BREAKING[1], {"name": "non_advancing_page"}, BREAKING[4]]),
    "rest_two_lists": ("quick", TWO_LISTS, [BREAKING[3], HARMLESS[1], HARMLESS[2], BREAKING[0]]),
}


def filled_in(value: Any, url: str) -> Any:
    """Put the simulator's address into settings."""
    if isinstance(value, dict):
        return {key: filled_in(one, url) for key, one in value.items()}
    return value.replace("{url}", url).replace("{ws}", url.replace("http", "ws")) if isinstance(value, str) else value


@pytest.mark.parametrize("kind", POLLED)
def test_polls_store_what_each_of_them_saw_change(kind: str, warehouse: str, tmp_path: Path) -> None:
    name, settings, faults = POLLED[kind]
    with kinds(tmp_path, name, is_gridded=True) as feed:
        feed.write_config(**filled_in(settings, feed.url))
        feed.collect_through(faults, each_seconds=GRID_SECONDS + 0.2)
        polls, rows = feed.polls(), feed.rows()
        assert len(polls) >= 8, feed.log()
        assert len(feed.contacts("failed")) >= 1, feed.log()
        expected = seen_by_polls(SOURCES[name], polls, rows)
        assert unlike(rows, expected) == [], explained(feed)
        assert len(rows) > 100
        spoiled = {BAD} if NULLED in faults else set()
        assert {ref for ref, _, _ in absences(rows)} == {ref for ref, *_ in feed.quarantined()} == spoiled


def explained(feed: Kinds) -> str:
    return f"polls: {feed.polls()}\n{feed.log()[-3000:]}"


TOLD_FAULTS: Faults = [
    {"name": "duplicate"},
    {"name": "reordering", "seconds": 0.5},
    {"name": "flip_all", "word": "OUTOFORDER"},
    {"name": "unknown_word", "uid": "100103"},
    # Before what is late: told late and without a good time of its own, nobody knows when a change was.
    SKEWED,
    {"name": "late", "seconds": 1},
    {"name": "silence"},
]
HELD_FAULTS = [
    {"name": "disconnect"},
    {"name": "big_batch", "seconds": 0.5},
    {"name": "bad_object", "uid": "100100"},
    {"name": "depth_bomb", "requests": 2},
    NUMERIC,
    *TOLD_FAULTS,
    {"name": "down"},
    {"name": "disconnect", "code": 1001},
    {"name": "disconnect", "requests": 2},
]


def stream(kind: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "kind": kind,
        "url": "{url}/quick/sse?snapshot=true",
        "auth": HEADER,
        "messages": STATUSES,
        "mapping": MAPPING,
        "snapshot_when": "type == 'snapshot'",
        "quiet_seconds": 6,
        "resumes": True,
    }
    if kind == "websocket":
        del settings["resumes"]
        settings |= {
            "url": "{ws}/quick/ws",
            "subscribe": [{"action": "subscribe", "snapshot": True}],
            "quiet_seconds": 2,
        }
    return settings


@pytest.mark.parametrize("kind", ["websocket", "sse"])
def test_streams_store_every_change_that_was_told_while_they_were_held(
    kind: str, warehouse: str, tmp_path: Path
) -> None:
    faults = [*HELD_FAULTS, {"name": "half_open"}] if kind == "websocket" else HELD_FAULTS
    with kinds(tmp_path) as feed:
        feed.write_config(**filled_in(stream(kind), feed.url))
        feed.collect_through(faults)
        ended_at = datetime.now(UTC)
        sent = logged(feed, "sent")
        certain = [
            one for one in sent if one.evse_ref != BAD and any(start <= one.at <= end for start, end in held(feed))
        ]
        lists = feed.polls()
        # Whoever is resumed where it was needs no list.
        assert len(lists) >= (4 if kind == "websocket" else 1), feed.log()
        assert len(certain) > 60, feed.log()
        assert findings(feed, certain, [*sent, *truth_until(ended_at)], lists) == [], feed.log()[-3000:]


BAD = "1001/100100"
"""The EVSE of which records are bad while that fault is on."""


@pytest.fixture
def receiver_port() -> int:
    return free_port()


def begin_receiver(feed: Kinds, port: int) -> subprocess.Popen[bytes]:
    """Serve, and wait until all is well."""
    url = f"http://127.0.0.1:{port}"
    process = feed.run("serve", "--port", str(port), RECEIVER_URL=url)

    def is_well() -> bool:
        assert process.poll() is None, feed.log()
        try:
            return httpx.get(f"{url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    until(is_well, 30)
    return process


def issued(feed: Kinds, purpose: str) -> str:
    """A token of the receiver's, as a person issues it."""
    process = feed.run("tokens", "issue", "--cpo", feed.name, "--purpose", purpose)
    assert process.wait(timeout=60) == 0, feed.log()
    return feed.log().split()[-1]


def push_through(
    feed: Kinds,
    port: int,
    receiver: subprocess.Popen[bytes],
    faults: Faults,
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    """Be pushed to through faults; in their middle the receiver is killed, ``meanwhile`` called, and the receiver back after a second."""
    until(lambda: len(feed.rows()) > 30, 30)
    feed.suffer(faults[: len(faults) // 2])
    receiver.kill()
    receiver.wait()
    meanwhile()
    time.sleep(1)
    begin_receiver(feed, port)
    feed.suffer(faults[len(faults) // 2 :])
    time.sleep(2)
    feed.control("DELETE", "push")


@pytest.mark.parametrize("version", ["2.1.1", "2.2.1", "2.3.0"])
def test_what_was_pushed_by_ocpi_and_accepted_is_stored(
    version: str, warehouse: str, tmp_path: Path, receiver_port: int
) -> None:
    with kinds(tmp_path) as feed:
        url = f"{feed.url}/quick/ocpi/versions"
        settings = ocpi(version) | {"kind": "ocpi_push", "versions_url": url, "reconcile_seconds": 4}
        feed.write_config(**{key: value for key, value in settings.items() if key != "poll_seconds"})
        receiver = begin_receiver(feed, receiver_port)
        order = {"url": f"http://127.0.0.1:{receiver_port}/ocpi/versions", "token": issued(feed, "register")}
        feed.control("POST", "push", **order, registers=True, puts_first=True, version=version)
        first = feed.collect(12)
        push_through(
            feed,
            receiver_port,
            receiver,
            [{**fault, "protocol": "ocpi_push"} for fault in [*TOLD_FAULTS, {"name": "bad_object", "uid": "100100"}]],
            lambda: feed.collect(60),
        )
        assert first.wait(timeout=30) == 0, feed.log()
        accepted = [one for one in logged(feed, "200/1000", "201/1000") if one.evse_ref != BAD]
        possible = [*logged(feed, "200/1000", "ReadError", "RemoteProtocolError"), *truth_until(datetime.now(UTC))]
        assert len(accepted) > 100
        assert logged(feed, "ConnectError"), "the receiver was away"
        lists = feed.polls()
        assert len(lists) >= 3, feed.log()
        assert findings(feed, accepted, possible, lists) == [], feed.log()[-3000:]


def test_every_change_that_was_posted_as_an_observation_is_stored(
    warehouse: str, tmp_path: Path, receiver_port: int
) -> None:
    with kinds(tmp_path) as feed:
        feed.write_config(kind="rest_push")
        receiver = begin_receiver(feed, receiver_port)
        base = f"http://127.0.0.1:{receiver_port}/v1"
        order = {"kind": "rest", "url": f"{base}/observations", "assets_url": f"{base}/assets"}
        feed.control("POST", "push", **order, token=issued(feed, "send"), batch_seconds=0.2)
        faults = [
            *TOLD_FAULTS,
            NUMERIC,
            {"name": "duplicate", "variant": "new_key"},
            {"name": "bad_object", "uid": "100100"},
        ]
        push_through(feed, receiver_port, receiver, faults)
        sent = logged(feed, "200")
        certain = [one for one in sent if one.evse_ref != BAD]
        assert len(certain) > 100
        assert logged(feed, "ConnectError") == [], "a batch is posted until it is taken"
        assert findings(feed, certain, [*sent, *truth_until(datetime.now(UTC))]) == [], feed.log()[-3000:]


LATE_FILES = 2
NAME_TIME = "snapshots_%Y%m%dT%H%M%S.%fZ."
FILE_FAULTS: Faults = [
    {"name": "html"},
    {"name": "truncated"},
    {"name": "silence"},
    NUMERIC,
    NULLED,
    SKEWED,
    {"name": "duplicate"},
    {"name": "late", "seconds": 2, "requests": LATE_FILES},
]


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_files_store_what_each_of_them_says_changed(form: str, warehouse: str, tmp_path: Path) -> None:
    with kinds(tmp_path) as feed:
        folder = tmp_path / "drop"
        feed.write_config(
            kind="file_drop",
            poll_seconds=1,
            url=folder.as_uri(),
            pattern="snapshots_*",
            format=form,
            mapping={
                "site": {"site_id": "station_code", "time_zone": "tz", "latitude": "lat", "longitude": "lng"},
                "evse": {"evse_id": "ref", "status": "state", "updated_at": "changed"},
                "connector": {"connector_id": "plug_no", "power": {"path": "plug_kw", "unit": "kW"}},
            },
            is_complete=True,
            observed_at="name",
            name_time=NAME_TIME + form,
        )
        feed.control("POST", "drop", folder=str(folder), every=1, format=form, what="snapshots")
        feed.collect_through(FILE_FAULTS, each_seconds=1.1, settling_seconds=SETTLING_SECONDS)
        feed.control("DELETE", "drop")
        assert feed.collect(SETTLING_SECONDS).wait(timeout=60) == 0, feed.log()
        taken = [datetime.strptime(name, NAME_TIME + form).replace(tzinfo=UTC) for name in feed.files_taken()]
        rows = feed.rows()
        absent = absences(rows)
        assert {ref for ref, _, _ in absent} == {BAD}
        assert {ref for ref, *_ in feed.quarantined()} == {BAD, f"{BAD}/#0"}
        states = [
            (at, ref, word)
            for at in taken
            for ref, word in words_at(QUICK, at).items()
            if not any(ref == gone and since <= at < until_ for gone, since, until_ in absent)
        ]
        assert len(taken) >= 15
        assert len([path for path in folder.iterdir() if path.is_file()]) == len(taken), feed.log()
        told = fold((row.at, row.evse_ref, row.word) for row in rows if row.word is not None)
        # A file that is late may show that something was so earlier than it was known to be: then it is stored twice.
        assert {*told} ^ {*fold(states)} == set(), feed.log()[-3000:]
        assert len(rows) - len(told) <= QUICK.evse_count * LATE_FILES + 2 * len(absent)


SETTLING_SECONDS = 12
"""Longer than a file has to lie still before it is taken."""
