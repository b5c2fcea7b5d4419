"""The parts of tracking that are geometry alone: exact cases, and what cannot be had."""

import cv2
import numpy as np
import pycolmap
import pytest
from passed_wall import SIZE, STEP_PX, wall_frames

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.poses import center_of, composed, relative
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.depths import right_of_depth_map, right_of_stereo
from lightmatch.tracking.flow import FlowImage
from lightmatch.tracking.pose import refine_pose
from lightmatch.tracking.triangulation import triangulate

K = np.array([[400.0, 0, 320], [0, 410, 240], [0, 0, 1]])
CAMERA = TrackedCamera.pinhole(K, (640, 480), 0.1)
POINTS = np.random.default_rng(0).normal(size=(120, 3)) * [2, 1.5, 1] + [0, 0, 6]
POSE = composed(
    np.column_stack((np.eye(3), [0.2, -0.1, 0.15])),
    np.column_stack((pycolmap.Rotation3d(np.array([0.05, -0.1, 0.02])).matrix(), np.zeros(3))),
)


def test_projecting_and_unprojecting_are_inverse() -> None:
    places, depth = CAMERA.project(POINTS, POSE)
    assert np.allclose(CAMERA.unproject(places, depth, POSE), POINTS)
    assert np.allclose(CAMERA.depth_of(places, CAMERA.right_of(places, depth)), depth)
    # a metre ahead on the optical axis: the principal point; the second camera 40 px further left
    assert np.allclose(CAMERA.project(np.array([[0, 0, 1.0]]), np.eye(3, 4))[0], [[320, 240]])
    assert np.allclose(CAMERA.right_of(np.array([[320.0, 240.0]]), np.ones(1)), [280])


def test_distorted_pixels_become_ideal_and_back() -> None:
    colmap = pycolmap.Camera(model="SIMPLE_RADIAL", width=640, height=480, params=[400, 320.5, 240.5, -0.08])
    camera = TrackedCamera(colmap)
    pixels = np.array([[320.0, 240.0], [10.0, 20.0], [600.0, 400.0]])
    ideal = camera.ideal(pixels)
    assert np.allclose(ideal[0], pixels[0]) and np.abs(ideal[1:] - pixels[1:]).min() > 1
    assert np.allclose(camera.real(ideal), pixels, atol=1e-3)


def test_where_the_lens_has_no_ray_there_is_no_point() -> None:
    wide = TrackedCamera(
        pycolmap.Camera(model="SIMPLE_RADIAL", width=1920, height=1080, params=[1000, 960, 540, -0.25])
    )
    corner = wide.ideal(np.array([[2.0, 2.0]]))
    assert np.isnan(corner).all()
    places0, _ = wide.project(POINTS, np.eye(3, 4))
    places1, _ = wide.project(POINTS, POSE)
    places0[3], places1[5] = corner[0], corner[0]
    found = triangulate(wide, np.eye(3, 4), POSE, places0, places1)
    good = found.good(0.1, 1.0)
    assert not good[[3, 5]].any() and np.delete(good, [3, 5]).all()
    assert np.allclose(found.xyz[good], POINTS[good])


def test_a_baseline_is_a_length() -> None:
    with pytest.raises(InvalidValueError, match=r"baseline: expected more than 0 m, got -0\.1"):
        TrackedCamera.pinhole(K, (640, 480), -0.1)


def test_a_pose_is_found_among_outliers() -> None:
    rng = np.random.default_rng(1)
    places = CAMERA.project(POINTS, POSE)[0] + rng.normal(0, 0.3, (120, 2))
    places[:30] += rng.uniform(20, 80, (30, 2))
    fit = refine_pose(np.eye(3, 4), POINTS, places, CAMERA, 3.0)
    assert fit is not None and (~fit.inliers[:30]).all() and fit.inliers[30:].mean() > 0.95
    off = relative(fit.cam_from_world, POSE)
    assert np.linalg.norm(off[:, 3]) < 0.01 and np.abs(off[:, :3] - np.eye(3)).max() < 1e-3


