"""Ground-truth correspondences of the keypoints of two images.

The truth comes as projections: where each keypoint of one image lies in the other, and whether it is
seen there. Homographies, depth maps and rendered worlds all give that; training labels and the recall of
an evaluation are read from it alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import pairwise_distances, require_shape
from lightmatch.geometry.depth import sample_depth, warp_with_depth
from lightmatch.geometry.epipolar import epipolar_distance_px
from lightmatch.geometry.homography import transfer


class Visibility(IntEnum):
    """Visibility of a point in another view."""

    UNKNOWN = 0  # no depth, or one that cannot be trusted: it may be anywhere on its epipolar line
    HIDDEN = 1  # out of the picture, behind the camera or behind something
    VISIBLE = 2


@dataclass(frozen=True, eq=False)
class Projection:
    """Where the n keypoints of one image lie in another."""

    points: Tensor  # (n, 2) float32 px in the other image; of use where visible
    visibility: Tensor  # (n,) uint8, values of Visibility


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Ground truth of two sets of keypoints. Points neither matched nor unmatchable are undecided."""

    matches: Tensor  # (k, 2) int64, sorted by the first column, one to one
    unmatchable0: Tensor  # (m,) bool: surely without a partner among the keypoints of image 1
    unmatchable1: Tensor  # (n,) bool

    def correct_and_incorrect(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Which proposed matches are correct, and which incorrect, (k,) bool each; the rest is undecided.

        indices: (k, 2) int64. Incorrect is a match of a point that surely has no partner, or has another one.
        """
        partner0 = torch.full_like(self.unmatchable0, -1, dtype=torch.int64)
        partner1 = torch.full_like(self.unmatchable1, -1, dtype=torch.int64)
        partner0[self.matches[:, 0]], partner1[self.matches[:, 1]] = self.matches[:, 1], self.matches[:, 0]
        i, j = indices.unbind(1)
        correct = partner0[i] == j
        settled = (partner0[i] >= 0) | (partner1[j] >= 0) | self.unmatchable0[i] | self.unmatchable1[j]
        return correct, settled & ~correct


def project_by_homography(H: Tensor, keypoints: Tensor, size: tuple[int, int]) -> Projection:
    """Keypoints seen through H (3, 3), oriented, in an image of `size` (width, height) px. keypoints: (n, 2) px."""
    points = transfer(H, keypoints)
    return Projection(points.float(), _inside(points, size).to(torch.uint8) + Visibility.HIDDEN)


def project_by_depth(
    keypoints: Tensor,
    depth_map0: Tensor,
    K0: Tensor,
    depth_map1: Tensor,
    K1: Tensor,
    cam1_from_cam0: Tensor,
    *,
    relative_tolerance: float = 0.05,
    edge_radius_px: int = 2,
) -> Projection:
    """Keypoints with depth seen in another view with depth.

    keypoints: (n, 2) px. depth_map0/1: (h, w), holes are not finite or not positive. K0/1: (3, 3).
    cam1_from_cam0: (3, 4). A point is visible where both depth maps agree within `relative_tolerance`, hidden where
    map 1 shows something nearer or the point leaves the image, and unknown where either map has a hole or
    where depth 0 jumps by more than the tolerance within `edge_radius_px`: whose depth a keypoint on an edge
    has is a toss-up.
    """
    points, visible = warp_with_depth(
        keypoints, depth_map0, K0, depth_map1, K1, cam1_from_cam0, relative_tolerance=relative_tolerance
    )
    _, known = sample_depth(depth_map0, keypoints)
    known &= ~_near_edge(depth_map0, keypoints, edge_radius_px, relative_tolerance)
    height, width = depth_map1.shape
    inside = _inside(points, (width, height))
    _, seen = sample_depth(depth_map1, torch.where(inside[:, None], points, 0))
    # Inside the image, over a hole of its depth map: visibility there is unknown.
    known &= ~inside | seen
    visibility = torch.where(visible, int(Visibility.VISIBLE), int(Visibility.HIDDEN))
    visibility = torch.where(known, visibility, int(Visibility.UNKNOWN))
    return Projection(points.float(), visibility.to(torch.uint8))


def correspond(
    keypoints0: Tensor,
    keypoints1: Tensor,
    projection0: Projection,
    projection1: Projection,
    *,
    match_px: float = 3.0,
    unmatchable_px: float = 5.0,
    fundamental: Tensor | None = None,
    similarity: Tensor | None = None,
) -> Correspondence:
    """The true matches of two sets of keypoints, and the points that have none.

    keypoints0: (m, 2), keypoints1: (n, 2) px. projection0: keypoints0 in image 1; projection1: keypoints1 in image 0.
    A match is visible both ways, mutually nearest by the larger of its two reprojection errors, and below
    `match_px`. A point is unmatchable where it is hidden, or visible with its nearest error above
    `unmatchable_px`, or unknown with its nearest epipolar distance above that. The rest is undecided.
    fundamental: (3, 3), x1ᵀ F x0 = 0; without it points unknown stay undecided.
    similarity: (m, n) of descriptors in −1…1. Features such as SIFT put several keypoints with different
    orientations on one spot: among equally near ones it picks the like.
    Raises InvalidValueError on other shapes or unmatchable_px < match_px.
    Source: Lindenberger et al. 2023, section 4 (labels); the occlusion test is an addition.
    """
    require_shape("keypoints0", keypoints0, None, 2)
    require_shape("keypoints1", keypoints1, None, 2)
    if unmatchable_px < match_px or match_px <= 0:
        raise InvalidValueError(
            f"correspond: expected 0 < match_px ≤ unmatchable_px, got {match_px} and {unmatchable_px}"
        )
    visible0, visible1 = (p.visibility == Visibility.VISIBLE for p in (projection0, projection1))
    forth = _distances(projection0.points, visible0, keypoints1)
    back = _distances(projection1.points, visible1, keypoints0).mT
    error = torch.maximum(forth, back)
    if not error.numel():
        none = torch.empty((0, 2), dtype=torch.int64, device=error.device)
        return Correspondence(none, *_without_partner(projection0, projection1))
    cost = error if similarity is None else error + _TIE_PX * (1 - similarity)
    best0, best1 = cost.argmin(1), cost.argmin(0)
    index0 = torch.arange(len(keypoints0), device=error.device)
    matched = (best1[best0] == index0) & (error[index0, best0] < match_px)
    matches = torch.stack((index0, best0), -1)[matched]
    # One way is enough to have a partner near: the other may be cut off by the picture's edge.
    near = torch.minimum(forth, back)
    lonely0, lonely1 = near.amin(1) > unmatchable_px, near.amin(0) > unmatchable_px
    surely0, surely1 = _without_partner(projection0, projection1)
    unmatchable0, unmatchable1 = surely0 | (visible0 & lonely0), surely1 | (visible1 & lonely1)
    if fundamental is not None:
        off0, off1 = _off_epipolar(keypoints0, keypoints1, fundamental, unmatchable_px)
        unmatchable0 |= (projection0.visibility == Visibility.UNKNOWN) & off0
        unmatchable1 |= (projection1.visibility == Visibility.UNKNOWN) & off1
    return Correspondence(matches, unmatchable0, unmatchable1)


_TIE_PX = 0.01  # weighs likeness in where errors are equal, far below any error that matters


def _inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    limit = points.new_tensor(size) - 0.5
    return ((points >= -0.5) & (points < limit)).all(-1)


def _distances(projected: Tensor, visible: Tensor, keypoints: Tensor) -> Tensor:
    """(m, n) px, inf in the rows of points that are not visible."""
    placed = torch.where(visible[:, None], projected, 0)
    return pairwise_distances(placed, keypoints).masked_fill(~visible[:, None], torch.inf)


def _without_partner(projection0: Projection, projection1: Projection) -> tuple[Tensor, Tensor]:
    """Points that are hidden; where one image has no keypoints, all but the unknown ones are without partner too."""
    hidden0, hidden1 = (p.visibility == Visibility.HIDDEN for p in (projection0, projection1))
    if not len(projection1.points):
        hidden0 = torch.ones_like(hidden0)
    if not len(projection0.points):
        hidden1 = torch.ones_like(hidden1)
    return hidden0, hidden1


def _off_epipolar(keypoints0: Tensor, keypoints1: Tensor, F: Tensor, threshold_px: float) -> tuple[Tensor, Tensor]:
    """Which points have no keypoint of the other image near their epipolar line."""
    distance = epipolar_distance_px(F.to(keypoints0), keypoints0[:, None], keypoints1[None])
    return distance.amin(1) > threshold_px, distance.amin(0) > threshold_px


def _near_edge(depth_map: Tensor, keypoints: Tensor, radius: int, tolerance: float) -> Tensor:
    """(n,) bool: whether depth jumps around a keypoint by more than `tolerance` of the nearer surface."""
    height, width = depth_map.shape
    steps = torch.arange(-radius, radius + 1, device=keypoints.device)
    around = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2)
    x, y = (keypoints.round().long()[:, None] + around).unbind(-1)
    depth = depth_map[y.clamp(0, height - 1), x.clamp(0, width - 1)]
    sound = depth.isfinite() & (depth > 0)
    nearest = torch.where(sound, depth, torch.inf).amin(1)
    farthest = torch.where(sound, depth, torch.inf).amax(1)  # a hole is as far as can be
    return farthest > (1 + tolerance) * nearest
