"""Rendered sequences that are hard to track: nothing false is mapped, and what is interrupted goes on."""

import numpy as np
import pytest
import torch

from lightmatch.geometry.alignment import align_points
from lightmatch.scenes.sequences import (
    Film,
    RenderedSequence,
    arc,
    blackout,
    film,
    kidnapped,
    passing_box,
    plane_wall,
    repeated_objects,
    rotation,
    standing,
)
from lightmatch.scenes.world import World, WorldConfig, build_world
from lightmatch.tracking import VIRTUAL_BASELINE, TrackedCamera, TrackedFrame, Tracker, TrackerConfig

SMALL = Film((320, 240), supersampling=1)


@pytest.fixture(scope="module")
def world() -> World:
    """A plaza with textures as fine as these small pictures show them."""
    config = WorldConfig(num_textures=6, texture_size=512, texel_size=0.02)
    return build_world(torch.Generator().manual_seed(0), config)


def track(sequence: RenderedSequence, *, depths: bool) -> tuple[Tracker, list[TrackedFrame]]:
    camera = TrackedCamera.pinhole(sequence.K, sequence.size, VIRTUAL_BASELINE if depths else None)
    tracker = Tracker(camera, TrackerConfig(max_keypoints=512))
    return tracker, [
        tracker.step(rgb.numpy(), 0.1 * number, depth=depth.numpy() if depths else None)
        for number, (rgb, depth) in enumerate(zip(sequence.rgb, sequence.depth, strict=True))
    ]


def error(sequence: RenderedSequence, frames: list[TrackedFrame]) -> float:
    """Largest distance from the truth of all frames with a measured pose, after one similarity, m."""
    tracked = [number for number, frame in enumerate(frames) if frame.status == "tracking"]
    ours = torch.from_numpy(np.array([frames[number].center for number in tracked]))
    true = sequence.centers[tracked].double()
    return float((align_points(ours, true).apply(ours) - true).norm(dim=1).max())


def drift(frames: list[TrackedFrame]) -> float:
    """How far the camera seems to have moved."""
    centers = np.array([frame.center for frame in frames])
    return float(np.linalg.norm(centers - centers[0], axis=1).max())


def test_with_depths_a_camera_that_turns_stays_where_it_is(world: World) -> None:
    _, frames = track(rotation(world, 16, SMALL, step_deg=2.5), depths=True)
    assert {frame.status for frame in frames} == {"tracking"}
    assert drift(frames) < 0.03


def test_a_camera_that_stands_after_a_walk_does_not_drift(world: World) -> None:
    tracker, frames = track(standing(world, 30, SMALL, num_before=20, step=0.015), depths=False)
    assert all(frame.status == "tracking" for frame in frames[20:])
    assert sum(frame.is_keyframe for frame in frames[21:]) <= 1
    unit = 6 / np.linalg.norm(tracker.map.xyz.mean(0))  # m, about: of the camera's own
    assert unit * drift(frames[21:]) < 0.01


def test_a_plane_wall_is_mapped() -> None:
    wall = plane_wall(18, SMALL, step=0.12)
    tracker, frames = track(wall, depths=False)
    first = next(number for number, frame in enumerate(frames) if frame.status == "tracking")
    assert first < 12 and all(frame.status == "tracking" for frame in frames[first:])
    assert error(wall, frames) < 0.03 and not tracker.loops


def test_a_box_that_passes_does_not_carry_the_camera_along(world: World) -> None:
    passed = passing_box(world, 24, SMALL, step=0.018)
    _, frames = track(passed, depths=True)
    assert {frame.status for frame in frames} == {"tracking"}
    assert error(passed, frames) < 0.03


@pytest.mark.parametrize("count", [2, 10])
def test_after_black_frames_it_goes_on_in_the_same_map(world: World, count: int) -> None:
    dark = range(8, 8 + count)
    walk = blackout(film(world, arc(22, 0.01), SMALL), dark.start, count)
    _, frames = track(walk, depths=True)
    assert all(frame.status == "tracking" for number, frame in enumerate(frames) if number not in dark)
    assert [frames[number].status for number in dark] == ["coasting"] * min(count, 5) + ["lost"] * (count - 5)
    assert error(walk, frames) < 0.02


def test_identical_pillars_are_not_taken_for_one() -> None:
    past = repeated_objects(40, (320, 240), num_landmarks=0)
    tracker, frames = track(past, depths=True)
    assert {frame.status for frame in frames} == {"tracking"} and not tracker.loops
    assert error(past, frames) < 0.3  # of 12 m; the next pillar is 3 m away


@pytest.mark.parametrize("depths", [True, False])
def test_a_kidnapped_camera_is_found_where_it_is(world: World, depths: bool) -> None:
    carried = kidnapped(world, 16, 4, SMALL, step=0.05)
    _, frames = track(carried, depths=depths)
    assert all(frame.status == "tracking" for frame in frames[0 if depths else 8 :])
    assert error(carried, frames) < 0.05
