"""Matching where the geometry of two views is known: each keypoint is compared with those it can be, and no others.

Fewer candidates leave fewer look-alikes, so more matches pass a ratio test, repeated structures among them, and the
search costs a fraction of a full one. Keypoints must be free of lens distortion where a camera's model has one.
Source: Hartley & Zisserman, Multiple View Geometry, 2nd edition, algorithm 11.4, guided matching.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightmatch.errors import FeatureMismatchError, InvalidValueError
from lightmatch.matchers.base import no_matches
from lightmatch.matchers.guided_pairs import Pairs, PosedViews, Test, possible_pairs
from lightmatch.types import Features, Matches, TwoViewGeometry

_ROWS = 128  # keypoints searched for at a time: few enough that their epipolar lines lie close together


@dataclass(frozen=True)
class GuidedOptions:
    """Which of the pairs of keypoints that agree with a geometry are matches.

    max_error_px: a pair agrees with an epipolar geometry where neither keypoint is farther than this from the line of
        the other, and with known depths, from the piece of the line within them; with a homography, where neither is
        farther from where the other is taken to.
    ratio: the nearest must be nearer than `ratio` times the nearest rival (Lowe 2004, section 7.1), in both
        directions; None switches the test off. Rivals are candidates farther than `rival_px` from the nearest one:
        another keypoint of the same spot is no contradiction. One without rivals passes.
    min_similarity: least cosine of two descriptors. Matters more than in a free search, for there may be one candidate.
    max_scale_ratio: largest ratio of both scales, either way round, after a homography's own change of scale.
    max_turn_deg: largest difference of the orientations against the epipolar lines, which are turned with the picture
        (an angle of up to 90°, for lines have no direction); with a homography, after its own turn, up to 180°.
        Both are for kinds with scale and orientation, and None leaves them out.
    Raises InvalidValueError where a value is out of range.
    """

    max_error_px: float = 3.0
    ratio: float | None = 0.8
    min_similarity: float = 0.8
    rival_px: float = 3.0
    max_scale_ratio: float | None = None
    max_turn_deg: float | None = None

    def __post_init__(self) -> None:
        if not self.max_error_px > 0:
            raise InvalidValueError(f"GuidedOptions.max_error_px: expected more than 0, got {self.max_error_px}")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise InvalidValueError(f"GuidedOptions.ratio: expected 0 < ratio ≤ 1 or None, got {self.ratio}")
        if not -1 <= self.min_similarity <= 1:
            raise InvalidValueError(f"GuidedOptions.min_similarity: expected −1…1, got {self.min_similarity}")
        if self.max_scale_ratio is not None and self.max_scale_ratio < 1:
            raise InvalidValueError(f"GuidedOptions.max_scale_ratio: expected at least 1, got {self.max_scale_ratio}")
        if self.max_turn_deg is not None and self.max_turn_deg < 0:
            raise InvalidValueError(f"GuidedOptions.max_turn_deg: expected at least 0, got {self.max_turn_deg}")


@torch.no_grad()
def match_guided(
    features0: Features,
    features1: Features,
    geometry: TwoViewGeometry | PosedViews,
    options: GuidedOptions | None = None,
    *,
    K0: Tensor | None = None,
    K1: Tensor | None = None,
) -> Matches:
    """Mutual nearest neighbours among the pairs of keypoints that agree with `geometry`.

    geometry: what `match` found, or known poses. An essential matrix needs K0 and K1, (3, 3) in our pixels.
    Scores are the cosines. Swapping the images swaps the columns. Geometry "none" gives no matches.
    8192 keypoints against as many take about 0.1 s on one core (AMD EPYC), and some 10 MB more than the features.

    Raises FeatureMismatchError for features of two kinds, InvalidValueError where intrinsics are missing or the
    options name scales or orientations that the features do not have.
    """
    options = options or GuidedOptions()
    _check_kinds(features0, features1, options)
    device = features0.device
    if not len(features0) or not len(features1):
        return no_matches(device)
    pairs = possible_pairs(features0, features1.to(device), geometry, K0, K1, options.max_error_px)
    if pairs is None:
        return no_matches(device)
    pairs = pairs._replace(tests=(*pairs.tests, *_alike(pairs, features0, features1.to(device), options)))
    unit0, unit1 = (torch.nn.functional.normalize(f.descriptors.to(device), dim=1) for f in (features0, features1))
    points0, points1 = features0.keypoints, features1.keypoints.to(device)
    i, j, similarity = _compared(unit0, unit1, pairs)
    forth = _nearest(i, j, similarity, len(unit0), points1, options.rival_px)
    back = _nearest(j, i, similarity, len(unit1), points0, options.rival_px)
    index0 = torch.arange(len(unit0), device=device)
    kept = (forth.similarity >= options.min_similarity) & (back.nearest[forth.nearest] == index0)
    if options.ratio is not None:
        kept &= forth.clear(options.ratio) & back.clear(options.ratio)[forth.nearest]
    indices = torch.stack((index0, forth.nearest), 1)[kept]
    return Matches(indices, forth.similarity[kept].clamp(0, 1))


class _Neighbours(NamedTuple):
    """Of each keypoint: the best candidate, and how like it and its best rival are; −inf where there is none."""

    nearest: Tensor  # (n,) int64
    similarity: Tensor  # (n,)
    rival: Tensor  # (n,)

    def clear(self, ratio: float) -> Tensor:
        """Whether the distance to the nearest is below `ratio` times that to the rival."""
        # |a − b|² = 2 − 2 cos of unit vectors.
        return (1 - self.similarity) < ratio**2 * (1 - self.rival)


def _compared(unit0: Tensor, unit1: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of keypoints that can be one point, i and j (k,), and the cosines of their descriptors (k,)."""
    parts = []
    for block in pairs.order.split(_ROWS):
        candidates = pairs.candidates(block).nonzero()[:, 0]
        row, column = pairs.listed(block, candidates)
        cosines = unit0[block] @ unit1[candidates].T
        parts.append((block[row], candidates[column], cosines[row, column]))
    i, j, similarity = (torch.cat(part) for part in zip(*parts, strict=True))
    return i, j, similarity


