"""Captured answers of three real interfaces, served over HTTP: their files alone say how they are read. What is counted here is counted from the JSON by
other code."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ingestion.collector import collect
from ingestion.config import CpoConfig, load_cpo
from ingestion.feeds import open_polled
from ingestion.model import Asset, Poll
from ingestion.settings import status_words
from tests.ingestion.ocpi.scripted_server import Reply, ScriptedServer
from warehouse.connection import REPOSITORY

FOLDER = REPOSITORY / "config" / "demo_real" / "cpos"
FILES = (
    "sw_stuttgart_chargecloud_webapp.json",
    "heilbronn_neckarbogen.json",
    "opendata_swiss_static.json",
    "opendata_swiss_realtime.json",
)


@pytest.fixture
def served(server: ScriptedServer, real_feeds: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    for name in FILES:
        body = (real_feeds / name).read_bytes()
        server.routes[f"/{name}"] = lambda _, body=body: Reply(body, headers={"Content-Type": "application/json"})
    monkeypatch.setenv("REAL_FEEDS_URL", server.url)
    return server


def load(real_feeds: Path, name: str) -> Any:
    return json.loads((real_feeds / name).read_text(encoding="utf-8"))


def config(cpo_id: str) -> CpoConfig:
    return load_cpo(cpo_id, FOLDER, expand=True)


def polled(cpo_id: str) -> Poll:
    feed = open_polled(config(cpo_id))
    try:
        poll = feed.poll()
        assert feed.poll().is_unchanged
    finally:
        feed.close()
    return poll


def counts(poll: Poll) -> tuple[int, int, int, int]:
    """Sites, chargers, EVSEs, connectors."""
    return (
        len({a.site_ref for a in poll.assets}),
        len({a.charger_ref for a in poll.assets}),
        len({a.evse_ref for a in poll.assets}),
        len(poll.assets),
    )


def words(poll: Poll) -> Counter[str]:
    return Counter(word for word, _ in poll.statuses.values())


def one(poll: Poll, evse_id: str) -> Asset:
    [found] = [a for a in poll.assets if a.evse_id == evse_id]
    return found


def test_stuttgart_is_taken_whole(served: ScriptedServer, real_feeds: Path) -> None:
    data = load(real_feeds, FILES[0])["data"]
    evses = [evse for site in data for evse in site["evses"]]
    poll = polled("sw_stuttgart")
    # 279 chargers: what the EVSE ids have before the last star.
    assert len({(site["id"], evse["id"][: evse["id"].rindex("*")]) for site in data for evse in site["evses"]}) == 279
    assert counts(poll) == (234, 279, 523, 526)
    assert (len(data), len(evses), sum(len(evse["connectors"]) for evse in evses)) == (234, 523, 526)
    assert words(poll) == {"AVAILABLE": 404, "CHARGING": 109, "OUTOFORDER": 8, "UNKNOWN": 2}
    assert words(poll) == Counter(evse["status"] for evse in evses)
    assert Counter(a.power_kw for a in poll.assets) == {Decimal(22): 481, Decimal(11): 35, Decimal(300): 10}
    assert {a.time_zone for a in poll.assets} == {"Europe/Berlin"}
    assert (poll.rejected, poll.evse_count) == ((), 523)
    assert one(poll, "1141623") == Asset(
        site_ref="493558",
        site_id="493558",
        charger_ref="493558/de*str*e10001",
        charger_id="DE*STR*E10001",
        evse_ref="493558/1141623",
        evse_id="1141623",
        connector_ref="189797559",
        connector_id="189797559",
        time_zone="Europe/Berlin",
        site_name="Affalterstr. 9 LADE / 341-N-01",
        address="Affalterstr. 9",
        suburb="Stuttgart",
        postcode="70469",
        country="DEU",
        latitude=48.816269,
        longitude=9.171917,
        emi3_id="DE*STR*E10001*001",
        connector_standard="IEC_62196_T2",
        power_kw=Decimal(22),
        attributes={"connector_format": "SOCKET", "power_type": "AC_3_PHASE"},
    )


def test_heilbronn_is_taken_but_for_the_outlets_that_tell_no_status(served: ScriptedServer, real_feeds: Path) -> None:
    data = load(real_feeds, FILES[1])
    outlets = [outlet for charger in data for outlet in charger["outlets"]]
    silent = {outlet["evseId"] for outlet in outlets if "nativeStatus" not in outlet}
    poll = polled("sw_heilbronn")
    assert (len({c["postalAddress"]["id"] for c in data}), len(data), len(outlets), len(silent)) == (4, 107, 212, 17)
    assert counts(poll) == (4, 107, 212, 212)
    assert words(poll) == {"AVAILABLE": 192, "CHARGING": 2, "SUSPENDED_EV": 1}
    assert Counter(a.power_kw for a in poll.assets) == {Decimal(11): 212}
    assert {a.time_zone for a in poll.assets} == {"Europe/Berlin"}
    assert Counter((r.field, r.reason) for r in poll.rejected) == {
        ("evse.status (nativeStatus)", "described without a status: gives nothing"): 17,
        (
            "site.latitude, longitude (position.latitude, position.longitude)",
            "kept without coordinates: not two numbers in range",
        ): 1,
    }
    assert {r.record_ref.partition("/")[2] for r in poll.rejected if r.context} == silent
    # 09:20:10.818 on the clocks of Heilbronn.
    assert poll.statuses["2935/deshne0030119"] == ("AVAILABLE", datetime(2025, 3, 3, 8, 20, 10, 818000, tzinfo=UTC))
    described = one(poll, "DESHNE0030119")
    assert (described.charger_id, described.address, described.latitude) == ("120377", "Paula-Fuchs-Allee 15", 49.14591)
    assert {a.address for a in poll.assets if a.site_id == "3063"} == {"Etzelstrasse 9"}


def test_the_swiss_pair_is_joined_whole(served: ScriptedServer, real_feeds: Path) -> None:
    static = [record for group in load(real_feeds, FILES[2])["EVSEData"] for record in group["EVSEDataRecord"]]
    live = [record for group in load(real_feeds, FILES[3])["EVSEStatuses"] for record in group["EVSEStatusRecord"]]
    poll = polled("opendata_swiss")
    assert (len(static), len(live), len({r["GeoCoordinates"]["Google"] for r in static})) == (551, 551, 202)
    assert counts(poll) == (202, 381, 551, 551)
    assert words(poll) == {"Available": 413, "Occupied": 63, "OutOfService": 62, "Unknown": 13}
    by_id = {r["EvseID"]: r["EVSEStatus"] for r in live}
    assert {a.evse_id: poll.statuses[a.evse_ref][0] for a in poll.assets} == by_id
    assert {a.evse_id: a.power_kw for a in poll.assets} == {
        r["EvseID"]: Decimal(str(r["ChargingFacilities"][0]["power"])) for r in static
    }
    # One stands in the Pacific by its coordinates: kept as sent, in the feed's zone.
    astray = one(poll, "CH*REPE662*01*1")
    assert (astray.latitude, astray.longitude) == (-3.329056, -109.698318)
    assert {a.time_zone for a in poll.assets} == {"Europe/Zurich"}
    assert poll.rejected == ()
    described = one(poll, "CH*REPE020*01*2")
    assert (described.charger_id, described.site_name) == ("CH*REPE020*01", "Albana Hotel & Suites Silvaplana SA")
    assert (described.address, described.connector_standard) == ("Via vers Mulins 5", "Type 2 Outlet")
    assert (described.postcode, described.country, described.power_kw) == ("7513", "CHE", Decimal(22))


def test_the_swiss_zone_comes_from_the_coordinates(served: ScriptedServer) -> None:
    told = config("opendata_swiss")
    feed = open_polled(told.model_copy(update={"feed": told.feed.model_copy(update={"time_zone": None})}))
    poll = feed.poll()
    feed.close()
    assert Counter(a.time_zone for a in poll.assets) == {"Europe/Zurich": 550}
    assert [(r.record_ref, r.field) for r in poll.rejected] == [
        ("-3.329056 -109.698318", "site.time_zone"),
        ("CH*REPE662*01*1", "evse_id"),
    ]


@pytest.mark.parametrize("cpo_id", ["sw_stuttgart", "sw_heilbronn", "opendata_swiss"])
def test_every_word_is_known_to_the_profile(cpo_id: str, served: ScriptedServer) -> None:
    profile = status_words(config(cpo_id).feed.status_profile)
    assert {word.casefold() for word in words(polled(cpo_id))} <= profile.keys()


def test_the_pair_goes_through_the_collector_into_the_warehouse(served: ScriptedServer, warehouse: str) -> None:
    said: list[str] = []
    totals = collect(config("opendata_swiss"), seconds=0, report=said.append)
    assert (totals.complete_polls, totals.failed_polls, totals.written.changes) == (1, 0, 551)
    with psycopg.connect(warehouse) as connection:
        rows = connection.execute(
            "select status_word, count(*) from raw.status_change group by 1 order by 2 desc, 1"
        ).fetchall()
        assert rows == [("Available", 413), ("Occupied", 63), ("OutOfService", 62), ("Unknown", 13)]
        assert connection.execute("select count(distinct site_key), count(*) from raw.asset_version").fetchone() == (
            202,
            551,
        )
