"""Views of overlapping photos without poses, labelled by a teacher matcher: real parallax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from lightmatch.errors import InvalidValueError, TrainingError
from lightmatch.extractors import Extractor
from lightmatch.geometry.coordinates import pairwise_distances
from lightmatch.geometry.correspondence import Projection, Visibility
from lightmatch.geometry.homography import transfer
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental
from lightmatch.images import list_images, load_image, resize_to_fit
from lightmatch.matchers import LightGlue
from lightmatch.networks.assignment import mutual_matches
from lightmatch.training.lightpoint.teachers import shift_of
from lightmatch.training.photometric import augment
from lightmatch.training.photos import Split, photo_states
from lightmatch.training.views import ViewGroup
from lightmatch.training.warping import warp_photo
from lightmatch.types import Features, Image


@dataclass(frozen=True)
class MatchedConfig:
    """How groups are formed from overlapping photos, and which of the teacher's matches are accepted."""

    teacher: str = "aliked"  # features that describe the keypoints for the teacher, which is LightGlue
    views_per_group: int = 6
    long_side: int = 640  # px that photos are shrunk to
    neighbours: float = 3.0  # standard deviation of the distance to a group's middle, in photos by name
    augmented_share: float = 0.7  # part of the views with photometric augmentation; the teacher gets the original photo
    rotated_share: float = 0.2  # part of the views rotated by any angle; the teacher gets the original photo
    scale: tuple[float, float] = (0.6, 1.0)  # px of a view for a px of the photo
    match_score: float = 0.2  # least score of a match that may be true
    unmatched_score: float = 0.02  # points whose best score, of a mutual match or not, is below may be unmatchable
    same_px: float = 1.0  # keypoints of a view this near to one of an accepted match are at the same place
    unmatchable_px: float = 5.0  # keypoints this near to one of an accepted match are not unmatchable
    inlier_px: float = 2.0  # from the epipolar line, at the photo's size
    min_inliers: int = 16  # with fewer, a pair has no matches
    validation_scenes: tuple[str, ...] = ()  # folders held out, by name

    def __post_init__(self) -> None:
        if not 0 <= self.same_px <= self.unmatchable_px:
            raise InvalidValueError(f"MatchedConfig: expected 0 ≤ same_px ≤ unmatchable_px, got {self}")
        if self.views_per_group < 2 or not 0 < self.scale[0] <= self.scale[1] <= 1 or self.neighbours <= 0:
            raise InvalidValueError(
                f"MatchedConfig: expected views_per_group ≥ 2, 0 < scale ≤ 1 and neighbours > 0, got {self}"
            )


@dataclass(frozen=True)
class MatchedSource:
    """Groups of photos of one folder, each a scene; the group of an index is always the same. Scenes come in turn.

    teacher, matcher: describe and match the same keypoints in the original photos; matches that fit one epipolar
    geometry are accepted.
    """

    scenes: Sequence[Path]
    teacher: Extractor
    matcher: LightGlue
    split: Split = "train"
    seed: int = 0
    config: MatchedConfig = MatchedConfig()

    def __repr__(self) -> str:
        # What the groups depend on, for the name of their folder.
        photos = photo_states([path for scene in self.scenes for path in list_images(scene)])
        teachers = self.teacher.kind, self.teacher.weights_digest(), self.matcher.weights_digest()
        return f"MatchedSource({photos}, {teachers}, {self.split}, {self.seed}, {self.config}, shifted)"

    def group(self, index: int, extractor: Extractor) -> ViewGroup:
        """Group number `index`. Raises TrainingError where no scene of two photos is on this side of the split."""
        config, rng = self.config, np.random.default_rng((self.seed, index))
        scenes = self._scenes()
        photos = list_images(scenes[index % len(scenes)])
        chosen = draw_nearby(len(photos), config.views_per_group, config.neighbours, rng)
        views = [_View.make(photos[number], extractor, self.teacher, config, rng) for number in chosen]
        pairs = [(i, j) for i in range(len(views)) for j in range(i)]
        none = [_unseen(view.features) for view in views]
        project = [[none[i]] * len(views) for i in range(len(views))]
        for i, j in pairs:
            assignment = self.matcher.log_assignment(views[i].described, views[j].described)
            project[i][j], project[j][i] = _projections(views[i], views[j], assignment, config)
        return ViewGroup.from_projections([view.features for view in views], project)

    def _scenes(self) -> list[Path]:
        held_out = self.split == "validation"
        scenes = [path for path in self.scenes if (path.name in self.config.validation_scenes) == held_out]
        scenes = [path for path in scenes if len(list_images(path)) > 1]
        if not scenes:
            listed = ", ".join(map(str, self.scenes))
            raise TrainingError(f"expected scenes of two photos or more for {self.split} among {listed}, got none")
        return scenes


