"""OCPI in three versions: objects, deltas, hubs and registration."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from simulator.ocpi_objects import ocpi_word
from simulator.quick import moment_text
from tests.simulator.served import NOON, OTHER, QUICK, TOKENS, Clock, Simulator, authorization, simulator


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


@pytest.fixture
def hub(served: Simulator, clock: Clock) -> Simulator:
    clock.now = NOON
    return Simulator(served.url, "hub")


def all_locations(asked: Simulator, version: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        answer = asked.ocpi(f"{version}/locations", version, params={**params, "offset": len(found)})
        found += answer.json()["data"]
        if len(found) >= int(answer.headers["X-Total-Count"]):
            return found


@pytest.mark.parametrize("version", ["2.1.1", "2.2.1", "2.3.0"])
def test_details_name_credentials_and_locations(quick: Simulator, version: str) -> None:
    details = quick.ocpi(version, version).json()["data"]
    assert details["version"] == version
    assert {endpoint["identifier"] for endpoint in details["endpoints"]} == {"credentials", "locations"}
    roles = {endpoint.get("role") for endpoint in details["endpoints"]}
    assert roles == ({None} if version == "2.1.1" else {"SENDER", "RECEIVER"})


def test_a_token_is_raw_in_2_1_1_and_base64_since(quick: Simulator) -> None:
    for version in ("2.1.1", "2.2.1", "2.3.0"):
        for spelling in ("2.1.1", "2.2.1"):
            headers = authorization(spelling, TOKENS["quick"])
            is_right = (spelling == "2.1.1") == (version == "2.1.1")
            assert quick.get(f"ocpi/{version}/locations", headers).status_code == (200 if is_right else 401)
            assert quick.get("ocpi/versions", headers).status_code == 200


def test_objects_are_those_of_their_version(quick: Simulator) -> None:
    old, usual, new = (all_locations(quick, version)[0] for version in ("2.1.1", "2.2.1", "2.3.0"))
    assert old["type"] == "OTHER"
    assert not {"country_code", "party_id", "publish", "state"} & set(old)
    assert (usual["country_code"], usual["party_id"], usual["publish"]) == ("AU", "QCK", True)
    assert new == usual | {"parking_type": "PARKING_LOT"}
    connector = old["evses"][0]["connectors"][0]
    assert (connector["voltage"], connector["amperage"]) == (500, 150)
    assert not {"max_voltage", "max_amperage", "max_electric_power"} & set(connector)
    assert usual["evses"][0]["connectors"][0]["max_electric_power"] == 75_000
    assert [evse["status"] for evse in old["evses"]] == [evse["status"] for evse in usual["evses"]]


def test_words_that_ocpi_does_not_have_become_its_nearest() -> None:
    words = ("AVAILABLE", "available", "finishing", "unavailable", "out_of_order", "Kaputt")
    assert [ocpi_word(word) for word in words] == [
        "AVAILABLE", "AVAILABLE", "CHARGING", "INOPERATIVE", "OUTOFORDER", "Kaputt",
    ]  # fmt: skip


def test_a_delta_lists_what_was_updated_from_then_on_and_before_then(quick: Simulator, clock: Clock) -> None:
    places = {place["id"]: datetime.fromisoformat(place["last_updated"]) for place in all_locations(quick, "2.2.1")}
    oldest, middle, newest = sorted(places.values())
    for date_from, date_to, expected in (
        (None, None, {oldest, middle, newest}),
        (middle, None, {middle, newest}),
        (None, middle, {oldest}),
        (middle, newest, {middle}),
        (newest + timedelta(milliseconds=1), None, set()),
    ):
        bounds = {"date_from": date_from and moment_text(date_from), "date_to": date_to and moment_text(date_to)}
        params = {name: value for name, value in bounds.items() if value}
        found = all_locations(quick, "2.2.1", **params)
        assert {places[place["id"]] for place in found} == expected
    clock.move(2)
    assert len(all_locations(quick, "2.2.1", date_from=moment_text(NOON))) == 3


def test_a_frozen_last_updated_hides_changes_from_deltas_only(quick: Simulator, clock: Clock) -> None:
    quick.switch("frozen_last_updated")
    clock.move(2)
    assert all_locations(quick, "2.2.1", date_from=moment_text(NOON)) == []
    assert len(all_locations(quick, "2.2.1")) == 3


def test_a_hub_has_two_parties_and_in_both_a_location_of_one_id(hub: Simulator) -> None:
    found = all_locations(hub, "2.2.1")
    assert len(found) == 5
    parties = [place["party_id"] for place in found if place["id"] == "SHARED-1"]
    assert parties == ["QCK", "OTH"]
    assert [entry["version"] for entry in hub.ocpi("versions").json()["data"]] == ["2.2.1", "2.3.0"]
    assert hub.ocpi("2.1.1/locations", "2.1.1").status_code == 404
    words = hub.control("GET", "words")
    assert {ref.partition("/")[0] for ref in words} == {"au*qck", "au*oth"}
    assert len(words) == QUICK.evse_count + OTHER.evse_count


@pytest.mark.parametrize("version", ["2.1.1", "2.2.1", "2.3.0"])
def test_a_client_registers_is_asked_back_and_only_the_new_token_counts(
    quick: Simulator, hub: Simulator, version: str
) -> None:
    # The client's own versions: those of another feed, for which it gives its token.
    asked_back = hub if version != "2.1.1" else quick
    offered: dict[str, Any] = {"token": TOKENS[asked_back.name], "url": f"{quick.url}/{asked_back.name}/ocpi/versions"}
    if version == "2.1.1":
        offered |= {"country_code": "AU", "party_id": "CAL", "business_details": {"name": "Charge@Large"}}
    else:
        role = {"role": "NSP", "country_code": "AU", "party_id": "CAL", "business_details": {"name": "Charge@Large"}}
        offered["roles"] = [role]
    path = f"{version}/credentials"
    assert quick.ocpi(path, version, "PUT", json=offered).status_code == 405
    assert quick.ocpi(path, version, "DELETE").status_code == 405
    got = quick.ocpi(path, version, "POST", json=offered).json()
    assert got["status_code"] == 1000
    token = got["data"]["token"]
    party = got["data"] if version == "2.1.1" else got["data"]["roles"][0]
    assert (party["country_code"], party["party_id"]) == ("AU", "QCK")
    try:
        assert quick.ocpi(f"{version}/locations", version).status_code == 401
        assert quick.ocpi(f"{version}/locations", version, token=token).status_code == 200
        assert quick.ocpi(path, version, token=token).json()["data"]["token"] == token
        assert quick.ocpi(path, version, "POST", token=token, json=offered).status_code == 405
        if version != "2.1.1":
            again = quick.ocpi(path, version, "PUT", token=token, json=offered).json()["data"]["token"]
            assert again != token
            assert quick.ocpi(path, version, token=token).status_code == 401
            token = again
    finally:
        assert quick.ocpi(path, version, "DELETE", token=token).json()["status_code"] == 1000
    assert quick.ocpi(f"{version}/locations", version).status_code == 200


@pytest.mark.parametrize(
    ("offered", "status_code"),
    [
        ({"token": "t"}, 2001),
        ({"token": "t", "url": "{url}/hub/ocpi/versions"}, 2001),
        ({"token": "t", "url": "{url}/hub/ocpi/versions", "roles": [{"role": "NSP"}]}, 3001),
        ({"token": "t", "url": "{url}/nobody", "roles": [{"role": "NSP"}]}, 3001),
    ],
)
def test_credentials_that_lead_nowhere_register_nobody(
    quick: Simulator, offered: dict[str, Any], status_code: int
) -> None:
    offered = {key: value.format(url=quick.url) if isinstance(value, str) else value for key, value in offered.items()}
    answer = quick.ocpi("2.2.1/credentials", method="POST", json=offered)
    assert answer.json()["status_code"] == status_code
    assert answer.json()["data"] is None
    assert quick.ocpi("2.2.1/locations").status_code == 200


def test_a_feed_registers_with_a_receiver(quick: Simulator, hub: Simulator) -> None:
    quick.control("POST", "register", url=f"{quick.url}/hub/ocpi/versions", token=TOKENS["hub"], version="2.3.0")
    # Both sides of it: neither takes its first token any more.
    assert quick.ocpi("2.2.1/locations").status_code == 401
    assert hub.ocpi("2.2.1/locations").status_code == 401
    quick_feed, hub_feed = partner(quick), partner(hub)
    assert quick.ocpi("2.2.1/locations", token=hub_feed).status_code == 200
    assert hub.ocpi("2.2.1/locations", token=quick_feed).status_code == 200
    assert quick.ocpi("2.3.0/credentials", method="DELETE", token=hub_feed).is_success
    assert hub.ocpi("2.3.0/credentials", method="DELETE", token=quick_feed).is_success


def partner(asked: Simulator) -> str:
    found = httpx.get(f"{asked.url}/control/{asked.name}/partner", timeout=10).json()
    assert found["version"] == "2.3.0"
    return str(found["their_token"])


def test_registering_with_nobody_says_so(quick: Simulator) -> None:
    url = f"{quick.url}/control/quick/register"
    answer = httpx.post(url, json={"url": f"{quick.url}/nobody", "token": "t"}, timeout=10)
    assert answer.status_code == 502
    assert "nobody" in answer.json()["detail"]
    assert quick.ocpi("2.2.1/locations").status_code == 200


def test_a_registration_that_is_refused_leaves_things_as_they_were(quick: Simulator) -> None:
    # Its own first token is no good any more once it awaits the answer.
    url = f"{quick.url}/control/quick/register"
    own = {"url": f"{quick.url}/quick/ocpi/versions", "token": TOKENS["quick"]}
    assert httpx.post(url, json=own, timeout=10).status_code == 502
    assert quick.control("GET", "partner") == {}
    assert quick.ocpi("2.2.1/locations").status_code == 200
