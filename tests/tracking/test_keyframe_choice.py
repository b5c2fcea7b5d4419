"""Keyframes that others replace are dropped, and the frames relative to them keep their poses."""

import numpy as np
import pytest
from moving_camera import MovingCamera, no_features

from lightmatch.geometry.poses import relative
from lightmatch.tracking import VIRTUAL_BASELINE, Tracker, TrackerConfig, keyframe_choice
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.keyframe_choice import drop_redundant, has_moved_away, thinned_out
from lightmatch.tracking.map import Keyframe, Map
from lightmatch.tracking.trajectory import Trajectory

CAMERA = TrackedCamera.pinhole(np.array([[400.0, 0, 320], [0, 400, 240], [0, 0, 1]]), (640, 480))


def pose_at(x: float, turn_deg: float = 0.0) -> np.ndarray:
    angle = np.radians(turn_deg)
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return np.column_stack((rotation, rotation @ [-x, 0, 0]))


def row_of_keyframes(num: int) -> Map:
    """Keyframes 10 cm apart that all see the same 40 points, 4 m away; point 0 is seen by the first two alone."""
    rng, mapped = np.random.default_rng(0), Map()
    points = np.column_stack((rng.uniform(-1, 1, 40), rng.uniform(-1, 1, 40), np.full(40, 4.0)))
    for number in range(num):
        pose = pose_at(0.1 * number)
        places, _ = CAMERA.project(points, pose)
        mapped.add_keyframe(Keyframe(float(number), pose, no_features(40), places, np.full(40, np.nan)))
    for row, xyz in enumerate(points):
        mapped.add_point(xyz, [(number, row) for number in range(num if row else 2)])
    return mapped


def test_what_others_see_is_dropped_but_not_the_first_and_the_latest() -> None:
    mapped, trajectory = row_of_keyframes(12), Trajectory()
    for number, keyframe in mapped.keyframes.items():
        trajectory.add(keyframe.timestamp, keyframe.cam_from_world, mapped, number)
    before = trajectory.poses(mapped)
    drop_redundant(mapped, trajectory, 11)
    assert list(mapped.keyframes) == [0, 7, 8, 9, 10, 11]
    assert 0 not in mapped and len(mapped) == 39  # of point 0 one view is left
    after = trajectory.poses(mapped)
    assert [when for when, _ in after] == [when for when, _ in before]
    assert np.allclose([pose for _, pose in after], [pose for _, pose in before])
    assert mapped.add_keyframe(Keyframe(12.0, pose_at(1.2), no_features(0), np.zeros((0, 2)), np.zeros(0))) == 12


def test_a_keyframe_that_is_needed_stays() -> None:
    mapped = row_of_keyframes(12)
    drop_redundant(mapped, Trajectory(), 11, kept=[4])
    assert list(mapped.keyframes) == [0, 4, 7, 8, 9, 10, 11]


def test_keyframes_that_see_what_few_others_see_stay() -> None:
    mapped = row_of_keyframes(12)
    for point in range(1, 20):  # half of the points, by keyframes 3 and 11 alone
        for number in set(mapped.observers(point)) - {3, 11}:
            mapped.forget(point, number)
    drop_redundant(mapped, Trajectory(), 11)
    assert list(mapped.keyframes) == [0, 3, 7, 8, 9, 10, 11]


def test_a_frame_has_moved_away_when_no_keyframe_that_sees_the_same_is_near() -> None:
    mapped = row_of_keyframes(3)
    points = np.arange(1, 40)
    assert not has_moved_away(mapped, CAMERA, pose_at(0.6), points)  # 0.4 m from the last: a tenth of the depth
    assert has_moved_away(mapped, CAMERA, pose_at(0.8), points)
    assert has_moved_away(mapped, CAMERA, pose_at(0.1, 25), points) and not has_moved_away(
        mapped, CAMERA, pose_at(0.1, 15), points
    )
    mapped.add_keyframe(Keyframe(3.0, pose_at(0.9), no_features(0), np.zeros((0, 2)), np.zeros(0)))
    assert has_moved_away(mapped, CAMERA, pose_at(0.8), points)  # that one sees none of them


def test_points_thin_out_by_number_or_by_the_cells_they_cover() -> None:
    spread = np.random.default_rng(0).uniform([0, 0], [640, 480], (100, 2))
    assert not thinned_out(CAMERA, spread[:60], spread) and thinned_out(CAMERA, spread[:40], spread)
    left = spread[spread[:, 0] < 250]
    assert thinned_out(CAMERA, np.concatenate((left, left)), spread)


def test_a_camera_that_goes_to_and_fro_needs_no_more_keyframes(
    walk: MovingCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyframe_choice, "_MOVED", 0.03)  # the walk is short
    numbers = [*range(30), *range(28, 0, -1)] * 3
    tracker = Tracker(walk.camera(VIRTUAL_BASELINE), TrackerConfig(max_keypoints=512))
    counts = []
    for place, number in enumerate(numbers):
        frame = tracker.step(walk.rgb[number], 0.1 * place, depth=walk.depth[number])
        assert frame.status == "tracking"
        counts.append(len(tracker.map.keyframes))
    assert counts[29] >= 5 and counts[-1] <= counts[29] + 4
    poses = tracker.trajectory()
    assert [round(10 * when) for when, _ in poses] == list(range(len(numbers)))
    for (_, pose), number in zip(poses, numbers, strict=True):
        true = relative(walk.cam_from_world[number], walk.cam_from_world[0])
        assert np.linalg.norm(relative(pose, true)[:, 3]) < 0.03
