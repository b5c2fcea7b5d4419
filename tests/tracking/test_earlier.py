"""A map of an earlier run: read back as it was, and tracked in."""

import numpy as np
import pycolmap
import pytest
import torch
from moving_camera import MovingCamera

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.poses import relative
from lightmatch.tracking import VIRTUAL_BASELINE, TrackedCamera, Tracker, TrackerConfig, keyframe_choice
from lightmatch.tracking.earlier import map_of_model
from lightmatch.tracking.export import colmap_model
from lightmatch.tracking.map import NO_POINT, Map

CONFIG = TrackerConfig(max_keypoints=512)


@pytest.fixture(scope="module")
def first(walk: MovingCamera) -> Tracker:
    """The first twenty frames of the walk, tracked with depths."""
    tracker = Tracker(walk.camera(VIRTUAL_BASELINE), CONFIG)
    for number in range(20):
        tracker.step(walk.rgb[number], 0.1 * number, depth=walk.depth[number])
    return tracker


def read_back(
    tracker: Tracker, most: int | None = None, camera: TrackedCamera | None = None
) -> tuple[Map, dict[int, str]]:
    names = {number: f"{number}.jpg" for number in tracker.map.keyframes}
    model = colmap_model(tracker.map, tracker.camera, names)
    keyframes = {names[number]: keyframe for number, keyframe in tracker.map.keyframes.items()}
    features = {name: keyframe.features for name, keyframe in keyframes.items()}
    depths = {name: tracker.camera.depth_of(each.places, each.right_x) for name, each in keyframes.items()}
    return map_of_model(model, camera or tracker.camera, features, depths, most)


def test_a_map_that_is_read_back_is_the_same(first: Tracker) -> None:
    found, names = read_back(first)
    assert names == {number: f"{number}.jpg" for number in range(len(first.map.keyframes))}
    for mine, theirs in zip(first.map.keyframes.values(), found.keyframes.values(), strict=True):
        assert np.allclose(mine.cam_from_world, theirs.cam_from_world) and np.allclose(mine.places, theirs.places)
        assert np.allclose(mine.right_x, theirs.right_x, equal_nan=True)
        shared = [point for point in mine.points if point != NO_POINT and len(first.map.observers(int(point))) > 1]
        seen = np.isin(mine.points, shared)
        in_model = [len(found.observers(int(point))) > 1 for point in theirs.points if point != NO_POINT]
        assert len(shared) == sum(in_model) > 50
        measured = (mine.points != NO_POINT) & ~seen  # by this keyframe alone
        assert (theirs.points[measured] != NO_POINT).mean() > 0.9 and measured.sum() > 20
        assert np.allclose(first.map.xyz[mine.points[seen]], found.xyz[theirs.points[seen]])


def test_of_many_keypoints_those_with_a_point_are_kept(first: Tracker) -> None:
    found, _ = read_back(first, most=100)
    whole, _ = read_back(first)
    for few, all_ in zip(found.keyframes.values(), whole.keyframes.values(), strict=True):
        assert len(few.features) == len(few.places) == len(few.right_x) == 100
        assert (few.points != NO_POINT).sum() == min(100, (all_.points != NO_POINT).sum())


def test_another_camera_sees_keypoints_and_depths_where_it_would(walk: MovingCamera, first: Tracker) -> None:
    K = walk.K * [[1.5], [1.5], [1.0]]
    other = TrackedCamera.pinhole(K, (480, 360), 0.3)
    found, _ = read_back(first, camera=other)
    for mine, theirs in zip(first.map.keyframes.values(), found.keyframes.values(), strict=True):
        seen = np.isfinite(mine.right_x)
        assert np.array_equal(seen, np.isfinite(theirs.right_x)) and seen.sum() > 100
        depths = [c.depth_of(k.places, k.right_x)[seen] for c, k in ((first.camera, mine), (other, theirs))]
        assert np.allclose(depths[0], depths[1]) and np.allclose(theirs.places, 1.5 * mine.places, atol=1e-6)
    alone, _ = read_back(first, camera=walk.camera())
    assert all(np.isnan(keyframe.right_x).all() for keyframe in alone.keyframes.values())


def test_features_beyond_those_of_the_model_are_left_out(first: Tracker) -> None:
    names = {number: f"{number}.jpg" for number in first.map.keyframes}
    model = colmap_model(first.map, first.camera, names)
    twice = {
        names[n]: k.features.select(torch.arange(2 * len(k.features)) % len(k.features))
        for n, k in first.map.keyframes.items()
    }
    found, _ = map_of_model(model, first.camera, twice)
    assert [len(k.features) for k in found.keyframes.values()] == [
        len(k.features) for k in first.map.keyframes.values()
    ]


def test_features_of_another_run_are_refused(first: Tracker) -> None:
    names = {number: f"{number}.jpg" for number in first.map.keyframes}
    model = colmap_model(first.map, first.camera, names)
    features = {names[n]: k.features.select(torch.arange(9)) for n, k in first.map.keyframes.items()}
    with pytest.raises(InvalidValueError, match=r"0.jpg: expected the \d+ keypoints of the model, got 9 features"):
        map_of_model(model, first.camera, features)


@pytest.mark.parametrize("mapping", [True, False])
def test_a_later_run_is_placed_in_the_earlier_map(
    walk: MovingCamera, first: Tracker, mapping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyframe_choice, "_MOVED", 0.05)  # the walk is short
    earlier, _ = read_back(first)
    num = len(earlier.keyframes)
    later = Tracker(walk.camera(), TrackerConfig(max_keypoints=512, mapping=mapping), earlier)  # without depths
    black = later.step(np.zeros_like(walk.rgb[0]), 0.0)
    assert (black.status, black.reason, black.cam_from_world) == ("lost", "the frame is blank", None)
    for number in range(5, 30 if mapping else 20):
        frame = later.step(walk.rgb[number], 0.1 * number)
        assert frame.status == "tracking" and frame.cam_from_world is not None
        true = relative(walk.cam_from_world[number], walk.cam_from_world[0])
        assert np.linalg.norm(relative(frame.cam_from_world, true)[:, 3]) < 0.04  # in metres, of the earlier map
        assert not frame.is_keyframe or mapping
    assert (len(later.map.keyframes) > num) == mapping


def test_a_map_that_has_no_more_is_not_asked_for_every_frame(
    walk: MovingCamera, first: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = Tracker(walk.camera(), TrackerConfig(max_keypoints=512, mapping=False), read_back(first)[0])
    assert following.step(walk.rgb[5], 0.5).status == "tracking"
    asked = []
    monkeypatch.setattr("lightmatch.tracking.tracker.relocalize", lambda *_: asked.append(None))
    for number in range(6, 14):
        covered = walk.rgb[number].copy()
        covered[:, 3 * covered.shape[1] // 8 :] = 127
        assert following.step(covered, 0.1 * number).status == "tracking"
    assert len(asked) in (1, 2)


def test_photos_of_other_cameras_keep_them(first: Tracker) -> None:
    other = pycolmap.Camera(model="SIMPLE_RADIAL", width=320, height=240, params=[300.0, 160, 120, -0.05])
    names = {number: f"{number}.jpg" for number in first.map.keyframes}
    first.map.keyframes[1].camera = other
    try:
        model = colmap_model(first.map, first.camera, names)
    finally:
        first.map.keyframes[1].camera = None
    assert model.num_cameras() == 2
    assert model.camera(model.image(2).camera_id).params.tolist() == other.params.tolist()
    assert model.camera(model.image(1).camera_id).params.tolist() == first.camera.colmap.params.tolist()
