"""A-contrario test: the number of false alarms of a geometry, had its matches been random.

Source: Moisan & Stival, A probabilistic criterion to detect rigid point matches between two images and estimate the
fundamental matrix, IJCV 2004.
"""

from __future__ import annotations

import math


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
