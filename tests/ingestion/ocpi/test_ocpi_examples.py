"""The specification's own examples and pages of real feeds: every EVSE is either an asset or quarantined."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scripted_server import pull_config

from ingestion.config import OcpiPullFeed
from ingestion.ocpi.translate import Translated, translate_locations
from ingestion.values import parse_json


def translate(items: list[Any], party: str, **settings: Any) -> Translated:
    feed = pull_config(party=party, **settings).feed
    assert isinstance(feed, OcpiPullFeed)
    return translate_locations(items, feed, "/file")


def counts(made: Translated) -> tuple[int, int, int, int]:
    """Sites, EVSEs, connectors, rejected."""
    return (
        len({asset.site_ref for asset in made.assets}),
        len(made.statuses),
        len(made.assets),
        len(made.rejected),
    )


def test_every_location_example_of_the_specification_is_taken_whole(shared_data: Path) -> None:
    taken = {}
    for path in sorted((shared_data / "ocpi_examples" / "2.2.1").glob("location_example*.json")):
        made = translate([parse_json(path.read_bytes())], "BE*BEC")
        taken[path.stem.removeprefix("location_example")] = (
            counts(made),
            sorted((asset.evse_id, asset.connector_id, str(asset.power_kw)) for asset in made.assets),
        )
    assert taken == {
        "": (
            (1, 2, 3, 0),
            [("3256", "1", "10.560"), ("3256", "2", "10.560"), ("3257", "1", "10.560")],
        ),
        "_parking_garage_opening_hours": (
            (1, 1, 1, 0),
            [("eccb8dd9-4189-433e-b100-cc0945dd17dc", "1", "22.080")],
        ),
        "_uc2_destination_charger": (
            (1, 1, 1, 0),
            [("fd855359-bc81-47bb-bb89-849ae3dac89e", "1", "10.560")],
        ),
        "_uc3_destination_charger_not_published": (
            (1, 1, 1, 0),
            [("fd855359-bc81-47bb-bb89-849ae3dac89e", "1", "10.560")],
        ),
        "_uc4_limited_visibility": ((1, 1, 1, 0), [("8c1b3487-61ac-40a7-a367-21eee99dbd90", "1", "11.040")]),
        "_uc5_home_charge_point": ((1, 1, 1, 0), [("4534ad5f-45be-428b-bfd0-fa489dda932d", "1", "1.840")]),
    }


def test_the_ndw_page_is_taken_whole(shared_data: Path) -> None:
    items = parse_json((shared_data / "real_feeds" / "ndw_locations_2026-10-06_4of.json").read_bytes())
    made = translate(items, "NL*EVT")
    assert counts(made) == (4, 5, 5, 0)
    assert Counter(word for word, _ in made.statuses.values()) == {
        "CHARGING": 2,
        "AVAILABLE": 2,
        "OUTOFORDER": 1,
    }
    assert sorted(str(asset.power_kw) for asset in made.assets) == [
        "11.040",
        "20.700",
        "20.700",
        "22.080",
        "60.000",
    ]
    assert sorted({asset.site_ref.rpartition("/")[0] for asset in made.assets}) == [
        "",
        "nl*efl",
        "nl*pfg",
        "nl*qwc",
    ]
    assert all(asset.latitude and asset.longitude and asset.time_zone == "Europe/Amsterdam" for asset in made.assets)


def test_the_lithuanian_page_is_taken_whole(shared_data: Path) -> None:
    path = shared_data / "real_feeds" / "lt_vialietuva_ocpi_2.3.0_locations_2026-10-06_3of.json"
    made = translate(parse_json(path.read_bytes())["data"], "LT*IBG", naive_time_zone="Europe/Vilnius")
    assert counts(made) == (3, 5, 5, 0)
    assert {str(asset.power_kw) for asset in made.assets} == {"22.000"}
    first = made.assets[0]
    assert (first.site_id, first.evse_ref, first.connector_ref) == ("258", "258/535", "650306")
    moment = made.statuses["258/535"][1]
    assert moment is not None
    assert moment.isoformat() == "2026-10-05T21:01:09+00:00"


def test_the_ludwigsburg_page_is_taken_whole(shared_data: Path) -> None:
    path = shared_data / "real_feeds" / "chargecloud_ludwigsburg_page1.json"
    items = json.loads(path.read_bytes())["items"]
    made = translate(items, "DE*SLB", charger_id="evse_id_prefix")
    assert counts(made) == (100, 273, 273, 0)
    assert Counter(word for word, _ in made.statuses.values()) == {
        "AVAILABLE": 226,
        "CHARGING": 40,
        "INOPERATIVE": 6,
        "OUTOFORDER": 1,
    }
    assert Counter(str(asset.power_kw) for asset in made.assets) == {
        "22.000": 253,
        "50.000": 12,
        "150.000": 8,
    }
    assert {len(asset.charger_id.split("*")) for asset in made.assets} == {3}
    assert 100 <= len({asset.charger_ref for asset in made.assets}) < 273


@pytest.mark.parametrize("break_it", ["status", "uid", "connectors"])
def test_a_real_evse_with_a_field_taken_out_is_quarantined_and_no_other(shared_data: Path, break_it: str) -> None:
    path = shared_data / "real_feeds" / "chargecloud_ludwigsburg_page1.json"
    items = json.loads(path.read_bytes())["items"]
    del items[50]["evses"][0][break_it]
    made = translate(items, "DE*SLB")
    assert (len(made.statuses), len(made.rejected)) == (272, 1)
    assert made.rejected[0].field == f"evses[0].{break_it}"
