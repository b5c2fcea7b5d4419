"""Where a point that some photos see appears in another one: robust triangulation, leaving each observation out once.

All tracks at a time, in float64 NumPy on one thread, so that results repeat to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SCALES_PX = (32.0, 16.0, 8.0, 4.0, 2.0, 2.0, 2.0)  # of the weights, from forgiving to strict: one step each
_INLIER_PX = 6.0
_TINY = 1e-12


@dataclass(frozen=True)
class Observations:
    """Observations of tracks in photos that have a pose, one track after the other."""

    starts: np.ndarray  # (t + 1,) track i holds starts[i]:starts[i + 1]
    rotations: np.ndarray  # (m, 3, 3) camera from world, of the photo of each observation
    translations: np.ndarray  # (m, 3)
    rays: np.ndarray  # (m, 2) undistorted: x / z, y / z
    focals: np.ndarray  # (m,) px that one unit of `rays` stands for


@dataclass(frozen=True)
class LeftOutPoints:
    """For each observation, the point that the others of its track make."""

    points: np.ndarray  # (m, 3) in the world; NaN where fewer than two others are there
    angles_deg: np.ndarray  # (m,) the widest angle between two of the others' rays
    supported: np.ndarray  # (m,) bool: two of the others or more agree with the point, and it lies in front of them


def leave_one_out(observations: Observations) -> LeftOutPoints:
    """Triangulate every track once for each of its observations, from the others alone.

    Starts at the point nearest to all rays, then Gauss–Newton on the reprojection error with Cauchy weights
    1 / (1 + (e / s)²) whose scale s shrinks, so that a wrong one among three others or more loses its pull.
    """
    target, other = _ordered_pairs(observations.starts)
    count = len(observations.rays)
    points = np.full((count, 3), np.nan)
    angles, supported = _widest_angles(observations), np.zeros(count, bool)
    num_others = np.bincount(target, minlength=count)
    enough = num_others >= 2
    if not enough.any():
        return LeftOutPoints(points, angles, supported)
    target, other = target[enough[target]], other[enough[target]]
    rows, first = np.unique(target, return_index=True)  # the pairs of one target lie together
    place = np.repeat(np.arange(len(rows)), np.diff(np.append(first, len(target))))

    rotations, translations = observations.rotations[other], observations.translations[other]
    rays, focals = observations.rays[other], observations.focals[other]
    found = _nearest_to_rays(rotations, translations, rays, first)
    for scale_px in _SCALES_PX:
        found = _step(found, place, first, rotations, translations, rays, focals, scale_px)
    error_px, depth, _ = _residuals(found[place], rotations, translations, rays, focals)
    agrees = (error_px < _INLIER_PX) & (depth > _TINY)
    points[rows] = found
    supported[rows] = (np.add.reduceat(agrees.astype(int), first) >= 2) & np.isfinite(found).all(1)
    return LeftOutPoints(points, angles, supported)


def _ordered_pairs(starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every observation with every other one of its track: (p,) and (p,), the first ones ascending."""
    lengths = np.diff(starts)
    of_track = np.repeat(lengths, lengths)
    target = np.repeat(np.arange(starts[-1]), of_track)
    begin = np.repeat(np.repeat(starts[:-1], lengths), of_track)
    run_starts = np.concatenate(([0], np.cumsum(of_track)))[:-1]
    other = begin + np.arange(len(target)) - np.repeat(run_starts, of_track)
    different = target != other
    return target[different], other[different]


def _widest_angles(observations: Observations) -> np.ndarray:
    """(m,) for each observation the widest angle, in degrees, between the rays of two others of its track."""
    bearings = np.concatenate((observations.rays, np.ones((len(observations.rays), 1))), 1)
    bearings = np.einsum("mji,mj->mi", observations.rotations, bearings)
    bearings /= np.linalg.norm(bearings, axis=1, keepdims=True)
    angles = np.zeros(len(bearings))
    lengths = np.diff(observations.starts)
    for length in np.unique(lengths[lengths > 2]).tolist():
        members = observations.starts[:-1][lengths == length][:, None] + np.arange(length)
        chosen = bearings[members]  # (k, length, 3)
        # The chord, not the cosine: angles well below a degree matter here.
        chord = np.linalg.norm(chosen[:, :, None] - chosen[:, None], axis=-1)
        for position in range(length):
            others = np.delete(np.arange(length), position)
            widest = chord[:, others][:, :, others].max((1, 2))
            angles[members[:, position]] = np.degrees(2 * np.arcsin(np.minimum(widest / 2, 1)))
    return angles


def _nearest_to_rays(
    rotations: np.ndarray, translations: np.ndarray, rays: np.ndarray, first: np.ndarray
) -> np.ndarray:
    """The points with the least sum of squared distances to their rays: Σ (I − d dᵀ) (x − c) = 0. (r, 3)."""
    directions = np.einsum("pji,pj->pi", rotations, np.concatenate((rays, np.ones((len(rays), 1))), 1))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    centers = -np.einsum("pji,pj->pi", rotations, translations)
    origin = centers.mean(0)  # far from the world's, as in UTM, the sums would lose their digits
    across = np.eye(3) - directions[:, :, None] * directions[:, None]
    normal = np.add.reduceat(across, first)
    right = np.add.reduceat(np.einsum("pij,pj->pi", across, centers - origin), first)
    return _solve(normal, right) + origin


def _residuals(
    points: np.ndarray, rotations: np.ndarray, translations: np.ndarray, rays: np.ndarray, focals: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors (p,) in px, depths (p,) and residuals (p, 2) in px."""
    local = np.einsum("pij,pj->pi", rotations, points) + translations
    depth = local[:, 2]
    safe = np.where(np.abs(depth) > _TINY, depth, _TINY)
    residual = (local[:, :2] / safe[:, None] - rays) * focals[:, None]
    return np.linalg.norm(residual, axis=1), depth, residual


def _step(
    points: np.ndarray,
    place: np.ndarray,
    first: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
    rays: np.ndarray,
    focals: np.ndarray,
    scale_px: float,
) -> np.ndarray:
    """One weighted Gauss–Newton step; one that would pass a camera is shortened to half of its depth."""
    error_px, depth, residual = _residuals(points[place], rotations, translations, rays, focals)
    weight = np.where(depth > _TINY, 1 / (1 + (error_px / scale_px) ** 2), 0)
    safe = np.where(depth > _TINY, depth, 1.0)
    plane = residual / focals[:, None] + rays  # x / z, y / z of the point
    jacobian = rotations[:, :2] - plane[:, :, None] * rotations[:, 2:]
    jacobian *= (focals / safe)[:, None, None]
    normal = np.add.reduceat(weight[:, None, None] * np.einsum("pki,pkj->pij", jacobian, jacobian), first)
    right = np.add.reduceat(weight[:, None] * np.einsum("pki,pk->pi", jacobian, residual), first)
    step = -_solve(normal, right)
    toward = np.einsum("pi,pi->p", rotations[:, 2], step[place])  # change of depth
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = np.where((weight > 0) & (toward < 0), -0.5 * depth / toward, np.inf)
    return points + step * np.minimum(1, np.minimum.reduceat(allowed, first))[:, None]


def _solve(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solutions of many symmetric 3 × 3 systems, very slightly damped; zero where there is no equation at all."""
    damping = 1e-10 * np.trace(normal, axis1=1, axis2=2) + _TINY**2
    return np.linalg.solve(normal + damping[:, None, None] * np.eye(3), right[:, :, None])[:, :, 0]
