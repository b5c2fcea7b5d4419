"""Bundle adjustment of a window: what is in it comes nearer the truth, all else stays to the bit."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from synthetic_mapping import synthetic_model

from lightmatch.errors import InvalidValueError
from lightmatch.sfm.bundle_adjustment import KNOWN, AdjustOptions, FreeIntrinsics, adjust

if TYPE_CHECKING:
    from pycolmap import Reconstruction

HELD = AdjustOptions(free=KNOWN, threads=1)
OFF = 0.05  # units; the cameras stand some 5 from the points


class State(NamedTuple):
    """All numbers of a model."""

    poses: dict[int, np.ndarray]  # (3, 4) by image
    points: dict[int, np.ndarray]  # (3,)
    cameras: dict[int, np.ndarray]


def state_of(model: "Reconstruction") -> State:
    return State(
        {number: np.array(model.image(number).cam_from_world().matrix()) for number in model.reg_image_ids()},
        {number: np.array(model.point3D(number).xyz) for number in model.point3D_ids()},
        {number: np.array(model.camera(number).params) for number in model.cameras},
    )


def seen_by(model: "Reconstruction", images: Collection[int]) -> set[int]:
    return {point.point3D_id for number in images for point in model.image(number).get_observation_points2D()}


def moved(model: "Reconstruction", images: Collection[int]) -> "Reconstruction":
    """A copy in which these images and all points that they see are off."""
    import pycolmap

    copy, rng = pycolmap.Reconstruction(model), np.random.default_rng(0)
    for number in images:
        image = copy.image(number)
        off = pycolmap.Rigid3d(pycolmap.Rotation3d(0.005 * rng.normal(size=3)), OFF * rng.normal(size=3))
        copy.frame(image.frame_id).rig_from_world = off * image.cam_from_world()
    for point in seen_by(copy, images):
        copy.point3D(point).xyz = copy.point3D(point).xyz + OFF * rng.normal(size=3)
    return copy


def position_errors(model: "Reconstruction", truth: "Reconstruction", images: Collection[int]) -> np.ndarray:
    return np.array(
        [
            np.linalg.norm(model.image(number).projection_center() - truth.image(number).projection_center())
            for number in images
        ]
    )


def rms_px(model: "Reconstruction", images: Collection[int]) -> float:
    """Of all observations of the points that these images see, by whichever image."""
    squares = []
    for point_id in seen_by(model, images):
        for seen in model.point3D(point_id).track.elements:
            image = model.image(seen.image_id)
            projected = image.project_point(model.point3D(point_id).xyz)
            assert projected is not None
            squares.append(np.square(projected - image.point2D(seen.point2D_idx).xy).sum())
    return float(np.sqrt(np.mean(squares)))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> "Reconstruction":
    """Ten photos of one camera; their true poses and points, and observations with noise of 0.3 px."""
    database = tmp_path_factory.mktemp("adjust") / "database.db"
    return synthetic_model(database, num_photos=10, num_points=300, track_length=4, noise_px=0.3)


def window_of(truth: "Reconstruction") -> list[int]:
    return sorted(truth.reg_image_ids())[3:6]


def test_the_window_comes_nearer_the_truth(truth: "Reconstruction") -> None:
    window = window_of(truth)
    model = moved(truth, window)
    before = position_errors(model, truth, window)
    adjust(model, HELD, images=window)
    after = position_errors(model, truth, window)
    assert before.min() > 0.03 and after.max() < 0.006  # what noise of 0.3 px leaves
    assert rms_px(model, window) < 0.5


def test_all_else_stays_to_the_bit(truth: "Reconstruction") -> None:
    window = window_of(truth)
    model = moved(truth, window)
    before, inside = state_of(model), seen_by(model, window)
    adjust(model, AdjustOptions(threads=1), images=window)  # the camera is free, but shared with images outside
    after = state_of(model)
    outside = set(before.poses) - set(window)
    assert len(outside) == 7 and inside < set(before.points)
    assert all(np.array_equal(before.poses[number], after.poses[number]) for number in outside)
    assert all(np.array_equal(before.cameras[number], after.cameras[number]) for number in before.cameras)
    kept = set(before.points) - inside
    assert kept and all(np.array_equal(before.points[number], after.points[number]) for number in kept)
    assert all(not np.array_equal(before.poses[number], after.poses[number]) for number in window)
    assert sum(np.array_equal(before.points[number], after.points[number]) for number in inside) == 0


def test_what_images_outside_see_of_the_points_counts(truth: "Reconstruction") -> None:
    """The window agrees with the images that stay, in their frame, though all of it was moved in one direction."""
    import pycolmap

    window = window_of(truth)
    model = pycolmap.Reconstruction(truth)
    shift = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([0.2, 0, 0]))
    for number in window:
        image = model.image(number)
        model.frame(image.frame_id).rig_from_world = image.cam_from_world() * shift
    for point in seen_by(model, window):
        model.point3D(point).xyz = model.point3D(point).xyz - np.array([0.2, 0, 0])
    assert position_errors(model, truth, window).min() > 0.19
    adjust(model, HELD, images=window)
    assert position_errors(model, truth, window).max() < 0.01


def test_intrinsics_of_a_camera_that_only_the_window_has_are_refined(tmp_path: Path) -> None:
    import pycolmap

    true = synthetic_model(tmp_path / "d.db", num_photos=8, num_points=300, track_length=5, noise_px=0.1)
    window = sorted(true.reg_image_ids())[:2]
    model = moved(true, window)
    # The same photos in a model where those of the window have a camera of their own, its focal length off by 3 %.
    own = pycolmap.Camera(model.camera(1).todict())
    own.camera_id = 2
    own.focal_length = 1.03 * own.focal_length
    model.add_camera_with_trivial_rig(own)
    split = pycolmap.Reconstruction()
    for number in (1, 2):
        split.add_camera_with_trivial_rig(model.camera(number))
    for number in sorted(model.reg_image_ids()):
        image = model.image(number)
        xy = np.array([point.xy for point in image.points2D])
        new = pycolmap.Image(name=image.name, keypoints=xy, camera_id=2 if number in window else 1, image_id=number)
        split.add_image_with_trivial_frame(new, image.cam_from_world())
    for point in model.points3D.values():
        split.add_point3D(point.xyz, point.track, point.color)
    options = AdjustOptions(free=FreeIntrinsics(distortion=False), threads=1)
    shared = np.array(split.camera(1).params)
    adjust(split, options, images=window)
    assert np.array_equal(split.camera(1).params, shared)
    assert abs(split.camera(2).focal_length / shared[0] - 1) < 0.003
    assert position_errors(split, true, window).max() < 0.01


def test_a_window_of_all_images_is_an_adjustment_of_the_whole(truth: "Reconstruction") -> None:
    import pycolmap

    start = moved(truth, window_of(truth))
    whole, windowed = pycolmap.Reconstruction(start), pycolmap.Reconstruction(start)
    adjust(whole, HELD)
    adjust(windowed, HELD, images=truth.reg_image_ids())
    for number, pose in state_of(whole).poses.items():
        np.testing.assert_allclose(state_of(windowed).poses[number], pose, atol=1e-9)


def test_poses_that_stay_in_the_window_let_only_its_points_move(truth: "Reconstruction") -> None:
    window = window_of(truth)
    model = moved(truth, window)
    before = state_of(model)
    adjust(model, AdjustOptions(free=KNOWN, poses=False, threads=1), images=window)
    after = state_of(model)
    assert all(np.array_equal(before.poses[number], after.poses[number]) for number in before.poses)
    assert any(not np.array_equal(before.points[number], after.points[number]) for number in before.points)


def test_points_that_stay_let_each_camera_move_alone(truth: "Reconstruction") -> None:
    moved_images = window_of(truth)
    model = moved(truth, moved_images)
    for point in truth.point3D_ids():
        model.point3D(point).xyz = truth.point3D(point).xyz
    before, whole = state_of(model), position_errors(model, truth, moved_images)
    adjust(model, AdjustOptions(free=KNOWN, points=False, threads=1))
    after = state_of(model)
    assert all((after.points[point] == before.points[point]).all() for point in before.points)
    assert position_errors(model, truth, truth.reg_image_ids()).max() < 0.1 * whole.max()
    window = moved(truth, moved_images)
    points = state_of(window).points
    adjust(window, AdjustOptions(free=KNOWN, points=False, threads=1), images=moved_images)
    now = state_of(window)
    assert all((now.points[point] == points[point]).all() for point in points)
    others = set(truth.reg_image_ids()) - set(moved_images)
    assert all((now.poses[image] == before.poses[image]).all() for image in others)


def test_nothing_to_refine_and_unknown_images(truth: "Reconstruction") -> None:
    import pycolmap

    model = pycolmap.Reconstruction(truth)
    before = state_of(model)
    adjust(model, HELD, images=[])
    assert all(np.array_equal(before.points[number], xyz) for number, xyz in state_of(model).points.items())
    with pytest.raises(InvalidValueError, match=r"ids of registered images, got \[99\]"):
        adjust(model, HELD, images=[1, 99])
