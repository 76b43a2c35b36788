"""Reference files of the world: areas that are rectangles, and a list of funded assets as people write it. Same seed, same bytes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simulator.world import CPOS, Site, World

PROGRAM = "Destination Charging"
_STATE_DIGIT = {"NSW": 1, "WA": 5}
_FUNDED_COLUMNS = (
    "evse_id", "evse_port_id", "cpo_name", "address", "suburb", "postcode", "lga_code", "lga_name", "state",
    "latitude", "longitude", "program", "round",
)  # fmt: skip

# Site, round, and the numbers of the chargers that are listed by id; 0: a row without one.
_FUNDED = (
    ("Riverbank Arcade", "1", (1, 2)),
    ("Old Settlement Green", "1", (0,)),
    ("Koombana Foreshore", "2", (0,)),
    ("Silver Lode Yard", "1", (0, 0)),
    ("Avon Flour Works", "2", (0,)),
    # Fewer rows than chargers: a person must say which.
    ("Plains Rest Stop", "2", (0,)),
)


def emit_reference(world: World, out: Path) -> list[Path]:
    """Write the files of `python -m reference load` into a folder, those that must be there."""
    out.mkdir(parents=True, exist_ok=True)
    areas = _areas(world)
    names = {code: name for code, name, _ in areas.values()}
    boundaries = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {"lga_code": code, "lga_name": name}, "geometry": geometry}
            for code, name, geometry in areas.values()
        ],
    }
    path = out / "lga_boundaries.geojson"
    path.write_text(json.dumps(boundaries), encoding="utf-8")
    return [
        path,
        _write(
            out / "lga_lookup.csv",
            ("written_name", "lga_name", "lga_code"),
            ((f"{name} Council", name, code) for code, name in names.items()),
        ),
        _write(
            out / "postcode_ranges.csv",
            ("state", "first_postcode", "last_postcode"),
            (("NSW", "2000", "2599"), ("NSW", "2619", "2899"), ("NSW", "2921", "2999"), ("WA", "6000", "6797")),
        ),
        _write(out / "required_states.csv", ("state",), ((state,) for state in _STATE_DIGIT)),
        _write(out / "government_funded.csv", _FUNDED_COLUMNS, _funded_rows(world)),
    ]


def _cell(site: Site) -> tuple[int, int]:
    return math.floor(site.latitude), math.floor(site.longitude)


def _areas(world: World) -> dict[tuple[int, int], tuple[str, str, dict[str, Any]]]:
    """Code, name and boundary of each degree square with a site, by its corner in the south-west."""
    areas: dict[tuple[int, int], tuple[str, str, dict[str, Any]]] = {}
    for site in world.sites:
        if _cell(site) in areas:
            continue
        south, west = _cell(site)
        ring = [[west, south], [west + 1, south], [west + 1, south + 1], [west, south + 1], [west, south]]
        areas[_cell(site)] = (
            f"{_STATE_DIGIT[site.state]}{9001 + len(areas)}",
            f"{site.suburb} Shire",
            {"type": "Polygon", "coordinates": [ring]},
        )
    return areas


def _funded_rows(world: World) -> Iterable[tuple[str, ...]]:
    names = {cpo.cpo_id: cpo.name for cpo in CPOS}
    for site_name, funding_round, chargers in _FUNDED:
        site = next(site for site in world.sites if site.name == site_name)
        ids = list(dict.fromkeys(evse.charger_id for evse in world.standing if evse.site == site))
        for number in chargers:
            # Some 60 m from where the CPO says that it stands.
            yield (
                ids[number - 1] if number else "", "", names[site.cpo_id], site.address, site.suburb, site.postcode,
                "", "", site.state, f"{site.latitude + 0.00053:.5f}", f"{site.longitude:.5f}", PROGRAM, funding_round,
            )  # fmt: skip
    # One whose chargers nobody has told of yet.
    yield (
        "", "", CPOS[0].name, "2 Weir Row", "Mildura Gate", "2738", "", "", "NSW", "-34.17123", "142.20456", PROGRAM, "2",
    )  # fmt: skip


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path
