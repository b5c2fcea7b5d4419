"""Loops: what was measured on the way is corrected, and they close where the camera comes back and nowhere else."""

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from moving_camera import MovingCamera, moving_camera, no_features

from lightmatch.geometry.alignment import align_points
from lightmatch.geometry.poses import center_of, composed, relative
from lightmatch.tracking import VIRTUAL_BASELINE, Tracker, TrackerConfig
from lightmatch.tracking.adjustment import adjust_map
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.loops import Correction, Loop, close_loop, depth_ratio, find_loop
from lightmatch.tracking.map import Keyframe, Map

CAMERA = TrackedCamera.pinhole(np.array([[400.0, 0, 320], [0, 400, 240], [0, 0, 1]]), (640, 480), 0.1)
NUM = 24  # keyframes on a circle, looking outwards


def true_pose(number: int) -> np.ndarray:
    angle = 2 * np.pi * number / NUM
    rotation = cv2.Rodrigues(np.array([0, -angle, 0]))[0]
    return np.column_stack((rotation, -rotation @ [2 * np.sin(angle), 0, 2 * np.cos(angle)]))


def drifted_circle(turn_per_keyframe: float) -> tuple[Map, np.ndarray]:
    """A map of a circle whose poses turn a little too far at each keyframe; the last sees what the first does.

    Returns it and the pairs of keypoints that show the same in both.
    """
    rng, mapped = np.random.default_rng(0), Map()
    drift = true_pose(0)
    points = []
    for number in range(NUM + 1):
        pose = true_pose(number)
        if number < NUM:
            depth, places = rng.uniform(3, 8, 60), rng.uniform([40, 40], [600, 440], (60, 2))
            points.append(CAMERA.unproject(places, depth, pose))
        if number:
            wrong = np.column_stack((cv2.Rodrigues(np.array([0, turn_per_keyframe, 0]))[0], np.zeros(3)))
            drift = composed(composed(wrong, relative(pose, true_pose(number - 1))), drift)
        seen = np.concatenate(
            [points[n % NUM] for n in range(max(number - 2, 0), number + 1) if n < NUM or number == NUM]
        )
        places, depth = CAMERA.project(seen, pose)
        features = no_features(len(seen))
        mapped.add_keyframe(Keyframe(number, drift, features, places, CAMERA.right_of(places, depth)))
    for number in range(NUM):
        keyframe = mapped.keyframes[number]
        new = slice(len(keyframe.places) - 60, len(keyframe.places))
        depth = CAMERA.depth_of(keyframe.places, keyframe.right_x)[new]
        xyz = CAMERA.unproject(keyframe.places[new], depth, keyframe.cam_from_world)
        for row in range(60):
            mapped.add_point(xyz[row], [(number, len(keyframe.places) - 60 + row)])
    for number in range(1, NUM + 1):  # and the points of the two before
        keyframe = mapped.keyframes[number]
        before = [n for n in range(max(number - 2, 0), number) if n < NUM]
        for place, other in enumerate(before):
            for row in range(60):
                mapped.observe(60 * other + row, number, 60 * place + row)
    last = mapped.keyframes[NUM]
    rows = np.arange(60)
    same = np.column_stack((rows, len(last.places) - 60 + rows))
    for row in same[:, 1].tolist():
        depth = CAMERA.depth_of(last.places[[row]], last.right_x[[row]])
        mapped.add_point(CAMERA.unproject(last.places[[row]], depth, last.cam_from_world)[0], [(NUM, row)])
    return mapped, same


def errors(mapped: Map) -> np.ndarray:
    return np.array(
        [np.linalg.norm(center_of(k.cam_from_world) - center_of(true_pose(n))) for n, k in mapped.keyframes.items()]
    )


def test_a_correction_is_a_motion_and_its_shares_add_up() -> None:
    turn = cv2.Rodrigues(np.array([0.1, -0.3, 0.2]))[0]
    whole = Correction(turn, 1.2, np.array([1.0, -2.0, 0.5]))
    half = whole.share(0.5)
    assert np.allclose(half.rotation @ half.rotation, turn) and half.scale**2 == pytest.approx(1.2)
    pose, center = true_pose(3), center_of(true_pose(3))
    xyz = np.random.default_rng(0).normal(size=(9, 3))
    before, after = (x @ p[:, :3].T + p[:, 3] for x, p in ((xyz, pose), (whole.points(xyz, center), whole.pose(pose))))
    assert np.allclose(1.2 * before, after)  # seen from the camera nothing moves, but for the scale
    assert np.allclose(whole.share(0.0).pose(pose), pose)


def test_drift_is_spread_along_the_loop_and_adjusted_away() -> None:
    mapped, same = drifted_circle(0.004)
    before = errors(mapped)
    last, truth = mapped.keyframes[NUM].cam_from_world, true_pose(NUM)
    correction = Correction(truth[:, :3].T @ last[:, :3], 1.0, center_of(truth) - center_of(last))
    points = len(mapped)
    close_loop(mapped, Loop(0, NUM, same, correction))
    assert len(mapped) == points - 60 and set(mapped.observers(0)) == {0, 1, 2, NUM}
    assert errors(mapped)[-1] < 1e-9
    adjust_map(mapped, CAMERA, range(NUM + 1), 20.0, 50)
    assert before.max() > 0.15 and errors(mapped).max() < 0.02