def _nearest(
    own: Tensor, other: Tensor, similarity: Tensor, count: int, places: Tensor, rival_px: float
) -> _Neighbours:
    """The best of the other image, whose keypoints are `places`, for each of the `count` keypoints of one image.

    own, other, similarity: (k,), the pairs that were compared. Of equal ones the first.
    """
    none = similarity.new_full((count,), -torch.inf)
    best = none.scatter_reduce(0, own, similarity, "amax")
    is_best = similarity == best[own]
    first = torch.full_like(none, len(places) - 1, dtype=torch.int64)
    nearest = first.scatter_reduce(0, own[is_best], other[is_best], "amin")
    rivals = (places[other] - places[nearest[own]]).square().sum(1) > rival_px**2
    return _Neighbours(nearest, best, none.scatter_reduce(0, own[rivals], similarity[rivals], "amax"))


def _alike(pairs: Pairs, features0: Features, features1: Features, options: GuidedOptions) -> list[Test]:
    """Tests of scales and orientations, those that the options name."""
    tests: list[Test] = []
    if options.max_scale_ratio is not None:
        assert features0.scales is not None and features1.scales is not None  # checked by the caller
        size0, size1 = (features0.scales * pairs.zoom).log(), features1.scales.log()
        most = math.log(options.max_scale_ratio)
        tests.append(lambda i, j: (size0[i] - size1[j]).abs() <= most)
    if options.max_turn_deg is not None:
        assert features0.orientations is not None and features1.orientations is not None
        angle0, angle1 = features0.orientations + pairs.turn0, features1.orientations + pairs.turn1
        limit, half = math.radians(options.max_turn_deg), pairs.period / 2
        tests.append(lambda i, j: ((angle0[i] - angle1[j] + half).remainder(2 * half) - half).abs() <= limit)
    return tests


def _check_kinds(features0: Features, features1: Features, options: GuidedOptions) -> None:
    if features0.kind != features1.kind:
        raise FeatureMismatchError(
            f"expected features of one kind, got {features0.kind} and {features1.kind};"
            " extract both images with the same extractor"
        )
    compares = options.max_scale_ratio is not None or options.max_turn_deg is not None
    if compares and not features0.kind.has_scale_orientation:
        raise InvalidValueError(
            f"match_guided: expected features with scale and orientation for max_scale_ratio and max_turn_deg, got"
            f" {features0.kind.name!r}; leave both out"
        )
