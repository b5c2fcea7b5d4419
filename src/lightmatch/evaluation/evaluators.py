"""Evaluators of one image pair: which matches are correct, and the error of the model estimated from the matches.

Coordinates are pixels of the images as they were matched: where a photo was shrunk, the ground truth is scaled alike.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation import metrics
from lightmatch.evaluation.estimators import ModelSearch, find_fundamental, find_homography, find_relative_pose
from lightmatch.evaluation.features import ExtractedImage
from lightmatch.evaluation.pairs import (
    Camera,
    CorrespondenceTruth,
    DepthTruth,
    HomographyTruth,
    PoseTruth,
    Truth,
)
from lightmatch.geometry.coordinates import invert_rigid, scale_intrinsics
from lightmatch.geometry.correspondence import (
    Correspondence,
    Projection,
    correspond,
    project_by_depth,
    project_by_homography,
)
from lightmatch.geometry.epipolar import epipolar_distance_px, essential_from_pose, fundamental_from_essential
from lightmatch.geometry.homography import corner_error_px, transfer_error
from lightmatch.images import keypoints_to_size
from lightmatch.types import Features


@dataclass(frozen=True, eq=False)
class MatchLabels:
    """Labels of k proposed matches. A match that is neither correct nor incorrect has no ground truth."""

    correct: Tensor  # (k,) bool
    incorrect: Tensor  # (k,) bool
    found: Tensor | None = None  # (k,) bool: it is one of the true matches; None where these are unknown


class PairEvaluator(ABC):
    """Compares the matches of one pair with its ground truth."""

    num_true_matches: int | None = None  # among the keypoints; None where the ground truth is too sparse to count them
    keypoint_accuracy: metrics.KeypointAccuracy | None = None  # None where the ground truth is too sparse

    @abstractmethod
    def label_matches(self, indices: Tensor | None, points0: Tensor, points1: Tensor) -> MatchLabels | None:
        """The labels of k matches; None where the ground truth cannot label single matches.

        indices: (k, 2) int64, into the keypoints of images 0 and 1; None for matches of points that are no keypoints:
            `found` is then unknown. points0, points1: (k, 2) px, the same points.
        """

    @abstractmethod
    def model_error(self, points0: Tensor, points1: Tensor, search: ModelSearch) -> float:
        """Error of the model estimated from (k, 2) px points, in the unit of the suite; inf where none is found."""


class HomographyEvaluator(PairEvaluator):
    """Ground truth is a homography; the model error is the corner error in px of image 1."""

    def __init__(self, H: Tensor, features0: Features, features1: Features, match_px: float) -> None:
        self._H, self._match_px, self._size = H, match_px, features0.image_size
        projections = _project_both(H, features0, features1)
        self._truth = _true_matches(features0, features1, *projections, match_px)
        self.num_true_matches = len(self._truth.matches)
        self.keypoint_accuracy = metrics.keypoint_accuracy(
            features0.keypoints, features1.keypoints, *projections, self._truth
        )

    def label_matches(self, indices: Tensor | None, points0: Tensor, points1: Tensor) -> MatchLabels:
        """Correct: within `match_px` (root mean square of both images)."""
        correct = metrics.correct_by_homography(self._H, points0, points1, self._match_px)
        return MatchLabels(
            correct, ~correct, None if indices is None else self._truth.correct_and_incorrect(indices)[0]
        )

    def model_error(self, points0: Tensor, points1: Tensor, search: ModelSearch) -> float:
        """Mean distance of the four image corners under both homographies, px of image 1."""
        H = find_homography(points0, points1, search)
        return float(corner_error_px(H, self._H, self._size))


class PoseEvaluator(PairEvaluator):
    """Ground truth is the relative pose of two calibrated cameras; the model error is the pose error in degrees."""

    def __init__(self, camera0: Camera, camera1: Camera, cam1_from_cam0: Tensor, match_px: float) -> None:
        self._cameras, self._pose, self._match_px = (camera0, camera1), cam1_from_cam0, match_px
        self._F = fundamental_from_essential(essential_from_pose(cam1_from_cam0), camera0.K, camera1.K)

    def label_matches(self, indices: Tensor | None, points0: Tensor, points1: Tensor) -> MatchLabels:
        """Correct: within `match_px` of the epipolar lines (mean of both images)."""
        x0, x1 = self._undistort(points0, points1)
        correct = metrics.correct_by_epipolar_line(self._F, x0, x1, self._match_px)
        return MatchLabels(correct, ~correct)

    def model_error(self, points0: Tensor, points1: Tensor, search: ModelSearch) -> float:
        """The larger of the rotation and the translation direction error, degrees."""
        x0, x1 = self._undistort(points0, points1)
        possible = (x0 + x1).isfinite().all(-1)
        K0, K1 = (camera.K for camera in self._cameras)
        pose = find_relative_pose(x0[possible], x1[possible], K0, K1, search)
        return metrics.pose_error_deg(pose, self._pose)

    def _undistort(self, points0: Tensor, points1: Tensor) -> tuple[Tensor, Tensor]:
        return self._cameras[0].undistort(points0), self._cameras[1].undistort(points1)


class DepthEvaluator(PoseEvaluator):
    """Ground truth is the relative pose of two calibrated cameras and a depth map of each image."""

    def __init__(self, truth: DepthTruth, features0: Features, features1: Features, match_px: float) -> None:
        super().__init__(Camera(truth.K0), Camera(truth.K1), truth.cam1_from_cam0, match_px)
        self._forth = forth = (
            truth.depth_map0,
            truth.K0.float(),
            truth.depth_map1,
            truth.K1.float(),
            truth.cam1_from_cam0.float(),
        )
        self._back = back = (*forth[2:4], *forth[:2], invert_rigid(truth.cam1_from_cam0).float())
        self._projections = project_by_depth(features0.keypoints, *forth), project_by_depth(features1.keypoints, *back)
        self._truth = _true_matches(features0, features1, *self._projections, match_px)
        self.num_true_matches = len(self._truth.matches)
        self.keypoint_accuracy = metrics.keypoint_accuracy(
            features0.keypoints, features1.keypoints, *self._projections, self._truth
        )

    def label_matches(self, indices: Tensor | None, points0: Tensor, points1: Tensor) -> MatchLabels:
        """Correct: visible in both images and within `match_px` in both. No label where the depth is unknown."""
        if indices is None:
            projections = project_by_depth(points0, *self._forth), project_by_depth(points1, *self._back)
            return MatchLabels(*metrics.label_by_projection(*projections, points0, points1, self._match_px))
        projection0, projection1 = (
            Projection(whole.points[index], whole.visibility[index])
            for whole, index in zip(self._projections, indices.unbind(1), strict=True)
        )
        correct, incorrect = metrics.label_by_projection(projection0, projection1, points0, points1, self._match_px)
        return MatchLabels(correct, incorrect, self._truth.correct_and_incorrect(indices)[0])


class MarkedPointsEvaluator(PairEvaluator):
    """Ground truth is a few points marked by hand; the model error is its mean distance from them, px."""

    def __init__(self, truth: CorrespondenceTruth, features0: Features, features1: Features, match_px: float) -> None:
        self._truth, self._match_px = truth, match_px
        if truth.H is not None:
            projections = _project_both(truth.H, features0, features1)
            true = _true_matches(features0, features1, *projections, match_px)
            self.keypoint_accuracy = metrics.keypoint_accuracy(
                features0.keypoints, features1.keypoints, *projections, true
            )

    def label_matches(self, indices: Tensor | None, points0: Tensor, points1: Tensor) -> MatchLabels | None:
        """By the homography where the ground truth has one; None otherwise: a few points cannot label other matches."""
        if self._truth.H is None:
            return None
        correct = metrics.correct_by_homography(self._truth.H, points0, points1, self._match_px)
        return MatchLabels(correct, ~correct)

    def model_error(self, points0: Tensor, points1: Tensor, search: ModelSearch) -> float:
        """Planar: mean transfer error of a homography, px of image 1. General: mean epipolar distance, px."""
        planar = self._truth.kind == "planar"
        model = (find_homography if planar else find_fundamental)(points0, points1, search)
        if not bool(model.isfinite().all()):
            return math.inf
        distance = transfer_error if planar else epipolar_distance_px
        return float(distance(model, self._truth.points0, self._truth.points1).mean())


def create_evaluator(truth: Truth, image0: ExtractedImage, image1: ExtractedImage, match_px: float) -> PairEvaluator:
    """The evaluator of a pair, with the ground truth scaled to the size at which the images were matched.

    match_px: a match is correct within this distance.
    Raises InvalidValueError where images with depth maps were shrunk, or a photo does not have the size of its camera.
    """
    sizes = [(image.original_size, image.features.image_size) for image in (image0, image1)]
    features0, features1 = image0.features, image1.features
    if isinstance(truth, HomographyTruth):
        return HomographyEvaluator(_resized_homography(truth.H, sizes), features0, features1, match_px)
    if isinstance(truth, PoseTruth):
        camera0, camera1 = (
            _resized_camera(camera, *size) for camera, size in zip((truth.camera0, truth.camera1), sizes, strict=True)
        )
        return PoseEvaluator(camera0, camera1, truth.cam1_from_cam0, match_px)
    if isinstance(truth, CorrespondenceTruth):
        points0, points1 = (
            keypoints_to_size(points, *size) for points, size in zip((truth.points0, truth.points1), sizes, strict=True)
        )
        H = None if truth.H is None else _resized_homography(truth.H, sizes)
        marked = CorrespondenceTruth(points0, points1, truth.kind, H)
        return MarkedPointsEvaluator(marked, features0, features1, match_px)
    if any(original != matched for original, matched in sizes):
        raise InvalidValueError(
            f"depth maps: expected images of at most the evaluation's size, got {sizes[0][0]} shrunk to {sizes[0][1]};"
            " render them smaller, or raise image_size"
        )
    return DepthEvaluator(truth, features0, features1, match_px)


def _resized_camera(camera: Camera, original_size: tuple[int, int], size: tuple[int, int]) -> Camera:
    if camera.image_size not in (None, original_size):
        raise InvalidValueError(
            f"expected photos of {camera.image_size} px, as their camera has it, got {original_size};"
            " take the photos that the cameras were estimated from"
        )
    return Camera(scale_intrinsics(camera.K, original_size, size), camera.distortion, size)


def _resized_homography(H: Tensor, sizes: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> Tensor:
    """H (3, 3) between the images as they were matched. sizes: (original, matched) size of each image."""
    resize0, resize1 = (scale_intrinsics(torch.eye(3, dtype=H.dtype), *size) for size in sizes)
    return resize1 @ H @ torch.linalg.inv(resize0)


def _project_both(H: Tensor, features0: Features, features1: Features) -> tuple[Projection, Projection]:
    """The keypoints of image 0 in image 1, and those of image 1 in image 0."""
    return (
        project_by_homography(H.float(), features0.keypoints, features1.image_size),
        project_by_homography(torch.linalg.inv(H).float(), features1.keypoints, features0.image_size),
    )


def _true_matches(
    features0: Features, features1: Features, projection0: Projection, projection1: Projection, match_px: float
) -> Correspondence:
    """The true matches. Of several keypoints at one place, those with the most similar descriptors are paired."""
    return correspond(
        features0.keypoints,
        features1.keypoints,
        projection0,
        projection1,
        match_px=match_px,
        unmatchable_px=match_px,
        similarity=features0.descriptors @ features1.descriptors.mT,
    )
