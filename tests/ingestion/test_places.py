from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.places import time_zone_at
from ingestion.times import is_time_zone


@pytest.mark.parametrize(
    ("place", "latitude", "longitude", "zone"),
    [
        ("Broken Hill, NSW with the time of South Australia", -31.9505, 141.4533, "Australia/Broken_Hill"),
        ("Silverton, a little west of it", -31.885, 141.22, "Australia/Broken_Hill"),
        ("Cockburn, over the border in South Australia", -32.08, 141.0, "Australia/Adelaide"),
        ("Lord Howe Island", -31.55, 159.08, "Australia/Lord_Howe"),
        ("Eucla, Western Australia", -31.677, 128.889, "Australia/Eucla"),
        ("Border Village, South Australia, which keeps Eucla's time", -31.638, 129.003, "Australia/Eucla"),
        ("Cocklebiddy, the western edge of Eucla's time", -32.04, 126.1, "Australia/Eucla"),
        ("Caiguna, the next roadhouse west", -32.27, 125.49, "Australia/Perth"),
        ("Tweed Heads, NSW", -28.2, 153.54, "Australia/Sydney"),
        ("Coolangatta, Queensland, next street", -28.168, 153.535, "Australia/Brisbane"),
        ("Boggabilla, NSW", -28.605, 150.36, "Australia/Sydney"),
        ("Goondiwindi, Queensland, over the river", -28.547, 150.308, "Australia/Brisbane"),
        ("a quay of Sydney", -33.861, 151.2105, "Australia/Sydney"),
        ("unset coordinates", 0.0, 0.0, None),
        ("the Tasman Sea", -33.9, 158.0, None),
        ("Sydney with its sign lost", 33.9, 151.2, None),
    ],
)
def test_a_place_on_land_has_its_own_zone(place: str, latitude: float, longitude: float, zone: str | None) -> None:
    assert time_zone_at(latitude, longitude) == zone, place


@settings(max_examples=200, deadline=None)
@given(st.floats(-90, 90), st.floats(-180, 180))
def test_every_place_on_earth_has_a_zone_that_exists_or_none(latitude: float, longitude: float) -> None:
    zone = time_zone_at(latitude, longitude)
    assert zone is None or (is_time_zone(zone) and not zone.startswith("Etc/"))


def test_the_map_of_zones_is_loaded_when_it_is_needed() -> None:
    loaded = "import sys, ingestion.ocpi.translate; print('timezonefinder' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
