"""Focal lengths and depths of keypoints from verified pairs alone, without a model.

Two photos of one place and two photos of identical places give the same depths, since the places are identical. So
the depths of a photo are correct even where its partner is a doppelgänger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pycolmap import Camera, TwoViewGeometry

_GENERAL = (2, 3)  # COLMAP's CALIBRATED and UNCALIBRATED: not planar, not a pure rotation
_POSED = 2  # CALIBRATED; without an essential matrix where the pose was given
_FOCAL_FACTORS = np.geomspace(0.4, 3.0, 41)  # times the longer side
_USUAL_FACTOR = 0.9
_FEW_FOR_FOCAL = 30  # matches
_PARTNERS = 8
_LEAST_PARALLAX_DEG = 1.0
_LEAST_POINTS = 10
_MOST_SPREAD = 0.15  # of the ratio between depths from two partners, as a logarithm
_AGREEING = 0.1  # depths that differ by no more, as a logarithm

Verified = list[tuple[tuple[int, int], "TwoViewGeometry"]]  # numbers of two photos and what COLMAP found of them


class _Partner(NamedTuple):
    """Depths of keypoints of one photo, triangulated with another."""

    rank: float  # lower is better
    photo: int
    keypoints: np.ndarray  # (k,)
    depth: np.ndarray  # (k,) in the unit of this pair
    parallax_deg: np.ndarray  # (k,)


def focal_lengths(cameras: Mapping[int, Camera], camera_of: list[int], found: Verified) -> dict[int, float]:
    """Focal length in px by camera: the prior ones, else those for which most fundamental matrices become essential.

    A fundamental matrix with the right focal lengths has two equal singular values (Mendonça and Cipolla 1999). First
    one factor is found for all cameras without a prior, then one for each, with a penalty on its distance from it.
    """
    sides = {key: max(camera.width, camera.height) for key, camera in cameras.items()}
    factors = {key: camera.mean_focal_length() / sides[key] for key, camera in sorted(cameras.items())}
    unknown = [key for key, camera in sorted(cameras.items()) if not camera.has_prior_focal_length]
    centred, ends, weights = [], [], []
    for (first, second), geometry in found:
        few = len(geometry.inlier_matches) < _FEW_FOR_FOCAL
        if geometry.F is None or geometry.config not in _GENERAL or few:
            continue
        ends.append((camera_of[first], camera_of[second]))
        shifts = [_shift(cameras[key], sides[key]) for key in ends[-1]]
        centred.append(shifts[1].T @ np.array(geometry.F) @ shifts[0])
        weights.append(min(len(geometry.inlier_matches), 200))
    if centred and unknown:
        F, weight, end = np.array(centred), np.array(weights, float), np.array(ends)

        def best(keys: list[int], chosen: np.ndarray, usual: float, pull: float) -> float:
            mine = np.isin(end[chosen], keys)
            other = np.array([[factors[key] for key in pair] for pair in end[chosen]])
            costs = []
            for factor in _FOCAL_FACTORS:
                scale = np.where(mine, factor, other)
                off = _not_essential(F[chosen], scale[:, 0], scale[:, 1])
                fit = (weight[chosen] * off / (off + 0.05)).sum() / weight[chosen].sum()
                costs.append(fit + pull * np.log(factor / usual) ** 2)
            return float(_FOCAL_FACTORS[int(np.argmin(costs))])

        touched = np.isin(end, unknown).any(1)
        if touched.any():
            common = best(unknown, np.flatnonzero(touched), _USUAL_FACTOR, 0.15)
            factors |= dict.fromkeys(unknown, common)
            for key in unknown if len(unknown) > 1 else []:
                chosen = np.flatnonzero((end == key).any(1))
                if len(chosen):
                    factors[key] = best([key], chosen, common, 0.4)
    return {key: factor * sides[key] for key, factor in factors.items()}


def _shift(camera: Camera, side: int) -> np.ndarray:
    """(3, 3): pixels from coordinates (x − centre) / side."""
    return np.array([[side, 0, camera.width / 2], [0, side, camera.height / 2], [0, 0, 1.0]])


def _not_essential(F: np.ndarray, factor0: np.ndarray, factor1: np.ndarray) -> np.ndarray:
    """1 − σ₂/σ₁ (n,) of F (n, 3, 3) scaled by both focal lengths: 0 for an essential matrix.

    Of a matrix of rank 2, σ₁² + σ₂² is its squared norm and σ₁σ₂ the norm of its cofactors.
    """
    one = np.ones_like(factor0)
    E = F * np.stack([factor1, factor1, one], -1)[:, :, None] * np.stack([factor0, factor0, one], -1)[:, None, :]
    cofactors = np.stack([np.cross(E[:, 1], E[:, 2]), np.cross(E[:, 2], E[:, 0]), np.cross(E[:, 0], E[:, 1])], 1)
    total = (E**2).sum((1, 2))
    product = np.minimum(np.sqrt((cofactors**2).sum((1, 2))), total / 2)
    root = np.sqrt(np.maximum(total**2 - 4 * product**2, 0))
    return 1 - np.sqrt(np.maximum(total - root, 0) / (total + root))


def depths_of_keypoints(
    found: Verified,
    keypoints: list[np.ndarray],
    rays: list[np.ndarray],
    cameras: list[Camera],
) -> list[np.ndarray]:
    """Depths (n,) of the keypoints of each photo from its best partners, NaN where unknown.

    The unit of a photo is that of its first partner.
    keypoints: (n, 2) px of each photo. rays: (n, 3), z = 1. cameras: of each photo.
    """
    import pycolmap

    partners: list[list[_Partner]] = [[] for _ in keypoints]
    for (first, second), geometry in found:
        if geometry.E is not None or geometry.config != _POSED:
            pycolmap.estimate_two_view_geometry_pose(
                cameras[first], keypoints[first], cameras[second], keypoints[second], geometry
            )
        pose = geometry.cam2_from_cam1
        if pose is None or not np.linalg.norm(pose.translation) > 0:
            continue
        matches = np.array(geometry.inlier_matches)
        direction = np.array(pose.translation) / np.linalg.norm(pose.translation)
        depth0, depth1, parallax_deg = _triangulate(
            rays[first][matches[:, 0]], rays[second][matches[:, 1]], pose.rotation.matrix(), direction
        )
        good = (depth0 > 0) & (depth1 > 0) & (parallax_deg > _LEAST_PARALLAX_DEG)
        # The pose from a plane has two solutions: such pairs rank below others.
        flat = 1.0 if geometry.config in _GENERAL else 0.3
        if good.sum() > _LEAST_POINTS:
            for photo, other, column, depth in ((first, second, 0, depth0), (second, first, 1, depth1)):
                index = matches[good, column]
                partners[photo].append(_Partner(-flat * good.sum(), other, index, depth[good], parallax_deg[good]))
    return [_fuse(len(points), partners[photo]) for photo, points in enumerate(keypoints)]


def _fuse(num_keypoints: int, partners: list[_Partner]) -> np.ndarray:
    """Depths (n,) in the unit of the first partner: the value that most partners, weighted by parallax, agree on.

    Depths agree within 10 %.
    """
    logs: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    known = np.full(num_keypoints, np.nan)  # of the widest parallax so far
    widest = np.zeros(num_keypoints)
    for _, _, index, depth, parallax_deg in sorted(partners, key=lambda partner: partner[:2]):
        log_depth = np.log(depth)
        if logs:
            ratio = (known[index] - log_depth)[np.isfinite(known[index])]
            if len(ratio) < _LEAST_POINTS:
                continue
            middle = np.median(ratio)
            if np.median(np.abs(ratio - middle)) > _MOST_SPREAD:
                continue
            log_depth = log_depth + middle
        logs.append(np.full(num_keypoints, np.nan))
        logs[-1][index] = log_depth
        weights.append(np.zeros(num_keypoints))
        weights[-1][index] = parallax_deg
        wider = parallax_deg > widest[index]
        known[index[wider]], widest[index[wider]] = log_depth[wider], parallax_deg[wider]
        if len(logs) == _PARTNERS:
            break
    if not logs:
        return known
    votes, weight = np.array(logs), np.array(weights)
    with np.errstate(invalid="ignore"):
        support = ((np.abs(votes[:, None] - votes[None]) < _AGREEING) * weight[None]).sum(1)
    winner = support.argmax(0)[None]
    agreed = np.take_along_axis(support, winner, 0)[0] > 0.5 * weight.sum(0)
    return np.where(agreed, np.exp(np.take_along_axis(votes, winner, 0)[0]), np.nan)


def _triangulate(
    rays0: np.ndarray, rays1: np.ndarray, rotation: np.ndarray, translation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depths z₀, z₁ that minimise |z₁ r₁ − (R z₀ r₀ + t)|, and the angle between the rays in degrees: (k,) each."""
    rotated = rays0 @ rotation.T
    a, b, c = (rays1**2).sum(1), (rays1 * rotated).sum(1), (rotated**2).sum(1)
    determinant = np.maximum(a * c - b * b, 1e-12)
    along1, along0 = rays1 @ translation, rotated @ translation
    depth1 = (c * along1 - b * along0) / determinant
    depth0 = (b * along1 - a * along0) / determinant
    return depth0, depth1, np.degrees(np.arctan2(np.sqrt(determinant), b))