def test_what_was_before_the_loop_stays() -> None:
    """The first keyframe is the world."""
    mapped, _ = drifted_circle(0.004)
    before = [keyframe.cam_from_world for keyframe in mapped.keyframes.values()]
    close_loop(mapped, Loop(2, NUM, np.zeros((0, 2), int), Correction(np.eye(3), 1.0, np.array([1.0, 0, 0]))))
    moved = [np.abs(keyframe.cam_from_world - before[n]).max() for n, keyframe in mapped.keyframes.items()]
    assert max(moved[:3]) < 1e-12 < 1e-3 < moved[3]


def test_keyframes_of_an_earlier_map_stay() -> None:
    mapped, _ = drifted_circle(0.004)
    for number in range(6):
        mapped.keyframes[number] = replace(mapped.keyframes[number], timestamp=-np.inf)
    before = [keyframe.cam_from_world for keyframe in mapped.keyframes.values()]
    close_loop(mapped, Loop(2, NUM, np.zeros((0, 2), int), Correction(np.eye(3), 1.0, np.array([1.0, 0, 0]))))
    moved = [np.abs(keyframe.cam_from_world - before[n]).max() for n, keyframe in mapped.keyframes.items()]
    assert max(moved[:6]) < 1e-12 < 1e-3 < moved[6]


@pytest.fixture(scope="module")
def circle() -> MovingCamera:
    """A circle and a little more."""
    return moving_camera(64, seed=1, step=0.103, stereo=False, supersampling=1)


@pytest.mark.parametrize("background", [False, True])
def test_a_camera_that_walks_around_closes_one_loop(circle: MovingCamera, background: bool) -> None:
    walk, frames = circle, []
    config = TrackerConfig(max_keypoints=512, background=background)
    with Tracker(walk.camera(VIRTUAL_BASELINE), config) as tracker:
        for number in range(len(walk.rgb)):
            frames.append(tracker.step(walk.rgb[number], number / 10, depth=walk.depth[number]))
            while tracker.is_mapping:
                time.sleep(0.005)
    assert {frame.status for frame in frames} == {"tracking"}
    ((old, new),) = tracker.loops
    assert old < 5 and new > 20
    trajectory = tracker.trajectory()
    assert [round(10 * when) for when, _ in trajectory] == list(range(64))
    now = np.stack([center_of(pose) for _, pose in trajectory])
    then = np.stack([frame.center for frame in frames if frame.center is not None])
    before = [n for n, frame in enumerate(frames) if frame.timestamp < tracker.map.keyframes[new].timestamp]
    first, last = before[0], before[-1]
    walked = np.linalg.norm(walk.centers[last] - walk.centers[first])
    off = [abs(np.linalg.norm(centers[last] - centers[first]) - walked) for centers in (then, now)]
    true = torch.from_numpy(walk.centers)
    left = (align_points(torch.from_numpy(now), true).apply(torch.from_numpy(now)) - true).norm(dim=1)
    assert off[1] < 0.5 * off[0] and float(left.square().mean().sqrt()) < 0.02


def test_the_scale_of_one_camera_s_loop_is_not_led_astray_by_a_few_points() -> None:
    """The newest points are seen from nearly one place, so that some lie far behind where they are."""
    rng, mapped = np.random.default_rng(1), Map()
    pose = np.eye(3, 4)
    places, depth = rng.uniform([40, 40], [600, 440], (60, 2)), rng.uniform(3, 8, 60)
    numbers = []
    for factor in (1.0, 1.1):  # the old points are seen 1.1 times as far away as the new ones
        distances = factor * depth * (1 + 0.05 * rng.standard_normal(60))
        if factor == 1.0:
            distances[:3] *= 4
        xyz = CAMERA.unproject(places, distances, pose)
        numbers.append(np.array([mapped.add_point(place, []) for place in xyz]))
    assert depth_ratio(mapped, CAMERA, numbers[0], pose, numbers[1], pose) == pytest.approx(1.1, abs=0.03)


def test_a_point_that_is_shared_by_chance_does_not_make_two_places_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are compared as any two keyframes far apart are."""
    mapped, same = drifted_circle(np.radians(0.5))
    compared = []

    def alike(signature0: object, signature1: object) -> float:
        compared.append(signature1)
        return float(any(signature1 is mapped.keyframes[near].signature for near in (NUM - 2, NUM - 1)))

    monkeypatch.setattr("lightmatch.tracking.loops.alikeness", alike)
    first = mapped.keyframes[0]
    for shared in range(2):
        compared.clear()
        find_loop(mapped, CAMERA, None, NUM, 0)  # type: ignore[arg-type]
        assert any(signature is first.signature for signature in compared), shared
        mapped.observe_where_free(int(first.points[shared]), NUM, int(same[shared, 1]))
