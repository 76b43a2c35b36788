"""The world's reference files: the same each time, and enough for the warehouse to place every site and find what was funded."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingestion.config import load_cpo
from ingestion.history import import_history
from reference.__main__ import main as reference
from simulator.__main__ import main
from simulator.world import CPOS
from tests.warehouse.reading import rows_of
from warehouse.connection import Role, connect
from warehouse.transform import transform


def test_the_files_of_a_seed_are_always_the_same(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        assert main(["emit-reference", "--out", str(tmp_path / name)]) == 0
        found.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert found[0] == found[1]
    assert set(found[0]) == {
        "government_funded.csv", "lga_boundaries.geojson", "lga_lookup.csv", "postcode_ranges.csv", "required_states.csv",
    }  # fmt: skip


@pytest.mark.usefixtures("warehouse")
def test_they_place_every_site_and_tell_what_was_funded(tmp_path: Path) -> None:
    files = tmp_path / "reference"
    assert main(["emit-reference", "--out", str(files)]) == 0
    assert main(["emit-history", "--month", "2026-10", "--days", "1", "--out", str(tmp_path)]) == 0
    for cpo in CPOS:
        with connect(Role.INGEST) as connection:
            assets = tmp_path / cpo.cpo_id / "2026-10" / "assets.csv.gz"
            import_history(
                connection, load_cpo(cpo.cpo_id), assets=assets, changes=None, contact=None, now=datetime.now(UTC)
            )
    assert reference(["load", "--url", str(files)]) == 0
    transform()
    sites = rows_of("dim_site", "site_name, lga_name, lga_method")
    assert len(sites) == 40
    assert {method for _, _, method in sites} == {"boundary"}
    assert ("Riverbank Arcade", "Parramatta Shire", "boundary") in sites
    with connect(Role.ANALYST) as connection:
        funded = connection.execute(
            "select site_name, round, match_method, count(*) from marts.dim_evse_funding inner join marts.dim_evse using (evse_key)"
            " inner join marts.dim_site using (site_key) group by 1, 2, 3 order by 1"
        ).fetchall()
    assert funded == [
        ("Avon Flour Works", "2", "distance", 1),
        ("Koombana Foreshore", "2", "distance", 2),
        ("Old Settlement Green", "1", "distance", 2),
        ("Riverbank Arcade", "1", "evse_id", 4),
        ("Silver Lode Yard", "1", "distance", 3),
    ]
    review = rows_of("fct_funding_match_review", "suburb, reason, is_matched")
    assert review == [("Dubbo", "more_chargers_than_rows", False), ("Mildura Gate", "no_site_near", False)]
