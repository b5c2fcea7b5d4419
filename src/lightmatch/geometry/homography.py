"""Homographies: the motion of pixels of a plane, or under a pure rotation.

A homography here is oriented: H (x, y, 1) has a positive third coordinate w for every pixel that is
seen, as the usual scaling with H[2, 2] = 1 has it where the first pixel is seen. Inverses and
products keep that. A pixel with w ≤ 0 lies at or beyond the line at infinity: it is sent to inf and
never to the wrapped-around place that division alone would give (Hartley & Zisserman, chapter 21).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import require_shape, to_homogeneous


def transfer(H: Tensor, points: Tensor) -> Tensor:
    """The points of image 0 seen in image 1.

    H: (…, 3, 3), oriented. points: (…, n, 2) px. Returns (…, n, 2) px, inf at and beyond the line at
    infinity and where H is NaN.
    """
    require_shape("H", H, 3, 3)
    require_shape("points", points, None, 2)
    mapped = to_homogeneous(points) @ H.mT
    w = mapped[..., 2:]
    seen = w > 0
    # The inner where keeps the gradient finite for the points that the outer one drops.
    return torch.where(seen, mapped[..., :2] / torch.where(seen, w, 1), torch.inf)


def transfer_error(H: Tensor, points0: Tensor, points1: Tensor) -> Tensor:
    """Distance in image 1 between the transferred points of image 0 and their matches.

    H: (…, 3, 3). points0, points1: (…, n, 2) px. Returns (…, n) px, inf beyond the line at infinity.
    """
    require_shape("points1", points1, None, 2)
    return (transfer(H, points0) - points1).norm(dim=-1)


def symmetric_transfer_error_px(H: Tensor, points0: Tensor, points1: Tensor) -> Tensor:
    """Root mean square of the transfer errors in both images.

    H: (…, 3, 3). points0, points1: (…, n, 2) px. Returns (…, n) px, inf where H has no inverse.
    Source: Hartley & Zisserman, equation 4.7, of which this is √(sum / 2), so that an error of e px in
    each image gives e px.
    """
    forth = transfer_error(H, points0, points1)
    inverse, info = torch.linalg.inv_ex(H)
    inverse = torch.where((info == 0)[..., None, None], inverse, torch.nan)
    back = transfer_error(inverse, points1, points0)
    return torch.hypot(forth, back) / math.sqrt(2)


def corner_error_px(H_est: Tensor, H_true: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean distance of the four corners of image 0 under an estimated and the true homography.

    H_est, H_true: (…, 3, 3). size: (width, height) px; the corners are the centres of the corner pixels.
    Returns (…) px; inf where a corner leaves the plane or H_est is NaN (no homography found).
    Source: DeTone et al. 2018 (SuperPoint), section 7.3.
    """
    right, bottom = size[0] - 1, size[1] - 1
    corners = H_est.new_tensor([[0, 0], [right, 0], [right, bottom], [0, bottom]])
    distance = (transfer(H_est, corners) - transfer(H_true, corners)).norm(dim=-1).mean(-1)
    return distance.nan_to_num(nan=torch.inf, posinf=torch.inf)


def dlt_homography(points0: Tensor, points1: Tensor, weights: Tensor | None = None) -> Tensor:
    """The homography that maps points0 to points1 with the least algebraic error.

    points0, points1: (…, n, 2) px, n ≥ 4. weights: (…, n) ≥ 0; weight 0 leaves a match out.
    Returns (…, 3, 3), oriented so that most of the weight is seen and of unit Frobenius norm; NaN where
    the points do not determine one (fewer than four different ones, or all but one on a line).
    Raises InvalidValueError where n < 4. Differentiable where determined.
    Source: Hartley & Zisserman, algorithm 4.2 (normalised DLT).
    """
    require_shape("points0", points0, None, 2)
    require_shape("points1", points1, None, 2)
    if points0.shape[-2] < 4 or points0.shape[-2] != points1.shape[-2]:
        raise InvalidValueError(
            f"dlt_homography: expected at least four matches, got {points0.shape[-2]} points in image 0 and"
            f" {points1.shape[-2]} in image 1; one match takes one point of each"
        )
    points0, points1 = torch.broadcast_tensors(points0, points1)
    weights = torch.ones_like(points0[..., 0]) if weights is None else weights
    require_shape("weights", weights, points0.shape[-2])
    weights = weights.expand(points0.shape[:-1])
    T0, T1 = _hartley_normalization(points0, weights), _hartley_normalization(points1, weights)
    x0 = to_homogeneous(points0) @ T0.mT
    x1 = to_homogeneous(points1) @ T1.mT
    zero = torch.zeros_like(x0)
    u1, v1 = x1[..., :1], x1[..., 1:2]
    rows = torch.cat([torch.cat([-x0, zero, u1 * x0], -1), torch.cat([zero, -x0, v1 * x0], -1)], dim=-2)
    rows = rows * torch.cat([weights, weights], -1).sqrt()[..., None]
    # A ninth row of zeros lets the thin decomposition of eight rows show the null vector too.
    rows = torch.cat([rows, torch.zeros_like(rows[..., :1, :])], dim=-2)
    sound = rows.isfinite().all(-1).all(-1)
    _, singular, Vt = torch.linalg.svd(torch.where(sound[..., None, None], rows, 0), full_matrices=False)
    determined = sound & (singular[..., 7] > 10 * torch.finfo(rows.dtype).eps ** 0.75 * singular[..., 0])
    H = torch.linalg.solve_ex(T1, Vt[..., 8, :].unflatten(-1, (3, 3)) @ T0)[0]
    w = (to_homogeneous(points0) @ H.mT)[..., 2]
    H = H * torch.where((weights * w.sign()).sum(-1) < 0, -1, 1)[..., None, None]
    H = H / torch.linalg.matrix_norm(H)[..., None, None]
    return torch.where(determined[..., None, None], H, torch.nan)


def _hartley_normalization(points: Tensor, weights: Tensor) -> Tensor:
    """(…, 3, 3): moves the weighted centre to 0 and scales the mean squared distance from it to 2."""
    share = (weights / weights.sum(-1, keepdim=True))[..., None]
    centre = (share * points).sum(-2)
    spread = (share * (points - centre[..., None, :]) ** 2).sum((-1, -2))
    scale = (2 / spread).sqrt()
    zero, one = torch.zeros_like(scale), torch.ones_like(scale)
    rows = [[scale, zero, -scale * centre[..., 0]], [zero, scale, -scale * centre[..., 1]], [zero, zero, one]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
