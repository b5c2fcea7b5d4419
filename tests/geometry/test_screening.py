"""A quick search keeps pairs that have a geometry, and leaves out those that agree by chance alone."""

import cv2
import numpy as np
import pytest

from lightmatch.geometry.screening import may_share_geometry

SIZE = (640, 480)
LEAST = 15


def seen(num_true: int, num_false: int, seed: int, *, flat: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Matches of two views of points in depth, or on a plane, and matches at random."""
    rng = np.random.default_rng(seed)
    points = rng.uniform((-2, -1.5, 4), (2, 1.5, 9), (num_true, 3))
    if flat:
        points[:, 2] = 6 + 0.3 * points[:, 0]
    pixels = [500 * (points + move)[:, :2] / points[:, 2:] + (320, 240) for move in ((0, 0, 0), (0.6, 0.1, 0.2))]
    both = [
        np.concatenate((xy + rng.normal(0, 0.5, xy.shape), rng.uniform((0, 0), SIZE, (num_false, 2)))) for xy in pixels
    ]
    return both[0], both[1]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("num_true", "num_false"), [(20, 0), (25, 25), (40, 60), (300, 300)])
def test_a_geometry_is_found(num_true: int, num_false: int, flat: bool) -> None:
    for seed in range(10):
        assert may_share_geometry(*seen(num_true, num_false, seed, flat=flat), 4.0, seed, LEAST)


def test_a_plane_among_many_others_is_found_by_its_homography() -> None:
    """A fundamental matrix of seven points takes more trials than there are."""
    found = [may_share_geometry(*seen(20, 60, seed, flat=True), 4.0, seed, LEAST) for seed in range(20)]
    assert np.mean(found) > 0.9


@pytest.mark.parametrize("count", [30, 60, 100, 400])
def test_of_random_matches_few_are_kept(count: int) -> None:
    kept = [may_share_geometry(*seen(0, count, seed), 4.0, seed, LEAST) for seed in range(40)]
    assert np.mean(kept) < 0.2


def test_a_seed_repeats() -> None:
    pairs = [seen(14, 60, seed) for seed in range(20)]
    one, other = ([may_share_geometry(*pair, 4.0, 3, LEAST) for pair in pairs] for _ in range(2))
    assert one == other


def test_matches_without_extent_and_too_few_are_no_error() -> None:
    same, line = np.full((40, 2), 7.0), np.stack((np.arange(40.0), np.arange(40.0)), 1)
    for points in (same, line):
        for others in (same, line, seen(0, 40, 0)[1]):
            assert may_share_geometry(points, others, 4.0, 0, LEAST) in (True, False)
    for count in range(LEAST):
        assert not may_share_geometry(*seen(count, 0, 0), 4.0, 0, LEAST)
    assert may_share_geometry(*seen(6, 0, 0), 4.0, 0, 6)  # too few for a search: left to the thorough one


def test_where_opencv_fails_the_thorough_search_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asserts on some inputs, which come once in some thousand pairs."""

    def fail(*_: object) -> None:
        raise cv2.error("(-215:Assertion failed) !model.empty()")

    monkeypatch.setattr(cv2, "findHomography", fail)
    assert may_share_geometry(*seen(0, 80, 0), 4.0, 0, LEAST)
