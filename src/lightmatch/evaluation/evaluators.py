"""Judges of one pair each: which matches are right, and how good a model the matches give.

A judge works in the pixels of the images as they were matched: what a photo lost on being shrunk, its truth loses too.
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
class Verdict:
    """Of each proposed match, (k,) bool: neither right nor wrong is what cannot be told."""

    right: Tensor
    wrong: Tensor
    found: Tensor | None = None  # is one of the true matches; None where these are not known


class Judge(ABC):
    """What the truth says of the matches of one pair."""

    num_true_matches: int | None = None  # among the keypoints; None where the truth does not tell
    keypoint_accuracy: metrics.KeypointAccuracy | None = None  # None where the truth does not tell

    @abstractmethod
    def verdict(self, indices: Tensor | None, points0: Tensor, points1: Tensor) -> Verdict | None:
        """Which matches are right; None where the truth does not tell.

        indices: (k, 2) into the features; None where the matches are of places that are no features, of which it is
        not told how many of the true matches they find. points0, points1: (k, 2) px.
        """

    @abstractmethod
    def model_error(self, points0: Tensor, points1: Tensor, search: ModelSearch) -> float:
        """The error of the model that the matches give, in the unit of the suite; inf where they give none."""


class HomographyJudge(Judge):
    """A plane: errors in px of image 1, of the model at the corners of image 0."""

    def __init__(self, H: Tensor, features0: Features, features1: Features, match_px: float) -> None:
        self._H, self._match_px, self._size = H, match_px, features0.image_size
        projections = _project_both(H, features0, features1)
        self._truth = _true_matches(features0, features1, *projections, match_px)
        self.num_true_matches = len(self._truth.matches)
        self.keypoint_accuracy = metrics.keypoint_accuracy(
            features0.keypoints, features1.keypoints, *projections, self._truth
        )

    def verdict(self, indices: Tensor | None, points0: Tensor, points1: Tensor) -> Verdict:
        """Right: within `match_px` in both images."""
        right = metrics.right_by_homography(self._H, points0, points1, self._match_px)
        return Verdict(right, ~right, None if indices is None else self._truth.judge(indices)[0])

    def model_error(self, points0: Tensor, points1: Tensor, search: ModelSearch) -> float:
        """Mean distance of the four corners, px."""
        H = find_homography(points0, points1, search)
        return float(corner_error_px(H, self._H, self._size))


class PoseJudge(Judge):
    """Two calibrated cameras: right is what lies on its epipolar line; errors of poses in degrees."""

    def __init__(self, camera0: Camera, camera1: Camera, cam1_from_cam0: Tensor, match_px: float) -> None:
        self._cameras, self._pose, self._match_px = (camera0, camera1), cam1_from_cam0, match_px
        self._F = fundamental_from_essential(essential_from_pose(cam1_from_cam0), camera0.K, camera1.K)

    def verdict(self, indices: Tensor | None, points0: Tensor, points1: Tensor) -> Verdict:
        """Right: within `match_px` of its epipolar lines."""
        x0, x1 = self._undistort(points0, points1)
        right = metrics.right_by_epipolar_line(self._F, x0, x1, self._match_px)
        return Verdict(right, ~right)

    def model_error(self, points0: Tensor, points1: Tensor, search: ModelSearch) -> float:
        """The larger of rotation and translation error, degrees."""
        x0, x1 = self._undistort(points0, points1)
        possible = (x0 + x1).isfinite().all(-1)
        K0, K1 = (camera.K for camera in self._cameras)
        pose = find_relative_pose(x0[possible], x1[possible], K0, K1, search)
        return metrics.pose_error_deg(pose, self._pose)

    def _undistort(self, points0: Tensor, points1: Tensor) -> tuple[Tensor, Tensor]:
        return self._cameras[0].undistort(points0), self._cameras[1].undistort(points1)


class DepthJudge(PoseJudge):
    """Two calibrated cameras and the depth of every pixel."""

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

    def verdict(self, indices: Tensor | None, points0: Tensor, points1: Tensor) -> Verdict:
        """Right: seen in both images, and within `match_px` in both. Where depth is unknown nothing is told."""
        if indices is None:
            projections = project_by_depth(points0, *self._forth), project_by_depth(points1, *self._back)
            return Verdict(*metrics.judge_by_projection(*projections, points0, points1, self._match_px))
        projection0, projection1 = (
            Projection(whole.points[index], whole.visibility[index])
            for whole, index in zip(self._projections, indices.unbind(1), strict=True)
        )
        right, wrong = metrics.judge_by_projection(projection0, projection1, points0, points1, self._match_px)
        return Verdict(right, wrong, self._truth.judge(indices)[0])


class MarkedPointsJudge(Judge):
    """Points marked by hand: how far the model that the matches give is from them, mean px."""

    def __init__(self, truth: CorrespondenceTruth, features0: Features, features1: Features, match_px: float) -> None:
        self._truth, self._match_px = truth, match_px
        if truth.H is not None:
            projections = _project_both(truth.H, features0, features1)
            true = _true_matches(features0, features1, *projections, match_px)
            self.keypoint_accuracy = metrics.keypoint_accuracy(
                features0.keypoints, features1.keypoints, *projections, true
            )

    def verdict(self, indices: Tensor | None, points0: Tensor, points1: Tensor) -> Verdict | None:
        """By the homography, where the truth has one: a few points alone tell nothing of other matches."""
        if self._truth.H is None:
            return None
        right = metrics.right_by_homography(self._truth.H, points0, points1, self._match_px)
        return Verdict(right, ~right)

    def model_error(self, points0: Tensor, points1: Tensor, search: ModelSearch) -> float:
        """Planar: transfer error of a homography, px of image 1. General: distance from epipolar lines, px."""
        planar = self._truth.kind == "planar"
        model = (find_homography if planar else find_fundamental)(points0, points1, search)
        if not bool(model.isfinite().all()):
            return math.inf
        distance = transfer_error if planar else epipolar_distance_px
        return float(distance(model, self._truth.points0, self._truth.points1).mean())


def create_judge(truth: Truth, image0: ExtractedImage, image1: ExtractedImage, match_px: float) -> Judge:
    """The judge of a pair, the truth brought to the size in which the images were matched.

    Raises InvalidValueError where images with depth maps were shrunk, or a photo is not of its camera's size.
    """
    sizes = [(image.original_size, image.features.image_size) for image in (image0, image1)]
    features0, features1 = image0.features, image1.features
    if isinstance(truth, HomographyTruth):
        return HomographyJudge(_resized_homography(truth.H, sizes), features0, features1, match_px)
    if isinstance(truth, PoseTruth):
        camera0, camera1 = (
            _resized_camera(camera, *size) for camera, size in zip((truth.camera0, truth.camera1), sizes, strict=True)
        )
        return PoseJudge(camera0, camera1, truth.cam1_from_cam0, match_px)
    if isinstance(truth, CorrespondenceTruth):
        points0, points1 = (
            keypoints_to_size(points, *size) for points, size in zip((truth.points0, truth.points1), sizes, strict=True)
        )
        H = None if truth.H is None else _resized_homography(truth.H, sizes)
        marked = CorrespondenceTruth(points0, points1, truth.kind, H)
        return MarkedPointsJudge(marked, features0, features1, match_px)
    if any(original != matched for original, matched in sizes):
        raise InvalidValueError(
            f"depth maps: expected images of at most the evaluation's size, got {sizes[0][0]} shrunk to {sizes[0][1]};"
            " render them smaller, or raise image_size"
        )
    return DepthJudge(truth, features0, features1, match_px)


def _resized_camera(camera: Camera, original_size: tuple[int, int], size: tuple[int, int]) -> Camera:
    if camera.image_size not in (None, original_size):
        raise InvalidValueError(
            f"expected photos of {camera.image_size} px, as their camera has it, got {original_size};"
            " take the photos that the cameras were estimated from"
        )
    return Camera(scale_intrinsics(camera.K, original_size, size), camera.distortion, size)


def _resized_homography(H: Tensor, sizes: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> Tensor:
    """H between the images as they were matched. sizes: of each image, before and after."""
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
    """What could be matched. Of several keypoints on one spot, those with like descriptors belong together."""
    return correspond(
        features0.keypoints,
        features1.keypoints,
        projection0,
        projection1,
        match_px=match_px,
        unmatchable_px=match_px,
        similarity=features0.descriptors @ features1.descriptors.mT,
    )
