"""Observations and descriptions that a CPO posts as JSON."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from ingestion.config import load_cpo
from ingestion.receiver.rest import PostedObservations
from ingestion.writer import Writer
from tests.ingestion.receiver.push_world import Platform, ReceiverProcess, assets, changes, dumps, quarantined, stamp
from warehouse.connection import Role, connect

T0 = datetime(2026, 10, 1, tzinfo=UTC)


def description(evse_id: str, **values: Any) -> dict[str, Any]:
    return {"site_id": "S1", "evse_id": evse_id, "connector_id": 1, "power_kw": 50, "site_name": "One", **values}


def observation(evse_id: str, status: str, seconds: float | None = None, **values: Any) -> dict[str, Any]:
    at = {} if seconds is None else {"observed_at": stamp(T0 + timedelta(seconds=seconds))}
    return {"evse_id": evse_id, "status": status, **at, **values}


def post(platform: Platform, path: str, body: object, key: str | None = None) -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else dumps(body)
    answer = platform.post(path, content=content, headers={"Idempotency-Key": key} if key else {})
    return answer.status_code, answer.json()


def observe(platform: Platform, *records: object, key: str | None = None, **more: object) -> tuple[int, Any]:
    return post(platform, "/v1/observations", {"observations": list(records), **more}, key)


def describe(platform: Platform, *evse_ids: str, site_id: str = "S1") -> None:
    status, answer = post(
        platform, "/v1/assets", {"assets": [description(evse_id, site_id=site_id) for evse_id in evse_ids]}
    )
    assert (status, answer["quarantined"]) == (200, 0)


def states(platform: Platform) -> list[tuple[str, float, str | None]]:
    return [(evse_ref, (at - T0).total_seconds(), word) for evse_ref, at, word in changes(platform.cpo_id)]


def outcomes(platform: Platform) -> list[str]:
    with connect(Role.INGEST) as connection:
        rows = connection.execute(
            "select outcome from raw.feed_contact inner join raw.feed using (feed_key) where feed_id = %s"
            " order by contact_key",
            (platform.cpo_id,),
        )
        return [outcome for (outcome,) in rows]


def test_good_records_beside_bad_ones_go_in_and_each_has_a_verdict(rest: Platform) -> None:
    describe(rest, "E1", "E2", "3")
    status, answer = observe(
        rest,
        observation("e1", "available", 0),
        observation("E9", "available", 0),
        {"evse_id": "E2"},
        "nonsense",
        observation("E2", "charging", 0, observed_at="yesterday"),
        observation("E2", "charging", 0, observed_at="2026-10-01"),
        observation("E2", " charging ", 60),
        {"evse_id": 3, "status": "blocked", "observed_at": "2026-10-01T10:00:00+10:00", "more": 1},
        observation("E1", "x" * 201),
    )
    assert (status, answer["accepted"], answer["quarantined"]) == (200, 3, 6)
    assert [(one["verdict"], one.get("field"), one.get("reason")) for one in answer["verdicts"]] == [
        ("accepted", None, None),
        ("quarantined", "evse_id", "'E9' is not described yet"),
        ("quarantined", "status", "is missing"),
        ("quarantined", None, "is not an object"),
        ("quarantined", "observed_at", "'yesterday' is not an ISO 8601 time"),
        ("quarantined", "observed_at", "'2026-10-01' is not an ISO 8601 time"),
        ("accepted", None, None),
        ("accepted", None, None),
        ("quarantined", "status", "String should have at most 200 characters"),
    ]
    assert states(rest) == [("s1/e1", 0, "available"), ("s1/3", 0, "blocked"), ("s1/e2", 60, "charging")]
    assert [row[0] for row in quarantined(rest.cpo_id)] == ["E9", "E2", "#3", "E2", "E2", "E1"]


def test_an_evse_id_at_two_sites_needs_the_site(rest: Platform) -> None:
    describe(rest, "E1")
    describe(rest, "E1", site_id="S2")
    _, answer = observe(rest, observation("E1", "available", 0), observation("E1", "charging", 0, site_id="s2"))
    assert answer["verdicts"] == [
        {"field": "evse_id", "reason": "'E1' stands at several sites: name its site_id", "verdict": "quarantined"},
        {"verdict": "accepted"},
    ]
    assert states(rest) == [("s2/e1", 0, "charging")]


def test_an_observation_without_a_time_is_true_since_its_receipt(rest: Platform) -> None:
    describe(rest, "E1")
    before = datetime.now(UTC)
    assert observe(rest, observation("E1", "available"))[0] == 200
    assert before <= changes(rest.cpo_id)[0][1] <= datetime.now(UTC)


def test_a_time_in_the_future_is_taken_as_of_its_receipt_and_the_sender_is_told(rest: Platform) -> None:
    describe(rest, "E1")
    ahead = stamp(datetime.now(UTC) + timedelta(days=1))
    _, answer = observe(rest, {"evse_id": "E1", "status": "charging", "observed_at": ahead})
    assert answer["verdicts"] == [
        {"notes": ["observed_at is in the future: taken as of its receipt"], "verdict": "accepted"}
    ]
    assert changes(rest.cpo_id)[0][1] <= datetime.now(UTC)
    assert [row[1] for row in quarantined(rest.cpo_id)] == ["observed_at"]


def test_an_empty_batch_shows_that_the_sender_is_there(rest: Platform) -> None:
    assert observe(rest) == (200, {"accepted": 0, "quarantined": 0, "received_at": ANY, "verdicts": []})
    assert outcomes(rest) == ["alive"]


class _Any:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.endswith("Z")

    __hash__ = None  # type: ignore[assignment]


ANY = _Any()


def test_a_complete_batch_makes_absent_what_it_does_not_list(rest: Platform) -> None:
    describe(rest, "E1", "E2")
    observe(rest, observation("E1", "available", 0), observation("E2", "available", 0))
    status, answer = observe(rest, observation("E1", "charging", 60), is_complete=True)
    assert (status, answer["accepted"]) == (200, 1)
    found = states(rest)
    assert found[:3] == [("s1/e1", 0, "available"), ("s1/e2", 0, "available"), ("s1/e1", 60, "charging")]
    assert [(evse_ref, word) for evse_ref, _, word in found[3:]] == [("s1/e2", None)]
    assert outcomes(rest)[-1] == "complete"


def test_a_complete_batch_that_lists_nothing_is_refused(rest: Platform) -> None:
    describe(rest, "E1")
    observe(rest, observation("E1", "available", 0))
    assert observe(rest, is_complete=True)[0] == 400
    assert observe(rest, "nonsense", is_complete=True)[0] == 200
    assert states(rest) == [("s1/e1", 0, "available")]
    assert "complete" not in outcomes(rest)


def test_the_same_key_gets_the_same_bytes_and_is_taken_once_also_after_a_crash(
    rest: Platform, receiver: ReceiverProcess
) -> None:
    describe(rest, "E1")
    body = dumps({"observations": [observation("E1", "available"), observation("E9", "x")]})
    first = rest.post("/v1/observations", content=body, headers={"Idempotency-Key": "k-1"})
    again = rest.post("/v1/observations", content=body, headers={"Idempotency-Key": "k-1"})
    receiver.kill()
    receiver.start()
    after = rest.post("/v1/observations", content=body, headers={"Idempotency-Key": "k-1"})
    assert first.content == again.content == after.content
    assert [one.headers.get("idempotent-replayed") for one in (first, again, after)] == [None, "true", "true"]
    assert len(changes(rest.cpo_id)) == 1
    other = rest.post("/v1/observations", content=body + b" ", headers={"Idempotency-Key": "k-1"})
    assert other.status_code == 422
    assert rest.post("/v1/assets", content=b'{"assets": []}', headers={"Idempotency-Key": "k-1"}).status_code == 422


def test_a_batch_that_failed_and_was_answered_meanwhile_is_not_stored_when_it_is_tried_again(
    rest: Platform, configs: Path
) -> None:
    describe(rest, "E1")
    config, records = load_cpo(rest.cpo_id, configs), [observation("E1", "available", 0)]
    body = dumps({"observations": records, "is_complete": True})
    job = PostedObservations(config, "/v1/observations", records, body, datetime.now(UTC), "k", is_complete=True)
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, config)
        with suppress(ZeroDivisionError), writer.batch() as batch:
            assert job.take(batch, {})[0] is not None
            raise ZeroDivisionError
        assert post(rest, "/v1/observations", body, "k")[0] == 200
        before = outcomes(rest)
        with writer.batch() as batch:
            message, reply = job.take(batch, {})
            job.finish(writer)
    assert (message, reply.status) == (None, 200)
    assert "complete" in before
    assert outcomes(rest) == before


def test_a_key_is_one_sender_s_own(rest: Platform, receiver: ReceiverProcess) -> None:
    from tests.ingestion.receiver.push_world import issue

    assert observe(rest, key="shared")[0] == 200
    with Platform(receiver.url, "rest_98", issue("rest_98"), scheme="Bearer") as neighbour:
        assert observe(neighbour, is_complete=False, key="shared")[0] == 200


def test_descriptions_are_stored_and_what_cannot_be_used_of_them_is_noted(rest: Platform) -> None:
    status, answer = post(
        rest,
        "/v1/assets",
        {
            "assets": [
                description("E1", connector_id="a", operator="X"),
                description("E1", connector_id="b", power_kw="much", latitude=-33.9),
                description("E2", time_zone="Mars/North"),
                description("E3", site_id=None),
                description("E4", valid_from="2026-01-01"),
                description("E5", valid_from="some day"),
            ]
        },
    )
    assert status == 200
    assert [(one["verdict"], one.get("field"), one.get("notes")) for one in answer["verdicts"]] == [
        ("accepted", None, None),
        ("accepted", None, ["power_kw: 'much' is not a power in kW; kept without it"]),
        ("quarantined", "time_zone", None),
        ("quarantined", "site_id", None),
        ("accepted", None, None),
        ("quarantined", "valid_from", None),
    ]
    assert assets(rest.cpo_id) == [
        ("s1/e1", "a", "One", 50, True), ("s1/e1", "b", "One", None, True), ("s1/e4", "1", "One", 50, True),
    ]  # fmt: skip
    with connect(Role.INGEST) as connection:
        rows = connection.execute(
            "select attributes, latitude, valid_from from raw.asset_version inner join raw.feed using (feed_key)"
            " where feed_id = %s order by asset_version_key",
            (rest.cpo_id,),
        ).fetchall()
    assert [row[0] for row in rows] == [{"operator": "X"}, {}, {}]
    assert rows[1][1] == -33.9
    # The start of that day in Sydney, where the feed's sites are unless they say otherwise.
    assert rows[2][2] == datetime(2025, 12, 31, 13, tzinfo=UTC)
    post(rest, "/v1/assets", {"assets": [description("E1", connector_id="a", operator="X")]})
    assert len(assets(rest.cpo_id)) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Bad Gateway</html>",
        b"",
        b'{"observations": [{"evse_id": "E1"',
        b"[]",
        b"{}",
        b'{"observations": {}}',
        b'{"observations": [], "is_complete": "yes"}',
        b'{"observations": [], "complete": true}',
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_batch_is_400_and_kept(rest: Platform, body: bytes) -> None:
    status, answer = post(rest, "/v1/observations", body)
    assert (status, list(answer)) == (400, ["error"])
    assert [row[0] for row in quarantined(rest.cpo_id)] == ["body"]


def test_more_than_the_limits_is_413_and_nothing_is_taken(rest: Platform) -> None:
    describe(rest, "E1")
    status, answer = observe(rest, *[observation("E1", "x", 0)] * 10_001)
    assert (status, answer["error"]) == (413, "10001 records are more than 10000: send fewer at once")
    try:
        status = rest.post("/v1/observations", content=b" " * 50_000_000).status_code
    except httpx.TransportError:
        status = 413
    assert status == 413
    assert states(rest) == []


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_of_no_use_is_400(rest: Platform, key: str) -> None:
    answer = rest.post("/v1/observations", content=b'{"observations": []}', headers={"Idempotency-Key": key})
    assert answer.status_code == 400


def test_without_a_good_token_it_is_401(rest: Platform, abc: Platform, receiver: ReceiverProcess) -> None:
    body = {"observations": []}
    answer = httpx.post(f"{receiver.url}/v1/observations", json=body)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert httpx.post(f"{receiver.url}/v1/observations", json=body, headers={"Authorization": "Bearer x"}).is_error
    assert abc.post("/v1/observations", json=body).status_code == 401


def test_nul_in_a_record_is_quarantined(rest: Platform) -> None:
    describe(rest, "E1")
    status, answer = post(rest, "/v1/observations", b'{"observations": [{"evse_id": "E1", "status": "a\\u0000b"}]}')
    assert (status, answer["accepted"]) == (200, 1)
    assert changes(rest.cpo_id)[0][2] == "a\ufffdb"


# The page


def test_the_openapi_document_describes_what_is_taken(receiver: ReceiverProcess) -> None:
    document = httpx.get(f"{receiver.url}/openapi.json").json()
    assert set(document["paths"]) == {"/health", "/v1/observations", "/v1/assets"}
    schema = document["paths"]["/v1/observations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    whole = {**schema, "components": document["components"]}
    jsonschema.validate({"observations": [observation("E1", "available", 0)], "is_complete": True}, whole)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"observations": [{"evse_id": "E1"}]}, whole)
    assert json.dumps(document).count("http://") == 0


def test_the_page_asks_no_other_host_for_anything(receiver: ReceiverProcess) -> None:
    answer = httpx.get(f"{receiver.url}/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    text = answer.text
    assert "POST /v1/observations" in text
    for name in ("evse_id", "observed_at", "is_complete", "Idempotency-Key", "power_kw", "verdicts", "422"):
        assert f"<code>{name}</code>" in text
    assert re.findall(r'(?:src|href)="([^"]+)"', text) == ["openapi.json"]
    assert re.findall(r"https?://|<script|@import|url\(", text) == []
