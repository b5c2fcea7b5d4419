"""A camera of which nothing is known, from points and their places, wrong ones among them."""

import cv2
import numpy as np
import pytest

from lightmatch.sfm.free_camera import free_camera

SIZE = (640, 480)
ROTATION, SHIFT = cv2.Rodrigues(np.array([0.1, 0.3, 0.05]))[0], np.array([0.5, -0.2, 1.0])


def seen(
    params: tuple[float, float, float, float], flatness: float = 1.0, mirrored: bool = False, k1: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places and points, and which of them belong together."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-2, 2, (300, 3)) * [1, 1, flatness] + [0, 0, 8]
    local = points @ ROTATION.T + SHIFT
    rays = local[:, :2] / local[:, 2:]
    rays *= 1 + k1 * (rays**2).sum(1, keepdims=True)
    xy = rays * params[:2] + params[2:] + rng.normal(0, 0.5, (300, 2))
    if mirrored:
        xy[:, 0] = SIZE[0] - xy[:, 0]
    right = rng.random(300) < 0.6
    xy[~right] = rng.uniform(0, 1, (int((~right).sum()), 2)) * SIZE
    return xy, points, right


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    "params", [(700, 700, 320, 240), (700, 700, 150, 300), (700, 700, -90, 560), (700, 560, 320, 240)]
)
def test_camera_and_pose_are_found(params: tuple[float, float, float, float], mirrored: bool) -> None:
    xy, points, right = seen(params, mirrored=mirrored)
    found = free_camera(xy, points, SIZE, 4.0, seed=0)
    assert found is not None and found.mirrored == mirrored
    np.testing.assert_allclose(found.params, params, atol=5)
    np.testing.assert_allclose(found.pose[:, :3], ROTATION, atol=0.01)
    np.testing.assert_allclose(found.pose[:, 3], SHIFT, atol=0.05)
    assert (found.inliers & right).sum() > 0.97 * right.sum() and (found.inliers & ~right).sum() < 5


def test_a_principal_point_outside_the_photo_is_as_exact_as_one_inside() -> None:
    found = [free_camera(*seen((700, 700, cx, cy))[:2], SIZE, 4.0, seed=0) for cx, cy in ((320, 240), (-90, 560))]
    assert found[0] is not None and found[1] is not None
    np.testing.assert_allclose(np.subtract(found[1].params, found[0].params), (0, 0, -410, 320), atol=0.2)


@pytest.mark.parametrize("mirrored", [False, True])
def test_radial_distortion_is_found(mirrored: bool) -> None:
    xy, points, right = seen((700, 700, 290, 250), mirrored=mirrored, k1=-0.15)
    found = free_camera(xy, points, SIZE, 4.0, seed=0)
    assert found is not None and found.k1 == pytest.approx(-0.15, abs=0.02)
    np.testing.assert_allclose(found.params, (700, 700, 290, 250), atol=5)
    np.testing.assert_allclose(found.pose[:, 3], SHIFT, atol=0.05)
    assert (found.inliers & right).sum() > 0.97 * right.sum()


def test_a_camera_without_distortion_is_given_none() -> None:
    xy, points, _ = seen((700, 700, 290, 250))
    found = free_camera(xy, points, SIZE, 4.0, seed=0)
    assert found is not None and found.k1 == 0


def test_the_same_seed_gives_the_same_bits() -> None:
    xy, points, _ = seen((700, 700, 320, 240))
    first, second = (free_camera(xy, points, SIZE, 4.0, seed=1) for _ in range(2))
    assert first is not None and second is not None
    assert np.array_equal(first.pose, second.pose) and first.params == second.params


@pytest.mark.parametrize("flatness", [0.0, 0.005])
def test_a_plane_fixes_no_camera(flatness: float) -> None:
    xy, points, _ = seen((700, 700, 320, 240), flatness)
    assert free_camera(xy, points, SIZE, 4.0, seed=0) is None


def test_a_few_points_fix_no_camera() -> None:
    xy, points, _ = seen((700, 700, 320, 240))
    assert free_camera(xy[:11], points[:11], SIZE, 4.0, seed=0) is None
