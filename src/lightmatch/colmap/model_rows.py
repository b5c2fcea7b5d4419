"""What the text and the binary files of a COLMAP model have in common: poses as numbers, points and their tracks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightmatch.colmap.model_types import ColmapImage, ColmapModel, ColmapPoints
from lightmatch.geometry.quaternions import quaternion_from_rotation, rotation_from_quaternion

NO_POINT = 2**64 - 1  # how COLMAP's files say that a keypoint sees no 3D point; -1 in text


class ImageRow(NamedTuple):
    """A photo as it stands in the files."""

    image_id: int
    camera_id: int
    name: str
    cam_from_world: Tensor  # (3, 4) float64
    keypoints: np.ndarray  # (n, 2) float64, COLMAP's px
    point_ids: np.ndarray  # (n,) uint64, the 3D point that each keypoint sees, or NO_POINT


class PointRow(NamedTuple):
    """A 3D point as it stands in the files."""

    point_id: int
    xyz: list[float]
    rgb: list[int]
    error_px: float  # below 0: there is none


def pose_from_numbers(numbers: tuple[float, ...]) -> Tensor:
    """cam_from_world (3, 4) of the quaternion and translation, 7 numbers."""
    translation = torch.tensor(numbers[4:], dtype=torch.float64)
    return torch.cat((rotation_from_quaternion(numbers[:4]), translation[:, None]), 1)


def pose_numbers(image: ColmapImage) -> list[float]:
    """Quaternion (w, x, y, z) and translation of a photo's pose, 7 numbers."""
    return [*quaternion_from_rotation(image.cam_from_world[:, :3]), *image.cam_from_world[:, 3].tolist()]


def points_from_rows(rows: list[PointRow]) -> ColmapPoints:
    """The points of a model, sorted by their ids."""
    rows = sorted(rows, key=lambda row: row.point_id)
    error = torch.tensor([row.error_px for row in rows], dtype=torch.float64)
    return ColmapPoints(
        torch.tensor([row.point_id for row in rows], dtype=torch.int64),
        torch.tensor([row.xyz for row in rows], dtype=torch.float64).reshape(-1, 3),
        torch.tensor([row.rgb for row in rows], dtype=torch.uint8).reshape(-1, 3),
        torch.where(error < 0, torch.nan, error),
    )


def rows_of_points(model: ColmapModel) -> Iterator[tuple[PointRow, list[tuple[int, int]]]]:
    """Each point, and its track: (image_id, keypoint index) of every photo that sees it."""
    points = model.points
    tracks: list[list[tuple[int, int]]] = [[] for _ in range(len(points))]
    for image in model.images.values():
        for keypoint, row in zip(image.observing.tolist(), image.observed.tolist(), strict=True):
            tracks[row].append((image.image_id, keypoint))
    error = points.error_px.nan_to_num(nan=-1.0)
    columns = (points.ids.tolist(), points.xyz.tolist(), points.rgb.tolist(), error.tolist())
    yield from zip(map(PointRow, *columns), tracks, strict=True)


def point_ids(model: ColmapModel, image: ColmapImage) -> np.ndarray:
    """(n,) uint64: the id of the 3D point each keypoint sees, as COLMAP writes it."""
    ids = np.full(len(image.keypoints), NO_POINT, dtype=np.uint64)
    ids[image.observing.numpy()] = model.points.ids[image.observed].numpy()
    return ids
