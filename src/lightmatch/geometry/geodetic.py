"""Places on the Earth: WGS 84 in degrees to metres from the centre of the Earth."""

from __future__ import annotations

import numpy as np

_SEMI_MAJOR_M, _FLATTENING = 6378137.0, 1 / 298.257223563  # of the ellipsoid of WGS 84
_ECCENTRICITY2 = _FLATTENING * (2 - _FLATTENING)


def ecef_from_geodetic(positions: np.ndarray) -> np.ndarray:
    """Earth-centred, Earth-fixed coordinates of latitude and longitude in degrees and height above the ellipsoid in m.

    positions: (n, 3). Returns (n, 3) m. Longitudes may be of any turn.
    Source: NIMA TR8350.2 (2000), "World Geodetic System 1984", equations 4-14 and 4-15.
    """
    latitude, longitude = np.radians(positions[:, 0]), np.radians(positions[:, 1])
    height = positions[:, 2]
    normal = _SEMI_MAJOR_M / np.sqrt(1 - _ECCENTRICITY2 * np.sin(latitude) ** 2)  # radius in the prime vertical
    return np.stack(
        [
            (normal + height) * np.cos(latitude) * np.cos(longitude),
            (normal + height) * np.cos(latitude) * np.sin(longitude),
            (normal * (1 - _ECCENTRICITY2) + height) * np.sin(latitude),
        ],
        1,
    )
