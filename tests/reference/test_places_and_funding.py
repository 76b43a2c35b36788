"""Where sites lie and what was funded, on small files: every way in which it is found, and every doubt."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingestion.model import Asset, reference
from ingestion.writer import Writer
from reference.kinds import KINDS, asset_ids
from reference.loading import load
from reference.locating import METRES_PER_DEGREE, Areas, locate
from reference.reading import read
from tests.feeds import asset, history_config
from tests.reference.files import FUNDED_COLUMNS, LGAS, collection, funded, square, table, write_files
from tests.warehouse.reading import every_row, rows_of
from warehouse.connection import Role, connect
from warehouse.transform import run_dbt, transform

NOW = datetime.now(UTC).replace(microsecond=0)


def site(
    site_id: str, latitude: float | None, longitude: float | None = 150.10001, chargers: str = "x", **values: Any
) -> list[Asset]:
    """A site whose chargers have an EVSE for each time that their letter stands in ``chargers``."""
    return [
        asset(
            f"{site_id}-{letter}{chargers[:index].count(letter) + 1}",
            site_ref=reference(site_id), site_id=site_id, charger_ref=reference(site_id, letter),
            charger_id=f"{site_id}-{letter}", evse_ref=reference(site_id, f"{letter}{index}"),
            latitude=latitude, longitude=longitude, **{"postcode": "2001", "state": "NSW", **values},
        )
        for index, letter in enumerate(chargers)
    ]  # fmt: skip


def describe(cpo_id: str, assets: list[Asset]) -> None:
    with connect(Role.INGEST) as connection, Writer(connection, history_config(cpo_id)).batch() as batch:
        batch.add_assets(assets, NOW, is_whole_evse=False)


def load_files(folder: Path, kinds: tuple[str, ...] = (), **changed: str) -> None:
    with connect(Role.REGISTRAR) as connection:
        load(connection, url=str(write_files(folder, **changed)), kinds=kinds, loaded_by="Ann")


# The area of a point


def test_a_point_belongs_to_the_area_that_holds_it_or_is_near() -> None:
    areas = Areas({of["LGA_code"]: geometry for of, geometry in LGAS})
    inside = areas.find(-33.5, 150.5)
    assert inside is not None
    assert (inside.code, inside.distance_m) == ("10001", 0)
    near = areas.find(-32.99, 150.5)
    assert near is not None
    assert near.code == "10001"
    assert near.distance_m == pytest.approx(0.01 * METRES_PER_DEGREE)
    # A degree of longitude is shorter: 0.01 degrees at 33.5 south are 927 m.
    west = areas.find(-33.5, 149.99)
    assert west is not None
    assert west.distance_m == pytest.approx(927.2, abs=0.1)
    assert areas.find(-32.98, 150.5) is None
    assert areas.find(0, 0) is None


def test_of_areas_that_overlap_the_one_that_a_point_is_deeper_in_and_of_islands_in_a_bay_both() -> None:
    areas = Areas(
        {
            "a": square(150, -34, 151.01, -33),
            "b": square(150.99, -34, 152, -33),
            "c": {
                "type": "MultiPolygon",
                "coordinates": [
                    square(155, -34, 156, -33)["coordinates"],
                    square(155.4, -33.6, 155.6, -33.4)["coordinates"],
                ],
            },
        }
    )
    found = [areas.find(-33.5, longitude) for longitude in (150.995, 151.0, 151.005, 155.5, 155.1)]
    assert [place and place.code for place in found] == ["a", "a", "b", "c", "c"]


# Places


@pytest.fixture(scope="module")
def world(module_warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Described sites, loaded files and built marts; the name of each row of the funded list by its id."""
    folder = tmp_path_factory.mktemp("files")
    describe("quoll", PLACED)
    describe("wattle", FUNDED_SITES)
    content = table([of for of, _ in LISTED.values()], FUNDED_COLUMNS)
    ids = asset_ids([one.row for one in read(KINDS["government_funded"], content.encode())])
    names = dict(zip(ids, LISTED, strict=True))
    decisions = [
        f"{asset_id},{evse_ids},Ann,2026-10-01T09:00:00+10:00,\n"
        for asset_id, name in names.items()
        if (evse_ids := DECIDED.get(name))
    ]
    load_files(
        folder,
        government_funded=content,
        funding_decisions="asset_id,evse_ids,decided_by,decided_at,note\n" + "".join(decisions),
        cpo_names="listed_name,cpo_id\nWattle Energy,wattle\n",
        postcode_boundaries=collection([({"postcode": "2001"}, square(150, -34, 151, -33))]),
    )
    transform()
    return names


