"""Standard deviations are what repeated measurement would show, whatever the frame of the model."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from synthetic_mapping import synthetic_model

from lightmatch.geometry.alignment import align_points
from lightmatch.geometry.coordinates import rotation_angle_deg
from lightmatch.sfm.bundle_adjustment import KNOWN, AdjustOptions, adjust
from lightmatch.sfm.uncertainty import camera_uncertainties

OPTIONS = AdjustOptions(threads=1)
NOISE_PX = 0.7
NUM_DRAWS = 32


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> pycolmap.Reconstruction:
    return synthetic_model(tmp_path_factory.mktemp("exact") / "d.db", num_photos=6, num_points=80, noise_px=0)


def measured_again(exact: pycolmap.Reconstruction, generator: np.random.Generator) -> pycolmap.Reconstruction:
    model = pycolmap.Reconstruction(exact)
    for image_id in sorted(model.reg_image_ids()):
        image = model.image(image_id)
        for number in image.get_observation_point2D_idxs():
            image.point2D(number).xy = image.point2D(number).xy + generator.normal(0, NOISE_PX, 2)
    adjust(model, OPTIONS)
    return model


def poses(model: pycolmap.Reconstruction) -> tuple[torch.Tensor, torch.Tensor]:
    images = sorted((model.image(image_id) for image_id in model.reg_image_ids()), key=lambda image: image.name)
    rotations = np.array([image.cam_from_world().rotation.matrix() for image in images])
    return torch.from_numpy(rotations), torch.from_numpy(np.array([image.projection_center() for image in images]))


def test_they_are_the_spread_of_repeated_measurement(exact: pycolmap.Reconstruction) -> None:
    true_rotations, true_centers = poses(exact)
    generator = np.random.default_rng(0)
    squares, said = [], []
    for draw in range(NUM_DRAWS):
        model = measured_again(exact, generator)
        rotations, centers = poses(model)
        similarity = align_points(centers, true_centers)
        position = (similarity.apply(centers) - true_centers).norm(dim=1)
        turn = rotation_angle_deg(rotations @ similarity.rotation.mT, true_rotations)
        squares.append(torch.stack((position, turn)).square())
        if draw % 4 == 0:  # they hardly differ
            estimated = camera_uncertainties(model, OPTIONS)
            scale = float(similarity.scale)
            said.append(torch.tensor([[c.position * scale for c in estimated], [c.rotation_deg for c in estimated]]))
    seen = torch.stack(squares).mean(0).mean(1).sqrt()  # over draws and cameras
    predicted = torch.stack(said).square().mean(0).mean(1).sqrt()
    # 32 draws of 6 cameras: the spread itself is known to about 5 %.
    torch.testing.assert_close(predicted.double(), seen, rtol=0.12, atol=0)


def test_the_frame_of_the_model_does_not_matter(exact: pycolmap.Reconstruction) -> None:
    model = measured_again(exact, np.random.default_rng(1))
    before = camera_uncertainties(model, OPTIONS)
    moved = pycolmap.Reconstruction(model)
    moved.transform(pycolmap.Sim3d(3.0, pycolmap.Rotation3d(np.array([0.1, 0.7, 0.1, 0.7])), np.array([5.0, -2, 9])))
    after = camera_uncertainties(moved, OPTIONS)
    assert [camera.name for camera in after] == [camera.name for camera in before]
    for first, second in zip(before, after, strict=True):
        assert second.position == pytest.approx(3 * first.position, rel=1e-3)
        assert second.rotation_deg == pytest.approx(first.rotation_deg, rel=1e-3)


def test_known_intrinsics_make_it_surer(exact: pycolmap.Reconstruction) -> None:
    model = measured_again(exact, np.random.default_rng(2))
    free = camera_uncertainties(model, OPTIONS)
    known = camera_uncertainties(model, AdjustOptions(cameras={1: KNOWN}, threads=1))
    assert sum(camera.position for camera in known) < sum(camera.position for camera in free)


def test_cameras_on_one_line_have_a_turn_about_it(exact: pycolmap.Reconstruction) -> None:
    model = pycolmap.Reconstruction(exact)
    generator = np.random.default_rng(3)
    for number, image_id in enumerate(sorted(model.reg_image_ids())):
        image = model.image(image_id)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([2.5 - number, 0.0, 8.0]))
        model.frame(image.frame_id).set_cam_from_world(image.camera_id, pose)
        for keypoint in image.get_observation_point2D_idxs():
            point = image.point2D(keypoint)
            pixel = np.asarray(image.project_point(model.point3D(point.point3D_id).xyz))
            point.xy = pixel + generator.normal(0, NOISE_PX, 2)
    known = AdjustOptions(cameras={1: KNOWN}, threads=1)  # parallel cameras tell little of a focal length
    adjust(model, known)
    found = camera_uncertainties(model, known)
    assert len(found) == 6
    assert all(0 < camera.rotation_deg < 1.5 and 0 < camera.position < 0.1 for camera in found)


def test_what_is_not_determined_gives_nothing(exact: pycolmap.Reconstruction, tmp_path: Path) -> None:
    two = pycolmap.Reconstruction(exact)
    for image_id in sorted(two.reg_image_ids())[2:]:
        two.deregister_frame(two.image(image_id).frame_id)
    assert camera_uncertainties(two, OPTIONS) == []
    few = pycolmap.Reconstruction(exact)
    for point_id in sorted(few.point3D_ids())[4:]:
        few.delete_point3D(point_id)
    assert camera_uncertainties(few, OPTIONS) == []
