"""Epipolar geometry of two views: x1ᵀ F x0 = 0 in pixels, x1ᵀ E x0 = 0 in normalised coordinates.

Source: Hartley & Zisserman, Multiple View Geometry, 2nd edition, chapters 9 and 11.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightmatch.geometry.coordinates import require_shape, rotation_angle_deg, to_homogeneous


def skew(vector: Tensor) -> Tensor:
    """The matrix [a]ₓ of the cross product, [a]ₓ b = a × b. (…, 3) → (…, 3, 3)."""
    require_shape("vector", vector, 3)
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def essential_from_pose(cam1_from_cam0: Tensor) -> Tensor:
    """E = [t]ₓ R. cam1_from_cam0: (…, 3, 4). Returns (…, 3, 3). Source: section 9.6."""
    require_shape("cam1_from_cam0", cam1_from_cam0, 3, 4)
    return skew(cam1_from_cam0[..., 3]) @ cam1_from_cam0[..., :3]


def fundamental_from_essential(E: Tensor, K0: Tensor, K1: Tensor) -> Tensor:
    """F = K1⁻ᵀ E K0⁻¹. All (…, 3, 3). Source: equation 9.12."""
    require_shape("E", E, 3, 3)
    require_shape("K0", K0, 3, 3)
    require_shape("K1", K1, 3, 3)
    return torch.linalg.inv(K1).mT @ E @ torch.linalg.inv(K0)


def epipolar_distance_px(F: Tensor, points0: Tensor, points1: Tensor) -> Tensor:
    """Mean over both images of the distance between a point and the epipolar line of its match.

    F: (…, 3, 3). points0, points1: (…, n, 2) px. Returns (…, n) px; inf where a match lies on an epipole and
    so has no line. Source: equation 11.10, here the mean of the distances and not the sum of their squares.
    """
    product, line1, line0 = _epipolar_product(F, points0, points1)
    distance = product.abs() * (1 / line1.norm(dim=-1) + 1 / line0.norm(dim=-1)) / 2
    return torch.where((line0 == 0).all(-1) | (line1 == 0).all(-1), torch.inf, distance)


def sampson_error_px(F: Tensor, points0: Tensor, points1: Tensor) -> Tensor:
    """First-order distance of a match, seen as one point (x0, y0, x1, y1), from the epipolar constraint.

    F: (…, 3, 3). points0, points1: (…, n, 2) px. Returns (…, n) px; 0 where both points are epipoles.
    Source: equation 11.9, of which this is the square root, so that the unit is px.
    """
    product, line1, line0 = _epipolar_product(F, points0, points1)
    gradient = torch.hypot(line0.norm(dim=-1), line1.norm(dim=-1))
    return product.abs() / torch.where(gradient == 0, 1, gradient)


def _epipolar_product(F: Tensor, points0: Tensor, points1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x1ᵀ F x0 (…, n), and the normals of the epipolar lines in image 1 and in image 0, (…, n, 2) each."""
    require_shape("F", F, 3, 3)
    require_shape("points0", points0, None, 2)
    require_shape("points1", points1, None, 2)
    x0, x1 = to_homogeneous(points0), to_homogeneous(points1)
    line1, line0 = x0 @ F.mT, x1 @ F
    return (x1 * line1).sum(-1), line1[..., :2], line0[..., :2]


def pose_error(
    estimated_cam1_from_cam0: Tensor, true_cam1_from_cam0: Tensor, *, up_to_sign: bool = True
) -> tuple[Tensor, Tensor]:
    """Error of an estimated relative pose against the true one: (rotation_deg, translation_deg), (…) each.

    Both poses: (…, 3, 4), cam1_from_cam0. The translation error is the angle between the directions, for two
    views do not determine the length. up_to_sign: the angle a counts as min(a, 180° − a), the definition all
    published tables of the field use; False counts a translation backwards as 180°.
    A true translation of 0 has no direction and gives 0°; an estimated one of 0 counts as the worst angle;
    a pose that is not finite (none found) gives inf for both.
    Source: Sarlin et al. 2020 (SuperGlue), section 5.2.
    """
    require_shape("estimated_cam1_from_cam0", estimated_cam1_from_cam0, 3, 4)
    require_shape("true_cam1_from_cam0", true_cam1_from_cam0, 3, 4)
    estimated, true = torch.broadcast_tensors(estimated_cam1_from_cam0, true_cam1_from_cam0)
    rotation_deg = rotation_angle_deg(estimated[..., :3], true[..., :3])
    t_est, t_true = estimated[..., 3], true[..., 3]
    sine = torch.linalg.cross(t_est, t_true).norm(dim=-1)
    cosine = (t_est * t_true).sum(-1)
    worst = 90.0 if up_to_sign else 180.0
    translation_deg = torch.rad2deg(torch.atan2(sine, cosine.abs() if up_to_sign else cosine))
    translation_deg = torch.where((t_est == 0).all(-1), worst, translation_deg)
    translation_deg = torch.where((t_true == 0).all(-1), 0, translation_deg)
    found = estimated.isfinite().all(-1).all(-1)
    return torch.where(found, rotation_deg, torch.inf), torch.where(found, translation_deg, torch.inf)


def decompose_essential(E: Tensor) -> Tensor:
    """The four poses that an essential matrix allows: (R, t), (R, −t), (R', t), (R', −t).

    E: (…, 3, 3), of any scale. Returns cam1_from_cam0 (…, 4, 3, 4) with |t| = 1. Which one is real, the
    points tell: the one with most of them in front of both cameras, see `two_view_depths`.
    Source: section 9.6.2, result 9.19.
    """
    require_shape("E", E, 3, 3)
    U, _, Vt = torch.linalg.svd(E)
    # E and −E are the same constraint, so U and V may be made rotations.
    U = U * torch.linalg.det(U).sign()[..., None, None]
    Vt = Vt * torch.linalg.det(Vt).sign()[..., None, None]
    W = E.new_tensor([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    R, R_twisted, t = U @ W @ Vt, U @ W.mT @ Vt, U[..., 2:]
    poses = [torch.cat([rotation, sign * t], dim=-1) for rotation in (R, R_twisted) for sign in (1, -1)]
    return torch.stack(poses, dim=-3)


def two_view_depths(cam1_from_cam0: Tensor, points0: Tensor, points1: Tensor) -> tuple[Tensor, Tensor]:
    """Depths of matches along their two rays, where the rays pass each other most closely.

    cam1_from_cam0: (…, 3, 4). points0, points1: (…, n, 2), NORMALISED camera coordinates.
    Returns depth0, depth1: (…, n) each, in units of |t|; negative behind a camera, not finite for parallel rays.
    Minimises |depth1 · x1 − depth0 · R x0 − t| over both depths.
    """
    require_shape("cam1_from_cam0", cam1_from_cam0, 3, 4)
    require_shape("points0", points0, None, 2)
    require_shape("points1", points1, None, 2)
    a = to_homogeneous(points0) @ cam1_from_cam0[..., :3].mT
    b = to_homogeneous(points1)
    t = cam1_from_cam0[..., None, :, 3]
    aa, bb, ab = (a * a).sum(-1), (b * b).sum(-1), (a * b).sum(-1)
    at, bt = (a * t).sum(-1), (b * t).sum(-1)
    determinant = torch.linalg.cross(*torch.broadcast_tensors(a, b)).square().sum(-1)
    return (ab * bt - bb * at) / determinant, (aa * bt - ab * at) / determinant
