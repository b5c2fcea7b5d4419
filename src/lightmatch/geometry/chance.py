"""A-contrario test: the number of false alarms of a geometry, had its matches been random.

Source: Moisan & Stival, A probabilistic criterion to detect rigid point matches between two images and estimate the
fundamental matrix, IJCV 2004.
"""

from __future__ import annotations

import math

import numpy as np


def log10_false_alarms(total: int, inliers: int, share: float, sample: int, solutions: int = 1) -> float:
    """log10 of the expected number of geometries that `inliers` of `total` random correspondences agree with.

    share: of the picture's area that counts as agreement, in 0…1. sample: correspondences that a geometry is made of,
    and solutions: how many of them at most. solutions (n − s) C(n, k) C(k, s) shareᵏ⁻ˢ (section 4); above
    0 that many are to be expected by chance. Infinite where there are no more inliers than the sample.
    """
    if inliers <= sample:
        return math.inf

    def log_binomial(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    natural = math.log(solutions * max(1, total - sample)) + log_binomial(total, inliers)
    natural += log_binomial(inliers, sample) + (inliers - sample) * math.log(min(1.0, share))
    return natural / math.log(10)


def share_near_point(radius_px: float, width: float, height: float) -> float:
    """The share of a picture's area that lies within `radius_px` of a point."""
    return math.pi * radius_px**2 / (width * height)


def share_near_line(radius_px: float, width: float, height: float) -> float:
    """The share of a picture's area that lies within `radius_px` of a line, at most: of a diagonal."""
    return 2 * radius_px * math.hypot(width, height) / (width * height)


def log10_false_alarms_of_matches(
    points0: np.ndarray, points1: np.ndarray, inliers: int, max_error_px: float, *, plane: bool
) -> float:
    """The same of a geometry of two views: a homography if `plane`, else a fundamental matrix of seven points.

    points0, points1: (k, 2) px of all matches, `inliers` of which agree within `max_error_px`. The area is that of the
    part of each picture that they are in.
    """
    shares = []
    for points in (points0, points1):
        low, high = np.quantile(points, [0.05, 0.95], axis=0)
        size = np.maximum(high - low, 2 * max_error_px) / 0.9
        shares.append((share_near_point if plane else share_near_line)(max_error_px, *size.tolist()))
    sample, solutions = (4, 1) if plane else (7, 3)
    return log10_false_alarms(len(points0), inliers, max(shares), sample, solutions)
