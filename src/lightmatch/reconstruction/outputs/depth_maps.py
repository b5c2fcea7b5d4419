"""Depth maps of the images in a splat folder, in COLMAP's format."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightmatch.colmap.dense_maps import write_colmap_array
from lightmatch.colmap.models import registered_images
from lightmatch.geometry.coordinates import scale_intrinsics
from lightmatch.runtime.files import replacing
from lightmatch.sfm.undistortion import Undistorter

if TYPE_CHECKING:
    from pycolmap import Reconstruction


class DepthMapWriter:
    """Writes `<name>.geometric.bin`, as COLMAP's stereo does, for the images that `write_splat_folder` writes.

    A map has the aspect ratio of its image and about the size at which the depth was computed: readers scale the
    intrinsics (`scale_intrinsics`). Depth is z in the camera, in units of the model, 0 where unknown.
    """

    def __init__(self, model: Reconstruction, folder: Path) -> None:
        """folder: is created, or replaced if it exists."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        pinholes = {number: Undistorter(model.camera(number)).camera for number in model.cameras}
        self._pinholes = {photo.name: pinholes[photo.camera_id] for photo in registered_images(model)}

    def __call__(self, name: str, K: np.ndarray, depth: np.ndarray) -> None:
        """Write the depth (h, w) of the photo `name`, computed with pinhole intrinsics K (3, 3)."""
        pinhole = self._pinholes[name]
        factor = min(1.0, max(depth.shape) / max(pinhole.width, pinhole.height))
        size = max(1, round(pinhole.width * factor)), max(1, round(pinhole.height * factor))
        wanted = scale_intrinsics(pinhole.K(), (pinhole.width, pinhole.height), size).numpy()
        x, y = (
            _nearest(np.arange(size[axis]), wanted[axis, axis], wanted[axis, 2], K[axis, axis], K[axis, 2])
            for axis in (0, 1)
        )
        inside = ((y >= 0) & (y < depth.shape[0]))[:, None] & ((x >= 0) & (x < depth.shape[1]))
        there = depth[np.clip(y, 0, depth.shape[0] - 1)[:, None], np.clip(x, 0, depth.shape[1] - 1)]
        path = self._folder / f"{name}.geometric.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            write_colmap_array(torch.from_numpy(np.where(inside, there, 0).astype(np.float32)), partial)


def _nearest(pixels: np.ndarray, focal: float, center: float, other_focal: float, other_center: float) -> np.ndarray:
    """The nearest pixel of another pinhole camera at the same pose, for each pixel along one axis."""
    return np.rint((pixels - center) / focal * other_focal + other_center).astype(np.int64)
