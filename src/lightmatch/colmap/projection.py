"""COLMAP's cameras as two functions of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pycolmap import Camera


def rays_from_pixels(camera: Camera, xy: np.ndarray) -> np.ndarray:
    """Undistorted rays x / z, y / z of COLMAP's pixels: (n, 2) → (n, 2); NaN where a lens has none."""
    return np.asarray(camera.cam_from_img(np.ascontiguousarray(xy)), np.float64).reshape(-1, 2)


def pixels_from_points(camera: Camera, points: np.ndarray) -> np.ndarray:
    """COLMAP's pixels of points in the frame of the camera: (n, 3) → (n, 2); NaN behind it."""
    return np.asarray(camera.img_from_cam(np.ascontiguousarray(points)), np.float64).reshape(-1, 2)
