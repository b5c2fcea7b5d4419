"""Which keypoints of two images can be one point, where the geometry of the views is known.

Sources: Hartley & Zisserman, Multiple View Geometry, 2nd edition, section 9.2 (the pencil of epipolar lines).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import invert_rigid, normalize_pixels, to_homogeneous
from lightmatch.geometry.epipolar import essential_from_pose, fundamental_from_essential
from lightmatch.geometry.homography import transfer
from lightmatch.types import Features, TwoViewGeometry

Depths = tuple[float | Tensor, float | Tensor]
"""Nearest and farthest depth of an image's keypoints, each one number or (n,); the farthest may be infinite."""


@dataclass(frozen=True, eq=False)
class PosedViews:
    """Two views whose poses and intrinsics are known.

    depths0, depths1: how far off the keypoints of either image can be, in the unit of the translation; None leaves
    the whole line in front of both cameras.
    """

    cam1_from_cam0: Tensor  # (3, 4)
    K0: Tensor  # (3, 3)
    K1: Tensor  # (3, 3)
    depths0: Depths | None = None
    depths1: Depths | None = None

    def __post_init__(self) -> None:
        for name, shape in {"cam1_from_cam0": (3, 4), "K0": (3, 3), "K1": (3, 3)}.items():
            _check_matrix(f"PosedViews.{name}", getattr(self, name), shape)
        for name, depths in {"depths0": self.depths0, "depths1": self.depths1}.items():
            if depths is not None:
                near, far = (torch.as_tensor(depth) for depth in depths)
                if not bool(((near > 0) & (near <= far)).all()):
                    raise InvalidValueError(
                        f"PosedViews.{name}: expected 0 < nearest ≤ farthest, got {float(near.min())} to"
                        f" {float(far.min())} at the least; widen the range"
                    )

    def fundamental(self) -> Tensor:
        """F of both views, (3, 3) float64."""
        E = essential_from_pose(self.cam1_from_cam0.double())
        return fundamental_from_essential(E, self.K0.double(), self.K1.double())


Test = Callable[[Tensor, Tensor], Tensor]
"""Indices (k,) of image 0 and (k,) of image 1 → whether each two can be one point, (k,) bool."""


