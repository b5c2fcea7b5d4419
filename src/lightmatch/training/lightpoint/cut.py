"""Views warped from a photo, with the labels of the teachers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from lightmatch.geometry.coordinates import scale_intrinsics
from lightmatch.geometry.homography import transfer
from lightmatch.training.lightpoint.teachers import LabelStore, TeacherLabels
from lightmatch.training.photometric import augment

_HALF_BELOW = 0.7  # views of a smaller scale are cut from the photo at half its size, with the labels found there
_SIGMA_PX = 1.0  # of the Gaussian around a keypoint
_BELL_PX = 3  # radius of the Gaussian, px


@dataclass(frozen=True)
class ViewWarp:
    """The warp from a photo to a view."""

    scale: float  # px of the view for a px of the photo
    angle: float  # radians
    perspective: float = 0.0  # how far corners move at most, as a part of half the side
    plain: bool = False  # whether the view shows the photo as the teachers saw it, up to photometric augmentation


@dataclass(frozen=True, eq=False)
class View:
    """A warped, photometrically augmented part of a photo."""

    grey: Tensor  # (1, h, w) float32 in 0…1
    inside: Tensor  # (h, w) bool: where the photo is
    from_photo: Tensor  # (3, 3) float64: pixels of the photo to those of the view
    halvings: int  # 1 where it was cut from the photo at half its size
    plain: bool  # see ViewWarp

    def sees(self, points: Tensor, border_px: int) -> Tensor:
        """(n,) bool: which points (n, 2) px lie on the photo, at least `border_px` from the edge of the view."""
        return on_photo(self.inside, points, border_px)


def on_photo(inside: Tensor, points: Tensor, border_px: int = 0) -> Tensor:
    """(n,) bool: which points (n, 2) px of a view lie on the photo, at least `border_px` from the edge of the view.

    inside: (h, w) bool, where the photo is.
    """
    height, width = inside.shape
    limit = points.new_tensor([width, height]) - 1 - border_px
    within = ((points >= border_px) & (points <= limit)).all(-1)
    x, y = torch.where(within[:, None], points, 0).round().long().unbind(-1)
    return within & inside[y, x]


@dataclass(frozen=True, eq=False)
class LabelledPhoto:
    """A photo at its size (0) and at half of it (1), with the teachers' labels of both."""

    images: Mapping[int, np.ndarray]
    labels: Mapping[int, TeacherLabels]

    @classmethod
    def load(cls, store: LabelStore, photo: int) -> LabelledPhoto:
        """Photo number `photo` of the store."""
        images = dict(enumerate(image.pixels for image in store.images(photo)))
        return cls(images, {halvings: store.labels(photo, halvings) for halvings in (0, 1)})

    @property
    def size(self) -> tuple[int, int]:
        """Width, height of the photo."""
        return self.images[0].shape[1], self.images[0].shape[0]

    def places(self, halvings: int) -> Tensor:
        """The keypoints found at one of the sizes, (n, 2) px of the photo."""
        return transfer(
            torch.from_numpy(full_from_small(self.images, halvings)), self.labels[halvings].keypoints.double()
        )

    def target(self, view: View) -> Tensor:
        """The target scores (h, w) of a view of this photo."""
        height, width = view.inside.shape
        places = transfer(view.from_photo, self.places(view.halvings))
        return gaussian_targets(places, self.labels[view.halvings].scores, (width, height))


def cut_view(
    centre: np.ndarray,
    frame: ViewWarp,
    size: tuple[int, int],
    images: Mapping[int, np.ndarray],
    rng: np.random.Generator,
) -> View:
    """A view of `size` (width, height) px about `centre` (x, y) px of the photo, photometrically augmented."""
    scale, angle = frame.scale, frame.angle
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (np.array(size) / 2)
    corners = corners * (1 + frame.perspective * rng.uniform(-1, 1, (4, 2))) / scale
    quad = centre + corners @ rotation.T
    edge = np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]]) - 0.5
    from_photo = cv2.getPerspectiveTransform(quad.astype(np.float32), edge.astype(np.float32))
    if from_photo[2] @ [*centre, 1] < 0:
        from_photo = -from_photo
    halvings = int(scale < _HALF_BELOW)
    from_image = from_photo @ full_from_small(images, halvings)
    pixels = np.asarray(cv2.warpPerspective(images[halvings], from_image, size, flags=cv2.INTER_LINEAR))
    ones = np.full(images[halvings].shape[:2], 255, np.uint8)
    inside = torch.from_numpy(np.asarray(cv2.warpPerspective(ones, from_image, size)) == 255)
    grey = cv2.cvtColor(augment(pixels, rng), cv2.COLOR_RGB2GRAY)
    return View(
        torch.from_numpy(grey).float()[None] / 255,
        inside,
        torch.from_numpy(from_photo).double(),
        halvings,
        frame.plain,
    )


def full_from_small(images: Mapping[int, np.ndarray], halvings: int) -> np.ndarray:
    """(3, 3): pixels of the photo at a smaller size to those at its full size, with aligned edges."""
    small, whole = ((image.shape[1], image.shape[0]) for image in (images[halvings], images[0]))
    return scale_intrinsics(torch.eye(3, dtype=torch.float64), small, whole).numpy()


def gaussian_targets(points: Tensor, scores: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w) float32: at each pixel the highest of score · exp(−distance² / 2σ²) of all points (n, 2) px.

    The logarithm of a Gaussian is a parabola, so three of its pixels give its maximum to a fraction of a pixel.
    """
    steps = torch.arange(-_BELL_PX, _BELL_PX + 1)
    around = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2)
    near = ((points > -_BELL_PX) & (points < torch.tensor(size) + _BELL_PX)).all(-1)
    points, scores = points[near].float(), scores[near]
    pixels = points.round().long()[:, None] + around
    distance2 = ((pixels - points[:, None]) ** 2).sum(-1)
    values = scores[:, None] * torch.exp(-distance2 / (2 * _SIGMA_PX**2))
    x, y = pixels.unbind(-1)
    within = (x >= 0) & (y >= 0) & (x < size[0]) & (y < size[1])
    flat = torch.zeros(size[0] * size[1])
    flat.scatter_reduce_(0, (y * size[0] + x)[within], values[within], "amax")
    return flat.view(size[1], size[0])
