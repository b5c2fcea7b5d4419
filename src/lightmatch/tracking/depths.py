"""Depths of keypoints, measured: from a depth map, or from the right image of a stereo pair."""

from __future__ import annotations

import numpy as np

from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.flow import FlowImage, follow

_EDGE = 0.05  # of the depth: a neighbour that differs by more says that the pixel lies on an edge
_ROWS_PX = 1.0  # off its row at most: the pair is rectified
_LEAST_DISPARITY_PX = 1.0


def right_of_depth_map(camera: TrackedCamera, pixels: np.ndarray, places: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(n,) px: where the virtual second camera sees keypoints; NaN where no depth is known, and on edges.

    pixels: (n, 2) of the image; places: (n, 2) of the ideal camera. depth: (h, w) m, 0 or not finite where unknown.
    """
    height, width = depth.shape
    column, row = (np.rint(pixels[:, axis]).astype(int) for axis in (0, 1))
    inside = (column >= 1) & (column < width - 1) & (row >= 1) & (row < height - 1)
    column, row = np.clip(column, 1, width - 2), np.clip(row, 1, height - 2)
    around = np.stack([depth[row + y, column + x] for y in (-1, 0, 1) for x in (-1, 0, 1)])
    middle = around[4]
    known = inside & np.isfinite(around).all(0) & (around > 0).all(0)
    known &= (np.abs(around - middle) <= _EDGE * np.abs(middle)).all(0)
    return camera.right_of(places, np.where(known, middle, 0.0))


def right_of_stereo(
    camera: TrackedCamera, left: FlowImage, right: FlowImage, pixels: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """(n,) px: where the right camera of a rectified pair sees keypoints; NaN where it was not found.

    pixels: (n, 2) of the image; places: (n, 2) of the ideal camera. Both cameras have the same lens: what estimated
    intrinsics have of distortion must not count as depth.
    """
    found, good = follow(left, right, pixels)
    beside = camera.ideal(found)
    good &= np.abs(beside[:, 1] - places[:, 1]) < _ROWS_PX
    good &= places[:, 0] - beside[:, 0] > _LEAST_DISPARITY_PX
    return np.where(good, beside[:, 0], np.nan)
