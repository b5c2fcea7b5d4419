"""A COLMAP model as typed values: cameras, registered photos, 3D points.

Keypoints are in our pixels; `params` of a camera are COLMAP's own, whose first pixel has its centre at (0.5, 0.5).
Source: https://colmap.github.io/format.html
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import pixels_from_colmap, require_shape

CAMERA_PARAMS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "FOV": "fx fy cx cy omega",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k1",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
    "THIN_PRISM_FISHEYE": "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
    "RAD_TAN_THIN_PRISM_FISHEYE": "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3",
    "SIMPLE_DIVISION": "f cx cy k",
    "DIVISION": "fx fy cx cy k",
    "SIMPLE_FISHEYE": "f cx cy",
    "FISHEYE": "fx fy cx cy",
    "EUCM": "fx fy cx cy alpha beta",
    "EQUIRECTANGULAR": "w h",
}
"""Camera models in the order of COLMAP's numbers for them, with the names of their parameters."""

_PINHOLE_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
_OPENCV_ORDER = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")


@dataclass(frozen=True)
class ColmapCamera:
    """A camera as COLMAP has it: `params` are named in CAMERA_PARAMS and in COLMAP's pixels."""

    camera_id: int
    model: str
    width: int  # px
    height: int  # px
    params: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.model not in CAMERA_PARAMS:
            raise InvalidValueError(
                f"camera {self.camera_id}: expected a camera model out of {', '.join(CAMERA_PARAMS)}; got {self.model}"
            )
        names = CAMERA_PARAMS[self.model].split()
        if len(self.params) != len(names):
            raise InvalidValueError(
                f"camera {self.camera_id}: expected {len(names)} parameters ({' '.join(names)}) for {self.model},"
                f" got {len(self.params)}"
            )

    def _param(self) -> dict[str, float]:
        if self.model not in _PINHOLE_MODELS:
            raise InvalidValueError(
                f"camera {self.camera_id}: expected a camera with K and OpenCV's distortion"
                f" ({', '.join(_PINHOLE_MODELS)}), got {self.model}; undistort the photos with COLMAP first"
            )
        return dict(zip(CAMERA_PARAMS[self.model].split(), self.params, strict=True))

    def K(self) -> Tensor:  # noqa: N802
        """The camera matrix, (3, 3) float64, in our pixels. Raises InvalidValueError for fisheyes and the like."""
        param = self._param()
        fx, fy = param.get("fx", param.get("f")), param.get("fy", param.get("f"))
        centre = pixels_from_colmap(torch.tensor([param["cx"], param["cy"]], dtype=torch.float64))
        K = torch.tensor([[fx, 0, 0], [0, fy, 0], [0, 0, 1]], dtype=torch.float64)
        K[:2, 2] = centre
        return K

    def distortion(self) -> tuple[float, ...]:
        """Lens distortion in OpenCV's order k1 k2 p1 p2 k3 k4 k5 k6, as long as OpenCV takes it; () without any.

        Raises InvalidValueError for fisheyes and the like.
        """
        param = self._param()
        values = tuple(param.get(name, 0.0) for name in _OPENCV_ORDER)
        return () if not any(values) else values if any(values[4:]) else values[:4]


@dataclass(frozen=True, eq=False)
class ColmapImage:
    """A registered photo: its pose, its keypoints and which 3D points they see."""

    image_id: int
    name: str  # path relative to the folder of photos, with '/'
    camera_id: int
    cam_from_world: Tensor  # (3, 4) float64
    keypoints: Tensor  # (n, 2) float64, our px
    observing: Tensor  # (k,) int64, keypoints that see a 3D point, ascending
    observed: Tensor  # (k,) int64, the rows in ColmapPoints that they see

    def __post_init__(self) -> None:
        require_shape("ColmapImage.cam_from_world", self.cam_from_world, 3, 4)
        require_shape("ColmapImage.keypoints", self.keypoints, None, 2)
        if self.observing.shape != self.observed.shape:
            raise InvalidValueError(
                "ColmapImage: expected one observed point for each observing keypoint,"
                f" got {len(self.observed)} for {len(self.observing)}"
            )


@dataclass(frozen=True, eq=False)
class ColmapPoints:
    """The 3D points, one a row. Tracks are not kept apart: the images say what they observe."""

    ids: Tensor  # (p,) int64, ascending
    xyz: Tensor  # (p, 3) float64
    rgb: Tensor  # (p, 3) uint8
    error_px: Tensor  # (p,) float64, mean reprojection error; NaN where it was never computed

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """A reconstruction; cameras and images by their ids."""

    cameras: dict[int, ColmapCamera]
    images: dict[int, ColmapImage]
    points: ColmapPoints

    def track(self, row: int) -> list[tuple[int, int]]:
        """Who sees the point in `row` of `points`: (image_id, keypoint index) each."""
        return [
            (image.image_id, int(keypoint))
            for image in self.images.values()
            for keypoint in image.observing[image.observed == row]
        ]
