"""JSON of the CPO's own making: lists, pages, authentication."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simulator.rest import EXPIRES_SECONDS
from simulator.sources import words_at
from tests.simulator.served import NOON, QUICK, TOKENS, Clock, Simulator, simulator


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


def paged(asked: Simulator, paging: str, which: str) -> tuple[list[dict[str, Any]], list[int]]:
    """Read a list to its end as its paging wants; also the sizes of the pages."""
    found: list[dict[str, Any]] = []
    sizes: list[int] = []
    params: dict[str, Any] = {"size": 7} if paging == "page" else {"limit": 7}
    url = f"{asked.url}/{asked.name}/rest/{paging}/{which}"
    while True:
        if paging == "page":
            params["page"] = len(sizes) + 1
        elif paging == "offset":
            params["offset"] = len(found)
        answer = httpx.get(url, params=params or None, headers={"X-Api-Key": TOKENS[asked.name]}, timeout=10)
        body = answer.json()
        found += body[which]
        sizes.append(len(body[which]))
        assert len(sizes) < 50, "the pages do not end"
        if paging == "cursor":
            if body["meta"]["next"] is None:
                return found, sizes
            params["cursor"] = body["meta"]["next"]
        elif paging == "link":
            if "next" not in answer.links:
                return found, sizes
            url, params = answer.links["next"]["url"], {}
        elif len(found) >= body["meta"]["total"]:
            return found, sizes


@pytest.mark.parametrize("paging", ["none", "page", "offset", "cursor", "link"])
def test_a_list_can_be_read_in_pages_of_every_kind(quick: Simulator, paging: str) -> None:
    whole = quick.rest("none/statuses").json()["statuses"]
    found, sizes = paged(quick, paging, "statuses")
    assert found == whole
    assert sizes == ([24] if paging == "none" else [7, 7, 7, 3])


def test_stations_hold_what_points_and_statuses_say_together(quick: Simulator) -> None:
    stations, _ = paged(quick, "none", "stations")
    points, _ = paged(quick, "page", "points")
    statuses, _ = paged(quick, "cursor", "statuses")
    state_of = {entry["ref"]: entry for entry in statuses}
    joined = [{**point, **state_of[point["ref"]]} for point in points]
    nested = [
        {**{key: value for key, value in place.items() if key != "points"}, **point}
        for place in stations
        for point in place["points"]
    ]
    assert joined == nested
    assert {f"{point['code']}/{point['ref']}": point["state"] for point in joined} == words_at(QUICK, NOON)
    assert joined[0]["plugs"][0]["kw"] == 75


def test_a_token_may_stand_in_four_places(quick: Simulator) -> None:
    url, token = f"{quick.url}/quick/rest/none/statuses", TOKENS["quick"]
    for headers, params, auth, status in (
        ({}, {}, None, 401),
        ({"X-Api-Key": token}, {}, None, 200),
        ({"X-Api-Key": token + "x"}, {}, None, 401),
        ({"Authorization": f"Bearer {token}"}, {}, None, 200),
        ({}, {"api_key": token}, None, 200),
        ({}, {}, ("quick", token), 200),
        ({}, {}, ("someone", token), 401),
        ({"X-Api-Key": TOKENS["hub"]}, {}, None, 401),
    ):
        assert httpx.get(url, headers=headers, params=params, auth=auth, timeout=10).status_code == status


def test_an_access_token_is_good_until_it_expires(quick: Simulator, clock: Clock) -> None:
    url, client = f"{quick.url}/quick/oauth/token", {"client_id": "quick", "client_secret": TOKENS["quick"]}
    grant = {"grant_type": "client_credentials"}
    assert httpx.post(url, data=grant | client | {"client_secret": "wrong"}, timeout=10).status_code == 401
    assert httpx.post(url, data=client, timeout=10).json() == {"error": "unsupported_grant_type"}
    for way in ({"data": grant | client}, {"data": grant, "auth": ("quick", TOKENS["quick"])}):
        clock.now = NOON
        granted = httpx.post(url, timeout=10, **way).json()
        headers = {"Authorization": f"Bearer {granted['access_token']}"}
        clock.move(EXPIRES_SECONDS - 1)
        assert quick.get("rest/none/statuses", headers).status_code == 200
        clock.move(1)
        assert quick.get("rest/none/statuses", headers).status_code == 401


@pytest.mark.parametrize("paging", ["page", "offset", "cursor"])
def test_capped_pages_still_lead_through_the_whole_list(quick: Simulator, paging: str) -> None:
    whole = quick.rest("none/statuses").json()["statuses"]
    quick.switch("capped_page", size=5)
    found, sizes = paged(quick, paging, "statuses")
    assert (found, sizes) == (whole, [5, 5, 5, 5, 4])


def test_an_unknown_list_or_page_is_refused(quick: Simulator) -> None:
    assert quick.rest("none/cars").status_code == 404
    assert quick.rest("sideways/stations").status_code == 404
    assert quick.rest("page/stations", page="two").status_code == 400
    assert quick.rest("cursor/stations", cursor="####").status_code == 400
