"""In which area a coordinate lies: worked out here, once, so that the marts need no geometry."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import psycopg
import shapely
from shapely.affinity import scale
from shapely.geometry import Point, shape
from shapely.geometry.base import BaseGeometry

METRES_PER_DEGREE = 6_371_008.8 * math.pi / 180
"""Of latitude, on a sphere of the earth's mean radius (as macro ``metres_between``)."""

SEARCHED_M = 2_000.0
"""How far around a point areas are looked for. The marts draw their own, nearer line."""


@dataclass(frozen=True)
class Place:
    """The area of a point; ``distance_m`` is 0 inside of it."""

    code: str
    distance_m: float


def whole(geometry: Any) -> BaseGeometry:
    """Return a GeoJSON geometry as a valid shape, empty when it has no extent. Islands inside a bay are drawn as shells within a shell: they belong to the area."""
    return shapely.make_valid(shape(geometry), method="structure", keep_collapsed=False)


class Areas:
    """Boundaries to look points up in."""

    def __init__(self, boundaries: dict[str, dict[str, object]]) -> None:
        """``boundaries``: GeoJSON geometries in degrees by code."""
        self._codes = sorted(boundaries)
        self._shapes = [whole(boundaries[code]) for code in self._codes]
        self._tree = shapely.STRtree(self._shapes)

    def find(self, latitude: float, longitude: float) -> Place | None:
        """Return the area of a point in degrees: the one it lies in, else the nearest within ``SEARCHED_M``.

        Simplified boundaries overlap a little: of two areas that hold the point, the one that it is deeper in.
        """
        squeeze = math.cos(math.radians(latitude))
        reach = SEARCHED_M / METRES_PER_DEGREE / max(squeeze, 0.1)
        point = Point(longitude, latitude)
        near = self._tree.query(point, predicate="dwithin", distance=reach)
        depths = [(self._beyond(self._shapes[index], point, squeeze), self._codes[index]) for index in near]
        if not depths:
            return None
        beyond, code = min(depths)
        return Place(code, max(beyond, 0.0)) if beyond <= SEARCHED_M else None

    @staticmethod
    def _beyond(area: BaseGeometry, point: Point, squeeze: float) -> float:
        """Metres from the area's edge outwards; negative inside. Around the point a degree of longitude is as long as one of latitude is after squeezing."""
        squeezed, at = (scale(it, xfact=squeeze, yfact=1, origin=(0, 0)) for it in (area, point))
        to_edge = float(squeezed.boundary.distance(at)) * METRES_PER_DEGREE
        return -to_edge if squeezed.covers(at) else to_edge


_UNLOCATED = """
with coordinates as (
    select distinct latitude, longitude from raw.asset_version
    where latitude is not null and longitude is not null
    union
    select distinct latitude, longitude from reference.funded_asset
    where latitude is not null
)

select load.load_key, coordinates.latitude, coordinates.longitude
from reference.load as load
cross join coordinates
where load.kind in ('lga_boundaries', 'postcode_boundaries')
    and not exists (
        select from reference.located as located
        where located.load_key = load.load_key
            and located.latitude = coordinates.latitude
            and located.longitude = coordinates.longitude
    )
order by load.load_key, coordinates.latitude, coordinates.longitude
"""


def locate(connection: psycopg.Connection) -> int:
    """Locate every known coordinate (of a site or a funded asset) that is not yet, in every load of boundaries; return how many it were.

    Role ``registrar``. Old loads too: marts that are rebuilt at an earlier cut-off read them.
    """
    unlocated: dict[int, list[tuple[float, float]]] = {}
    with connection.transaction():
        for load_key, latitude, longitude in connection.execute(_UNLOCATED):
            unlocated.setdefault(load_key, []).append((latitude, longitude))
        for load_key, points in unlocated.items():
            areas = Areas(
                {
                    code: json.loads(geometry) if isinstance(geometry, str) else geometry
                    for code, geometry in connection.execute(
                        "select code, geometry from reference.area where load_key = %s", (load_key,)
                    )
                }
            )
            found = [(load_key, latitude, longitude, areas.find(latitude, longitude)) for latitude, longitude in points]
            with connection.cursor() as cursor:
                cursor.executemany(
                    "insert into reference.located (load_key, latitude, longitude, code, distance_m)"
                    " values (%s, %s, %s, %s, %s) on conflict do nothing",
                    [(*key, place and place.code, place and place.distance_m) for *key, place in found],
                )
    return sum(map(len, unlocated.values()))
