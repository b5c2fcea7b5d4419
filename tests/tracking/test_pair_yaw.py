"""The shift of disparities is found from how points at all distances move, and only where it is there."""

import numpy as np
import pytest

from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.pair_yaw import PairYaw

CAMERA = TrackedCamera.pinhole(np.array([[700.0, 0, 600], [0, 700, 180], [0, 0, 1]]), (1200, 370), 0.5)


def shift_found(shift_px: float, forward_m: float, num_pairs: int = 3) -> float:
    """Of pairs of keyframes whose right camera sees everything `shift_px` too far right."""
    rng, yaw = np.random.default_rng(0), PairYaw()
    for _ in range(num_pairs):
        depth = 1 / rng.uniform(1 / 60, 1 / 6, 400)
        places = rng.uniform([0, 0], [1200, 370], (400, 2))
        points = CAMERA.unproject(places, depth, np.eye(3, 4))
        moved = np.column_stack((np.eye(3), [0.02, 0.0, -forward_m]))
        after = CAMERA.project(points, moved)[0] + rng.normal(0, 0.3, (400, 2))
        right_x = CAMERA.right_of(places, depth) + shift_px + rng.normal(0, 0.2, 400)
        yaw.add(CAMERA, places, right_x, after, np.eye(3, 4))
    return yaw.shift_px


@pytest.mark.parametrize("shift_px", [-0.8, 1.2])
def test_the_shift_is_found(shift_px: float) -> None:
    assert shift_found(shift_px, 1.0) == pytest.approx(shift_px, abs=0.15)


def test_a_good_calibration_stays_and_so_does_one_that_nothing_is_known_of() -> None:
    assert abs(shift_found(0.0, 1.0)) < 0.1
    assert shift_found(1.2, 0.0) == 0.0  # without motion every distance is as good
    assert PairYaw().shift_px == 0.0


def test_few_matches_say_nothing() -> None:
    yaw = PairYaw()
    yaw.add(CAMERA, np.ones((20, 2)), np.zeros(20), np.ones((20, 2)), np.eye(3, 4))
    assert yaw.shift_px == 0.0 and not yaw.is_known


def test_a_shift_makes_depths_what_they_are() -> None:
    places, depth = np.array([[500.0, 100.0]]), np.array([20.0])
    turned = TrackedCamera(CAMERA.colmap, CAMERA.baseline, shift_px=1.5)
    measured = CAMERA.right_of(places, depth) + 1.5
    assert turned.depth_of(places, measured) == pytest.approx(depth)
    assert turned.right_of(places, depth) == pytest.approx(measured)
