"""Spatial pairs: photos taken near each other by GPS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.geodetic import ecef_from_geodetic
from lightmatch.pairing.retrieval import nearest_pairs

Position = tuple[float, float, float | None]  # latitude and longitude in degrees, altitude in m where known

_BLOCK_ELEMENTS = 1 << 22  # distances held at a time
_TIE_M = 1e-3  # nearer than a millimetre is the same distance: then the order of the list decides


def spatial(
    positions: Sequence[Position | None],
    num_neighbors: int = 20,
    max_distance_m: float = 100.0,
    descriptors: np.ndarray | None = None,
) -> list[tuple[int, int]]:
    """Each photo with its `num_neighbors` nearest ones within `max_distance_m`, on the ground.

    positions: (latitude, longitude, altitude) of WGS 84 by photo, None where unknown. Longitudes may be of any turn.
        Altitudes are not used: those of phones err by more than photos of one place differ in height.
    descriptors: (n, d) of `describe`, where the caller has them.
    Photos without a position, and those with nobody within reach (a lost GPS looks like that), are paired with the
    `num_neighbors` photos that look most like them, or, without descriptors, with as many in the list around them.
    Of equal distances, that of the photos nearest in the list comes first: they were mostly taken one after another.
    Returns sorted pairs (i, j), i < j, at most num_neighbors · n of them. Costs n² distances, in bounded memory.
    Raises InvalidValueError for a latitude beyond ±90°, numbers that are not finite, or descriptors of another count.
    """
    if num_neighbors < 1 or not max_distance_m > 0:
        raise InvalidValueError(
            "spatial: expected num_neighbors ≥ 1 and max_distance_m > 0,"
            f" got num_neighbors {num_neighbors} and max_distance_m {max_distance_m}"
        )
    if descriptors is not None and len(descriptors) != len(positions):
        raise InvalidValueError(
            f"spatial.descriptors: expected one for each of {len(positions)} photos, got {len(descriptors)}"
        )
    known = np.array([i for i, position in enumerate(positions) if position is not None], dtype=np.int64)
    places = _ground([position for position in positions if position is not None])
    pairs: set[tuple[int, int]] = set()
    lost = set(range(len(positions))) - set(known.tolist())
    for photo, neighbors in zip(known.tolist(), _near(places, known, num_neighbors, max_distance_m), strict=True):
        pairs.update((min(photo, other), max(photo, other)) for other in neighbors)
        if not neighbors:
            lost.add(photo)
    if descriptors is not None:
        pairs |= set(nearest_pairs(descriptors, num_neighbors, queries=sorted(lost)))
    else:
        for photo in lost:
            around = _around(photo, len(positions), num_neighbors)
            pairs.update((min(photo, other), max(photo, other)) for other in around)
    return sorted(pairs)


def _ground(positions: Sequence[Position]) -> np.ndarray:
    """(n, 3): places at height 0 in metres from the centre of the Earth.

    Straight lines between such points are the distances on the ground but for d³ / (24 R²): 1 mm in 10 km. Unlike
    differences of degrees they know neither date line nor poles.
    """
    degrees = np.array([(latitude, longitude, 0.0) for latitude, longitude, _ in positions]).reshape(-1, 3)
    if not np.isfinite(degrees).all() or (np.abs(degrees[:, 0]) > 90).any():
        raise InvalidValueError(
            "spatial.positions: expected finite degrees with latitudes within ±90, got another;"
            " give None where a photo has no position"
        )
    return ecef_from_geodetic(degrees)


def _near(places: np.ndarray, order: np.ndarray, num_neighbors: int, max_distance_m: float) -> list[list[int]]:
    """Of each place the nearest others within reach, as numbers of `order`."""
    found: list[list[int]] = []
    rows = max(1, _BLOCK_ELEMENTS // max(1, len(places)))
    for start in range(0, len(places), rows):
        # Differences first, squares after: the squares of coordinates would cost all digits under a metre.
        block = places[start : start + rows]
        squares = sum((block[:, None, axis] - places[None, :, axis]) ** 2 for axis in range(3))
        distances = np.sqrt(squares)
        for row, distance in enumerate(distances, start):
            distance[row] = np.inf
            within = np.flatnonzero(distance <= max_distance_m)
            steps = np.abs(order[within] - order[row])
            keys: tuple[np.ndarray, ...] = (within, steps, np.round(distance[within] / _TIE_M))
            best = np.lexsort(keys)[:num_neighbors]
            found.append(order[within[best]].tolist())
    return found


def _around(place: int, count: int, num_neighbors: int) -> list[int]:
    """The `num_neighbors` nearest others in a list of `count`."""
    reach = range(max(0, place - num_neighbors), min(count, place + num_neighbors + 1))
    return sorted((other for other in reach if other != place), key=lambda other: (abs(other - place), other))[
        :num_neighbors
    ]
