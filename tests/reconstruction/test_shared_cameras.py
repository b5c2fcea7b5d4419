"""Photos that ask for different focal lengths are noticed, and a camera for each makes the model right."""

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from synthetic_mapping import SIZE, position_errors, synthetic_model

from lightmatch.reconstruction import map_with_selection
from lightmatch.reconstruction.mapping import shared_cameras
from lightmatch.reconstruction.mapping.model_selection import MappingOptions
from lightmatch.reconstruction.mapping.shared_cameras import (
    Remapper,
    give_photos_cameras,
    photos_disagree,
    try_camera_per_photo,
)
from lightmatch.sfm.tracks import read_tracks

SEED = 3


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Blank pictures for COLMAP to read the sizes of."""
    for name in [f"camera000001_frame{number:06d}.png" for number in range(9)]:
        cv2.imwrite(str(tmp_path / name), np.zeros((SIZE[1], SIZE[0]), np.uint8))
    return tmp_path


def zoomed_database(folder: Path, zoom: float) -> tuple[Path, pycolmap.Reconstruction]:
    """A database of nine photos, every second one zoomed; all share a camera of unknown focal length. And the truth."""
    path = folder / "d.db"
    truth = synthetic_model(path, num_photos=9, num_points=300, track_length=6, noise_px=0.3)
    with pycolmap.Database.open(path) as opened:
        for image in opened.read_all_images()[::2]:
            keypoints = np.array(opened.read_keypoints(image.image_id))
            keypoints[:, :2] = (keypoints[:, :2] - np.array(SIZE) / 2) * zoom + np.array(SIZE) / 2
            opened.update_keypoints(image.image_id, keypoints)
        camera = opened.read_camera(1)
        camera.params, camera.has_prior_focal_length = [600.0, SIZE[0] / 2, SIZE[1] / 2, 0.0], False
        opened.update_camera(camera)
    return path, truth


def test_photos_that_share_a_lens_agree(tmp_path: Path) -> None:
    database, _ = zoomed_database(tmp_path, zoom=1.0)
    (model,) = map_with_selection(database, tmp_path, seed=SEED).models
    assert model.num_reg_images() == 9 and not photos_disagree(model)


def test_photos_of_a_lens_that_zoomed_disagree_and_a_camera_each_mends_the_model(images: Path, tmp_path: Path) -> None:
    database, truth = zoomed_database(tmp_path, zoom=1.4)
    shared = map_with_selection(database, images, seed=SEED)
    assert photos_disagree(shared.models[0])
    give_photos_cameras(database, tmp_path / "each.db", images, "SIMPLE_RADIAL")
    each = map_with_selection(tmp_path / "each.db", images, seed=SEED)
    assert each.models[0].num_reg_images() == 9 and len(each.models[0].cameras) == 9
    assert not photos_disagree(each.models[0])  # a camera of one photo has nobody to disagree with
    assert np.median(position_errors(each.models[0], truth)) < 0.005
    assert np.median(position_errors(shared.models[0], truth)) > 0.01
    model = each.models[0]
    images_of = [model.image(number) for number in model.reg_image_ids()]
    focal = {image.name: model.camera(image.camera_id).mean_focal_length() for image in images_of}
    zoomed = [focal[name] for name in sorted(focal)[::2]]
    assert np.median(zoomed) / np.median([focal[name] for name in sorted(focal)[1::2]]) == pytest.approx(1.4, rel=0.02)


@pytest.mark.parametrize(("zoom", "is_tried"), [(1.0, False), (1.4, True)])
def test_many_photos_are_mapped_anew_only_where_adjusting_them_with_a_camera_each_predicts_better(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoom: float, is_tried: bool
) -> None:
    database, _ = zoomed_database(tmp_path, zoom)
    remapper = Remapper(images, "SIMPLE_RADIAL", SEED, MappingOptions())
    shared = remapper.map(database)
    monkeypatch.setattr(shared_cameras, "FEW_PHOTOS", 8)
    monkeypatch.setattr(shared_cameras, "photos_disagree", lambda model: True)
    result, used = try_camera_per_photo(shared, database, tmp_path / "each.db", remapper)
    assert (result.history.camera_per_photo is not None) == is_tried
    assert used == (tmp_path / "each.db" if is_tried else database)


def test_the_copy_holds_the_same_keypoints_and_matches(images: Path, tmp_path: Path) -> None:
    database, _ = zoomed_database(tmp_path, zoom=1.0)
    give_photos_cameras(database, tmp_path / "each.db", images, "SIMPLE_RADIAL")
    with pycolmap.Database.open(database) as old, pycolmap.Database.open(tmp_path / "each.db") as new:
        ids = {image.name: image.image_id for image in new.read_all_images()}
        names = {image.image_id: image.name for image in old.read_all_images()}
        assert new.num_cameras() == 9 and old.num_inlier_matches() == new.num_inlier_matches() > 0
        for image_id, name in names.items():
            np.testing.assert_array_equal(old.read_keypoints(image_id), new.read_keypoints(ids[name]))
        for pair_id, geometry in zip(*old.read_two_view_geometries(), strict=True):
            a, b = (ids[names[i]] for i in pycolmap.pair_id_to_image_pair(pair_id))
            copied = new.read_two_view_geometry(a, b)
            assert sorted(map(tuple, copied.inlier_matches)) == sorted(map(tuple, geometry.inlier_matches))


def test_tracks_are_the_same_whichever_photos_get_cameras_of_their_own(images: Path, tmp_path: Path) -> None:
    database = tmp_path / "d.db"
    synthetic_model(database, num_photos=9, num_points=300, track_length=6, noise_px=0.3, inlier_ratio=0.8)
    before = read_tracks(database)
    give_photos_cameras(database, tmp_path / "one.db", images, "SIMPLE_RADIAL", [before.names[1]])
    after = read_tracks(tmp_path / "one.db")
    for name in ("starts", "photos", "keypoints", "xy"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
