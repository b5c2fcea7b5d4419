"""Epipolar loss: distance of true matches from the epipolar lines of the geometry that predicted matches give."""

from __future__ import annotations

import torch
from torch import Tensor

from lightmatch.geometry.coordinates import to_homogeneous
from lightmatch.geometry.epipolar import epipolar_distance_px

_LEAST_MATCHES = 12
_LEAST_WEIGHT = 0.02  # of a match that takes part
_LEAST_RATIO = 4.0  # of the two smallest eigenvalues: below it (a plane, a rotation) many geometries fit alike
_SOFT_PX = 2.0  # a distance of this costs a half, one far larger costs 1


def epipolar_loss(
    log_assignment: Tensor,
    keypoints0: Tensor,
    keypoints1: Tensor,
    matches: Tensor,
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> Tensor | None:
    """Mean cost in 0…1 of the true matches under the geometry of the predicted ones; None where it is undetermined.

    log_assignment: (m, n) log-probability that two keypoints are one. keypoints0, keypoints1: (m, 2), (n, 2) px.
    matches: (k, 2) int64, the true ones. sizes: (width, height) px of both images. The geometry is the weighted least
    squares solution of the eight-point equations over mutual nearest matches, each with its probability as its weight,
    through which the gradient flows.
    Source: Ranftl & Koltun: Deep Fundamental Matrix Estimation, 2018, sections 3 and 4.
    """
    candidates = _mutual(log_assignment.detach())
    if len(candidates) < _LEAST_MATCHES or not len(matches):
        return None
    weight = log_assignment[candidates[:, 0], candidates[:, 1]].exp().double()
    points0, points1 = (_centered(points, size) for points, size in zip((keypoints0, keypoints1), sizes, strict=True))
    x0, x1 = to_homogeneous(points0[candidates[:, 0]]), to_homogeneous(points1[candidates[:, 1]])
    equations = (x1[:, :, None] * x0[:, None]).flatten(1)
    values, vectors = torch.linalg.eigh((weight[:, None] * equations).mT @ equations / weight.sum())
    smallest, second = values[:2].tolist()
    if second < _LEAST_RATIO * max(smallest, 1e-12):
        return None
    F = vectors[:, 0].reshape(3, 3)
    mean_half_px = (max(sizes[0]) + max(sizes[1])) / 4
    distance_px = epipolar_distance_px(F, points0[matches[:, 0]], points1[matches[:, 1]]) * mean_half_px
    return (distance_px / (distance_px + _SOFT_PX)).mean().to(log_assignment.dtype)


def _mutual(log_assignment: Tensor) -> Tensor:
    """(k, 2) int64: keypoints that are each other's most probable partner."""
    best0, best1 = log_assignment.argmax(1), log_assignment.argmax(0)
    own = torch.arange(len(best0), device=best0.device)
    kept = (best1[best0] == own) & (log_assignment[own, best0].exp() > _LEAST_WEIGHT)
    return torch.stack((own, best0), 1)[kept]


def _centered(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Points (n, 2) px with the middle of the image at 0 and its long side 2 long, in float64."""
    middle = (points.new_tensor(size) - 1) / 2
    return ((points - middle) / (max(size) / 2)).double()
