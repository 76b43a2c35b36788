"""OCPI Locations as a CPO's platform pushes them: what is stored, and what it is answered."""

from __future__ import annotations

import base64
import itertools
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from ingestion.config import load_cpo
from ingestion.health import read_health, silence
from ingestion.writer import Writer
from tests.feeds import asset, poll
from tests.ingestion.receiver.push_world import (
    Platform,
    ReceiverProcess,
    assets,
    changes,
    connector,
    dumps,
    evse,
    issue,
    location,
    patch_of,
    quarantined,
    stamp,
    wanted_at,
    write_cpo,
)
from tests.waiting import until
from warehouse.connection import Role, connect

T0 = datetime(2026, 10, 1, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def words(cpo_id: str) -> list[tuple[str, datetime, str | None]]:
    return changes(cpo_id)


# Versions and details


def test_versions_lead_to_the_details_of_the_version_that_was_agreed(abc: Platform, receiver: ReceiverProcess) -> None:
    versions = abc.get("/ocpi/versions").json()
    assert versions["status_code"] == 1000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", versions["timestamp"])
    assert versions["data"] == [{"version": "2.2.1", "url": f"{receiver.url}/ocpi/2.2.1"}]
    assert abc.get(versions["data"][0]["url"]).json()["data"] == {
        "version": "2.2.1",
        "endpoints": [
            {"identifier": "credentials", "role": "RECEIVER", "url": f"{receiver.url}/ocpi/2.2.1/credentials"},
            {"identifier": "locations", "role": "RECEIVER", "url": f"{receiver.url}/ocpi/2.2.1/locations"},
        ],
    }


def test_endpoints_of_2_1_1_have_no_role(receiver: ReceiverProcess, configs: Path) -> None:
    write_cpo(configs, "old", version="2.1.1")
    token = issue("old")
    until(
        lambda: httpx.get(f"{receiver.url}/ocpi/2.1.1", headers={"Authorization": f"Token {token}"}).status_code == 200
    )
    found = httpx.get(f"{receiver.url}/ocpi/2.1.1", headers={"Authorization": f"Token {token}"}).json()["data"]
    assert [sorted(endpoint) for endpoint in found["endpoints"]] == [["identifier", "url"]] * 2
    made = location("LOC1", [evse("E1", status="CHARGING")])
    del made["country_code"], made["party_id"]
    put = httpx.put(
        f"{receiver.url}/ocpi/2.1.1/locations/AU/ABC/LOC1",
        headers={"Authorization": f"Token {token}"},
        content=dumps(made),
    )
    assert (put.status_code, put.json()["status_code"]) == (201, 1000)
    assert words("old") == [("loc1/e1", T0, "CHARGING")]


@pytest.mark.parametrize(
    "path", ["/ocpi", "/ocpi/2.1.1", "/ocpi/2.2.1/tariffs/AU/ABC/1", "/ocpi/2.2.1/locations/AU/ABC"]
)
def test_what_does_not_exist_is_404_in_an_ocpi_envelope(abc: Platform, path: str) -> None:
    answer = abc.get(path)
    assert (answer.status_code, answer.json()["status_code"]) == (404, 2000)


def test_a_method_that_is_not_allowed_is_405(abc: Platform) -> None:
    answer = abc.post("/ocpi/2.2.1/locations/AU/ABC/LOC1", content=b"{}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT, PATCH")


# Tokens


@pytest.mark.parametrize("header", [None, "Token nonsense", "Token", "nonsense", "Basic eDp5", "Token " + "x" * 5000])
def test_without_a_good_token_the_answer_is_401(receiver: ReceiverProcess, header: str | None) -> None:
    answer = httpx.get(f"{receiver.url}/ocpi/versions", headers={"Authorization": header} if header else {})
    assert (answer.status_code, answer.json()["status_code"]) == (401, 2000)


def test_a_token_may_be_raw_or_base64_or_base64_of_a_line(receiver: ReceiverProcess) -> None:
    token = issue("ocpi_0")
    for presented in (
        token,
        base64.b64encode(token.encode()).decode(),
        base64.b64encode(f"{token}\n".encode()).decode(),
        base64.b64encode(token.encode()).decode().rstrip("="),
    ):
        answer = httpx.get(f"{receiver.url}/ocpi/versions", headers={"authorization": f"token {presented}"})
        assert answer.status_code == 200


def test_a_token_that_was_revoked_is_refused_within_seconds(abc: Platform) -> None:
    from ingestion import access

    assert abc.get("/ocpi/versions").status_code == 200
    with connect(Role.INGEST) as connection:
        assert access.revoke(connection, abc.cpo_id, datetime.now(UTC)) == 1
    until(lambda: abc.get("/ocpi/versions").status_code == 401, seconds=10)


def test_a_token_for_registering_cannot_push(receiver: ReceiverProcess) -> None:
    with Platform(receiver.url, "ocpi_0", issue("ocpi_0", "register")) as platform:
        assert platform.get("/ocpi/versions").status_code == 200
        assert platform.put("LOC1", location("LOC1", [evse("E1")])) == (401, 2000)


def test_a_token_of_a_feed_that_does_not_speak_ocpi_is_refused(rest: Platform) -> None:
    assert rest.get("/ocpi/versions").status_code == 401


def test_ids_of_the_request_come_back_and_routing_is_swapped(abc: Platform) -> None:
    answer = abc.get(
        "/ocpi/versions",
        headers={
            "X-Request-ID": "r-1",
            "X-Correlation-ID": "c-1",
            "OCPI-from-country-code": "AU",
            "OCPI-from-party-id": "ABC",
            "OCPI-to-country-code": "AU",
            "OCPI-to-party-id": "EVC",
        },
    )
    assert {name: value for name, value in answer.headers.items() if name.startswith(("x-", "ocpi-"))} == {
        "x-request-id": "r-1",
        "x-correlation-id": "c-1",
        "ocpi-from-country-code": "AU",
        "ocpi-from-party-id": "EVC",
        "ocpi-to-country-code": "AU",
        "ocpi-to-party-id": "ABC",
    }


# PUT and GET


def test_a_location_that_is_put_is_described_known_and_can_be_looked_at(abc: Platform) -> None:
    made = location("LOC1", [evse("E1"), evse("E2", "CHARGING", last_updated="2026-10-02T00:00:00Z")])
    assert abc.put("LOC1", made) == (201, 1000)
    assert words(abc.cpo_id) == [("loc1/e1", T0, "AVAILABLE"), ("loc1/e2", T0 + timedelta(days=1), "CHARGING")]
    assert assets(abc.cpo_id) == [
        ("loc1/e1", "1", "Site LOC1", 22.08, True),
        ("loc1/e2", "1", "Site LOC1", 22.08, True),
    ]
    assert abc.look("LOC1") == made
    assert abc.look("LOC1/E2") == made["evses"][1]
    assert abc.look("LOC1/E2/1") == made["evses"][1]["connectors"][0]
    assert abc.put("LOC1", made) == (200, 1000)
    assert quarantined(abc.cpo_id) == []


def test_put_replaces_what_was_there(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")], directions=[{"language": "en", "text": "left"}]))
    renamed = location("LOC1", [evse("E1")], name="New name")
    assert abc.put("LOC1", renamed) == (200, 1000)
    assert abc.look("LOC1") == renamed
    assert [row[2] for row in assets(abc.cpo_id)] == ["Site LOC1", "New name"]


def test_an_evse_and_a_connector_can_be_added(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    assert abc.put("LOC1/E2", evse("E2", "CHARGING", last_updated=stamp(later(60)))) == (201, 1000)
    assert abc.put("LOC1/E2/2", connector("2", max_amperage=16)) == (201, 1000)
    assert [one["uid"] for one in abc.look("LOC1")["evses"]] == ["E1", "E2"]
    assert [(row[0], row[1], row[3], row[4]) for row in assets(abc.cpo_id)] == [
        ("loc1/e1", "1", 22.08, True), ("loc1/e2", "1", 22.08, True), ("loc1/e2", "2", 11.04, True),
    ]  # fmt: skip
    assert words(abc.cpo_id) == [("loc1/e1", T0, "AVAILABLE"), ("loc1/e2", later(60), "CHARGING")]


def test_an_evse_that_is_put_without_a_connector_that_it_had_has_it_no_more(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1", connectors=[connector("1"), connector("2")])]))
    assert abc.put("LOC1/E1", evse("E1", connectors=[connector("1")], last_updated=stamp(later(60)))) == (200, 1000)
    assert [(row[1], row[4]) for row in assets(abc.cpo_id)] == [("1", True), ("2", True), ("2", False)]


def test_below_an_unknown_location_nothing_can_be_put_and_nothing_is_lost(abc: Platform) -> None:
    assert abc.put("LOC1/E1", evse("E1")) == (404, 2003)
    assert abc.put("LOC1/E1/1", connector()) == (404, 2003)
    assert abc.patch("LOC1", {"name": "X", "last_updated": stamp(T0)}) == (404, 2003)
    assert abc.get("/ocpi/2.2.1/locations/AU/ABC/LOC1").status_code == 404
    assert [row[0] for row in quarantined(abc.cpo_id)] == ["AU/ABC/LOC1/E1", "AU/ABC/LOC1/E1/1", "AU/ABC/LOC1"]


def test_ids_and_paths_are_case_insensitive_and_may_be_escaped(abc: Platform) -> None:
    odd = "a/b*c d"
    assert abc.put("a%2Fb%2Ac%20d", location(odd, [evse("AU*ABC*E1")])) == (201, 1000)
    answer = abc.request(
        "PATCH",
        "/OCPI/2.2.1/Locations/au/abc/A%2fB*C%20D/au*abc*e1/",
        content=dumps(patch_of("CHARGING", later(60))),
    )
    assert (answer.status_code, answer.json()["status_code"]) == (200, 1000)
    assert words(abc.cpo_id) == [
        ("a/b*c d/au*abc*e1", T0, "AVAILABLE"),
        ("a/b*c d/au*abc*e1", later(60), "CHARGING"),
    ]
    assert len(abc.look("a%2Fb%2Ac%20d")["evses"]) == 1


def test_another_party_behind_the_same_token_keeps_its_own_identities(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    answer = abc.request(
        "PUT",
        "/ocpi/2.2.1/locations/NZ/XYZ/LOC1",
        content=dumps(location("LOC1", [evse("E1", "BLOCKED")], country_code="NZ", party_id="XYZ")),
    )
    assert answer.status_code == 201
    assert sorted(row[0] for row in words(abc.cpo_id)) == ["loc1/e1", "nz*xyz/loc1/e1"]
    assert abc.look("LOC1")["evses"][0]["status"] == "AVAILABLE"


def test_good_evses_beside_bad_ones_go_in(abc: Platform) -> None:
    made = location("LOC1", [evse("E1"), evse("E2", connectors=[]), "nonsense", {**evse("E3"), "status": None}])
    answer = abc.request("PUT", "/ocpi/2.2.1/locations/AU/ABC/LOC1", content=dumps(made)).json()
    assert answer["status_code"] == 1000
    assert answer["status_message"].startswith("LOC1/E2 evses[1].connectors: no connector")
    assert words(abc.cpo_id) == [("loc1/e1", T0, "AVAILABLE")]
    assert [row[0] for row in quarantined(abc.cpo_id)] == ["LOC1/E2", "LOC1/#2", "LOC1/E3"]


def test_a_put_of_which_nothing_can_be_taken_is_2001_and_changes_nothing(abc: Platform) -> None:
    good = location("LOC1", [evse("E1")])
    abc.put("LOC1", good)
    assert abc.put("LOC1", location("LOC1", [evse("E2", connectors=[])])) == (200, 2001)
    assert abc.put("LOC1/E2", evse("E2", connectors=[])) == (200, 2001)
    assert abc.look("LOC1") == good
    assert "LOC1/E2" in {row[0] for row in quarantined(abc.cpo_id)}


def test_the_status_of_a_known_evse_is_kept_though_its_description_is_bad(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1"), evse("E2")]))
    bad = evse("E2", "CHARGING", connectors=[], last_updated=stamp(later(60)))
    assert abc.put("LOC1", location("LOC1", [evse("E1"), bad])) == (200, 1000)
    assert words(abc.cpo_id)[-1] == ("loc1/e2", later(60), "CHARGING")


def test_an_evse_that_a_location_no_longer_lists_keeps_its_word_and_a_full_list_is_asked_for(abc: Platform) -> None:
    removed = evse("E3", "REMOVED")
    abc.put("LOC1", location("LOC1", [evse("E1"), evse("E2"), removed]))
    before = wanted_at(abc.cpo_id)
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    assert [(row[0], row[1]) for row in quarantined(abc.cpo_id)] == [("AU/ABC/LOC1/E2", "evses")]
    after = wanted_at(abc.cpo_id)
    assert before is not None
    assert after is not None
    assert after > before
    assert [row for row in words(abc.cpo_id) if row[0] == "loc1/e2"] == [("loc1/e2", T0, "AVAILABLE")]


@pytest.mark.parametrize("evses", [{}, {"evses": []}, {"evses": None}])
def test_a_location_that_comes_without_any_evse_takes_nothing_back(abc: Platform, evses: dict[str, object]) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    before, described = wanted_at(abc.cpo_id), assets(abc.cpo_id)
    emptied = {name: value for name, value in location("LOC1", []).items() if name != "evses"} | evses
    assert abc.put("LOC1", emptied) == (200, 1000)
    assert [(row[0], row[1]) for row in quarantined(abc.cpo_id)] == [("AU/ABC/LOC1/E1", "evses")]
    assert words(abc.cpo_id) == [("loc1/e1", T0, "AVAILABLE")]
    assert assets(abc.cpo_id) == described
    after = wanted_at(abc.cpo_id)
    assert before is not None
    assert after is not None
    assert after > before
    assert abc.look("LOC1") == emptied


# PATCH


def test_a_patched_status_is_stored_at_its_own_time(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    assert abc.patch("LOC1/E1", patch_of("CHARGING", later(60))) == (200, 1000)
    assert abc.patch("LOC1/E1", {"status": "REMOVED", "last_updated": "2026-10-01T00:02:00"}) == (200, 1000)
    assert words(abc.cpo_id) == [
        ("loc1/e1", T0, "AVAILABLE"), ("loc1/e1", later(60), "CHARGING"), ("loc1/e1", later(120), "REMOVED"),
    ]  # fmt: skip
    assert abc.look("LOC1/E1")["status"] == "REMOVED"
    assert len(assets(abc.cpo_id)) == 1


def test_patch_merges_and_null_removes(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1", floor_level="1")], postal_code="2000"))
    assert abc.patch("LOC1", {"name": "New", "postal_code": None, "last_updated": stamp(later(1))}) == (200, 1000)
    assert abc.patch("LOC1/E1", {"floor_level": None, "last_updated": stamp(later(1))}) == (200, 1000)
    assert abc.patch("LOC1/E1/1", {"max_amperage": 16, "last_updated": stamp(later(1))}) == (200, 1000)
    found = abc.look("LOC1")
    assert (found["name"], found["city"], "postal_code" in found) == ("New", "Sydney", False)
    assert "floor_level" not in found["evses"][0]
    assert (found["evses"][0]["connectors"][0]["max_amperage"], found["evses"][0]["status"]) == (16, "AVAILABLE")
    assert [(row[2], row[3]) for row in assets(abc.cpo_id)][-1] == ("New", 11.04)
    assert words(abc.cpo_id) == [("loc1/e1", T0, "AVAILABLE")]


def test_the_same_patch_twice_adds_one_change(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    for _ in range(3):
        assert abc.patch("LOC1/E1", patch_of("CHARGING", later(60))) == (200, 1000)
    assert len(words(abc.cpo_id)) == 2


def test_patches_out_of_order_are_stored_in_order_and_the_document_stays_at_the_latest(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    for seconds, word in ((180, "AVAILABLE"), (60, "CHARGING"), (120, "BLOCKED")):
        assert abc.patch("LOC1/E1", {**patch_of(word, later(seconds)), "floor_level": str(seconds)}) == (200, 1000)
    assert [(at, word) for _, at, word in words(abc.cpo_id)] == [
        (T0, "AVAILABLE"), (later(60), "CHARGING"), (later(120), "BLOCKED"), (later(180), "AVAILABLE"),
    ]  # fmt: skip
    found = abc.look("LOC1/E1")
    assert (found["status"], found["last_updated"], found["floor_level"]) == ("AVAILABLE", stamp(later(180)), "120")


def test_every_order_of_arrival_gives_the_same_changes(abc: Platform) -> None:
    told = [(60, "CHARGING"), (120, "AVAILABLE"), (180, "CHARGING"), (240, "AVAILABLE")]
    orders = list(itertools.permutations(told))
    abc.put("LOC1", location("LOC1", [evse(f"E{number}") for number in range(len(orders))]))
    for number, order in enumerate(orders):
        for seconds, word in order:
            assert abc.patch(f"LOC1/E{number}", patch_of(word, later(seconds))) == (200, 1000)
    expected = [(T0, "AVAILABLE"), *((later(seconds), word) for seconds, word in told)]
    found: dict[str, list[tuple[datetime, str | None]]] = {}
    for evse_ref, at, word in words(abc.cpo_id):
        found.setdefault(evse_ref, []).append((at, word))
    assert found == {f"loc1/e{number}": expected for number in range(24)}


def test_a_time_in_the_future_is_kept_with_the_time_of_receipt_and_noted(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    before = datetime.now(UTC)
    assert abc.patch("LOC1/E1", patch_of("CHARGING", before + timedelta(days=1))) == (200, 1000)
    (_, at, word) = words(abc.cpo_id)[-1]
    assert word == "CHARGING"
    assert before <= at <= datetime.now(UTC)
    assert [row[1] for row in quarantined(abc.cpo_id)] == ["observed_at"]


def test_a_patch_of_an_unknown_evse_is_2003_and_kept_whole(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    assert abc.patch("LOC1/E9", patch_of("CHARGING", later(60))) == (404, 2003)
    assert abc.patch("LOC9/E9", patch_of("CHARGING", later(60))) == (404, 2003)
    assert abc.patch("LOC1/E1/9", {"max_amperage": 1, "last_updated": stamp(T0)}) == (404, 2003)
    assert [row[0] for row in quarantined(abc.cpo_id)] == ["loc1/e9", "loc9/e9", "AU/ABC/LOC1/E1/9"]
    with connect(Role.INGEST) as connection:
        payloads = [
            row[0]
            for row in connection.execute(
                "select payload from raw.quarantine inner join raw.feed using (feed_key) where feed_id = %s order by quarantine_key",
                (abc.cpo_id,),
            )
        ]
    assert json.loads(payloads[0]) == patch_of("CHARGING", later(60))


def test_a_patch_of_an_evse_that_only_a_full_list_described_is_stored(abc: Platform, configs: Path) -> None:
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, load_cpo(abc.cpo_id, configs))
        writer.write_poll(poll({"E1": "AVAILABLE"}, (asset("E1"),)), T0, T0)
    assert abc.patch("S1/E1", patch_of("CHARGING", later(60))) == (200, 1000)
    assert words(abc.cpo_id) == [("s1/e1", T0, "AVAILABLE"), ("s1/e1", later(60), "CHARGING")]
    assert abc.put("S1/E1", evse("E1", "BLOCKED", last_updated=stamp(later(90)))) == (404, 2003)
    assert words(abc.cpo_id)[-1] == ("s1/e1", later(90), "BLOCKED")


# What cannot be taken


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", "LOC1", location("LOC2", []), "id"),
        ("PUT", "LOC1", location("LOC1", [], country_code="NZ"), "country_code"),
        ("PUT", "LOC1", location("LOC1", [], party_id=["ABC"]), "party_id"),
        ("PUT", "LOC1/E1", evse("E2"), "uid"),
        ("PUT", "LOC1/E1", {"status": "AVAILABLE"}, "uid"),
        ("PUT", "LOC1/E1/1", connector("2"), "id"),
        ("PUT", "LOC1/E1", evse("E1", last_updated="yesterday"), "last_updated"),
        ("PATCH", "LOC1/E1", {"status": "CHARGING"}, "last_updated"),
        ("PATCH", "LOC1/E1", {"status": "CHARGING", "last_updated": 1790000000}, "last_updated"),
        ("PATCH", "LOC1/E1", {"status": "CHARGING", "last_updated": None}, "last_updated"),
        ("PATCH", "LOC1/E1", {"status": 7, "last_updated": stamp(T0)}, "status"),
        ("PATCH", "LOC1/E1", {"status": None, "last_updated": stamp(T0)}, "status"),
        ("PATCH", "LOC1/E1", {"uid": "E2", "last_updated": stamp(T0)}, "uid"),
        ("PUT", "LOC1", ["nonsense"], None),
        ("PUT", "LOC1", "nonsense", None),
    ],
)
def test_what_is_valid_json_and_no_such_object_is_2001_and_quarantined(
    abc: Platform, method: str, path: str, body: object, field: str | None
) -> None:
    assert abc.push(method, path, body) == (200, 2001)
    assert [(row[0], row[1]) for row in quarantined(abc.cpo_id)] == [(f"AU/ABC/{path}", field)]
    assert words(abc.cpo_id) == []


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>502 Bad Gateway</body></html>",
        b"",
        b'{"status": "CHARGING", "last_up',
        b"\xff\xfe\x00",
        b"[" * 2000,
        b"[" * 40 + b"]" * 40,
        b'{"status": "CHARGING", "last_updated": "2026-10-01T00:00:00Z", "x": 1e999}',
    ],
    ids=["html", "empty", "cut", "bytes", "bomb", "deep", "infinite"],
)
def test_what_is_no_json_is_400_and_quarantined(abc: Platform, body: bytes) -> None:
    assert abc.patch("LOC1/E1", body) == (400, 2001)
    assert [row[0] for row in quarantined(abc.cpo_id)] == ["AU/ABC/LOC1/E1"]


def test_the_content_type_does_not_matter(abc: Platform) -> None:
    answer = abc.request(
        "PUT",
        "/ocpi/2.2.1/locations/AU/ABC/LOC1",
        content=dumps(location("LOC1", [evse("E1")])),
        headers={"Content-Type": "text/html"},
    )
    assert answer.status_code == 201


def test_nul_and_half_characters_do_not_hurt(abc: Platform) -> None:
    assert abc.put("LOC1", location("LOC1", [evse("E1")], name="a\x00b\ud800")) == (201, 1000)
    assert abc.look("LOC1")["name"] == "a\ufffdb\ufffd"
    assert abc.push("PUT", "L%00", location("L\x00", [])) == (200, 2001)


def test_a_body_of_fifty_megabytes_is_413_and_the_receiver_lives_on(abc: Platform, receiver: ReceiverProcess) -> None:
    try:
        answer = abc.push("PUT", "LOC1", b'{"id": "' + b"x" * 50_000_000 + b'"}')
    except httpx.TransportError:
        # It hung up while we were still sending, which is as good.
        answer = (413, 2000)
    assert answer == (413, 2000)
    assert abc.put("LOC1", location("LOC1", [evse("E1")])) == (201, 1000)


# Life


def test_a_new_cpo_file_is_taken_up_without_a_restart_and_a_bad_one_is_reported(
    receiver: ReceiverProcess, configs: Path
) -> None:
    (configs / "bad.yml").write_text("cpo_id: bad\n", encoding="utf-8")
    write_cpo(configs, "new", party="AU*NEW")
    with Platform(receiver.url, "new", issue("new")) as platform:
        until(lambda: platform.get("/ocpi/versions").status_code == 200)
    assert "bad.yml" in receiver.log.read_text(encoding="utf-8")


def test_after_the_start_a_full_list_is_asked_for(receiver: ReceiverProcess) -> None:
    until(lambda: wanted_at("ocpi_99") is not None)
    assert wanted_at("rest_99") is None


def test_a_platform_that_never_sends_is_silent_since_the_receiver_first_asked_for_its_list(
    receiver: ReceiverProcess, configs: Path
) -> None:
    until(lambda: wanted_at("ocpi_98") is not None)
    config = load_cpo("ocpi_98", configs)
    with connect(Role.INGEST) as connection:
        health = read_health(connection, config, datetime.now(UTC))
    assert health.last_contact_at is None
    assert health.registered_at is not None
    limit = health.registered_at + timedelta(minutes=config.feed.alert_after_minutes)
    assert silence(health, config, limit) is None
    assert (silence(health, config, limit + timedelta(seconds=1)) or "").startswith(
        f"ocpi_98: no contact since it was first expected, at {health.registered_at:%Y-%m-%d %H:%M:%S%z}"
    )


def test_a_sender_that_was_silent_for_longer_than_its_liveness_is_asked_for_a_full_list(
    receiver: ReceiverProcess, configs: Path
) -> None:
    write_cpo(configs, "quiet", reconcile_seconds=1, liveness_seconds=2)
    with Platform(receiver.url, "quiet", issue("quiet")) as platform:
        until(lambda: platform.get("/ocpi/versions").status_code == 200)
        platform.put("LOC1", location("LOC1", [evse("E1")]))
        assert wanted_at("quiet") is None
        spoke_at = datetime.now(UTC)
        until(lambda: datetime.now(UTC) - spoke_at > timedelta(seconds=2.1))
        platform.patch("LOC1/E1", patch_of("CHARGING", later(60)))
    assert wanted_at("quiet") is not None


def test_each_arrival_is_a_contact(abc: Platform) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    with connect(Role.INGEST) as connection:
        outcomes = connection.execute(
            "select distinct outcome from raw.feed_contact inner join raw.feed using (feed_key) where feed_id = %s",
            (abc.cpo_id,),
        ).fetchall()
    assert outcomes == [("alive",)]


def test_health_names_no_secret_and_says_what_waits(receiver: ReceiverProcess) -> None:
    answer = httpx.get(f"{receiver.url}/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy", "waiting": 0})


def test_the_log_holds_no_token(abc: Platform, receiver: ReceiverProcess) -> None:
    token = abc.headers["Authorization"].partition(" ")[2]
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    abc.patch("LOC1/E1", b"<html>")
    abc.get(f"/ocpi/versions?token={token}")
    abc.get(f"/nothing?token={token}")
    httpx.get(f"{receiver.url}/ocpi/versions", headers={"Authorization": f"Token {token}x"})
    receiver.stop()
    receiver.start()
    text = receiver.log.read_text(encoding="utf-8")
    assert "Uvicorn running" in text
    assert token not in text
    assert base64.b64encode(token.encode()).decode() not in text


def test_a_full_list_that_was_asked_for_before_a_push_does_not_undo_it(abc: Platform, configs: Path) -> None:
    abc.put("LOC1", location("LOC1", [evse("E1")]))
    asked_at = datetime.now(UTC)
    assert abc.patch("LOC1/E1", patch_of("CHARGING", datetime.now(UTC))) == (200, 1000)
    listed = replace(
        poll({}),
        assets=(asset("E1", site_ref="loc1", site_id="LOC1", charger_ref="loc1/e1", evse_ref="loc1/e1"),),
        statuses={"loc1/e1": ("AVAILABLE", T0)},
        documents=(("AU*ABC", "LOC1", location("LOC1", [evse("E1")], name="Listed")),),
    )
    with connect(Role.INGEST) as connection:
        writer = Writer(connection, load_cpo(abc.cpo_id, configs))
        writer.write_poll(listed, asked_at, datetime.now(UTC))
        assert abc.look("LOC1/E1")["status"] == "CHARGING"
        assert words(abc.cpo_id)[-1][2] == "CHARGING"
        # One that is asked for afterwards is the truth.
        again = datetime.now(UTC)
        writer.write_poll(replace(listed, body_sha256=b"other"), again, again)
    assert abc.look("LOC1")["name"] == "Listed"
    assert words(abc.cpo_id)[-1] == ("loc1/e1", again, "AVAILABLE")
