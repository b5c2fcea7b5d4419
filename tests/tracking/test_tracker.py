"""The tracker on a rendered walk: the true poses, from one camera, depths or two cameras; and what may go wrong."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from moving_camera import BASELINE, MovingCamera, moving_camera
from passed_wall import DEPTH, STEP_M, wall_camera, wall_frames

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.alignment import align_points
from lightmatch.geometry.poses import relative
from lightmatch.scenes.cameras import look_at, pinhole
from lightmatch.scenes.render import render
from lightmatch.scenes.world import build_world
from lightmatch.tracking import VIRTUAL_BASELINE, TrackedCamera, TrackedFrame, Tracker, TrackerConfig
from lightmatch.tracking.frames import CameraFrame
from lightmatch.tracking.mapping import Mapper

CONFIG = TrackerConfig(max_keypoints=512)
Step = Callable[[Tracker, int], TrackedFrame]


def with_depth(walk: MovingCamera) -> tuple[Tracker, Step]:
    tracker = Tracker(walk.camera(VIRTUAL_BASELINE), CONFIG)
    return tracker, lambda t, n: t.step(walk.rgb[n], 0.1 * n, depth=walk.depth[n])


def with_right(walk: MovingCamera) -> tuple[Tracker, Step]:
    tracker = Tracker(walk.camera(BASELINE), CONFIG)
    return tracker, lambda t, n: t.step(walk.rgb[n], 0.1 * n, right=walk.right[n])


def alone(walk: MovingCamera) -> tuple[Tracker, Step]:
    tracker = Tracker(walk.camera(), CONFIG)
    return tracker, lambda t, n: t.step(walk.rgb[n], 0.1 * n)


def errors(walk: MovingCamera, frames: Sequence[TrackedFrame], numbers: Sequence[int]) -> np.ndarray:
    """(n, 2): distance in m and angle in degrees from the truth, both seen from the first frame."""
    found = []
    first = frames[0].cam_from_world
    assert first is not None
    for frame, number in zip(frames, numbers, strict=True):
        assert frame.cam_from_world is not None
        true = relative(walk.cam_from_world[number], walk.cam_from_world[numbers[0]])
        ours = relative(frame.cam_from_world, first)
        off = relative(ours, true)
        found.append((np.linalg.norm(off[:, 3]), np.degrees(np.arccos(min(1, (np.trace(off[:, :3]) - 1) / 2)))))
    return np.array(found)


@pytest.mark.parametrize(("make", "limit_m"), [(with_depth, 0.03), (with_right, 0.04)])
def test_depths_and_stereo_give_metres_from_the_first_frame(
    walk: MovingCamera, make: Callable[[MovingCamera], tuple[Tracker, Step]], limit_m: float
) -> None:
    tracker, step = make(walk)
    frames = [step(tracker, number) for number in range(len(walk.rgb))]
    assert {frame.status for frame in frames} == {"tracking"}
    found = errors(walk, frames, range(len(frames)))
    assert np.linalg.norm(walk.centers[-1] - walk.centers[0]) > 1
    assert found[:, 0].max() < limit_m and found[:, 1].max() < 0.5
    assert 2 <= len(tracker.map.keyframes) < len(frames) and len(tracker.map) > 300
    assert tracker.loops == []


def test_one_camera_starts_when_it_has_moved_and_has_a_unit_of_its_own(walk: MovingCamera) -> None:
    tracker, step = alone(walk)
    frames = [step(tracker, number) for number in range(len(walk.rgb))]
    first = next(number for number, frame in enumerate(frames) if frame.status == "tracking")
    assert 2 <= first < 20 and all(frame.status == "starting" and frame.reason for frame in frames[:first])
    assert all(frame.status == "tracking" for frame in frames[first:])
    for frame in frames[first : first + 2]:  # where the map begins is measured too: against the frame that it starts at
        assert frame.covariance is not None and 1e-4 < np.sqrt(np.trace(frame.covariance[3:, 3:])) < 0.05
    ours = torch.from_numpy(np.stack([frame.center for frame in frames[first:] if frame.center is not None]))
    true = torch.from_numpy(walk.centers[first:])
    assert float((align_points(ours, true).apply(ours) - true).norm(dim=1).max()) < 0.02


def test_covariances_cover_the_errors(walk: MovingCamera) -> None:
    tracker, step = with_depth(walk)
    frames = [step(tracker, number) for number in range(12)]
    for frame in frames[1:]:
        assert frame.covariance is not None
        assert np.allclose(frame.covariance, frame.covariance.T) and (np.linalg.eigvalsh(frame.covariance) > 0).all()
        assert 1e-4 < np.sqrt(np.trace(frame.covariance[3:, 3:])) < 0.05


def test_the_same_frames_give_the_same_bits(walk: MovingCamera) -> None:
    both = []
    for _ in range(2):
        tracker, step = with_depth(walk)
        both.append([step(tracker, number).cam_from_world for number in range(10)])
    assert all(np.array_equal(first, second) for first, second in zip(*both, strict=True))


def test_a_still_camera_does_not_drift_and_makes_no_keyframes(walk: MovingCamera) -> None:
    tracker = Tracker(walk.camera(VIRTUAL_BASELINE), CONFIG)
    noise, center = np.random.default_rng(0), None
    for number in range(20):
        noisy = np.clip(walk.rgb[0] + noise.normal(0, 2, walk.rgb[0].shape), 0, 255).astype(np.uint8)
        center = tracker.step(noisy, 0.1 * number, depth=walk.depth[0]).center
    assert center is not None and np.linalg.norm(center) < 0.01
    assert len(tracker.map.keyframes) == 1


def test_a_camera_that_only_turns_makes_no_map() -> None:
    size, eye = (320, 240), torch.tensor([6.0, 0.0, 1.7])
    targets = [eye + torch.tensor([-1.0, 0.03 * n, -0.1]) for n in range(14)]
    poses = torch.stack([look_at(eye, target) for target in targets])
    K = pinhole(65.0, size)
    rgb = render(build_world(torch.Generator().manual_seed(0)), K.expand(14, 3, 3).contiguous(), poses, size).rgb
    tracker = Tracker(TrackedCamera.pinhole(K.numpy(), size), CONFIG)
    frames = [tracker.step(image.numpy(), 0.1 * number) for number, image in enumerate(rgb)]
    assert {frame.status for frame in frames} == {"starting"} and not tracker.map.keyframes
    assert any("turned more than it moved" in frame.reason for frame in frames)


def test_blank_frames_are_bridged_and_a_lost_camera_finds_its_place(walk: MovingCamera) -> None:
    tracker, step = with_depth(walk)
    frames = [step(tracker, number) for number in range(10)]
    black = np.zeros_like(walk.rgb[0])
    dark = [tracker.step(black, 1.0 + 0.01 * number, depth=walk.depth[9]) for number in range(8)]
    assert [frame.status for frame in dark] == ["coasting"] * 5 + ["lost"] * 3
    assert all(frame.reason == "the frame is blank" for frame in dark)
    assert dark[0].covariance is None and dark[0].cam_from_world is not None and dark[-1].cam_from_world is None
    again = tracker.step(walk.rgb[4], 2.0, depth=walk.depth[4])  # carried to where it was before
    assert again.status == "tracking"
    assert errors(walk, [frames[0], again], [0, 4])[1, 0] < 0.03
    assert tracker.step(walk.rgb[5], 2.1, depth=walk.depth[5]).status == "tracking"


def test_a_kidnapped_camera_is_not_placed_where_it_has_never_been(walk: MovingCamera) -> None:
    tracker, step = with_depth(walk)
    for number in range(3):
        step(tracker, number)
    elsewhere = np.random.default_rng(0).integers(0, 256, walk.rgb[0].shape, np.uint8)
    frames = [tracker.step(elsewhere, 1 + 0.1 * n, depth=walk.depth[0]) for n in range(7)]
    assert [frame.status for frame in frames] == ["coasting"] * 5 + ["lost"] * 2


def test_a_jump_of_the_exposure_is_followed(walk: MovingCamera) -> None:
    tracker, _ = with_depth(walk)
    frames = []
    for number in range(12):
        gain = 1.0 if number < 5 else 0.5
        image = np.clip(walk.rgb[number] * gain, 0, 255).astype(np.uint8)
        frames.append(tracker.step(image, 0.1 * number, depth=walk.depth[number]))
    assert {frame.status for frame in frames} == {"tracking"}
    assert errors(walk, frames, range(12))[:, 0].max() < 0.03


def test_dropped_frames_and_repeated_ones_are_followed(walk: MovingCamera) -> None:
    tracker, _ = with_depth(walk)
    numbers = [0, 1, 2, 6, 7, 8, 8, 9]
    frames = [tracker.step(walk.rgb[n], 0.1 * n + 0.01 * place, depth=walk.depth[n]) for place, n in enumerate(numbers)]
    assert {frame.status for frame in frames} == {"tracking"}
    assert errors(walk, frames, numbers)[:, 0].max() < 0.03


def test_wrong_frames_are_passed_over_with_a_sentence(walk: MovingCamera) -> None:
    tracker, step = with_depth(walk)
    step(tracker, 0)
    step(tracker, 1)
    for frame, said in (
        (tracker.step(walk.rgb[2], 0.05), "expected a time later than 0.1 s, got 0.05 s"),
        (tracker.step(walk.rgb[2], float("nan")), "expected a time later"),
        (tracker.step(walk.rgb[2][:100], 0.2), "expected an image of 320 x 240 px, got 320 x 100"),
        (tracker.step(walk.rgb[2], 0.2, depth=walk.depth[2][:9]), "expected a depth map of 320 x 240 px"),
    ):
        assert frame.status == "coasting" and said in frame.reason
    assert step(tracker, 2).status == "tracking"


def test_a_frame_without_a_time_gets_no_pose_without_numbers(walk: MovingCamera) -> None:
    tracker, step = with_depth(walk)
    for number in range(3):
        step(tracker, number)
    frame = tracker.step(walk.rgb[3], float("nan"))
    assert frame.status == "coasting" and frame.cam_from_world is not None and np.isfinite(frame.cam_from_world).all()


@pytest.mark.parametrize("ahead", [3600.0, 0.0])
def test_a_clock_that_was_set_back_is_believed_after_some_frames(walk: MovingCamera, ahead: float) -> None:
    """Whether one frame had a time far ahead, or the times begin anew."""
    tracker, step = with_depth(walk)
    for number in range(3):
        step(tracker, number)
    assert tracker.step(walk.rgb[3], 0.3 + ahead, depth=walk.depth[3]).status == "tracking"
    times = [0.1 * number - (0.0 if ahead else 100.0) for number in range(4, 16)]
    frames = [
        tracker.step(walk.rgb[number], when, depth=walk.depth[number])
        for number, when in zip(range(4, 16), times, strict=True)
    ]
    passed_over = CONFIG.coast_frames
    assert all("expected a time later" in frame.reason for frame in frames[:passed_over])
    assert {frame.status for frame in frames[passed_over:]} == {"tracking"}
    poses = [pose for when, pose in tracker.trajectory() if when in times]
    assert len(poses) == 12 - passed_over and np.isfinite(poses).all()


def test_a_frame_out_of_order_now_and_then_sets_no_clock(walk: MovingCamera) -> None:
    tracker, step = with_depth(walk)
    for number in range(12):
        step(tracker, number)
        assert "later" in tracker.step(walk.rgb[number], 0.001 * number - 1, depth=walk.depth[number]).reason


def test_a_buffer_may_be_used_again(walk: MovingCamera) -> None:
    image, depth = walk.rgb[0].copy(), walk.depth[0].copy()
    frame = CameraFrame.of(image, 0.0, depth, None)
    image[:], depth[:] = 0, 0
    assert np.array_equal(frame.image.pixels, walk.rgb[0])
    assert frame.depth is not None and np.array_equal(frame.depth, walk.depth[0])


def test_a_matcher_that_is_not_mutual_can_be_used(walk: MovingCamera) -> None:
    for make in (with_depth, alone):
        tracker, step = make(walk)
        tracker = Tracker(tracker.camera, replace(CONFIG, matcher="nearest:0.9,oneway"))
        assert [step(tracker, number).status for number in range(20)][-1] == "tracking"


@pytest.fixture(scope="module")
def elsewhere() -> MovingCamera:
    """Frames of another world."""
    return moving_camera(16, seed=5, stereo=False, supersampling=1)


@pytest.mark.parametrize("make", [with_depth, alone])
def test_a_young_map_in_which_the_camera_is_not_found_is_given_up(
    walk: MovingCamera, elsewhere: MovingCamera, make: Callable[[MovingCamera], tuple[Tracker, Step]]
) -> None:
    tracker, step = make(walk)
    last = 0
    while not tracker.map.keyframes:
        step(tracker, last)
        last += 1
    old = set(tracker.map.keyframes)
    assert len(old) <= 2
    depths = tracker.camera.baseline is not None
    frames = []
    for count in range(60):
        number = min(count % 32, 31 - count % 32)  # there and back
        depth = elsewhere.depth[number] if depths else None
        frames.append(tracker.step(elsewhere.rgb[number], 10 + 0.1 * count, depth=depth))
    statuses = [frame.status for frame in frames]
    begins = statuses.index("tracking")
    assert begins >= 30 and "another begins here" in frames[begins].reason and frames[begins].is_keyframe
    assert statuses[:begins] == ["coasting"] * 5 + ["lost"] * (begins - 5)
    assert set(statuses[begins:]) == {"tracking"} and old.isdisjoint(tracker.map.keyframes)
    assert all(when >= 10 for when, _ in tracker.trajectory())


def test_an_older_map_is_not_given_up(
    walk: MovingCamera, elsewhere: MovingCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightmatch.tracking.tracker.has_moved_away", lambda *_: True)
    tracker, step = with_depth(walk)
    for number in range(6):
        step(tracker, number)
    assert len(tracker.map.keyframes) > 3
    frames = [tracker.step(elsewhere.rgb[0], 10 + 0.1 * count, depth=elsewhere.depth[0]) for count in range(35)]
    assert frames[-1].status == "lost" and step(tracker, 0).reason  # its time is past
    assert tracker.step(walk.rgb[3], 20.0, depth=walk.depth[3]).status == "tracking"


def test_a_guessed_pose_does_not_jump_back(walk: MovingCamera) -> None:
    """The longer nothing is seen, the less the motion before says: the camera is guessed to stop."""
    tracker, step = with_depth(walk)
    last = [step(tracker, number) for number in range(6)][-1]
    black = np.zeros_like(walk.rgb[0])
    dark = [tracker.step(black, 0.5 + 0.1 * number, depth=walk.depth[5]) for number in range(1, 6)]
    assert last.center is not None
    gone = [float(np.linalg.norm(frame.center - last.center)) for frame in dark if frame.center is not None]
    assert len(gone) == 5 and gone == pytest.approx(sorted(gone)) and gone[-1] < 3.5 * gone[0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image": np.zeros((240, 320, 1), np.uint8)}, "image: expected grey"),
        ({"image": np.zeros((240, 320, 3), np.uint16)}, "image: expected grey"),
        ({"depth": np.zeros((240, 320), np.uint16)}, "depth: expected metres"),
        ({"depth": np.zeros((240, 320, 1), np.float32)}, "depth: expected metres"),
    ],
)
def test_arrays_that_are_no_image_and_no_depth_map_are_refused(
    walk: MovingCamera, changed: dict[str, np.ndarray], said: str
) -> None:
    given = {"image": walk.rgb[0], "depth": walk.depth[0]} | changed
    with pytest.raises(InvalidValueError, match=said):
        with_depth(walk)[0].step(given["image"], 0.0, depth=given["depth"])


def test_a_scene_that_is_far_as_a_whole_is_tracked() -> None:
    """Beyond sixty baselines."""
    tracker = Tracker(wall_camera(VIRTUAL_BASELINE), CONFIG)
    frames = [tracker.step(image, 0.1 * number, depth=3 * DEPTH) for number, image in enumerate(wall_frames(4))]
    assert {frame.status for frame in frames} == {"tracking"} and frames[-1].center is not None
    assert np.allclose(frames[-1].center, [9 * STEP_M, 0, 0], atol=0.05)


def test_depths_need_a_baseline(walk: MovingCamera) -> None:
    with pytest.raises(InvalidValueError, match="a camera with a baseline"):
        Tracker(walk.camera(), CONFIG).step(walk.rgb[0], 0.0, depth=walk.depth[0])


def test_mapping_in_the_background_tracks_too(walk: MovingCamera) -> None:
    config = replace(CONFIG, background=True)
    with Tracker(walk.camera(VIRTUAL_BASELINE), config) as tracker:
        frames = []
        for number in range(len(walk.rgb)):
            frames.append(tracker.step(walk.rgb[number], 0.1 * number, depth=walk.depth[number]))
            time.sleep(0.05)
    assert {frame.status for frame in frames} == {"tracking"}
    assert errors(walk, frames, range(len(frames)))[:, 0].max() < 0.08
    assert sum(frame.is_keyframe for frame in frames) == len(tracker.map.keyframes) >= 2


def test_a_keyframe_that_is_long_in_making_is_waited_for_before_the_map_is_out_of_sight(
    walk: MovingCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of a file come faster than a slow computer maps."""
    made = Mapper._make

    def slowly(*arguments: Any) -> Any:
        time.sleep(2)
        return made(*arguments)

    monkeypatch.setattr(Mapper, "_make", slowly)
    with Tracker(walk.camera(VIRTUAL_BASELINE), replace(CONFIG, background=True)) as tracker:
        frames = [
            tracker.step(walk.rgb[number], 0.1 * number, depth=walk.depth[number]) for number in range(len(walk.rgb))
        ]
        first = next(number for number, frame in enumerate(frames) if frame.is_keyframe and number)
        assert any(frame.seconds > 1 for frame in frames[first + 1 :])
        assert min(frame.num_tracked for frame in frames) > 100
    assert len(tracker.map.keyframes) >= 3


def test_what_is_mapped_last_is_there_after_close(walk: MovingCamera) -> None:
    tracker = Tracker(walk.camera(VIRTUAL_BASELINE), replace(CONFIG, background=True))
    for number in range(len(walk.rgb)):
        if tracker.step(walk.rgb[number], 0.1 * number, depth=walk.depth[number]).is_keyframe and number:
            break
    assert tracker.is_mapping
    tracker.close()
    assert len(tracker.map.keyframes) == 2 and not tracker.is_mapping
    assert np.array_equal(
        tracker.tracked_places, tracker.map.keyframes[1].features.keypoints[tracker.map.keyframes[1].seen]
    )


def test_ctrl_c_while_a_keyframe_is_waited_for_leaves_it_to_be_taken(
    walk: MovingCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(walk.camera(VIRTUAL_BASELINE), replace(CONFIG, background=True))
    for number in range(len(walk.rgb)):
        if tracker.step(walk.rgb[number], 0.1 * number, depth=walk.depth[number]).is_keyframe and number:
            break
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("lightmatch.tracking.mapping.wait", interrupted)
        tracker.close()
    assert tracker.is_mapping or len(tracker.map.keyframes) == 2


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt
