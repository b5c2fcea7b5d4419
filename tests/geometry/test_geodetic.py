import math

import numpy as np
import pycolmap
import pytest

from lightmatch.geometry.geodetic import ecef_from_geodetic


def test_as_colmap_has_it() -> None:
    places = np.array([[55.7, 13.2, 37.0], [-33.9, 151.2, 100.0], [0.0, 180.0, 0.0], [89.0, -20.0, 5000.0]])
    colmaps = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84)
    np.testing.assert_allclose(ecef_from_geodetic(places), colmaps.ellipsoid_to_ecef(places), atol=1e-6)


def test_distances_on_the_ground() -> None:
    """A degree of latitude has 110.574 km at the equator, 111.694 km at the poles; of longitude 111.320 km · cos φ."""
    for latitude, expected_m in ((0.0, 1105.743), (89.99, 1116.938)):
        places = ecef_from_geodetic(np.array([[latitude - 0.005, 10.0, 0.0], [latitude + 0.005, 10.0, 0.0]]))
        assert np.linalg.norm(places[0] - places[1]) == pytest.approx(expected_m, abs=0.05)
    places = ecef_from_geodetic(np.array([[0.0, 0.0, 0.0], [0.0, 0.01, 0.0]]))
    assert np.linalg.norm(places[0] - places[1]) == pytest.approx(6378137 * math.radians(0.01), rel=1e-6)
