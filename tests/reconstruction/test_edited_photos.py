"""Cropped and stretched photos are found by how badly they are predicted, and get cameras that make the model right."""

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from synthetic_mapping import SIZE, position_errors, synthetic_model

from lightmatch.reconstruction import MappingOptions, Remapper, edited_warnings, map_with_selection, try_edited_photos
from lightmatch.reconstruction.mapping.edited_photos import find_edited_photos
from lightmatch.reconstruction.mapping.shared_cameras import give_photos_cameras

SEED = 3
NAMES = [f"camera000001_frame{number:06d}.png" for number in range(10)]
CROPPED = {NAMES[2]: (110.0, -80.0), NAMES[6]: (-100.0, 60.0)}  # px by which the principal point comes to lie off
SQUEEZED = 360  # px of height, of photos of 480
OPTIONS = MappingOptions(select_camera_models=False, uncertainty=False)


def mapped(
    database: Path, folder: Path, camera_model: str = "SIMPLE_RADIAL"
) -> tuple[pycolmap.Reconstruction, list[str], Path]:
    """The model with what was found, what is said of it, and its database."""
    remapper = Remapper(folder, camera_model, SEED, OPTIONS)
    found, used = try_edited_photos(remapper.map(database), database, folder / "edited.db", remapper)
    return found.models[0], edited_warnings(found.models[0], found.history.edited_photos), used


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, pycolmap.Reconstruction]:
    """Ten photos of one lens, in a database, and their true model."""
    path = tmp_path / "d.db"
    truth = synthetic_model(
        path, num_photos=10, num_points=500, track_length=6, noise_px=0.3, params=(500.0, SIZE[0] / 2, SIZE[1] / 2, 0.0)
    )
    for name in NAMES:
        cv2.imwrite(str(tmp_path / name), np.zeros((SIZE[1], SIZE[0]), np.uint8))
    with pycolmap.Database.open(path) as opened:
        camera = opened.read_camera(1)
        camera.has_prior_focal_length = False
        opened.update_camera(camera)
    return path, truth


def change_keypoints(database: Path, name: str, scale: tuple[float, float], shift: tuple[float, float]) -> None:
    with pycolmap.Database.open(database) as opened:
        (image,) = [image for image in opened.read_all_images() if image.name == name]
        keypoints = np.array(opened.read_keypoints(image.image_id))
        keypoints[:, :2] = keypoints[:, :2] * scale + shift
        opened.update_keypoints(image.image_id, keypoints)


def turn_deg(model: pycolmap.Reconstruction, truth: pycolmap.Reconstruction, name: str) -> float:
    """How far the rotation from the first photo to another is from the true one."""

    def turn(of: pycolmap.Reconstruction) -> pycolmap.Rotation3d:
        first, other = (of.find_image_with_name(each) for each in (NAMES[0], name))
        assert first is not None and other is not None
        return other.cam_from_world().rotation * first.cam_from_world().rotation.inverse()

    return float(np.degrees((turn(model) * turn(truth).inverse()).angle()))


