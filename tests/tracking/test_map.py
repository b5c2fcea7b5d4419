"""The map: who sees what, and what an adjustment does to it."""

import numpy as np
import pytest
from moving_camera import no_features

from lightmatch.tracking.adjustment import adjust_map, drop_outliers, image_of, to_model
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.map import NO_POINT, Keyframe, Map
from lightmatch.tracking.trajectory import Trajectory

K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
POINTS = np.random.default_rng(0).normal(size=(200, 3)) * [2, 1.5, 1] + [0, 0, 6]


def seen(camera: TrackedCamera, num: int = 5, off: float = 0.02) -> tuple[Map, np.ndarray]:
    """Keyframes 20 cm apart whose poses and points are off, with exact observations; and the true centres."""
    mapped, rng = Map(), np.random.default_rng(1)
    features = no_features(len(POINTS))
    for number in range(num):
        true = np.column_stack((np.eye(3), [-0.2 * number, 0, 0]))
        places, depth = camera.project(POINTS, true)
        right = camera.right_of(places, depth) if camera.baseline else np.full(len(POINTS), np.nan)
        pose = true.copy()
        pose[:, 3] += off * rng.normal(size=3) * (number > 0)
        mapped.add_keyframe(Keyframe(number, pose, features, places, right))
    for row, xyz in enumerate(POINTS):
        mapped.add_point(xyz + off * rng.normal(size=3), [(number, row) for number in range(num)])
    return mapped, np.array([[0.2 * number, 0, 0] for number in range(num)])


@pytest.mark.parametrize("baseline", [None, 0.1])
def test_an_adjustment_brings_poses_and_points_to_the_truth(baseline: float | None) -> None:
    camera = TrackedCamera.pinhole(K, (640, 480), baseline)
    mapped, true = seen(camera)
    adjust_map(mapped, camera, range(5), 3.0)
    centers = np.array([-k.cam_from_world[:, :3].T @ k.cam_from_world[:, 3] for k in mapped.keyframes.values()])
    scale = 1.0 if baseline else np.linalg.norm(true[-1]) / np.linalg.norm(centers[-1])  # one camera has none
    assert np.abs(scale * centers - true).max() < 0.003
    assert np.abs(scale * mapped.xyz - POINTS).max() < 0.05
    assert (mapped.keyframes[0].cam_from_world == np.eye(3, 4)).all()


def test_a_keyframe_that_sees_nothing_any_more_stays() -> None:
    camera = TrackedCamera.pinhole(K, (640, 480))
    mapped, _ = seen(camera)
    for point in mapped.points:
        mapped.forget(point, 4)
    before = mapped.keyframes[4].cam_from_world.copy()
    adjust_map(mapped, camera, [3, 4], 3.0)
    assert np.array_equal(mapped.keyframes[4].cam_from_world, before)
    adjust_map(mapped, camera, [4], 3.0)


def test_what_is_outside_the_window_stays() -> None:
    camera = TrackedCamera.pinhole(K, (640, 480), 0.1)
    mapped, _ = seen(camera)
    before = [keyframe.cam_from_world.copy() for keyframe in mapped.keyframes.values()]
    adjust_map(mapped, camera, [4], 3.0)
    same = [np.array_equal(old, new.cam_from_world) for old, new in zip(before, mapped.keyframes.values(), strict=True)]
    assert same == [True] * 4 + [False]


def test_wrong_observations_are_dropped_and_points_without_support() -> None:
    camera = TrackedCamera.pinhole(K, (640, 480))
    mapped, _ = seen(camera, num=2, off=0.0)
    mapped.keyframes[1].places[7] += 50
    drop_outliers(mapped, camera, mapped.points, 3.0)
    assert len(mapped) == 199 and 7 not in mapped
    assert [keyframe.points[7] for keyframe in mapped.keyframes.values()] == [NO_POINT] * 2


def test_keyframes_that_see_most_together_come_first() -> None:
    camera = TrackedCamera.pinhole(K, (640, 480))
    mapped, _ = seen(camera, num=3, off=0.0)
    for point in range(150):
        mapped.forget(point, 1)
    assert mapped.covisible(0) == [2, 1] and len(mapped.points_of(1)) == 50
    mapped.drop(199)
    assert 199 not in mapped and len(mapped.points_of(1)) == 49 and len(mapped.xyz) == 200


def test_a_stereo_map_is_a_rig_of_two_cameras() -> None:
    camera = TrackedCamera.pinhole(K, (640, 480), 0.1)
    mapped, _ = seen(camera, num=2, off=0.0)
    model = to_model(mapped, camera, [0, 1], mapped.points)
    assert (model.num_rigs(), model.num_frames(), model.num_reg_images(), model.num_points3D()) == (1, 2, 4, 200)
    right = model.image(image_of(0) + 1)
    assert np.allclose(right.projection_center(), [0.1, 0, 0])
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() < 1e-6


def test_frames_between_keyframes_take_their_part_of_what_a_keyframe_was_off_by() -> None:
    """A keyframe that is made in the background is matched and adjusted after its frame was measured."""
    mapped, trajectory = Map(), Trajectory()

    def pose(x: float) -> np.ndarray:
        return np.column_stack((np.eye(3), [-x, 0, 0]))

    features = no_features(0)
    mapped.add_keyframe(Keyframe(0.0, pose(0), features, np.zeros((0, 2)), np.zeros(0)))
    for frame in range(7):
        trajectory.add(float(frame), pose(1.1 * frame), mapped, 0)  # drifting
    assert np.allclose([-cam[0, 3] for _, cam in trajectory.poses(mapped)], 1.1 * np.arange(7))
    mapped.add_keyframe(Keyframe(4.0, pose(4.0), features, np.zeros((0, 2)), np.zeros(0)))
    moved = [-cam[0, 3] for _, cam in trajectory.poses(mapped)]
    assert np.allclose(moved, [0, 1, 2, 3, 4, 5.1, 6.2])
