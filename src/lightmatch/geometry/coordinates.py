"""Points, cameras and rigid motions.

Points lie along the second last axis: (…, n, 2) or (…, n, 3); leading axes are batches and broadcast.
A pixel is (x, y) with the centre of the first pixel at (0, 0). A rigid motion is [R | t], (…, 3, 4).
K is a camera matrix without lens distortion, (…, 3, 3), that may have skew.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError

COLMAP_PIXEL_OFFSET = 0.5


def require_shape(name: str, tensor: Tensor, *last: int | None) -> None:
    """Raise InvalidValueError unless `tensor` is floating point and its last axes are `last` (None: any length)."""
    shape = tuple(tensor.shape)
    fits = len(shape) >= len(last) and all(
        want in (None, got) for want, got in zip(last, shape[len(shape) - len(last) :], strict=True)
    )
    if not fits or not tensor.is_floating_point():
        want = ", ".join("any" if n is None else str(n) for n in last)
        raise InvalidValueError(
            f"{name}: expected a floating-point tensor of shape (…, {want}), got shape {shape} and {tensor.dtype};"
            " reshape or convert it first"
        )


def to_homogeneous(points: Tensor) -> Tensor:
    """Append a 1: (…, d) → (…, d + 1)."""
    return torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)


def from_homogeneous(points: Tensor) -> Tensor:
    """Divide by the last coordinate: (…, d + 1) → (…, d).

    A point at infinity (last coordinate 0) gives inf or NaN. The sign of the last coordinate is lost: for
    pixels seen through a homography or a camera use `homography.transfer` or `depth.project`.
    """
    return points[..., :-1] / points[..., -1:]


def pairwise_distances(points0: Tensor, points1: Tensor) -> Tensor:
    """Euclidean distances between all points of two sets: (…, m, d) and (…, n, d) → (…, m, n).

    From the differences of coordinates: by |a|² + |b|² − 2ab, which is torch.cdist's way with many points, distances
    of near points far from the origin are off by tenths of a pixel in float32.
    """
    return torch.cdist(points0, points1, compute_mode="donot_use_mm_for_euclid_dist")


def transform_points(transform: Tensor, points: Tensor) -> Tensor:
    """Apply an affine or rigid motion to 3D points.

    transform: (…, 3, 4), or (…, 4, 4) with last row 0 0 0 1. points: (…, n, 3). Returns (…, n, 3).
    Raises InvalidValueError on other shapes.
    """
    if transform.ndim < 2 or tuple(transform.shape[-2:]) != (4, 4):
        require_shape("transform", transform, 3, 4)
    require_shape("points", points, None, 3)
    return points @ transform[..., :3, :3].mT + transform[..., None, :3, 3]


def invert_rigid(b_from_a: Tensor) -> Tensor:
    """a_from_b of a rigid motion: [Rᵀ | −Rᵀt]. (…, 3, 4) → (…, 3, 4)."""
    require_shape("b_from_a", b_from_a, 3, 4)
    rotation_t = b_from_a[..., :3].mT
    return torch.cat([rotation_t, -rotation_t @ b_from_a[..., 3:]], dim=-1)


def compose_rigid(c_from_b: Tensor, b_from_a: Tensor) -> Tensor:
    """c_from_a: first `b_from_a`, then `c_from_b`. (…, 3, 4) each, returns (…, 3, 4)."""
    require_shape("c_from_b", c_from_b, 3, 4)
    require_shape("b_from_a", b_from_a, 3, 4)
    rotation, translation = c_from_b[..., :3], c_from_b[..., 3:]
    composed = rotation @ b_from_a
    return torch.cat([composed[..., :3], composed[..., 3:] + translation], dim=-1)


def rotation_angle_deg(R0: Tensor, R1: Tensor) -> Tensor:
    """The angle of the rotation between R0 and R1, (…, 3, 3) each, in degrees 0…180: (…).

    From sine and cosine together, so that it is accurate at 0° and at 180°, where the arc cosine of the
    trace alone loses half the digits. Angles below 1e-4° need float64 rotations.
    """
    require_shape("R0", R0, 3, 3)
    require_shape("R1", R1, 3, 3)
    between = R0.mT @ R1
    axis = torch.stack(
        [
            between[..., 2, 1] - between[..., 1, 2],
            between[..., 0, 2] - between[..., 2, 0],
            between[..., 1, 0] - between[..., 0, 1],
        ],
        dim=-1,
    )  # 2 sin(angle) times the unit axis
    trace = between.diagonal(dim1=-2, dim2=-1).sum(-1)  # 1 + 2 cos(angle)
    return torch.rad2deg(torch.atan2(axis.norm(dim=-1), trace - 1))


def normalize_pixels(points: Tensor, K: Tensor) -> Tensor:
    """Pixels → normalised camera coordinates at depth 1: the first two coordinates of K⁻¹ (x, y, 1).

    points: (…, n, 2) px. K: (…, 3, 3), upper triangular. Returns (…, n, 2), without unit.
    """
    require_shape("points", points, None, 2)
    require_shape("K", K, 3, 3)
    K = K[..., None, :, :]
    y = (points[..., 1] - K[..., 1, 2]) / K[..., 1, 1]
    x = (points[..., 0] - K[..., 0, 2] - K[..., 0, 1] * y) / K[..., 0, 0]
    return torch.stack([x, y], dim=-1)


def pixels_from_normalized(points: Tensor, K: Tensor) -> Tensor:
    """Normalised camera coordinates → pixels: the inverse of `normalize_pixels`.

    points: (…, n, 2), without unit. K: (…, 3, 3), upper triangular. Returns (…, n, 2) px.
    """
    require_shape("points", points, None, 2)
    require_shape("K", K, 3, 3)
    return points @ K[..., :2, :2].mT + K[..., None, :2, 2]


def colmap_from_pixels(points: Tensor) -> Tensor:
    """Our pixels → COLMAP's, whose origin is the outer corner of the first pixel: + 0.5. Any shape, px.

    Principal points are points: the same holds for K[..., :2, 2].
    """
    return points + COLMAP_PIXEL_OFFSET


def pixels_from_colmap(points: Tensor) -> Tensor:
    """COLMAP's pixels → ours: the inverse of `colmap_from_pixels`. Any shape, px."""
    return points - COLMAP_PIXEL_OFFSET


def scale_intrinsics(K: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """The camera matrix after its image was resized.

    K: (…, 3, 3) for an image of `from_size`, (width, height) px. Returns (…, 3, 3) for `to_size`.
    Image corners map to image corners, thus pixel centres as x' = (x + 0.5) · scale − 0.5.
    Raises InvalidValueError where a size is not positive.
    """
    require_shape("K", K, 3, 3)
    if min(*from_size, *to_size) <= 0:
        raise InvalidValueError(f"scale_intrinsics: expected positive sizes, got {from_size} and {to_size}")
    scale_x, scale_y = to_size[0] / from_size[0], to_size[1] / from_size[1]
    resize = K.new_tensor([[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5], [0, 0, 1]])
    return resize @ K
