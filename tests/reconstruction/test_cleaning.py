"""An outlier camera is found and reported; one taken from afar stays."""

from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from synthetic_mapping import names_of, synthetic_model

from lightmatch.reconstruction.mapping.cleaning import FAR, filter_points, find_outlier_cameras, remove_outlier_cameras
from lightmatch.reconstruction.mapping.held_out import HeldOutScorer
from lightmatch.sfm.bundle_adjustment import AdjustOptions
from lightmatch.sfm.tracks import read_tracks

OPTIONS = AdjustOptions(threads=1)
AWAY = 60.0  # model units; cameras stand about 5 from the middle


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[pycolmap.Reconstruction, HeldOutScorer]:
    database = tmp_path_factory.mktemp("scene") / "d.db"
    return synthetic_model(database, num_photos=9, num_points=250), HeldOutScorer(read_tracks(database))


def place(model: pycolmap.Reconstruction, image_id: int, center: np.ndarray) -> str:
    """Put a photo somewhere else, its direction as it was."""
    image = model.image(image_id)
    rotation = image.cam_from_world().rotation
    model.frame(image.frame_id).set_cam_from_world(
        image.camera_id, pycolmap.Rigid3d(rotation, -(rotation.matrix() @ center))
    )
    return image.name


def test_a_good_model_loses_nothing(scene: tuple[pycolmap.Reconstruction, HeldOutScorer]) -> None:
    model = pycolmap.Reconstruction(scene[0])
    assert remove_outlier_cameras(model, scene[1], OPTIONS) == []
    assert names_of(model) == names_of(scene[0])


def test_a_photo_thrown_out_by_hand_is_found_and_told(scene: tuple[pycolmap.Reconstruction, HeldOutScorer]) -> None:
    model = pycolmap.Reconstruction(scene[0])
    image = model.image(min(model.reg_image_ids()))
    name = place(model, image.image_id, np.array(image.projection_center()) * AWAY)
    found = find_outlier_cameras(model, scene[1].measure(model))
    assert [photo.name for photo in found] == [name]
    assert found[0].distance > FAR
    assert found[0].predicted == 0.0
    assert "times as far out" in found[0].reasons[0]
    assert "held-out observations" in found[0].reasons[-1]
    assert found[0].name == name


def test_a_frame_of_a_rig_far_out_is_found_with_all_its_photos(tmp_path: Path) -> None:
    """Its photos stand together, as the views of a panorama, so none of them is alone."""
    model = synthetic_model(tmp_path / "d.db", num_photos=9, num_points=250, cameras_per_rig=2)
    image = model.image(min(model.reg_image_ids()))
    both = {other.name for other in model.images.values() if other.frame_id == image.frame_id}
    pose: Any = model.frame(image.frame_id).rig_from_world
    model.frame(image.frame_id).rig_from_world = pycolmap.Rigid3d(
        pose.rotation, -(pose.rotation.matrix() @ (np.array(image.projection_center()) * AWAY))
    )
    found = find_outlier_cameras(model, HeldOutScorer(read_tracks(tmp_path / "d.db")).measure(model))
    assert len(both) == 2 and {photo.name for photo in found} == both


def test_removing_takes_the_photo_and_leaves_the_rest(scene: tuple[pycolmap.Reconstruction, HeldOutScorer]) -> None:
    model = pycolmap.Reconstruction(scene[0])
    image = model.image(min(model.reg_image_ids()))
    for number in image.get_observation_point2D_idxs()[
        8:
    ]:  # hangs by a few points, so adjustment does not bring it back
        model.delete_observation(image.image_id, number)
    name = place(model, image.image_id, np.array(image.projection_center()) * AWAY)
    for number in image.get_observation_point2D_idxs():
        model.delete_observation(image.image_id, number)
    removed = remove_outlier_cameras(model, scene[1], OPTIONS)
    assert [photo.name for photo in removed] == [name]
    assert any("sees only 0 points" in reason for reason in removed[0].reasons)
    assert names_of(model) == names_of(scene[0]) - {name}


def test_an_overview_from_afar_stays(tmp_path: Path) -> None:
    truth = synthetic_model(tmp_path / "d.db", num_photos=9, num_points=250, noise_px=0.0)
    image = truth.image(min(truth.reg_image_ids()))
    center = np.array(image.projection_center()) * AWAY / 3
    place(truth, image.image_id, center)
    with pycolmap.Database.open(tmp_path / "d.db") as database:
        keypoints = database.read_keypoints(image.image_id)[:, :2]
        for number in image.get_observation_point2D_idxs():  # seen truly, from there
            pixel = np.asarray(image.project_point(truth.point3D(image.point2D(number).point3D_id).xyz))
            image.point2D(number).xy = pixel
            keypoints[number] = pixel
        database.update_keypoints(image.image_id, keypoints.astype(np.float32))
    scorer = HeldOutScorer(read_tracks(tmp_path / "d.db"))
    distances = np.linalg.norm([truth.image(i).projection_center() for i in truth.reg_image_ids()], axis=1)
    assert distances.max() > FAR * np.median(distances)
    assert remove_outlier_cameras(truth, scorer, OPTIONS) == []


def test_points_that_do_not_fit_are_filtered(scene: tuple[pycolmap.Reconstruction, HeldOutScorer]) -> None:
    model = pycolmap.Reconstruction(scene[0])
    assert filter_points(model) < 0.02 * model.compute_num_observations()
    spoilt = min(model.point3D_ids())
    model.point3D(spoilt).xyz = model.point3D(spoilt).xyz + 2.0
    assert filter_points(model) >= model.num_images() // 4
    assert not model.exists_point3D(spoilt)