PLACED = [
    *site("inside", -33.5, 150.5),
    *site("stated", -33.5, 151.5, attributes={"lga_name": " BILBY  shire council"}),
    *site("stated-elsewhere", -31.5, 115.5, postcode="6001", attributes={"lga_name": "Shire of Bilby"}),
    *site("by-its-own-name", -33.5, 150.5, attributes={"lga_name": "numbat"}),
    *site("of-another-state", -33.5, 150.5, attributes={"lga_name": "Shire of Bilby"}),
    *site("not-known", -33.5, 151.5, attributes={"lga_name": "Wombat"}),
    *site("jetty", -32.9956, 150.5),
    *site("at-sea", -32.995, 150.5),
    *site("nowhere", None, None, address="1 Main St", suburb="Town"),
    *site("no-postcode", -33.5, 150.5, postcode=None, state="VIC"),
    *site("jetty-no-postcode", -32.9956, 150.5, postcode=None, state=None),
    *site("blank-postcode", -32.995, 150.5, postcode="", state="vic"),
    *site("postcode-of-another-state", -33.5, 150.5, postcode="6001"),
    *site("abroad", 48.0, 9.0, postcode="2001", state="BW", country="DEU"),
]
NEAREST = "nearest within 500 m"


@pytest.mark.usefixtures("world")
def test_a_site_gets_its_area_and_what_it_does_not_state_and_says_so() -> None:
    found = rows_of(
        "dim_site",
        "site_id, lga_code, lga_name, lga_method, postcode, postcode_method, state",
        "cpo_key = (select cpo_key from marts.dim_cpo where cpo_id = 'quoll')",
    )
    assert {row[0]: row[1:] for row in found} == {
        "inside": ("10001", "Bilby", "boundary", "2001", "stated", "NSW"),
        "stated": ("10001", "Bilby", "stated", "2001", "stated", "NSW"),
        "stated-elsewhere": ("50001", "Bilby", "stated", "6001", "stated", "WA"),
        "by-its-own-name": ("10002", "Numbat", "stated", "2001", "stated", "NSW"),
        "of-another-state": ("10001", "Bilby", "boundary", "2001", "stated", "NSW"),
        "not-known": ("10002", "Numbat", "boundary", "2001", "stated", "NSW"),
        "jetty": ("10001", "Bilby", NEAREST, "2001", "stated", "NSW"),
        "at-sea": (None, None, None, "2001", "stated", "NSW"),
        "nowhere": (None, None, None, "2001", "stated", "NSW"),
        "no-postcode": ("10001", "Bilby", "boundary", "2001", "boundary", "NSW"),
        "jetty-no-postcode": ("10001", "Bilby", NEAREST, None, None, None),
        "blank-postcode": (None, None, None, None, None, "VIC"),
        "postcode-of-another-state": ("10001", "Bilby", "boundary", "6001", "stated", "WA"),
        "abroad": (None, None, None, "2001", "stated", "BW"),
    }


@pytest.mark.usefixtures("world")
def test_an_address_that_is_not_stated_is_that_of_the_funded_list() -> None:
    columns = "address, address_method, suburb, suburb_method"
    assert rows_of("dim_site", columns, "site_id = 'one'") == [("1 Listed St", "funded list", "Listed", "funded list")]
    assert rows_of("dim_site", columns, "site_id = 'nowhere'") == [("1 Main St", "stated", "Town", "stated")]
    assert rows_of("dim_site", columns, "site_id = 'far'") == [(None, None, None, None)]
    assert {row[0] for row in rows_of("dim_required_state", "state")} == {"NSW", "WA"}


# Funding

FUNDED_SITES = [
    *site("one", -33.05, chargers="aa"),
    *site("far", -33.1),
    *site("pair-1", -33.2),
    *site("pair-2", -33.2005),
    *site("more", -33.25, chargers="ab"),
    *site("enough", -33.3, chargers="aabb"),
    *site("fewer", -33.35),
    *site("rounds", -33.4, chargers="ab"),
    *site("ids", -33.45, chargers="aabbc"),
    *site("same-id", -33.5, chargers="aab", emi3_id="AU*WAT*E1"),
    *site("rough", -33.55),
    *site("elsewhere", -33.6),
    *site("alias", -33.65),
    # Of charger b one port alone is listed.
    *site("mixed", -33.7, chargers="abb"),
    *site("decided", -33.75, chargers="abc"),
    *site("edge", -33.8),
    *site("beyond", -33.85),
    # No place on earth.
    *site("swapped", 150.10001, -33.05),
]


