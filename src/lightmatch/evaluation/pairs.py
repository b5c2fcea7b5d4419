"""Image pairs with ground truth: homography, relative pose, depth maps or marked points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import (
    normalize_pixels,
    pixels_from_normalized,
    require_shape,
    to_homogeneous,
)
from lightmatch.images import load_image
from lightmatch.types import Image


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with the lens distortion of its photos."""

    K: Tensor  # (3, 3) float64
    distortion: tuple[float, ...] = ()  # OpenCV's order k1 k2 p1 p2 k3 k4 k5 k6; () without any
    image_size: tuple[int, int] | None = None  # (width, height) px of its photos, where the data set gives it

    def __post_init__(self) -> None:
        require_shape("Camera.K", self.K, 3, 3)
        if len(self.distortion) not in (0, 4, 5, 8, 12, 14):
            raise InvalidValueError(
                f"Camera.distortion: expected 0, 4, 5, 8, 12 or 14 numbers as OpenCV takes them, got {self.distortion}"
            )

    def undistort(self, points: Tensor) -> Tensor:
        """Undistorted pixels under the same K. (n, 2) px → (n, 2) px.

        NaN where no ray projects to the pixel: beyond the largest radius that a barrel distortion reaches.
        """
        require_shape("points", points, None, 2)
        if not self.distortion or not len(points):
            return points
        seen = normalize_pixels(points.double(), self.K)
        straight = seen
        for _ in range(_NEWTON_STEPS):
            error = seen - self._distort(straight)
            inverse = torch.linalg.inv_ex(self._jacobian(straight)).inverse  # singular: not finite, ends as NaN
            straight = straight + (inverse @ error[:, :, None])[:, :, 0]
        # Beyond its maximum the distortion polynomial maps rays outside the field of view to the same pixels again.
        J = self._jacobian(straight)
        unfolded = (torch.linalg.det(J) > 0) & (J.diagonal(dim1=1, dim2=2).sum(1) > 0)
        solved = ((seen - self._distort(straight)).norm(dim=1) < 1e-9) & unfolded
        straight = torch.where(solved[:, None], straight, torch.nan)
        return pixels_from_normalized(straight, self.K).to(points)

    def _jacobian(self, normalized: Tensor) -> Tensor:
        """Jacobian of the distortion by finite differences, (n, 2, 2). normalized: (n, 2)."""
        steps, here = _NEWTON_STEP * torch.eye(2), self._distort(normalized)
        return torch.stack([(self._distort(normalized + step) - here) / _NEWTON_STEP for step in steps], -1)

    def _distort(self, normalized: Tensor) -> Tensor:
        """Distorted from undistorted normalised coordinates, (n, 2) → (n, 2)."""
        rays = to_homogeneous(normalized).numpy()
        seen, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), np.array(self.distortion))
        return torch.from_numpy(seen.reshape(-1, 2))


# OpenCV's undistortPoints runs five fixed-point iterations: errors of pixels in the corners of strong lenses.
_NEWTON_STEPS, _NEWTON_STEP = 20, 1e-6


@dataclass(frozen=True, eq=False)
class HomographyTruth:
    """A planar scene, or a purely rotating camera."""

    H: Tensor  # (3, 3) float64, oriented, pixels of image 0 → pixels of image 1

    def __post_init__(self) -> None:
        require_shape("HomographyTruth.H", self.H, 3, 3)


@dataclass(frozen=True, eq=False)
class PoseTruth:
    """Two calibrated cameras. The length of the translation is in the unit of the data set."""

    camera0: Camera
    camera1: Camera
    cam1_from_cam0: Tensor  # (3, 4) float64

    def __post_init__(self) -> None:
        require_shape("PoseTruth.cam1_from_cam0", self.cam1_from_cam0, 3, 4)


@dataclass(frozen=True, eq=False)
class CorrespondenceTruth:
    """A few points marked by hand; H is the homography through them where the scene is planar and one is given."""

    points0: Tensor  # (n, 2) float64 px
    points1: Tensor  # (n, 2) float64 px
    kind: Literal["planar", "general"]
    H: Tensor | None = None  # (3, 3) float64, oriented, image 0 → image 1

    def __post_init__(self) -> None:
        require_shape("CorrespondenceTruth.points0", self.points0, None, 2)
        require_shape("CorrespondenceTruth.points1", self.points1, len(self.points0), 2)


@dataclass(frozen=True, eq=False)
class DepthTruth:
    """Two calibrated cameras without distortion, and a depth map of each image."""

    K0: Tensor  # (3, 3) float64
    K1: Tensor  # (3, 3) float64
    cam1_from_cam0: Tensor  # (3, 4) float64
    depth_map0: Tensor  # (h, w) float32, 0 where the depth is unknown
    depth_map1: Tensor  # (h, w) float32

    def __post_init__(self) -> None:
        require_shape("DepthTruth.cam1_from_cam0", self.cam1_from_cam0, 3, 4)


Truth = HomographyTruth | PoseTruth | CorrespondenceTruth | DepthTruth


@dataclass(frozen=True, eq=False)
class EvaluationPair:
    """Two images, as files or (rendered ones) in memory, and their ground truth."""

    name: str  # unique within its scene
    scene: str
    image0: Path | Image
    image1: Path | Image
    truth: Truth

    def load(self) -> tuple[Image, Image]:
        """Both images. Raises ImageReadError where a file is missing or unreadable."""
        image0, image1 = (
            load_image(image) if isinstance(image, Path) else image for image in (self.image0, self.image1)
        )
        return image0, image1


def viewing_angle_deg(cam1_from_cam0: Tensor) -> Tensor:
    """The angle between the optical axes of two cameras, 0…180 degrees. (…, 3, 4) → (…)."""
    require_shape("cam1_from_cam0", cam1_from_cam0, 3, 4)
    axis = cam1_from_cam0[..., 2]  # of camera 0, in the frame of camera 1
    return torch.rad2deg(torch.atan2(axis[..., :2].norm(dim=-1), axis[..., 2]))


def within_viewing_angle(
    pairs: Iterable[EvaluationPair], min_angle_deg: float = 0.0, max_angle_deg: float = 180.0
) -> list[EvaluationPair]:
    """The pairs with a viewing angle of min…max degrees, ends included.

    Pairs whose ground truth has no cameras (homographies, marked points) are kept.
    Raises InvalidValueError unless 0 ≤ min ≤ max.
    """
    if not 0 <= min_angle_deg <= max_angle_deg:
        raise InvalidValueError(
            f"viewing angle: expected 0 ≤ min ≤ max degrees, got {min_angle_deg} to {max_angle_deg}"
        )

    def fits(truth: Truth) -> bool:
        if not isinstance(truth, PoseTruth | DepthTruth):
            return True
        return min_angle_deg <= float(viewing_angle_deg(truth.cam1_from_cam0)) <= max_angle_deg

    return [pair for pair in pairs if fits(pair.truth)]
