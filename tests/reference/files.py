"""Small reference files: two square areas in New South Wales and one in Western Australia."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FUNDED_COLUMNS = (
    "evse_id", "evse_port_id", "cpo_name", "address", "suburb", "postcode", "lga_code", "lga_name", "state",
    "latitude", "longitude", "program", "round",
)  # fmt: skip


def square(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """A GeoJSON Polygon."""
    return {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }


def collection(features: Iterable[tuple[Mapping[str, Any], Any]]) -> str:
    """A GeoJSON FeatureCollection of (properties, geometry)."""
    listed = [{"type": "Feature", "properties": of, "geometry": geometry} for of, geometry in features]
    return json.dumps({"type": "FeatureCollection", "features": listed})


LGAS = [
    ({"LGA_code": "10001", "LGA_name": "Bilby"}, square(150.0, -34.0, 151.0, -33.0)),
    ({"LGA_code": "10002", "LGA_name": "Numbat"}, square(151.0, -34.0, 152.0, -33.0)),
    ({"LGA_code": "50001", "LGA_name": "Bilby"}, square(115.0, -32.0, 116.0, -31.0)),
]
POSTCODES = [
    ({"postcode": "2001"}, square(150.0, -34.0, 151.0, -33.0)),
    ({"postcode": "6001"}, square(115.0, -32.0, 116.0, -31.0)),
]


def funded(**told: Any) -> dict[str, Any]:
    """A row of the list; whatever is not told is empty, but CPO, program and round."""
    row = {"cpo_name": "Wattle", "program": "Destination Charging", "round": "1", **told}
    return {name: row.get(name, "") for name in FUNDED_COLUMNS}


def table(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """A CSV file."""
    lines = [list(columns), *([str(row.get(name, "")) for name in columns] for row in rows)]
    return "".join(",".join(f'"{field}"' for field in line) + "\n" for line in lines)


def write_files(folder: Path, **changed: str | None) -> Path:
    """Write a whole set of good files; ``changed`` replaces a kind's, or leaves it away (None)."""
    files = {
        "postcode_ranges.csv": "state,first_postcode,last_postcode\nNSW,2000,2999\nWA,6000,6999\n",
        "required_states.csv": "state\nNSW\nwa\n",
        "lga_boundaries.geojson": collection(LGAS),
        "postcode_boundaries.geojson": collection(POSTCODES),
        "lga_lookup.csv": "written_name,lga_name,lga_code\nBilby Shire Council,Bilby,10001\nShire of Bilby,Bilby,50001\n",
        "government_funded.csv": table([], FUNDED_COLUMNS),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        told = changed.pop(name.partition(".")[0], content)
        if told is not None:
            (folder / name).write_text(told, encoding="utf-8")
    for kind, told in changed.items():
        assert told is not None
        (folder / f"{kind}.csv").write_text(told, encoding="utf-8")
    return folder


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