def near(latitude: float, **told: Any) -> dict[str, Any]:
    """A row of the list at a latitude, on the meridian of the sites; written with enough decimals."""
    return funded(latitude=f"{latitude:.5f}", longitude="150.10001", **told)


# Each row of the list by a name, and why a person must look, or None.
LISTED: dict[str, tuple[dict[str, Any], str | None]] = {
    "one": (near(-33.0510, address="1 Listed St", suburb="Listed", lga_name="Bilby", state="NSW"), None),
    "far": (near(-33.103), "site_not_near_enough"),
    "nothing": (near(-33.15), "no_site_near"),
    "pair": (near(-33.20025), "several_sites_near"),
    "more": (near(-33.25), "more_chargers_than_rows"),
    "enough 1": (near(-33.3), None),
    "enough 2": (near(-33.3001), None),
    "fewer 1": (near(-33.35), "fewer_chargers_than_rows"),
    "fewer 2": (near(-33.35), "fewer_chargers_than_rows"),
    "rounds 1": (near(-33.4), "several_rounds_at_site"),
    "rounds 2": (near(-33.4, round="2"), "several_rounds_at_site"),
    "port": (near(-33.45, evse_port_id="IDS-A1", round="2"), None),
    "port again": (near(-33.45, evse_port_id="ids-a1", round="3"), "evse_of_another_row"),
    "charger": (near(-33.45, evse_id="ids-b"), None),
    "evse in the charger's place": (funded(evse_id="ids-c1"), None),
    "no such id": (near(-33.45, evse_id="ids-z"), "id_not_found"),
    "port of several": (near(-33.5, evse_port_id="au*wat*e1"), "id_of_several"),
    "charger of several": (near(-33.5, evse_id="AU*WAT*E1"), "id_of_several"),
    "id far away": (near(-33.5, evse_id="far-x"), "id_is_far_away"),
    "cpo": (near(-33.05, cpo_name="Wattles"), "cpo_not_found"),
    "alias": (near(-33.65, cpo_name="WATTLE energy"), None),
    "nowhere": (funded(), "no_coordinates"),
    "rough": (funded(latitude="-33.55", longitude="150.1"), "coordinates_are_rough"),
    "elsewhere": (near(-33.6001, lga_name="Numbat", state="NSW"), "coordinates_in_another_lga"),
    "elsewhere by code": (near(-33.6001, lga_code="10002"), "coordinates_in_another_lga"),
    "mixed 1": (near(-33.7, evse_port_id="mixed-b1"), None),
    "mixed 2": (near(-33.7), None),
    "decided": (near(-33.75), None),
    "decided none": (near(-33.75, round="2"), None),
    "decided in part": (near(-33.75, round="3"), "decided_evse_not_found"),
    "edge": (near(-33.80134), None),
    "beyond": (near(-33.85136), "site_not_near_enough"),
}
DECIDED = {
    "decided": "decided-A1 decided-c1 DECIDED-a1",
    "decided none": "NONE",
    "decided in part": "decided-b1 decided-d1",
}


def test_funded_are_exactly_the_evses_that_are_found_for_certain(world: dict[str, str]) -> None:
    assert {row[0]: (world[row[1]], *row[2:]) for row in fundings()} == {
        "one-a1": ("one", "1", "distance", 111.2),
        "one-a2": ("one", "1", "distance", 111.2),
        **{f"enough-{evse}": ("enough 1", "1", "distance", 0.0) for evse in ("a1", "a2", "b1", "b2")},
        "fewer-x1": ("fewer 1", "1", "distance", 0.0),
        "ids-a1": ("port", "2", "evse_port_id", 0.0),
        "ids-b1": ("charger", "1", "evse_id", 0.0),
        "ids-b2": ("charger", "1", "evse_id", 0.0),
        "ids-c1": ("evse in the charger's place", "1", "evse_id", None),
        "far-x1": ("id far away", "1", "evse_id", 44478.0),
        "alias-x1": ("alias", "1", "distance", 0.0),
        "mixed-b1": ("mixed 1", "1", "evse_port_id", 0.0),
        "mixed-a1": ("mixed 2", "1", "distance", 0.0),
        "decided-a1": ("decided", "1", "decision", 0.0),
        "decided-c1": ("decided", "1", "decision", 0.0),
        "decided-b1": ("decided in part", "3", "decision", 0.0),
        "edge-x1": ("edge", "1", "distance", 149.0),
    }


