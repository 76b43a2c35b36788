"""OCPI 2.1.1 and 2.3.0 where they differ from 2.2.1, hubs, and where a zone comes from."""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_server import OcpiScript, Reply, Request, ScriptedServer, connector, envelope, evse, location, pull_config

from ingestion.config import OcpiPullFeed
from ingestion.http import HttpTransport
from ingestion.model import FeedError
from ingestion.ocpi.pull import OcpiPull
from ingestion.ocpi.translate import Translated, translate_locations
from ingestion.settings import STATUS_PROFILES
from ingestion.values import parse_json

TOKEN = "s3cret-t0ken"  # noqa: S105
ENCODED = "Token " + base64.b64encode(TOKEN.encode()).decode()
RAW = f"Token {TOKEN}"

Make = Callable[..., OcpiPull]


@pytest.fixture
def pull(server: ScriptedServer) -> Iterator[Make]:
    made: list[OcpiPull] = []

    def make(**settings: Any) -> OcpiPull:
        config = pull_config(server.url, **settings)
        made.append(OcpiPull(config, f"{server.url}/ocpi/versions", TOKEN, HttpTransport(backoff_seconds=0)))
        return made[-1]

    yield make
    for feed in made:
        feed.close()


def translate(*items: object, **settings: Any) -> Translated:
    feed = pull_config(**settings).feed
    assert isinstance(feed, OcpiPullFeed)
    return translate_locations(items, feed, "/locations")


def location_2_1_1(location_id: str = "L1", **more: Any) -> dict[str, Any]:
    """A whole Location as 2.1.1 has it."""
    return {
        "id": location_id,
        "type": "PARKING_LOT",
        "name": "By the Line of Lode",
        "address": "1 Invented Road",
        "city": "Broken Hill",
        "postal_code": "2880",
        "country": "AUS",
        "coordinates": {"latitude": "-31.9505", "longitude": "141.4533"},
        "evses": [
            {
                "uid": "E1",
                "evse_id": "AU-ABC-E1",
                "status": "INOPERATIVE",
                "connectors": [
                    {
                        "id": "1",
                        "standard": "IEC_62196_T2",
                        "format": "SOCKET",
                        "power_type": "AC_3_PHASE",
                        "voltage": 230,
                        "amperage": 32,
                        "tariff_id": "11",
                        "last_updated": "2026-01-01T00:00:00Z",
                    }
                ],
                "last_updated": "2026-01-01T00:00:00Z",
            }
        ],
        "last_updated": "2026-01-01T00:00:00Z",
    } | more


# --- 2.1.1


def test_a_2_1_1_location_is_taken_whole() -> None:
    made = translate(location_2_1_1(), version="2.1.1")
    assert made.rejected == ()
    (asset,) = made.assets
    assert (asset.site_ref, asset.evse_ref, asset.time_zone, str(asset.power_kw)) == (
        "l1", "l1/e1", "Australia/Broken_Hill", "22.080",
    )  # fmt: skip
    assert asset.state is None
    assert asset.attributes == {
        "party": "AU*ABC",
        "parking_type": "PARKING_LOT",
        "time_zone_source": "coordinates",
        "connector_format": "SOCKET",
        "power_type": "AC_3_PHASE",
        "max_voltage": 230.0,
        "max_amperage": 32.0,
    }


def test_the_parking_type_has_its_own_key_in_each_version() -> None:
    both = location(type="ON_STREET", parking_type="PARKING_GARAGE")
    found = {
        version: translate(both, version=version).assets[0].attributes["parking_type"]
        for version in ("2.1.1", "2.2.1", "2.3.0")
    }
    assert found == {"2.1.1": "ON_STREET", "2.2.1": "PARKING_GARAGE", "2.3.0": "PARKING_GARAGE"}


def test_inoperative_is_deleted_in_2_1_1_only_and_the_profiles_say_the_same_of_every_other_word() -> None:
    with STATUS_PROFILES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    words = {
        version: {row["source_word"]: row["status"] for row in rows if row["status_profile"] == f"ocpi_{version}"}
        for version in ("2_1_1", "2_2_1", "2_3_0")
    }
    assert words["2_1_1"].pop("inoperative") == "removed"
    assert words["2_3_0"].pop("inoperative") == words["2_2_1"].pop("inoperative") == "inoperative"
    assert len(words["2_1_1"]) == 8
    assert words["2_1_1"] == words["2_2_1"] == words["2_3_0"]


def authorizations(server: ScriptedServer) -> list[str]:
    return [request.headers["Authorization"] for request in server.requests]


def test_the_token_of_2_1_1_is_sent_raw_first(server: ScriptedServer, pull: Make) -> None:
    OcpiScript([location_2_1_1()], version="2.1.1").mount(server).authorizations = {RAW, ENCODED}
    assert list(pull(version="2.1.1").poll().statuses) == ["l1/e1"]
    assert set(authorizations(server)) == {RAW}


