"""Fisheye lenses are found by the matches of pairs; ordinary lenses, bent or not, are not taken for one."""

import itertools
import math
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from seen_points import KIND, Seen, verify, write_database

from lightmatch.colmap.database import open_database
from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.geometry.coordinates import invert_rigid
from lightmatch.reconstruction import find_fisheyes, make_fisheyes, map_with_selection
from lightmatch.types import Features, Matches

SIZE = (960, 720)
NAMES = [f"{number}.png" for number in range(6)]


def poses() -> list[np.ndarray]:
    """(3, 4) camera from world, on an arc about the points, each looking a little elsewhere."""
    found = []
    for number in range(len(NAMES)):
        angle = 0.25 * number
        center = 3 * np.array([math.sin(angle), 0.1 * (number % 2), -math.cos(angle)])
        forward = -center / np.linalg.norm(center) + [0.1 * (number % 3), 0, 0]
        forward /= np.linalg.norm(forward)
        right = np.cross([0, 1, 0], forward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        found.append(np.column_stack([rotation, -rotation @ center]))
    return found


def seen_by(model: str, params: list[float], seed: int = 0) -> Seen:
    """What a lens sees of points all around, 0.5 px off, every tenth match wrong."""
    rng = np.random.default_rng(seed)
    camera = pycolmap.Camera(model=model, width=SIZE[0], height=SIZE[1], params=params)
    points = rng.uniform(-4, 4, (2500, 3))
    features, rows = {}, {}
    for name, pose in zip(NAMES, poses(), strict=True):
        rays = points @ pose[:, :3].T + pose[:, 3]
        off_axis = np.degrees(np.arctan2(np.hypot(rays[:, 0], rays[:, 1]), rays[:, 2]))
        ahead = off_axis < (85 if "FISHEYE" in model else 65)
        pixels = np.full((len(points), 2), -1.0)
        pixels[ahead] = [camera.img_from_cam(ray) for ray in rays[ahead]]
        rows[name] = np.flatnonzero((pixels > 0).all(1) & (pixels < np.array(SIZE) - 1).all(1))
        noisy = pixels[rows[name]] - 0.5 + rng.normal(0, 0.5, (len(rows[name]), 2))
        count = len(noisy)
        features[name] = Features(torch.tensor(noisy).float(), torch.ones(count), torch.zeros(count, 1), SIZE, KIND)
    matches = {}
    for name0, name1 in itertools.combinations(NAMES, 2):
        _, i, j = np.intersect1d(rows[name0], rows[name1], return_indices=True)
        wrong = rng.random(len(i)) < 0.1
        j[wrong] = rng.permutation(j[wrong])
        matches[name0, name1] = Matches(torch.from_numpy(np.stack([i, j], 1)), torch.ones(len(i)))
    return Seen(features, matches)


FISHEYE = ("OPENCV_FISHEYE", [0.28 * 960, 0.28 * 960, 480, 360, 0.01, 0, 0, 0])
ORDINARY = {
    "normal": ("SIMPLE_RADIAL", [900, 480, 360, 0.0]),
    "wide": ("SIMPLE_RADIAL", [480, 480, 360, 0.0]),
    "wide and bent": ("SIMPLE_RADIAL", [600, 480, 360, -0.08]),
}


def test_a_fisheye_is_found_and_mapped(tmp_path: Path) -> None:
    path = write_database(tmp_path, seen_by(*FISHEYE), [NAMES], model="SIMPLE_RADIAL")
    (found,) = find_fisheyes(path, seed=0)
    assert found.focal_length_px == pytest.approx(0.28 * 960, rel=0.1)
    assert found.num_explained > 1.1 * found.num_explained_normal
    assert "6 photos are treated as fisheye photos" in str(found)
    make_fisheyes(path, [found])
    verify(path)
    model = map_with_selection(path, tmp_path / "images", seed=0).models[0]
    assert model.num_reg_images() == len(NAMES)
    (camera,) = model.cameras.values()
    assert camera.model_name == "OPENCV_FISHEYE" and camera.params[0] == pytest.approx(0.28 * 960, rel=0.005)
    placed = {model.image(image_id).name: model.image(image_id).cam_from_world() for image_id in model.reg_image_ids()}
    found_poses = torch.tensor(np.array([placed[name].matrix() for name in NAMES]))
    true_poses = torch.tensor(np.array(poses()))
    centers, true_centers = invert_rigid(found_poses)[:, :, 3], invert_rigid(true_poses)[:, :, 3]
    rotation_deg, position = aligned_pose_errors(found_poses[:, :, :3], centers, true_poses[:, :, :3], true_centers)
    assert float(rotation_deg.max()) < 0.1
    assert float(position.max()) < 0.005 * float((true_centers[0] - true_centers[-1]).norm())


def test_a_fisheye_that_was_named_gets_its_focal_length(tmp_path: Path) -> None:
    path = write_database(tmp_path, seen_by(*FISHEYE), [NAMES], model="OPENCV_FISHEYE")
    (found,) = find_fisheyes(path, seed=0)
    assert found.focal_length_px == pytest.approx(0.28 * 960, rel=0.1)


def test_a_fisheye_model_that_was_named_stays(tmp_path: Path) -> None:
    path = write_database(tmp_path, seen_by(*FISHEYE), [NAMES], model="RADIAL_FISHEYE")
    make_fisheyes(path, find_fisheyes(path, seed=0))
    with open_database(path) as opened:
        (camera,) = opened.cameras.values()
    assert camera.model_name == "RADIAL_FISHEYE" and camera.params[0] == pytest.approx(0.28 * 960, rel=0.1)


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_lenses_are_none(name: str, tmp_path: Path) -> None:
    path = write_database(tmp_path, seen_by(*ORDINARY[name]), [NAMES], model="SIMPLE_RADIAL")
    assert find_fisheyes(path, seed=0) == []
