"""Metrics as pure functions: of the matches of one pair, and of the errors of many pairs.

A model that was not found has an error of inf. docs/evaluation.md explains each metric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.correspondence import Correspondence, Projection, Visibility
from lightmatch.geometry.epipolar import epipolar_distance_px, pose_error
from lightmatch.geometry.homography import symmetric_transfer_error_px


@dataclass(frozen=True)
class KeypointAccuracy:
    """Repeatability and localisation error of the keypoints of a pair, independent of any matcher."""

    repeatability: float  # 0…1, share of the co-visible keypoints detected in both; NaN without any
    localization_px: float  # median over those of the larger of both reprojection errors; NaN where there are none


def area_under_curve(errors: np.ndarray, thresholds: list[float]) -> np.ndarray:
    """Area under the share of pairs with at most an error, from 0 to each threshold, divided by the threshold.

    errors: (…, n) ≥ 0, inf where nothing was found. Returns (…, len(thresholds)) in 0…1; 0 where n is 0.
    The curve is linear from (0, 0) through (e₁, 1/n), (e₂, 2/n), … and constant from there to the threshold; this is
    the integral that published tables report. Source: Sarlin et al. 2020 (SuperGlue), section 5.1.
    Raises InvalidValueError where an error is NaN or negative, or a threshold is not positive.
    """
    errors = np.asarray(errors, dtype=np.float64)
    if not (errors >= 0).all() or min(thresholds) <= 0:
        raise InvalidValueError(
            "area_under_curve: expected errors ≥ 0 (inf where nothing was found) and thresholds > 0,"
            f" got a least error of {errors.min(initial=np.inf)} and thresholds {thresholds}"
        )
    ordered = np.sort(errors, axis=-1)
    n = max(1, ordered.shape[-1])
    share = np.arange(1, ordered.shape[-1] + 1) / n
    areas = []
    for threshold in thresholds:
        # A search from the left, as in the published code: an error equal to the threshold counts no more.
        clipped = np.where(ordered < threshold, ordered, threshold)
        width = np.diff(clipped, prepend=0, append=threshold)
        left = np.concatenate(([0], share))
        # Steps that end below the threshold rise by 1/n; the last one is constant and ends at the threshold.
        rise = np.concatenate((ordered < threshold, np.zeros_like(ordered[..., :1], dtype=bool)), -1) / n
        areas.append((width * (left + rise / 2)).sum(-1) / threshold)
    return np.stack(areas, -1)


def correct_by_homography(H: Tensor, points0: Tensor, points1: Tensor, match_px: float) -> Tensor:
    """(k,) bool: which matches have a symmetric transfer error (root mean square of both images) below `match_px`.

    H: (3, 3), image 0 → image 1. points0, points1: (k, 2) px.
    """
    return symmetric_transfer_error_px(H, points0.to(H), points1.to(H)) < match_px


def correct_by_epipolar_line(F: Tensor, points0: Tensor, points1: Tensor, match_px: float) -> Tensor:
    """(k,) bool: which matches have an epipolar distance (mean of both images) below `match_px`.

    F: (3, 3), x1ᵀ F x0 = 0. points0, points1: (k, 2) px. Necessary for a correct match but not sufficient: a wrong
    point on the right epipolar line passes.
    """
    return epipolar_distance_px(F, points0.to(F), points1.to(F)) < match_px


def label_by_projection(
    projection0: Projection, projection1: Projection, points0: Tensor, points1: Tensor, match_px: float
) -> tuple[Tensor, Tensor]:
    """Which matches are correct and which incorrect, (k,) bool each; the others have no label.

    points0, points1: (k, 2) px. projection0: points0 in image 1; projection1: points1 in image 0. A match is correct
    if both points are visible in the other image and within `match_px` there; it has no label if the visibility of
    either is unknown.
    """
    visible = (projection0.visibility == Visibility.VISIBLE) & (projection1.visibility == Visibility.VISIBLE)
    unknown = (projection0.visibility == Visibility.UNKNOWN) | (projection1.visibility == Visibility.UNKNOWN)
    forth = (projection0.points - points1).norm(dim=-1)
    back = (projection1.points - points0).norm(dim=-1)
    correct = visible & (torch.maximum(forth, back) < match_px)
    return correct, ~correct & ~unknown


def keypoint_accuracy(
    keypoints0: Tensor, keypoints1: Tensor, projection0: Projection, projection1: Projection, true: Correspondence
) -> KeypointAccuracy:
    """Repeatability and localisation error of the keypoints (n, 2) px of two images.

    projection0: keypoints0 in image 1; projection1: keypoints1 in image 0. true: their true matches, one to one.
    Source: Mikolajczyk et al. 2005, section 4.1, with distances between points instead of overlaps of regions.
    """
    num_visible = min(int((p.visibility == Visibility.VISIBLE).sum()) for p in (projection0, projection1))
    index0, index1 = true.matches.unbind(1)
    forth = (projection0.points[index0] - keypoints1[index1]).norm(dim=1)
    back = (projection1.points[index1] - keypoints0[index0]).norm(dim=1)
    apart = torch.maximum(forth, back)
    return KeypointAccuracy(
        len(apart) / num_visible if num_visible else math.nan, float(apart.median()) if len(apart) else math.nan
    )


def share(part: int, whole: int) -> float:
    """Part / whole; 0 where the whole is 0: a method without matches has a precision of 0."""
    return part / whole if whole else 0.0


def pose_error_deg(estimated_cam1_from_cam0: Tensor, true_cam1_from_cam0: Tensor) -> float:
    """The larger of rotation and translation direction error, degrees; inf where no pose was found (NaN).

    Both poses: (3, 4).
    """
    return float(torch.maximum(*pose_error(estimated_cam1_from_cam0, true_cam1_from_cam0)))


def recall_at_precision(precision: np.ndarray, recall: np.ndarray, least_precision: float | np.ndarray) -> np.ndarray:
    """The largest recall among the points of a curve with at least this precision; 0 where there is none.

    precision, recall: (…, t), one point for each score threshold. least_precision: a number
    or (…, 1). Returns (…).
    """
    return np.where(precision >= least_precision, recall, 0).max(-1, initial=0)