@pytest.mark.parametrize("status", [401, 403])
def test_a_2_1_1_sender_that_wants_base64_gets_it_and_that_is_remembered(
    server: ScriptedServer, pull: Make, status: int
) -> None:
    script = OcpiScript([location_2_1_1()], version="2.1.1")
    script.authorizations, script.refusal = {ENCODED}, Reply(b"who?", status)
    script.mount(server)
    feed = pull(version="2.1.1")
    feed.poll()
    feed.poll()
    assert authorizations(server) == [RAW, ENCODED, ENCODED, ENCODED, ENCODED]


def test_a_token_that_is_refused_with_http_200_is_sent_in_the_other_spelling(
    server: ScriptedServer, pull: Make
) -> None:
    script = OcpiScript([location_2_1_1()], version="2.1.1")
    script.authorizations, script.refusal = {ENCODED}, envelope([], status_code=3000)
    script.mount(server)
    assert list(pull(version="2.1.1").poll().statuses) == ["l1/e1"]
    assert authorizations(server) == [RAW, ENCODED, ENCODED, ENCODED]


def test_a_token_that_only_the_list_refuses_is_sent_in_the_other_spelling(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript([location_2_1_1()], version="2.1.1").mount(server)

    def open_versions(_: Request, reply: Reply) -> Reply:
        return reply if server.requests[-1].headers["Authorization"] == ENCODED else envelope([], status_code=2001)

    script.after_page = open_versions
    feed = pull(version="2.1.1")
    assert list(feed.poll().statuses) == ["l1/e1"]
    assert feed.poll().is_unchanged
    assert authorizations(server) == [RAW, RAW, RAW, ENCODED, ENCODED]


def test_where_no_spelling_helps_the_first_refusal_is_told(server: ScriptedServer, pull: Make) -> None:
    def refuse(request: Request) -> Reply:
        is_raw = request.headers["Authorization"] == RAW
        return envelope([], status_code=3000) if is_raw else Reply(b"", 401)

    server.routes["/ocpi/versions"] = refuse
    with pytest.raises(FeedError, match="HTTP 200, but OCPI status_code 3000"):
        pull(version="2.1.1").poll()


def test_endpoints_of_2_1_1_have_no_role(server: ScriptedServer, pull: Make) -> None:
    script = OcpiScript([location_2_1_1()], version="2.1.1").mount(server)
    stray = {"identifier": "locations", "role": "CPO", "url": f"{server.url}{script.path}"}
    server.routes["/ocpi/2.1.1"] = lambda _: envelope({"version": "2.1.1", "endpoints": [stray]})
    assert list(pull(version="2.1.1").poll().statuses) == ["l1/e1"]
    server.routes["/ocpi/2.1.1"] = lambda _: envelope({"version": "2.1.1", "endpoints": []})
    with pytest.raises(FeedError, match=r"no locations endpoint$"):
        pull(version="2.1.1").poll()


def test_the_2_1_1_example_of_the_specification_is_taken_whole(shared_data: Path) -> None:
    item = parse_json((shared_data / "ocpi_examples" / "2.1.1" / "mod_locations_06.json").read_bytes())
    made = translate(item, version="2.1.1", party="BE*BEC")
    assert made.rejected == ()
    assert {ref: word for ref, (word, _) in made.statuses.items()} == {
        "loc1/3256": "AVAILABLE",
        "loc1/3257": "RESERVED",
    }
    assert {(asset.time_zone, str(asset.power_kw), asset.attributes["parking_type"]) for asset in made.assets} == {
        ("Europe/Brussels", "10.560", "ON_STREET")
    }


# --- 2.3.0


def test_a_2_3_0_location_with_parking_places_and_old_names_is_taken_whole(server: ScriptedServer, pull: Make) -> None:
    plug = connector("1", voltage=400, amperage=32, capabilities=[], max_electric_power=22000)
    del plug["max_voltage"], plug["max_amperage"]
    port = evse("E1", parking=[{"parking_id": "1", "evse_position": "LEFT"}], connectors=[plug])
    item = location(evses=[port], parking_places=[{"id": "1", "vehicle_types": ["PERSONAL_VEHICLE"]}])
    OcpiScript([item], version="2.3.0").mount(server).authorizations = {ENCODED}
    poll = pull(version="2.3.0").poll()
    assert poll.rejected == ()
    (asset,) = poll.assets
    assert (str(asset.power_kw), asset.attributes["max_voltage"], asset.attributes["max_electric_power"]) == (
        "22.000", 400.0, 22000.0,
    )  # fmt: skip


def test_every_2_3_0_location_example_of_the_specification_is_taken_whole(shared_data: Path) -> None:
    taken = {}
    for path in sorted((shared_data / "ocpi_examples" / "2.3.0").glob("location_example*.json")):
        made = translate(parse_json(path.read_bytes()), version="2.3.0", party="BE*BEC")
        taken[path.stem.removeprefix("location_example")] = (len(made.statuses), len(made.assets), len(made.rejected))
    assert taken == {
        "": (2, 3, 0),
        "_parking_garage_opening_hours": (1, 1, 0),
        "_uc2_destination_charger": (1, 1, 0),
        "_uc3_destination_charger_not_published": (1, 1, 0),
        "_uc4_limited_visibility": (1, 1, 0),
        "_uc5_home_charge_point": (1, 1, 0),
    }


# --- hubs


def hub() -> list[Any]:
    """Two parties with the same location id, and a third."""
    return [
        location("L", name="ours", evses=[evse("1")]),
        location("L", name="theirs", party_id="xyz", evses=[evse("1", status="CHARGING")]),
        location("M", country_code="NZ", evses=[evse("1", status=None)]),
    ]


def test_a_hub_may_carry_two_parties_with_the_same_location_id() -> None:
    made = translate(*hub())
    assert {ref: word for ref, (word, _) in made.statuses.items()} == {
        "l/1": "AVAILABLE",
        "au*xyz/l/1": "CHARGING",
    }
    assert [(asset.site_ref, asset.site_name) for asset in made.assets] == [("l", "ours"), ("au*xyz/l", "theirs")]
    assert (len(made.rejected), made.other_count) == (1, 0)


@pytest.mark.parametrize(
    ("party", "parties", "refs"),
    [
        ("AU*ABC", ["AU*ABC"], ["l/1"]),
        ("AU*XYZ", ["AU*XYZ"], ["l/1"]),
        ("AU*ABC", ["AU*ABC", "AU*XYZ"], ["l/1", "au*xyz/l/1"]),
    ],
)
def test_two_files_can_share_a_hub(party: str, parties: list[str], refs: list[str]) -> None:
    made = translate(*hub(), party=party, parties=parties)
    assert list(made.statuses) == refs
    assert (made.rejected, made.other_count) == ((), 3 - len(parties))


def test_parties_of_others_are_counted_in_the_log(
    server: ScriptedServer, pull: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    OcpiScript(hub()).mount(server)
    poll = pull(parties=["AU*XYZ"]).poll()
    assert (list(poll.statuses), poll.rejected) == (["au*xyz/l/1"], ())
    assert "1 EVSEs, 0 rejected, 2 Locations of other parties" in caplog.text


def test_a_location_that_names_no_party_is_the_feeds_own() -> None:
    nameless = location_2_1_1("N", country_code=" ", party_id=5)
    assert list(translate(nameless, version="2.1.1", parties=["AU*ABC"]).statuses) == []
    nameless = location_2_1_1("N", country_code=" ", party_id=None)
    assert list(translate(nameless, version="2.1.1", parties=["AU*ABC"]).statuses) == ["n/e1"]


@pytest.mark.parametrize("parties", [[], ["ABC"], ["au*abc"], "AU*ABC"])
def test_parties_are_a_list_of_country_code_and_party_id(parties: object) -> None:
    with pytest.raises(ValueError, match="parties"):
        pull_config(parties=parties)


# --- where a zone comes from


@pytest.mark.parametrize("sent", [None, "", "AEST"])
@pytest.mark.parametrize(
    ("coordinates", "configured", "zone", "source"),
    [
        ((-31.9505, 141.4533), None, "Australia/Broken_Hill", "coordinates"),
        ((-31.9505, 141.4533), "Australia/Sydney", "Australia/Broken_Hill", "coordinates"),
        ((-28.2, 153.54), "Australia/Brisbane", "Australia/Sydney", "coordinates"),
        ((0, 0), "Australia/Sydney", "Australia/Sydney", "feed"),
        ((-33.9, 158.0), "Australia/Sydney", "Australia/Sydney", "feed"),
        ((51.05, 3.73), "Australia/Sydney", "Australia/Sydney", "feed"),
        (None, "Australia/Sydney", "Australia/Sydney", "feed"),
    ],
)
def test_coordinates_tell_the_zone_better_than_the_settings_unless_they_lead_to_another_part_of_the_world(
    sent: str | None, coordinates: tuple[float, float] | None, configured: str | None, zone: str, source: str
) -> None:
    there = coordinates and {"latitude": coordinates[0], "longitude": coordinates[1]}
    made = translate(location("L", time_zone=sent, coordinates=there), time_zone=configured)
    (asset,) = made.assets
    assert (asset.time_zone, asset.attributes["time_zone_source"]) == (zone, source)
    notes = [(one.field, one.reason, one.payload) for one in made.rejected]
    assert notes == (
        [("time_zone", f"kept with {zone}, known from the {source}: no IANA time zone", '"AEST"')] if sent else []
    )


def test_a_zone_that_is_told_needs_no_source_and_wins_over_coordinates() -> None:
    (asset,) = translate(location("L", time_zone="Australia/Perth"), time_zone="Australia/Sydney").assets
    assert asset.time_zone == "Australia/Perth"
    assert "time_zone_source" not in asset.attributes


@pytest.mark.parametrize("coordinates", [None, {"latitude": 0, "longitude": 0}, {"latitude": -33.9, "longitude": 158}])
def test_a_location_of_which_nothing_tells_the_zone_is_quarantined_whole(coordinates: object) -> None:
    made = translate(location("L", time_zone=None, coordinates=coordinates))
    assert made.statuses == {}
    assert [(one.field, one.reason) for one in made.rejected] == [
        ("time_zone", "no time zone, no coordinates on land, and the feed's settings name none")
    ]
