"""The folder of a COLMAP model, read and written without pycolmap.

It holds cameras, images and points3D, all .txt or all .bin; rigs and frames, which newer versions add, are not read,
for the images carry their poses too. Keypoints and principal points are in our pixels here: COLMAP's own, whose first
pixel has its centre at (0.5, 0.5), stand in the files alone.
Source: https://colmap.github.io/format.html
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from lightmatch.colmap import model_binary, model_text
from lightmatch.colmap.model_rows import NO_POINT, ImageRow
from lightmatch.colmap.model_types import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import pixels_from_colmap

T = TypeVar("T")

_FORMS = {".bin": model_binary, ".txt": model_text}  # binary where both are there
_FILES = ("cameras", "images", "points3D")


def is_colmap_model(folder: Path) -> bool:
    """Whether `folder` holds cameras, images and points3D, all as text or all as binary."""
    return _suffix(folder) is not None


def _suffix(folder: Path) -> str | None:
    whole = (end for end in _FORMS if all((folder / f"{name}{end}").is_file() for name in _FILES))
    return next(whole, None)


def read_colmap_model(folder: str | Path) -> ColmapModel:
    """Read the model in `folder`; binary where both forms are there.

    Raises InvalidValueError where files are missing or damaged, or a photo sees a point that is not there.
    """
    folder = Path(folder)
    suffix = _suffix(folder)
    if suffix is None:
        raise InvalidValueError(
            f"{folder}: expected a COLMAP model (cameras, images and points3D, all .bin or all .txt), found none;"
            " name the folder that holds them"
        )
    form = _FORMS[suffix]
    cameras = _read(folder / f"cameras{suffix}", form.read_cameras)
    rows = _read(folder / f"images{suffix}", form.read_images)
    points = _read(folder / f"points3D{suffix}", form.read_points)
    return ColmapModel(cameras, {row.image_id: _image(folder, row, cameras, points) for row in rows}, points)


def _read(path: Path, reader: Callable[[bytes], T]) -> T:
    try:
        return reader(path.read_bytes())
    except (ValueError, struct.error, IndexError, OSError) as error:
        raise InvalidValueError(
            f"{path}: expected a whole COLMAP file, got damaged data ({error}); export the model again"
        ) from error


def _image(folder: Path, row: ImageRow, cameras: Mapping[int, ColmapCamera], points: ColmapPoints) -> ColmapImage:
    observing = np.flatnonzero(row.point_ids != NO_POINT)
    seen = row.point_ids[observing].astype(np.int64)
    observed = np.searchsorted(points.ids.numpy(), seen)
    known = np.append(points.ids.numpy(), -1)[observed] == seen
    if not known.all() or row.camera_id not in cameras:
        raise InvalidValueError(
            f"{folder}: expected every photo's camera and 3D points in the model,"
            f" {row.name} names others; export the model again"
        )
    return ColmapImage(
        row.image_id,
        row.name,
        row.camera_id,
        row.cam_from_world,
        pixels_from_colmap(torch.from_numpy(row.keypoints)),
        torch.from_numpy(observing),
        torch.from_numpy(observed),
    )


def write_colmap_model(model: ColmapModel, folder: str | Path, *, binary: bool = False) -> None:
    """Write cameras, images and points3D into `folder`, which is made if it is not there.

    Other files are left alone: a model in the other form, rigs and frames that lie there already do not fit.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    suffix = ".bin" if binary else ".txt"
    form = _FORMS[suffix]
    for name, writer in zip(_FILES, (form.write_cameras, form.write_images, form.write_points), strict=True):
        (folder / f"{name}{suffix}").write_bytes(writer(model))