def fundings() -> list[tuple[Any, ...]]:
    with connect(Role.ANALYST) as connection:
        return connection.execute(
            "select evse_id, asset_id, round, match_method, round(distance_m::numeric, 1)::float"
            " from marts.dim_evse_funding inner join marts.dim_evse using (evse_key)"
        ).fetchall()


def test_a_person_sees_every_doubt_with_its_reason_and_the_sites_it_may_be(world: dict[str, str]) -> None:
    with connect(Role.ANALYST) as connection:
        rows = connection.execute(
            "select asset_id, reason, is_matched, list_line, site_id, round(candidate_distance_m::numeric)::integer, candidate_charger_count,"
            " candidate_evse_ids from marts.fct_funding_match_review"
            " left join marts.dim_site on site_key = candidate_site_key order by asset_id, candidate_distance_m, site_id"
        ).fetchall()
    assert {world[row[0]]: row[1] for row in rows} == {name: reason for name, (_, reason) in LISTED.items() if reason}
    assert {row[3] for row in rows if world[row[0]] == "far"} == {list(LISTED).index("far") + 2}
    matched = {world[row[0]] for row in rows if row[2]}
    assert matched == {"fewer 1", "fewer 2", "id far away", "decided in part"}
    candidates = {name: [row[4:] for row in rows if world[row[0]] == name] for name in world.values()}
    assert candidates["far"] == [("far", 334, 1, "far-x1")]
    assert candidates["nothing"] == [("far", 5560, 1, "far-x1")]
    assert candidates["pair"] == [("pair-1", 28, 1, "pair-1-x1"), ("pair-2", 28, 1, "pair-2-x1")]
    assert candidates["more"] == [("more", 0, 2, "more-a1 more-b1")]
    assert candidates["cpo"] == candidates["nowhere"] == [(None, None, None, None)]


# Time


def kinds_of(site_id: str) -> list[tuple[Any, ...]]:
    return rows_of("dim_site", "lga_code, lga_name, lga_method", f"site_id = '{site_id}'")


@pytest.mark.usefixtures("warehouse")
def test_marts_at_a_cut_off_use_the_loads_of_then(tmp_path: Path) -> None:
    listed = near(-33.05)
    describe("quoll", site("one", -33.05))
    describe("wattle", site("two", -33.05))
    transform()
    assert kinds_of("one") == [(None, None, None)]
    load_files(tmp_path, government_funded=table([listed], FUNDED_COLUMNS))
    then = transform().as_of
    before = every_row()
    assert kinds_of("one") == [("10001", "Bilby", "boundary")]
    assert len(before["dim_evse_funding"]) == 1
    moved = [({"LGA_code": "10001", "LGA_name": "Bilby East"}, square(150.0, -34.0, 151.0, -33.0))]
    load_files(
        tmp_path,
        ("lga_boundaries", "lga_lookup", "government_funded", "postcode_ranges"),
        lga_boundaries=collection(moved),
        lga_lookup="written_name,lga_name,lga_code\nBilby,Bilby East,10001\n",
        government_funded=table([], FUNDED_COLUMNS),
        postcode_ranges="state,first_postcode,last_postcode\nACT,2000,2999\n",
    )
    # A site that came later is located for the earlier load too.
    describe("quoll", site("late", -33.06))
    with connect(Role.REGISTRAR) as connection:
        assert locate(connection) == 3
    transform()
    after = every_row()
    assert kinds_of("one") == kinds_of("late") == [("10001", "Bilby East", "boundary")]
    assert rows_of("dim_site", "state", "site_id = 'one'") == [("ACT",)]
    assert after["dim_evse_funding"] == after["fct_funding_match_review"] == []
    transform(full_refresh=True)
    assert every_row() == after
    transform(full_refresh=True, as_of=then)
    assert every_row() == before


@pytest.mark.usefixtures("warehouse")
def test_a_coordinate_that_nobody_located_is_warned_of(tmp_path: Path) -> None:
    def warned() -> dict[str, str]:
        done = run_dbt(
            ["test", "--select", "test_name:every_site_is_located"], {"as_of": transform().as_of.isoformat()}
        )
        return {node.split(".")[-2]: status for node, status, _, _ in done}

    load_files(tmp_path)
    describe("quoll", [*site("one", -33.05), *site("nowhere", None, None)])
    assert list(warned().values()) == ["warn"]
    assert kinds_of("one") == [(None, None, None)]
    with connect(Role.REGISTRAR) as connection:
        assert [locate(connection), locate(connection)] == [2, 0]
    assert list(warned().values()) == ["pass"]
    assert kinds_of("one") == [("10001", "Bilby", "boundary")]
