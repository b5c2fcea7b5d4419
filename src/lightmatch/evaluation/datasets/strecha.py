"""Strecha et al. 2008, in the form openMVG distributes: photos, and a `.camera` file for each."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lightmatch.evaluation.datasets.posed import PosedPhoto, all_pairs, find_photo, read_numbers, scene_name
from lightmatch.evaluation.pairs import Camera, EvaluationPair
from lightmatch.geometry.coordinates import invert_rigid


def is_strecha(folder: Path) -> bool:
    """Whether `folder` holds photos with `.camera` files, beside them or in gt_dense_cameras."""
    return bool(_camera_files(folder))


def read_strecha(folder: Path) -> list[EvaluationPair]:
    """All pairs of photos. The data set has no overlap information: select pairs by viewing angle."""
    photos = []
    for path in _camera_files(folder):
        camera, cam_from_world = read_strecha_camera(path)
        photo = find_photo(path.stem, path.parent, folder / "images")
        photos.append(PosedPhoto(photo, camera, cam_from_world))
    return all_pairs(scene_name(folder), photos)


def read_strecha_camera(path: Path) -> tuple[Camera, Tensor]:
    """The camera and cam_from_world (3, 4) float64 of a `.camera` file.

    Its numbers: K (9), three zeros, R (9) camera-to-world, C (3), width, height. The data set
    does not document the pixel origin of K; K is used unchanged. SIFT matches of fountain-P11 fit best with the
    principal point moved by (−0.1, −0.5) px: neither convention, and within the error of the ground truth.
    Raises InvalidValueError where the file is damaged.
    """
    numbers = torch.tensor(read_numbers(path, 26), dtype=torch.float64)
    world_from_cam = torch.cat((numbers[12:21].reshape(3, 3), numbers[21:24, None]), 1)
    camera = Camera(numbers[:9].reshape(3, 3), image_size=(int(numbers[24]), int(numbers[25])))
    return camera, invert_rigid(world_from_cam)


def _camera_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.camera")) or sorted(folder.glob("gt_dense_cameras/*.camera"))
