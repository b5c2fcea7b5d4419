"""Photos without lens distortion: what a pinhole camera in the same place would have taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lightmatch.colmap.model_types import ColmapCamera
from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import COLMAP_PIXEL_OFFSET

if TYPE_CHECKING:
    from pycolmap import Camera

_ROWS = 128  # of pixels looked up at a time


class Undistorter:
    """Takes pictures and points of one camera to the pinhole camera that sees as much as it can without blank edges.

    The pinhole camera is COLMAP's choice (`undistort_camera`): same focal length and centre of view, cut to where
    every pixel is known. It is cut further so that its centre of view is the middle of the picture, which readers of
    splat trainers take for granted; but not where that would cost more than half of a side, as of a photo cut out of a
    larger one. A camera that has no distortion, and its centre there, keeps its pixels.
    Pickled it is without its map, which is made again when needed.
    """

    def __init__(self, camera: Camera) -> None:
        """`camera`: of a model. Raises InvalidValueError for one that sees all around and fits no pinhole camera."""
        import pycolmap

        if camera.is_spherical():
            raise InvalidValueError(
                f"camera {camera.camera_id}: expected a camera with a lens, got {camera.model_name}; cut the panoramas"
                " into perspective views first"
            )
        pinhole = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
        self._camera = camera
        fx, fy, cx, cy = (float(number) for number in pinhole.params)
        (width, cx), (height, cy) = (_around(*side) for side in ((cx, pinhole.width), (cy, pinhole.height)))
        own = (camera.principal_point_x, camera.principal_point_y)
        is_whole = (width, height) == (camera.width, camera.height) and np.allclose((cx, cy), own, rtol=0, atol=1e-6)
        self.is_identity: bool = camera.is_undistorted() and is_whole
        self.camera = ColmapCamera(camera.camera_id, "PINHOLE", width, height, (fx, fy, cx, cy))
        self._map: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_map": None}

    @property
    def source_size(self) -> tuple[int, int]:
        """(width, height) px of the photos."""
        return self._camera.width, self._camera.height

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px of the pictures without distortion."""
        return self.camera.width, self.camera.height

    def points(self, pixels: np.ndarray) -> np.ndarray:
        """Points of a photo in the picture without distortion: (n, 2), COLMAP's pixels both."""
        if self.is_identity or not len(pixels):
            return pixels
        fx, fy, cx, cy = self.camera.params
        return np.asarray(self._camera.cam_from_img(pixels.astype(np.float64))) * (fx, fy) + (cx, cy)

    def picture(self, pixels: np.ndarray) -> np.ndarray:
        """A photo (h, w, …) uint8 without distortion. Raises InvalidValueError where it has not the camera's size."""
        self._check(pixels)
        if self.is_identity:
            return pixels
        # Cubic: a splat learns whatever blur a picture has, and the mean of four pixels is one.
        x, y = self._lookup()
        return cv2.remap(pixels, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask (h, w) bool without distortion: True only where all pixels that were looked at are True."""
        self._check(mask)
        if self.is_identity:
            return mask
        whole = np.where(mask, np.uint8(255), np.uint8(0))
        x, y = self._lookup()
        return cv2.remap(whole, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) == 255

    def prepare(self) -> None:
        """Make the map now, for use by several threads."""
        if not self.is_identity:
            self._lookup()

    def release(self) -> None:
        """Give back the memory of the map, which is made again when needed."""
        self._map = None

    def _check(self, pixels: np.ndarray) -> None:
        if pixels.shape[1::-1] != self.source_size:
            raise InvalidValueError(
                f"camera {self._camera.camera_id}: expected a picture of {self.source_size[0]} x"
                f" {self.source_size[1]} px, got {pixels.shape[1]} x {pixels.shape[0]}; give the photos, or their"
                " masks, that the model was made of"
            )

    def _lookup(self) -> np.ndarray:
        """(2, h, w) float32: x and y in the photo of each pixel, our px. Kept once made: 8 bytes a pixel."""
        found = self._map  # another thread may release it
        if found is None:
            width, height = self.size
            fx, fy, cx, cy = self.camera.params
            x = (np.arange(width) + COLMAP_PIXEL_OFFSET - cx) / fx
            found = np.empty((2, height, width), np.float32)
            for top in range(0, height, _ROWS):
                rows = np.arange(top, min(top + _ROWS, height))
                y = (rows + COLMAP_PIXEL_OFFSET - cy) / fy
                rays = np.ones((len(rows), width, 3))
                rays[..., 0], rays[..., 1] = x, y[:, None]
                seen = np.asarray(self._camera.img_from_cam(rays.reshape(-1, 3))) - COLMAP_PIXEL_OFFSET
                found[:, rows] = np.nan_to_num(seen, nan=-1e4).T.reshape(2, len(rows), width)
            self._map = found
        return found


def _around(center: float, length: int) -> tuple[int, float]:
    """Whole px of the longest side that has `center`, COLMAP's px, in its middle and lies within 0…`length`.

    And the centre in it. All of the side, and its centre as it is, where less than half of it would be left.
    """
    side = int(2 * min(center, length - center) + 1e-6)
    return (length, center) if 2 * side < length else (side, side / 2)
