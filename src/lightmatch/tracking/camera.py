"""The camera that is tracked: where its pixels look, and a second camera beside it that measures depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightmatch.colmap.projection import rays_from_pixels
from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import colmap_from_pixels, pixels_from_colmap

if TYPE_CHECKING:
    from pycolmap import Camera

VIRTUAL_BASELINE = 0.08  # m, of depth cameras: about that of a structured-light one


def in_colmap(pixels: np.ndarray) -> np.ndarray:
    """(…, 2) our pixels → COLMAP's, float64."""
    return colmap_from_pixels(torch.from_numpy(np.array(pixels, np.float64))).numpy()


@dataclass(frozen=True, eq=False)
class TrackedCamera:
    """Intrinsics, and how far to its right a second camera stands: a real one, or one that stands for measured depths.

    With a depth z a pixel would be seen baseline · f / z px further left in the second camera; so depths and stereo
    pairs are the same to the map (Mur-Artal & Tardós, ORB-SLAM2, 2017, section III.A).
    """

    colmap: Camera
    baseline: float | None = None  # m
    shift_px: float = 0.0  # to be added to measured disparities (see `pair_yaw`)

    def __post_init__(self) -> None:
        if self.baseline is not None and not self.baseline > 0:
            raise InvalidValueError(
                f"baseline: expected more than 0 m, got {self.baseline}; name the left camera first"
            )

    @classmethod
    def pinhole(
        cls, K: np.ndarray | torch.Tensor, image_size: tuple[int, int], baseline: float | None = None
    ) -> TrackedCamera:
        """A camera without distortion. K: (3, 3), our pixels. image_size: (width, height)."""
        import pycolmap

        (fx, _, cx), (_, fy, cy), _ = np.asarray(K, np.float64).tolist()
        width, height = image_size
        params = [fx, fy, *in_colmap(np.array((cx, cy)))]
        camera = pycolmap.Camera(model="PINHOLE", width=width, height=height, params=params)
        return cls(camera, baseline)

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) px."""
        return self.colmap.width, self.colmap.height

    @cached_property
    def K(self) -> np.ndarray:  # noqa: N802
        """(3, 3) of the ideal camera, without distortion, that the map is made for; our pixels."""
        K = np.array(self.colmap.calibration_matrix(), np.float64)
        K[:2, 2] = pixels_from_colmap(torch.from_numpy(K[:2, 2])).numpy()
        return K

    @cached_property
    def _is_ideal(self) -> bool:
        return self.colmap.model_name in ("PINHOLE", "SIMPLE_PINHOLE")

    def ideal(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 2) px of the image → of the ideal camera; NaN where it cannot see them."""
        if self._is_ideal or not len(pixels):
            return np.asarray(pixels, np.float64)
        return self.ideal_of_rays(rays_from_pixels(self.colmap, in_colmap(pixels)))

    def ideal_of_rays(self, rays: np.ndarray) -> np.ndarray:
        """(n, 2) px of the ideal camera: where it sees rays x / z, y / z (n, 2)."""
        return rays @ self.K[:2, :2].T + self.K[:2, 2]

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 2) px of the ideal camera → rays x / z, y / z (n, 2)."""
        return (pixels - self.K[:2, 2]) @ np.linalg.inv(self.K[:2, :2]).T

    def real(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 2) px of the ideal camera → of the image."""
        if self._is_ideal or not len(pixels):
            return np.asarray(pixels, np.float64)
        rays = self.rays(pixels)
        seen = np.asarray(self.colmap.img_from_cam(np.column_stack((rays, np.ones(len(rays))))))
        return pixels_from_colmap(torch.from_numpy(seen)).numpy()

    def project(self, points: np.ndarray, cam_from_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places (n, 2) px in the ideal camera, and depths (n,), of points (n, 3) of the world."""
        local = points @ cam_from_world[:, :3].T + cam_from_world[:, 3]
        depth = local[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            places = local[:, :2] / depth[:, None] @ self.K[:2, :2].T + self.K[:2, 2]
        return places, depth

    def right_of(self, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """(n,) px: where the second camera sees pixels (n, 2) of these depths (n,)."""
        assert self.baseline is not None
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(depth > 0, pixels[:, 0] + self.shift_px - self.K[0, 0] * self.baseline / depth, np.nan)

    def depth_of(self, pixels: np.ndarray, right_x: np.ndarray) -> np.ndarray:
        """(n,) m, NaN where the second camera sees nothing: the inverse of `right_of`."""
        assert self.baseline is not None
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = self.K[0, 0] * self.baseline / (pixels[:, 0] + self.shift_px - right_x)
        return np.where(depth > 0, depth, np.nan)

    def unproject(self, pixels: np.ndarray, depth: np.ndarray, cam_from_world: np.ndarray) -> np.ndarray:
        """(n, 3) in the world: pixels (n, 2) of the ideal camera at depths (n,)."""
        rays = self.rays(pixels)
        local = np.column_stack((rays, np.ones(len(rays)))) * depth[:, None]
        return (local - cam_from_world[:, 3]) @ cam_from_world[:, :3]