@dataclass(frozen=True, eq=False)
class _View:
    features: Features  # of the view
    described: Features  # the same keypoints in the photo as it is, for the teacher

    @classmethod
    def make(
        cls, path: Path, extractor: Extractor, teacher: Extractor, config: MatchedConfig, rng: np.random.Generator
    ) -> _View:
        photo = resize_to_fit(load_image(path), config.long_side)
        angle = rng.uniform(-math.pi, math.pi) if rng.random() < config.rotated_share else 0.0
        scale = math.exp(rng.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
        view_from_photo, size = rotation_matrix(photo.size, angle, scale)
        pixels = warp_photo(photo, view_from_photo, size)
        reach = cv2.warpAffine(np.full(photo.pixels.shape[:2], 255, np.uint8), view_from_photo[:2], size)
        inner = cv2.erode(np.asarray(reach), np.ones((9, 9), np.uint8)) == 255
        pixels = augment(pixels, rng) if rng.random() < config.augmented_share else pixels
        features = extractor(Image(pixels), None if angle == 0 else inner)
        places = transfer(torch.from_numpy(np.linalg.inv(view_from_photo)), features.keypoints.double()).float()
        limit = torch.tensor(photo.size) - 1.0
        given = {"scores": features.scores}
        if teacher.kind.has_scale_orientation and features.scales is not None and features.orientations is not None:
            given |= {"scales": features.scales / scale, "orientations": features.orientations - angle}
        places = places + shift_of(teacher.kind.name) - shift_of(extractor.kind.name)
        return cls(features, teacher.describe(photo, places.clamp_min(0).minimum(limit), **given))


def rotation_matrix(size: tuple[int, int], angle: float, scale: float) -> tuple[np.ndarray, tuple[int, int]]:
    """(3, 3) from the pixels of a photo to those of one rotated by `angle` and scaled, and that one's size.

    size: (width, height) px, of both. angle: radians, from x to y.
    """
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    rotation = np.array([[cos, -sin], [sin, cos]])
    middle = (np.array(size) - 1) / 2
    extent = np.abs(rotation) @ np.array(size)
    new_size = round(float(extent[0])), round(float(extent[1]))
    matrix = np.eye(3)
    matrix[:2, :2] = rotation
    matrix[:2, 2] = (np.array(new_size) - 1) / 2 - rotation @ middle
    return matrix, new_size


def draw_nearby(count: int, wanted: int, spread: float, rng: np.random.Generator) -> list[int]:
    """Numbers of `wanted` different photos out of `count`, drawn about a random one with a Gaussian of sigma `spread`.

    Photos whose names follow each other mostly show the same place.
    """
    middle = int(rng.integers(count))
    weight = np.exp(-(((np.arange(count) - middle) / spread) ** 2) / 2) + 1e-3
    return rng.choice(count, min(wanted, count), replace=False, p=weight / weight.sum()).tolist()


def _unseen(features: Features) -> Projection:
    return Projection(torch.zeros(len(features), 2), torch.full((len(features),), int(Visibility.UNKNOWN)).byte())


def _projections(
    view0: _View, view1: _View, log_assignment: Tensor, config: MatchedConfig
) -> tuple[Projection, Projection]:
    """Projections of the keypoints of both views into the other, from the teacher's assignment (m, n).

    An accepted match projects its keypoint, and all at the same place, to its partner. A keypoint is hidden where all
    its scores are below `unmatched_score` and no accepted match is near; any other is unknown.
    """
    matches = mutual_matches(log_assignment, config.match_score)[0]
    points = [view.described.keypoints[matches[:, side]] for side, view in enumerate((view0, view1))]
    found = matches[explained(points[0], points[1], config.inlier_px, config.min_inliers)]
    scored = pad(log_assignment, (0, 1, 0, 1), value=-math.inf)  # keypoints have a best score in an empty view too
    projections = []
    for side, (view, other) in enumerate(((view0, view1), (view1, view0))):
        keypoints = view.features.keypoints
        places = torch.zeros_like(keypoints)
        low = scored.amax(1 - side)[:-1].exp() < config.unmatched_score
        visibility = torch.where(low, int(Visibility.HIDDEN), int(Visibility.UNKNOWN))
        if len(found):
            distance, nearest = pairwise_distances(keypoints, keypoints[found[:, side]]).min(1)
            nearest[found[:, side]] = torch.arange(len(found))  # its own match, where several are at the same place
            visibility[distance <= config.unmatchable_px] = int(Visibility.UNKNOWN)
            visibility[distance <= config.same_px] = int(Visibility.VISIBLE)
            places = other.features.keypoints[found[nearest, 1 - side]]
        projections.append(Projection(places, visibility.to(torch.uint8)))
    return projections[0], projections[1]


def explained(points0: torch.Tensor, points1: torch.Tensor, inlier_px: float, min_inliers: int) -> torch.Tensor:
    """(k,) bool: which matches, points (k, 2) px in both images, fit one epipolar geometry.

    All False where fewer than `min_inliers` fit.
    """
    none = torch.zeros(len(points0), dtype=torch.bool)
    if len(points0) < min_inliers:
        return none
    inliers = estimate_fundamental(points0, points1, SearchOptions(threshold_px=inlier_px, estimator="opencv")).inliers
    return inliers if int(inliers.sum()) >= min_inliers else none
