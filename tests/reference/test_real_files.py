"""The real boundaries and the real list of funded assets, where they are there."""

from __future__ import annotations

import csv
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingestion.config import CpoConfig
from ingestion.model import reference
from ingestion.writer import Writer
from reference.__main__ import main
from reference.kinds import KINDS, FundedAsset
from reference.locating import Areas
from reference.reading import read
from stack.demo import shared_data
from tests.feeds import asset
from tests.reference.files import read_table
from tests.warehouse.reading import rows_of
from warehouse.connection import Role, connect
from warehouse.transform import transform

FILES = shared_data() / "reference"
STATIONS = shared_data() / "real_feeds" / "nsw_au_charging_stations_7of.csv"
pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason=f"the real reference files are not in {FILES}")

NOW = datetime.now(UTC).replace(microsecond=0)


def boundaries(kind: str) -> Areas:
    rows = read(KINDS[kind], (FILES / KINDS[kind].file).read_bytes())
    return Areas({one.row.code: one.row.geometry for one in rows})


def assets() -> list[FundedAsset]:
    return [one.row for one in read(KINDS["government_funded"], (FILES / "government_funded.csv").read_bytes())]


def test_of_the_listed_assets_all_but_one_lie_in_the_area_that_the_list_says() -> None:
    names = {
        one.row.code: one.row.name
        for one in read(KINDS["lga_boundaries"], (FILES / "lga_boundaries.geojson").read_bytes())
    }
    areas = boundaries("lga_boundaries")
    told = [(one, areas.find(one.latitude or 0, one.longitude or 0)) for one in assets()]
    assert {place and place.distance_m for _, place in told} == {0}
    elsewhere = {
        (one.suburb, one.lga_name, names[place.code])
        for one, place in told
        if place and not (one.lga_name or "").startswith(re.sub(r" \(.*", "", names[place.code]))
    }
    assert elsewhere == {("Bonnells Bay", "Mid-Coast Council", "Lake Macquarie")}


def test_the_postcodes_of_listed_assets_are_those_of_the_boundaries() -> None:
    areas = boundaries("postcode_boundaries")
    told = [(one.postcode, areas.find(one.latitude or 0, one.longitude or 0)) for one in assets()]
    assert {
        (postcode, place and place.code) for postcode, place in told if not place or place.code != postcode
    } == set()


def test_names_of_the_centroids_are_refused_as_a_lookup(
    tmp_path: Path, warehouse: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_table(FILES / "lga_centroids.csv")
    with (tmp_path / "lga_lookup.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("written_name", "lga_name", "lga_code"))
        writer.writerows((row["lga_name"], row["lga_name"], row["lga_code"]) for row in rows)
    assert main(["load", "--url", str(FILES), "--kind", "lga_boundaries"]) == 0
    assert main(["load", "--url", str(tmp_path), "--kind", "lga_lookup"]) == 1
    refused = capsys.readouterr().err.splitlines()
    # Beside names written in another way, those of South Australia and the west stand beside codes of others.
    assert (
        "lga_lookup.csv, written_name 'Bassendean': means 50420 'Bassendean'; lga_boundaries.geojson has 50420 'Bayswater'"
        in refused
    )


@pytest.mark.usefixtures("warehouse")
def test_real_chargers_of_new_south_wales_get_their_areas() -> None:
    stations = read_table(STATIONS)
    config = CpoConfig.model_validate(
        {
            "cpo_id": "exploren",
            "name": "Exploren",
            "feed": {"kind": "history", "status_profile": "history", "liveness_seconds": 300},
        }
    )
    described = [
        asset(
            row["OBJECTID"], site_ref=reference(row["OBJECTID"]), site_id=row["OBJECTID"],
            charger_ref=reference(row["OBJECTID"]), charger_id=row["OBJECTID"], evse_ref=reference(row["OBJECTID"]),
            latitude=float(row["Latitude"]), longitude=float(row["Longitude"]), state="NSW",
        )
        for row in stations
    ]  # fmt: skip
    kinds = ("lga_boundaries", "postcode_boundaries", "government_funded")
    assert main(["load", "--url", str(FILES), *[word for kind in kinds for word in ("--kind", kind)]]) == 0
    with connect(Role.INGEST) as connection, Writer(connection, config).batch() as batch:
        batch.add_assets(described, NOW, is_whole_evse=False)
    assert main(["locate"]) == 0
    transform()
    found = {row[0]: row[1:] for row in rows_of("dim_site", "site_id, lga_name, lga_method, postcode, postcode_method")}
    assert {site_id: row[:2] for site_id, row in found.items()} == {
        "1": ("Central Coast (NSW)", "boundary"),
        "16": ("Central Darling", "boundary"),
        "324": ("Wollongong", "boundary"),
        "1099": ("Wollongong", "boundary"),
        "1160": ("Wollongong", "boundary"),
        # The list itself says Cessnock: the road to Pokolbin crosses the border.
        "1006": ("Singleton", "boundary"),
        "1070": ("Inner West", "boundary"),
    }
    # The file has not every postcode: of what is in none of it nothing is said.
    assert {site_id: row[2] for site_id, row in found.items() if row[2]} == {"1006": "2320"}
    # None of them is a funded one.
    assert rows_of("dim_evse_funding") == []
    reasons = Counter(row[0] for row in rows_of("fct_funding_match_review", "reason"))
    print(reasons)
    assert sum(reasons.values()) == 11