@pytest.mark.parametrize("few", [30, 5])  # of more photos, points are held to find which are cropped
def test_cropped_photos(
    scene: tuple[Path, pycolmap.Reconstruction], tmp_path: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightmatch.reconstruction.mapping.edited_photos.FEW_PHOTOS", few)
    database, truth = scene
    for name, off in CROPPED.items():
        change_keypoints(database, name, (1, 1), off)
    before = map_with_selection(database, tmp_path, seed=SEED, options=OPTIONS).models[0]
    model, said, used = mapped(database, tmp_path)
    assert all(turn_deg(before, truth, name) > 2 for name in CROPPED)
    assert all(turn_deg(model, truth, name) < 0.5 for name in CROPPED)
    assert model.num_reg_images() == 10 and np.median(position_errors(model, truth)) < 0.002
    assert used != database and len(model.cameras) == 3  # the others still share one
    for name, off in CROPPED.items():
        image = model.find_image_with_name(name)
        assert image is not None
        camera = model.camera(image.camera_id)
        place = np.array([camera.principal_point_x, camera.principal_point_y]) - np.array(SIZE) / 2
        np.testing.assert_allclose(place, off, atol=6)
    (warning,) = said
    assert warning.startswith("2 photos look cropped") and all(name in warning for name in CROPPED)


def test_stretched_photos(scene: tuple[Path, pycolmap.Reconstruction], tmp_path: Path) -> None:
    shared, truth = scene
    squeezed = [NAMES[1], NAMES[5]]
    for name in squeezed:
        cv2.imwrite(str(tmp_path / name), np.zeros((SQUEEZED, SIZE[0]), np.uint8))
        change_keypoints(shared, name, (1, SQUEEZED / SIZE[1]), (0, 0))
    database = tmp_path / "own.db"
    give_photos_cameras(shared, database, tmp_path, "SIMPLE_RADIAL", squeezed)
    with pycolmap.Database.open(database) as opened:  # they took over the camera that they shared
        for image in opened.read_all_images():
            if image.name in squeezed:
                camera = opened.read_camera(image.camera_id)
                camera.height, camera.params = SQUEEZED, [768.0, SIZE[0] / 2, SQUEEZED / 2, 0.0]
                opened.update_camera(camera)
    model, said, _ = mapped(database, tmp_path)
    assert model.num_reg_images() == 10 and np.median(position_errors(model, truth)) < 0.002
    for name in squeezed:
        image = model.find_image_with_name(name)
        assert image is not None
        camera = model.camera(image.camera_id)
        assert camera.focal_length_x / camera.focal_length_y == pytest.approx(SIZE[1] / SQUEEZED, rel=0.005)
    (warning,) = said
    assert warning.startswith("2 photos look stretched") and "times 1.33" in warning


def test_whole_photos_are_left_alone(scene: tuple[Path, pycolmap.Reconstruction], tmp_path: Path) -> None:
    database, _ = scene
    result = map_with_selection(database, tmp_path, seed=SEED, options=OPTIONS)
    assert find_edited_photos(result, database) == {}
    remapper = Remapper(tmp_path, "SIMPLE_RADIAL", SEED, OPTIONS)
    again, used = try_edited_photos(result, database, tmp_path / "edited.db", remapper)
    assert again is result and used == database and not list(tmp_path.glob("edited*"))


@pytest.mark.parametrize("camera_model", ["OPENCV", "PINHOLE"])
def test_a_cropped_photo_is_not_called_stretched_by_a_camera_of_two_focal_lengths(
    camera_model: str, scene: tuple[Path, pycolmap.Reconstruction], tmp_path: Path
) -> None:
    shared, truth = scene
    for name, off in CROPPED.items():
        change_keypoints(shared, name, (1, 1), off)
    database = tmp_path / "model.db"
    give_photos_cameras(shared, database, tmp_path, "SIMPLE_RADIAL", [])
    with pycolmap.Database.open(database) as opened:
        (camera,) = opened.read_all_cameras()
        camera.model = getattr(pycolmap.CameraModelId, camera_model)
        camera.params = [768.0, 768.0, SIZE[0] / 2, SIZE[1] / 2, *[0.0] * 4][: 8 if camera_model == "OPENCV" else 4]
        opened.update_camera(camera)
    model, said, _ = mapped(database, tmp_path, camera_model)
    assert max(turn_deg(model, truth, name) for name in CROPPED) < 0.5
    (warning,) = said
    assert warning.startswith("2 photos look cropped")


def test_a_bad_photo_that_was_turned_is_not_called_stretched(
    scene: tuple[Path, pycolmap.Reconstruction], tmp_path: Path
) -> None:
    shared, _ = scene
    name, database = NAMES[4], tmp_path / "own.db"
    with pycolmap.Database.open(shared) as opened:  # turned by 90°, and its keypoints wrong by 5 px
        (image,) = [image for image in opened.read_all_images() if image.name == name]
        keypoints = np.array(opened.read_keypoints(image.image_id))
        x, y = keypoints[:, 0].copy(), keypoints[:, 1].copy()
        noise = np.random.default_rng(0).normal(0, 5, (2, len(x)))
        keypoints[:, 0], keypoints[:, 1] = SIZE[1] - y + noise[0], x + noise[1]
        opened.update_keypoints(image.image_id, keypoints)
    cv2.imwrite(str(tmp_path / name), np.zeros(SIZE, np.uint8))
    give_photos_cameras(shared, database, tmp_path, "SIMPLE_RADIAL", [name])
    with pycolmap.Database.open(database) as opened:
        (image,) = [image for image in opened.read_all_images() if image.name == name]
        camera = opened.read_camera(image.camera_id)
        camera.width, camera.height, camera.params = SIZE[1], SIZE[0], [768.0, SIZE[1] / 2, SIZE[0] / 2, 0.0]
        opened.update_camera(camera)
    result = map_with_selection(database, tmp_path, seed=SEED, options=OPTIONS)
    assert find_edited_photos(result, database) == {}


def test_what_is_said(scene: tuple[Path, pycolmap.Reconstruction]) -> None:
    _, truth = scene
    assert edited_warnings(truth, NAMES) == edited_warnings(truth, ["not_there.png"]) == []
    (camera,) = truth.cameras.values()
    camera.principal_point_x += 80
    (warning,) = edited_warnings(truth, NAMES[:7])
    assert warning.startswith("7 photos look cropped") and "and 2 more" in warning
    assert f"{NAMES[0]} (principal point +80 px right, +0 px down of the centre)" in warning
    (one,) = edited_warnings(truth, NAMES[:1])
    assert one.startswith("1 photo looks cropped")