def test_the_covariance_of_a_pose_is_that_of_its_errors() -> None:
    rng, turns, shifts, said = np.random.default_rng(2), [], [], []
    exact = CAMERA.project(POINTS, POSE)[0]
    for _ in range(200):
        fit = refine_pose(POSE, POINTS, exact + rng.normal(0, 0.5, exact.shape), CAMERA, 3.0)
        assert fit is not None
        turns.append(pycolmap.Rotation3d(relative(fit.cam_from_world, POSE)[:, :3]).todict()["quat"][:3])
        shifts.append(center_of(fit.cam_from_world) - center_of(POSE))
        said.append(fit.covariance)
    mean = np.mean(said, 0)
    for measured, stated in ((2 * np.array(turns), mean[:3, :3]), (np.array(shifts), mean[3:, 3:])):
        ratio = np.sqrt(np.trace(stated) / np.trace(np.cov(measured.T)))
        assert 0.6 < ratio < 1.7


def test_too_few_points_fix_no_pose() -> None:
    places = CAMERA.project(POINTS[:3], POSE)[0]
    assert refine_pose(np.eye(3, 4), POINTS[:3], places, CAMERA, 3.0) is None


def test_points_are_triangulated_with_their_angles() -> None:
    other = np.column_stack((np.eye(3), [-0.6, 0, 0]))
    places = [CAMERA.project(POINTS, pose)[0] for pose in (np.eye(3, 4), other)]
    found = triangulate(CAMERA, np.eye(3, 4), other, *places)
    assert np.allclose(found.xyz, POINTS, atol=1e-6) and found.errors_px.max() < 1e-6
    ahead = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
    beside = POINTS - [0.6, 0, 0]
    cosine = (ahead * beside).sum(1) / np.linalg.norm(beside, axis=1)
    assert np.allclose(found.angles_deg, np.degrees(np.arccos(cosine)))
    behind = triangulate(CAMERA, np.eye(3, 4), other, places[1], places[0])  # rays that part
    assert not behind.good(0.1, 3.0).any()
    assert len(triangulate(CAMERA, np.eye(3, 4), other, np.zeros((0, 2)), np.zeros((0, 2))).xyz) == 0


def test_depth_maps_say_nothing_at_edges_and_holes() -> None:
    depth = np.full((480, 640), 2.0, np.float32)
    depth[:, 300:] = 4.0  # an edge
    depth[100:110, 100:110] = 0  # a hole
    pixels = np.array([[50.0, 50.0], [299.6, 200.0], [105.0, 105.0], [400.0, 300.0], [0.0, 0.0]])
    right = right_of_depth_map(CAMERA, pixels, pixels, depth)
    assert np.isfinite(right).tolist() == [True, False, False, True, False]
    assert np.allclose(CAMERA.depth_of(pixels, right)[[0, 3]], [2, 4])


def test_a_lens_is_no_depth() -> None:
    """Two cameras with one lens pass a wall: everywhere the second sees it equally far left, in the ideal camera."""
    colmap = pycolmap.Camera(model="SIMPLE_RADIAL", width=SIZE[0], height=SIZE[1], params=[300, 160, 120, -0.1])
    camera = TrackedCamera(colmap, 0.1)
    grid = np.stack(np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1])), 2).reshape(-1, 2).astype(np.float64)
    x, y = camera.ideal(grid).reshape(*SIZE[::-1], 2).astype(np.float32).transpose(2, 0, 1)
    left, right = (
        FlowImage.of(cv2.remap(frame.pixels[..., 0], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))
        for frame in wall_frames(2)
    )
    pixels = np.random.default_rng(0).uniform([30, 20], [300, 220], (200, 2))
    places = camera.ideal(pixels)
    disparity = places[:, 0] - right_of_stereo(camera, left, right, pixels, places)
    assert np.isfinite(disparity).mean() > 0.9
    assert np.nanpercentile(np.abs(disparity - STEP_PX), 95) < 0.2
