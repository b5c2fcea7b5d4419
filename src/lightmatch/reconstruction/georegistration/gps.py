"""GPS positions in local metric coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.geodetic import ecef_from_geodetic


class GeodeticPosition(Protocol):
    """Anything with a position on WGS84, such as the EXIF data of a photo."""

    @property
    def latitude_deg(self) -> float:
        """North is positive."""
        ...

    @property
    def longitude_deg(self) -> float:
        """East is positive."""
        ...

    @property
    def altitude_m(self) -> float | None:
        """Above the ellipsoid or the sea: only differences are used."""
        ...


class GpsPosition(NamedTuple):
    """A position on WGS84."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float | None = None


def enu_from_geodetic(positions: np.ndarray, origin: GeodeticPosition) -> np.ndarray:
    """East, north and up (m) of `positions` (n, 3: degrees, degrees, m) in the tangent plane at `origin`.

    Source: Torge and Müller 2012, "Geodesy", section 2.5.2: local systems.
    """
    at = np.array([[origin.latitude_deg, origin.longitude_deg, origin.altitude_m or 0.0]])
    sin_lat, cos_lat = math.sin(math.radians(at[0, 0])), math.cos(math.radians(at[0, 0]))
    sin_lon, cos_lon = math.sin(math.radians(at[0, 1])), math.cos(math.radians(at[0, 1]))
    enu_from_ecef = np.array(
        [
            [-sin_lon, cos_lon, 0.0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )
    return (ecef_from_geodetic(positions) - ecef_from_geodetic(at)) @ enu_from_ecef.T


def gps_origin(positions: Mapping[str, GeodeticPosition]) -> GpsPosition:
    """The median of all positions, which single outliers hardly move.

    Raises InvalidValueError where there are none, or a latitude or longitude is out of range.
    """
    if not positions:
        raise InvalidValueError("gps_origin: expected at least one position, got none")
    for name, place in positions.items():
        if not (abs(place.latitude_deg) <= 90 and abs(place.longitude_deg) <= 180):
            raise InvalidValueError(
                f"GPS of {name}: expected a latitude within ±90° and a longitude within ±180°,"
                f" got {place.latitude_deg} and {place.longitude_deg}; leave this position out"
            )
    # Relative to one of them: longitudes near +180° and −180° are neighbours.
    rough = math.radians(sorted(place.longitude_deg for place in positions.values())[len(positions) // 2])
    offsets = [(math.radians(p.longitude_deg) - rough + math.pi) % (2 * math.pi) - math.pi for p in positions.values()]
    longitude = math.degrees(rough + float(np.median(offsets)))
    altitudes = [p.altitude_m for p in positions.values() if p.altitude_m is not None]
    return GpsPosition(
        float(np.median([p.latitude_deg for p in positions.values()])),
        (longitude + 180) % 360 - 180,
        float(np.median(altitudes)) if altitudes else None,
    )


def local_metres(positions: Mapping[str, GeodeticPosition], origin: GeodeticPosition) -> dict[str, np.ndarray]:
    """East, north, up (3,) in metres from `origin` by photo; up is NaN where a photo has no altitude."""
    if not positions:
        return {}
    at = origin.altitude_m or 0.0
    table = np.array([(p.latitude_deg, p.longitude_deg, at if p.altitude_m is None else p.altitude_m)
                      for p in positions.values()])  # fmt: skip
    local = enu_from_geodetic(table, origin)
    unknown = np.array([place.altitude_m is None for place in positions.values()])
    local[unknown, 2] = np.nan
    return dict(zip(positions, local, strict=True))
