import math

import numpy as np
import pytest
from pairing.made_features import describe_all, photo, place

from lightmatch.errors import InvalidValueError
from lightmatch.pairing import spatial

METRE = 1 / 111_320  # degrees of latitude, about


def test_nearest_within_reach() -> None:
    line = [(50 + METRE * step, 8.0, None) for step in (0, 10, 25, 300, 305)]
    assert spatial(line, num_neighbors=1, max_distance_m=100) == [(0, 1), (1, 2), (3, 4)]
    assert spatial(line, num_neighbors=4, max_distance_m=100) == [(0, 1), (0, 2), (1, 2), (3, 4)]
    assert len(spatial(line, num_neighbors=4, max_distance_m=1000)) == 10


@pytest.mark.parametrize(
    "positions",
    [
        [(0.0, 180 - 2 * METRE, 5.0), (0.0, -180 + 2 * METRE, 5.0), (0.0, 0.0, 5.0), (METRE, METRE, 5.0)],
        [(90 - METRE, 0.0, None), (90 - METRE, 180.0, None), (0.0, 0.0, None), (METRE, 0.0, None)],
        [(-90.0, 17.0, None), (-90.0, -120.0, None), (0.0, 0.0, None), (METRE, 0.0, None)],
        [(10.0, 370.0, None), (10.0, 10.0, None), (0.0, 0.0, None), (METRE, 0.0, None)],
    ],
    ids=["date line", "north pole", "south pole", "more than a turn"],
)
def test_degrees_that_look_far_apart(positions: list) -> None:
    assert spatial(positions, num_neighbors=3, max_distance_m=10) == [(0, 1), (2, 3)]


def test_altitude_does_not_matter() -> None:
    assert spatial([(1.0, 2.0, 0.0), (1.0, 2.0, 900.0)], 1, 10) == [(0, 1)]


def test_at_one_place_neighbours_in_the_list_come_first() -> None:
    assert spatial([(1.0, 2.0, None)] * 5, num_neighbors=1) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_photos_without_position_are_paired_along_the_list() -> None:
    positions = [(0.0, 0.0, None), None, (1.0, 1.0, None), (METRE, 0.0, None)]
    pairs = spatial(positions, num_neighbors=2)
    assert pairs == [(0, 1), (0, 3), (1, 2), (2, 3)]  # photo 2 is alone at its place
    assert spatial([None] * 3, num_neighbors=1) == [(0, 1), (1, 2)]


def test_photos_without_position_are_paired_by_their_looks() -> None:
    photos = [photo(place(p, 100), 10 * p + i) for i in range(2) for p in range(3)]
    positions = [(0.0, 0.0, None), (METRE, 0.0, None), (2 * METRE, 0.0, None), None, None, None]
    pairs = spatial(positions, 1, descriptors=describe_all(photos))
    assert pairs == [(0, 1), (0, 3), (1, 2), (1, 4), (2, 5)]


def test_no_photos() -> None:
    assert spatial([]) == [] == spatial([None]) == spatial([(0.0, 0.0, 0.0)])


@pytest.mark.parametrize("bad", [(91.0, 0.0, None), (math.nan, 0.0, None), (0.0, math.inf, None)])
def test_bad_positions(bad: tuple) -> None:
    with pytest.raises(InvalidValueError, match="latitudes within ±90"):
        spatial([bad, (0.0, 0.0, None)])


def test_bad_options() -> None:
    for num_neighbors, max_distance_m in ((0, 1.0), (1, 0.0), (1, math.nan)):
        with pytest.raises(InvalidValueError, match="num_neighbors ≥ 1"):
            spatial([None], num_neighbors, max_distance_m)
    with pytest.raises(InvalidValueError, match="each of 1 photos"):
        spatial([None], descriptors=np.zeros((2, 9), np.uint8))