class Pairs(NamedTuple):
    """Which keypoints of image 0 and image 1 can be one point: those that are near each other and pass the tests."""

    order: Tensor  # (n,) int64, the keypoints of image 0: neighbours have nearly the same candidates
    candidates: Callable[[Tensor], Tensor]  # of some neighbours: (m,) bool, none of their possible partners left out
    near: Callable[[Tensor, Tensor], Tensor]  # indices (r,) of image 0 and (c,) of image 1 → (r, c) bool
    tests: tuple[Test, ...]
    turn0: Tensor  # (n,) float32 rad, what to add to an orientation in image 0, and
    turn1: Tensor  # (m,) in image 1, to compare them
    zoom: Tensor  # (n,) float32, expected ratio of the scales, image 1 to image 0
    period: float  # of orientations that count as equal, rad

    def listed(self, block: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """All pairs of keypoints `block` (r,) of image 0 and `candidates` (c,) of image 1 that can be one point.

        Returns their places (k,) in `block` and (k,) in `candidates`.
        """
        row, column = self.near(block, candidates).nonzero(as_tuple=True)
        for test in self.tests:
            passed = test(block[row], candidates[column])
            row, column = row[passed], column[passed]
        return row, column


def possible_pairs(
    features0: Features,
    features1: Features,
    geometry: TwoViewGeometry | PosedViews,
    K0: Tensor | None,
    K1: Tensor | None,
    limit_px: float,
) -> Pairs | None:
    """The pairs of keypoints that agree with `geometry` to within `limit_px`; None where there is no geometry.

    K0, K1: (3, 3), for an essential matrix. Raises InvalidValueError where it has none.
    """
    points0, points1 = features0.keypoints, features1.keypoints
    if isinstance(geometry, PosedViews):
        pairs = _epipolar_pairs(points0, points1, geometry.fundamental(), limit_px)
        return pairs._replace(tests=(*pairs.tests, _in_depth(points0, points1, geometry, limit_px)))
    if geometry.model == "homography":
        return _homography_pairs(points0, points1, geometry.matrix, limit_px)
    if geometry.model == "fundamental":
        return _epipolar_pairs(points0, points1, geometry.matrix, limit_px)
    if geometry.model == "essential":
        if K0 is None or K1 is None:
            raise InvalidValueError("match_guided: expected K0 and K1 for an essential matrix, got none; give both")
        for name, K in {"K0": K0, "K1": K1}.items():
            _check_matrix(name, K, (3, 3))
        F = fundamental_from_essential(geometry.matrix, K0.to(geometry.matrix), K1.to(geometry.matrix))
        return _epipolar_pairs(points0, points1, F, limit_px)
    return None


def _homography_pairs(points0: Tensor, points1: Tensor, H: Tensor, limit_px: float) -> Pairs:
    H = H.to(points0.device, torch.float64)
    there = transfer(H, points0.double()).float()  # inf where the plane is behind the camera: near to nothing
    back = transfer(torch.linalg.inv(H), points1.double()).float()

    y0, y1 = there[:, 1].nan_to_num(torch.inf), points1[:, 1]

    def candidates(block: Tensor) -> Tensor:
        """Those as high in image 1 as the block is seen there."""
        return (y1 >= y0[block].amin() - limit_px) & (y1 <= y0[block].amax() + limit_px)

    def near(i: Tensor, j: Tensor) -> Tensor:
        return (there[i][:, None] - points1[j]).square().sum(-1) <= limit_px**2

    def near_back(i: Tensor, j: Tensor) -> Tensor:
        return (back[j] - points0[i]).square().sum(-1) <= limit_px**2

    step = 0.5 * points0.new_tensor([[1, 0], [0, 1]]).double()
    ends = [transfer(H, points0.double() + sign * step[:, None]) for sign in (1, -1)]
    (ax, ay), (bx, by) = ((ends[0] - ends[1])[axis].unbind(-1) for axis in (0, 1))
    turn0 = torch.atan2(ay - bx, ax + by).float()  # the rotation nearest to the derivative
    zoom = (ax * by - ay * bx).abs().sqrt().float()
    turn1 = torch.zeros_like(points1[:, 0])
    order = y0.argsort(stable=True)
    return Pairs(order, candidates, near, (near_back,), turn0, turn1, zoom, 2 * torch.pi)


def _epipolar_pairs(points0: Tensor, points1: Tensor, F: Tensor, limit_px: float) -> Pairs:
    F = F.to(points0.device, torch.float64)
    x0, x1 = to_homogeneous(points0.double()), to_homogeneous(points1.double())
    lines1, lines0 = _unit_lines(x0 @ F.mT), _unit_lines(x1 @ F)
    low0, low1 = x0.float(), x1.float()

    # By the line that a keypoint has in image 1, as a place in the pencil of all epipolar lines there.
    place, seen = _pencil(F, x1, x0)

    def candidates(block: Tensor) -> Tensor:
        # Lines of a pencil between two others cover the wedge between these. What is near one of them is in the wedge,
        # or else the shortest way to it crosses one of its edges, which is nearer then.
        edges = block[[0, -1]]
        inside = (place >= seen[edges[0]]) & (place <= seen[edges[1]])
        return inside | ((low1 @ lines1[edges].T).abs() <= limit_px).any(1)

    def near(i: Tensor, j: Tensor) -> Tensor:
        return (lines1[i] @ low1[j].T).abs() <= limit_px

    def near_back(i: Tensor, j: Tensor) -> Tensor:
        return (low0[i] * lines0[j]).sum(1).abs() <= limit_px

    turn0, turn1 = (
        -torch.atan2(-lines[:, 0], lines[:, 1]).float() for lines in (_own_lines(F.mT, x0), _own_lines(F, x1))
    )
    zoom = torch.ones_like(points0[:, 0])
    return Pairs(seen.argsort(stable=True), candidates, near, (near_back,), turn0, turn1, zoom, torch.pi)


def _unit_lines(lines: Tensor) -> Tensor:
    """(n, 3) float32, whose product with a homogeneous pixel is a distance in px; inf for a point on the epipole."""
    normal = lines[:, :2].norm(dim=1, keepdim=True)
    unit = lines / torch.where(normal > 0, normal, 1)
    return torch.where(normal > 0, unit, lines.new_tensor([0, 0, torch.inf])).float()


def _own_lines(F: Tensor, points: Tensor) -> Tensor:
    """The epipolar line of its own image through each of the homogeneous `points` (n, 3), image 1 being theirs."""
    epipole = torch.linalg.svd(F)[0][:, 2]
    return torch.linalg.cross(epipole.expand_as(points), points)


def _pencil(F: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Places 0…π in the pencil of epipolar lines of the image whose points are `own`: of these, and of `other`'s lines.

    F: otherᵀ Fᵀ own = 0, (3, 3). own, other: homogeneous, (n, 3) and (m, 3). Returns (n,) and (m,). All lines through
    an epipole, at infinity too, make a plane in the space of lines, and a place is the angle in it.
    """
    # Pixels of about unit size make angles spread evenly, whatever the image's.
    middle, size = own[:, :2].mean(0), own[:, :2].std().nan_to_num(1.0).clamp_min(1.0)
    pixel_from_unit = torch.eye(3, dtype=F.dtype, device=F.device) * torch.stack((size, size, size.new_tensor(1)))
    pixel_from_unit[:2, 2] = middle
    lines = torch.cat((_own_lines(F, own), other @ F.mT)) @ pixel_from_unit
    basis = torch.linalg.svd(pixel_from_unit.mT @ F)[0][:, :2]
    u, v = (lines @ basis).unbind(1)
    places = torch.atan2(v, u).remainder(torch.pi)
    return places[: len(own)], places[len(own) :]


def _in_depth(points0: Tensor, points1: Tensor, views: PosedViews, limit_px: float) -> Test:
    """In front of both cameras and within their depths."""
    pose = views.cam1_from_cam0.to(points0.device, torch.float64)
    K0, K1 = views.K0.to(pose), views.K1.to(pose)
    along1, low1, high1 = _segments(points0.double(), pose, K0, K1, views.depths0, limit_px)
    along0, low0, high0 = _segments(points1.double(), invert_rigid(pose), K1, K0, views.depths1, limit_px)

    def both(i: Tensor, j: Tensor) -> Tensor:
        place1, place0 = (along1[i] * points1[j]).sum(1), (along0[j] * points0[i]).sum(1)
        return (place1 >= low1[i]) & (place1 <= high1[i]) & (place0 >= low0[j]) & (place0 <= high0[j])

    return both


def _segments(
    points: Tensor, other_from_own: Tensor, K_own: Tensor, K_other: Tensor, depths: Depths | None, limit_px: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Directions (n, 2) of the epipolar lines of `points` in the other image, and the range of pixels along them.

    Pixels x with low ≤ along · x ≤ high are between the points' nearest and farthest place, with `limit_px` to spare.
    """
    rays = to_homogeneous(normalize_pixels(points, K_own))
    # A point of inverse depth w is seen at far + w · near, homogeneous: infinity is nothing special.
    far, near = rays @ other_from_own[:, :3].mT @ K_other.mT, other_from_own[:, 3] @ K_other.mT
    zeros = torch.zeros_like(far[:, 2])
    nearest, farthest = (torch.as_tensor(depth).to(zeros) for depth in depths or (0.0, torch.inf))
    low, high = zeros + 1 / farthest, zeros + 1 / nearest
    # Only what lies in front of the other camera can be seen there.
    least = 1e-6 * far.norm(dim=1)
    crossing = (least - far[:, 2]) / near[2]
    if near[2] > 0:
        low = torch.maximum(low, crossing)
    elif near[2] < 0:
        high = torch.minimum(high, crossing)
    ahead = (low <= high) & ((near[2] != 0) | (far[:, 2] > 0))
    line = torch.linalg.cross(far, near.expand_as(far))[:, :2]
    along = torch.stack((-line[:, 1], line[:, 0]), 1)
    along = along / along.norm(dim=1, keepdim=True).clamp_min(1e-300)

    def place(w: Tensor) -> Tensor:
        seen = torch.where(w.isinf()[:, None], near, far + w.nan_to_num(posinf=0)[:, None] * near)
        return (along * seen[:, :2]).sum(1) / seen[:, 2].abs()  # not negative in front, but −0 may be

    ends = torch.stack((place(low), place(high)))
    first = torch.where(ahead, ends.amin(0) - limit_px, torch.inf)
    last = torch.where(ahead, ends.amax(0) + limit_px, -torch.inf)
    return along.float(), first.float(), last.float()


def _check_matrix(name: str, matrix: Tensor, shape: tuple[int, int]) -> None:
    if tuple(matrix.shape) != shape or not matrix.is_floating_point() or not bool(matrix.isfinite().all()):
        raise InvalidValueError(
            f"{name}: expected a finite floating-point tensor of shape {shape}, got {tuple(matrix.shape)} and"
            f" {matrix.dtype}"
        )
