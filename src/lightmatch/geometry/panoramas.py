"""Equirectangular panoramas, and perspective views cut from them.

A panorama's frame is a camera's: x right, y down, z forward, which is the middle of the picture. Its columns are
longitudes from −180° to 180°, its rows latitudes from 90° (up, −y) to −90°.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from lightmatch.errors import InvalidValueError

# Cameras that look along the six axes, each a quarter turn: the faces of a cube. (3, 3) camera from panorama.
VIEWS: dict[str, np.ndarray] = {
    "front": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], float),
    "right": np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]], float),
    "back": np.array([[-1, 0, 0], [0, 1, 0], [0, 0, -1]], float),
    "left": np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], float),
    "up": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float),
    "down": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float),
}

_MARGIN_PX = 2  # around a panorama, so that its left and right edge and the poles have neighbours


@dataclass(frozen=True)
class PanoramaArea:
    """Which part of all directions an equirectangular picture holds; by default all of them."""

    full_size: tuple[int, int]  # width and height px that all directions would have: 360° and 180°
    left: int = 0  # px from the full panorama's left edge to the picture's
    top: int = 0

    def __post_init__(self) -> None:
        if min(self.full_size) < 1 or min(self.left, self.top) < 0:
            raise InvalidValueError(
                f"PanoramaArea: expected a size ≥ 1 px and offsets ≥ 0, got {self.full_size}, {self.left}, {self.top}"
            )

    @property
    def view_side(self) -> int:
        """Sides, px, of views of 90° with as many pixels a degree in their middle as the panorama has."""
        return max(1, round(self.full_size[0] / np.pi))


def view_intrinsics(side: int, tangent: float = 1.0) -> tuple[float, float]:
    """Focal length and both coordinates of the principal point, px, of a square view.

    tangent: of half its field of view; 1 for 90°. Its corners are the corners of its outermost pixels; the centre of
    the first pixel is (0, 0).
    """
    return side / 2 / tangent, (side - 1) / 2


def pixels_of_directions(directions: np.ndarray, area: PanoramaArea) -> np.ndarray:
    """Where directions (…, 3) of any length, in the panorama's frame, lie in its picture: (…, 2) px."""
    x, y, z = np.moveaxis(directions, -1, 0)
    width, height = area.full_size
    column = (np.arctan2(x, z) / (2 * np.pi) + 0.5) * width - 0.5 - area.left
    row = (np.arctan2(y, np.hypot(x, z)) / np.pi + 0.5) * height - 0.5 - area.top
    return np.stack([column, row], -1)


def directions_of_panorama(size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) unit vectors of the pixels of a whole panorama of (width, height) px."""
    width, height = size
    longitude = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    latitude = (0.5 - (np.arange(height)[:, None] + 0.5) / height) * np.pi
    x, z = (turn(longitude) * np.cos(latitude) for turn in (np.sin, np.cos))
    return np.stack([x, np.broadcast_to(-np.sin(latitude), x.shape), z], -1)


def directions_of_view(view: str, side: int) -> np.ndarray:
    """(side, side, 3) directions, in the panorama's frame, of the pixels of a view."""
    focal, center = view_intrinsics(side)
    axis = (np.arange(side) - center) / focal
    x, y = np.meshgrid(axis, axis)
    return np.stack([x, y, np.ones_like(x)], -1) @ VIEWS[view]


def elevations_deg(directions: np.ndarray) -> np.ndarray:
    """(…) degrees of directions (…, 3) above the panorama's horizon."""
    x, y, z = np.moveaxis(directions, -1, 0)
    return np.degrees(np.arctan2(-y, np.hypot(x, z)))


def cut_view(
    panorama: np.ndarray, view: str, area: PanoramaArea | None = None, side: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A perspective view of 90°, and which of its pixels the panorama holds.

    panorama: (h, w) or (h, w, c), any dtype of OpenCV's; area: of all directions, where it is not all of them.
    side: px; by default `PanoramaArea.view_side`. Returns (side, side[, c]) by bilinear interpolation, 0 where the
    panorama has nothing, and (side, side) bool.
    """
    height, width = panorama.shape[:2]
    area = area or PanoramaArea((width, height))
    pixels = pixels_of_directions(directions_of_view(view, side or area.view_side), area)
    across, down = np.moveaxis(pixels, -1, 0)
    is_whole = width == area.full_size[0]
    if is_whole:
        held = (down >= -0.5) & (down <= height - 0.5)
    else:  # beyond the right edge of the full panorama its left one follows
        across = np.where(across < -0.5, across + area.full_size[0], across)
        held = (across <= width - 0.5) & (down >= -0.5) & (down <= height - 0.5)
    padded = _padded(panorama, area)
    lookup = (across + _MARGIN_PX).astype(np.float32), (down + _MARGIN_PX).astype(np.float32)
    cut = cv2.remap(padded, *lookup, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    cut[~held] = 0
    return cut, held


def join_views(views: Mapping[str, np.ndarray], width: int, tangent: float = 1.0) -> np.ndarray:
    """The panorama, (width / 2, width[, c]), of pictures that look as the views do, by bilinear interpolation.

    views: all of VIEWS, (side, side[, c]) each. tangent: of half their field of view, which is 90° or a little more.
    """
    focal, center = view_intrinsics(len(views["front"]), tangent)
    directions = directions_of_panorama((width, width // 2))
    in_views = np.stack([directions @ rotation.T for rotation in VIEWS.values()])
    nearest = in_views[..., 2].argmax(0)
    panorama = np.zeros((*nearest.shape, *views["front"].shape[2:]), views["front"].dtype)
    for number, (view, rays) in enumerate(zip(VIEWS, in_views, strict=True)):
        depth = np.maximum(rays[..., 2], 0.1)  # of those that another view is nearer to, it may be anything
        x, y = ((focal * rays[..., axis] / depth + center).astype(np.float32) for axis in (0, 1))
        seen = cv2.remap(views[view], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        panorama[nearest == number] = seen[nearest == number]
    return panorama


def _padded(panorama: np.ndarray, area: PanoramaArea) -> np.ndarray:
    """With a margin of what lies beyond its edges, where it holds that: around the back, and over the poles."""
    height, width = panorama.shape[:2]
    is_whole = width == area.full_size[0]
    below = height - _MARGIN_PX
    if is_whole and width % 2 == 0 and area.top == 0 and height == area.full_size[1] and below > 0:
        across = np.roll(panorama, width // 2, axis=1)  # beyond a pole the other half of the world lies upside down
        padded = np.concatenate([across[_MARGIN_PX - 1 :: -1], panorama, across[: below - 1 : -1]])
    else:
        padded = cv2.copyMakeBorder(panorama, _MARGIN_PX, _MARGIN_PX, 0, 0, cv2.BORDER_REPLICATE)
    sides = cv2.BORDER_WRAP if is_whole else cv2.BORDER_REPLICATE
    return cv2.copyMakeBorder(padded, 0, 0, _MARGIN_PX, _MARGIN_PX, sides)
