"""Views warped from one photo by random homographies: cheap training data with exact ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import Extractor
from lightmatch.geometry.correspondence import Projection, project_by_homography
from lightmatch.images import load_image
from lightmatch.training.batches import scheduled
from lightmatch.training.photometric import augment
from lightmatch.training.photos import photo_states
from lightmatch.training.views import ViewGroup
from lightmatch.training.warping import warp_photo
from lightmatch.types import Image


@dataclass(frozen=True)
class HomographyConfig:
    """Ranges of the random homographies between photo and views.

    Rotation, translation and convexity are those of Lindenberger et al. 2023, released configuration.
    """

    views_per_group: int = 6
    size: tuple[int, int] = (640, 480)  # px of the views
    difficulty: float = 0.35  # how far corners of the view move inwards at most, as a fraction of half the side
    translation: float = 1.0  # part of the free space in which the outline is placed
    max_rotation_deg: float = 31.5  # in the plane, both ways; 180 for any
    turned_share: float = 0.0  # part of the views rotated by any angle, whatever max_rotation_deg
    min_zoom: float = 0.6  # least size of the outline, relative to the largest that fits
    convexity: float = 0.05  # least sine of an outline's corner

    def __post_init__(self) -> None:
        if not (0 <= self.difficulty < 1 and 0 <= self.translation <= 1 and 0 < self.min_zoom <= 1):
            raise InvalidValueError(
                f"HomographyConfig: expected difficulty in 0…1, translation in 0…1 and min_zoom in 0…1, got {self}"
            )


def sample_homography(photo_size: tuple[int, int], config: HomographyConfig, rng: np.random.Generator) -> np.ndarray:
    """A random homography from a photo of `photo_size` px to a view, all of which lies within the photo.

    Returns (3, 3) float64, oriented: it is the map of a quadrilateral in the photo to the view's rectangle.
    """
    width, height = config.size
    aspect = np.array([width, height]) / max(width, height)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * aspect
    while True:
        quad = corners * (1 - config.difficulty * rng.uniform(0, 1, (4, 2)))
        if _least_corner_sine(quad) > config.convexity:
            break
    any_angle = rng.random() < config.turned_share
    limit = math.pi if any_angle else math.radians(config.max_rotation_deg)
    angle = rng.uniform(-limit, limit)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    quad = quad @ rotation.T
    low, high = quad.min(0), quad.max(0)
    room = np.array(photo_size) - 1.0
    scale = float((room / (high - low)).min()) * math.exp(rng.uniform(math.log(config.min_zoom), 0))
    free = room - scale * (high - low)
    place = free * (0.5 + config.translation * rng.uniform(-0.5, 0.5, 2))
    quad = (quad - low) * scale + place
    view = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    H = cv2.getPerspectiveTransform(quad.astype(np.float32), view)
    # OpenCV makes the third coordinate 1 at the photo's first pixel, which may lie beyond the view's horizon.
    return H if H[2] @ [*quad.mean(0), 1] > 0 else -H


def _least_corner_sine(quad: np.ndarray) -> float:
    """The least sine of the corners of a polygon (n, 2) in order; positive where it is convex."""
    side = np.roll(quad, -1, 0) - quad
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    follow = np.roll(side, -1, 0)
    return float((side[:, 0] * follow[:, 1] - side[:, 1] * follow[:, 0]).min())


@dataclass(frozen=True)
class HomographySource:
    """Groups of views, each warped from one photo; the group of an index is always the same."""

    photos: Sequence[Path]
    seed: int = 0
    config: HomographyConfig = HomographyConfig()

    def __repr__(self) -> str:
        # What the groups depend on, for the name of their folder; the last says how views are warped.
        photos = photo_states(self.photos)
        return f"HomographySource({photos}, {self.seed}, {self.config}, shrunk first, photos in random order)"

    def group(self, index: int, extractor: Extractor) -> ViewGroup:
        """Group number `index`: all photos in a random order, then again in another, each time with new views."""
        rng = np.random.default_rng((self.seed, index))
        photo = load_image(self.photos[scheduled(index, len(self.photos), self.seed)])
        features, from_photo = [], []
        for _ in range(self.config.views_per_group):
            H = sample_homography(photo.size, self.config, rng)
            view = warp_photo(photo, H, self.config.size, cv2.BORDER_REFLECT)
            features.append(extractor(Image(augment(view, rng))))
            from_photo.append(torch.from_numpy(H))

        def project(i: int, j: int) -> Projection:
            H = from_photo[j] @ torch.linalg.inv(from_photo[i])
            return project_by_homography(H, features[i].keypoints.double(), self.config.size)

        views = range(self.config.views_per_group)
        return ViewGroup.from_projections(features, [[project(i, j) for j in views] for i in views])
