"""Robust fit of camera centres to GPS positions, with the uncertainty of scale, north and up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lightmatch.geometry.alignment import align_points
from lightmatch.reconstruction.georegistration.upright import cross_matrix, tilt_std_deg, upright_rotation

NOISE_M = 5.0  # standard deviation of a phone or camera GPS along each horizontal axis
_NOISE_STRENGTH = 6  # the assumed noise counts as this many residuals
_VERTICAL = 2.0  # factor: GPS heights are about twice as uncertain
_GATE = 3.7  # standard deviations: includes 99 % of a 3D normal distribution
_MOST_PAIRS = 1000
_TRIPLES = 200
_MOST_NOISE_M = 12.0  # beyond, positions contradict the model
_ROUGH_DEG = 30.0  # an up less certain than this is treated as unknown
_MIN_PHOTOS = 3

_Move = tuple[float, np.ndarray, np.ndarray]  # scale, rotation, translation
_Start = tuple[float, np.ndarray, np.ndarray, np.ndarray]  # scale, rotation, translation, inliers


@dataclass(frozen=True, eq=False)
class GpsFit:
    """The similarity x → scale · rotation · x + translation from model to GPS, with its uncertainty."""

    scale: float  # metres per unit of the model
    rotation: np.ndarray  # (3, 3)
    translation: np.ndarray  # (3,) m
    residuals_m: np.ndarray  # (n,) horizontal distances between cameras and GPS positions
    inliers: np.ndarray  # (n,) bool
    noise_m: float  # of the positions along a horizontal axis
    spread_m: float  # RMS horizontal distance of the fitted cameras from their mean
    scale_std: float  # relative
    tilt_std_deg: float
    heading_std_deg: float


def fit_gps(
    centers: np.ndarray, targets: np.ndarray, up: np.ndarray, information: np.ndarray, *, seed: int = 0
) -> GpsFit | None:
    """Fit camera centres to GPS positions and to the estimate of up.

    centers: (n, 3) in the model. targets: (n, 3) east, north, up in metres, the height NaN where unknown.
    up: (3,) and information: (3, 3), as in UpDirection. None where less than three photos or half of them are inliers.

    A robust search over pairs of photos, with and without the given up held fixed, then least squares over all seven
    parameters, Σ |s R x + t − g|² / σ² + uᵀ A u with u = Rᵀ z: for positions on a line the roll about it comes from
    `information`, and positions far apart correct an uncertain up. σ is estimated from the residuals, starting from
    5 m.
    """
    if len(centers) < _MIN_PHOTOS:
        return None
    starts = (
        _search_upright(centers, targets, up, seed),
        _search_leaning(centers, targets, up, information, seed),
    )
    fits = [_refine(centers, targets, information, start) for start in starts if start is not None]
    # u and -u have the same cost: fits that turn the model upside down are discarded, unless up is unknown.
    rough = tilt_std_deg(information) > _ROUGH_DEG
    found = [fit for fit in fits if fit is not None and (rough or fit[1].rotation[2] @ up > 0)]
    return min(found, key=lambda fit: fit[0])[1] if found else None


def _refine(
    centers: np.ndarray, targets: np.ndarray, information: np.ndarray, start: _Start
) -> tuple[float, GpsFit] | None:
    """Least squares from a start: the cost and the fit; None where too few photos remain inliers."""
    scale, rotation, translation, inliers = start
    noise, normal_matrix, residuals = NOISE_M, np.eye(7), np.zeros_like(targets)
    for _ in range(30):
        scale, rotation, translation, normal_matrix, step = _improve(
            centers[inliers], targets[inliers], (scale, rotation, translation), information, noise
        )
        residuals = scale * centers @ rotation.T + translation - targets
        noise = _noise(residuals[inliers])
        kept = _distances(residuals, noise) < _GATE
        if kept.sum() < max(_MIN_PHOTOS, len(centers) / 2):
            return None
        if (kept == inliers).all() and step < 1e-9:
            break
        inliers = kept
    placed = scale * centers[inliers] @ rotation.T
    spread = float(np.sqrt(((placed - placed.mean(0))[:, :2] ** 2).sum(1).mean()))
    # A weak prior for what no residual determines: 90° for angles, a factor of 20 for the scale.
    covariance = np.linalg.inv(normal_matrix + np.diag([0.4, 0.4, 0.4, 0.1, 1e-9, 1e-9, 1e-9]))
    std = np.sqrt(np.diag(covariance))
    far = np.minimum(_distances(residuals, NOISE_M), _GATE)
    tilt = float(rotation[2] @ information @ rotation[2])
    return float((far**2).sum()) + tilt, GpsFit(
        scale,
        rotation,
        translation,
        np.linalg.norm(residuals[:, :2], axis=1),
        inliers,
        noise,
        spread,
        float(std[3]),
        math.degrees(math.sqrt(max(np.linalg.eigvalsh(covariance[:2, :2])[1], 0.0))),
        math.degrees(float(std[2])),
    )


def _search_leaning(
    centers: np.ndarray, targets: np.ndarray, up: np.ndarray, information: np.ndarray, seed: int
) -> _Start | None:
    """The best similarity through the 3D positions of two photos, with `up` as near to vertical as these allow.

    For models whose up is only roughly known. Where up is unknown, similarities through three photos.
    """
    known = np.flatnonzero(np.isfinite(targets).all(1))
    if len(known) < _MIN_PHOTOS:
        return None
    source, target = centers[known], targets[known]
    if tilt_std_deg(information) > _ROUGH_DEG:
        moves = _through_three(source, target, seed)
    else:
        moves = _through_two(source, target, up, seed)
    best, best_cost = None, math.inf
    for scale, rotation, translation in moves:
        far = _distances(scale * source @ rotation.T + translation - target, NOISE_M)
        cost = float(np.minimum(far, _GATE).sum())
        if cost < best_cost:
            best, best_cost = (scale, rotation, translation, far < _GATE), cost
    if best is None or best[3].sum() < _MIN_PHOTOS:
        return None
    inliers = np.zeros(len(centers), bool)
    inliers[known] = best[3]
    return *best[:3], inliers


def _pairs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs i < j of `count` items; a random sample of `_MOST_PAIRS` where there are more."""
    if count * (count - 1) // 2 <= _MOST_PAIRS:
        first, second = np.triu_indices(count, 1)
        return first, second
    rng = np.random.default_rng(seed)
    first = rng.integers(count, size=_MOST_PAIRS)
    second = (first + rng.integers(1, count, size=_MOST_PAIRS)) % count
    return np.minimum(first, second), np.maximum(first, second)


def _through_two(source: np.ndarray, target: np.ndarray, up: np.ndarray, seed: int) -> Iterator[_Move]:
    upright = np.array([0.0, 0.0, 1.0])
    for i, j in zip(*_pairs(len(source), seed), strict=True):
        along, wanted = source[j] - source[i], target[j] - target[i]
        lengths = np.linalg.norm(along), np.linalg.norm(wanted)
        # Heights are so uncertain that only positions far apart give the slope of a line.
        if lengths[0] == 0 or lengths[1] < 4 * _VERTICAL * NOISE_M:
            continue
        frames = _frame(along / lengths[0], up), _frame(wanted / lengths[1], upright)
        if frames[0] is not None and frames[1] is not None:
            scale, rotation = float(lengths[1] / lengths[0]), frames[1] @ frames[0].T
            middle = (source[i] + source[j]) / 2, (target[i] + target[j]) / 2
            yield scale, rotation, middle[1] - scale * rotation @ middle[0]


def _frame(along: np.ndarray, up: np.ndarray) -> np.ndarray | None:
    """Axes (3, 3) in columns: `along`, the part of `up` orthogonal to it, their cross product; None if parallel."""
    across = up - (up @ along) * along
    length = np.linalg.norm(across)
    return None if length < 0.1 else np.stack([along, across / length, np.cross(along, across / length)], 1)


def _through_three(source: np.ndarray, target: np.ndarray, seed: int) -> Iterator[_Move]:
    rng = np.random.default_rng(seed)
    for _ in range(_TRIPLES):
        picked = rng.permutation(len(source))[:3]
        if not (source[picked] == source[picked[0]]).all():
            move = align_points(torch.from_numpy(source[picked]), torch.from_numpy(target[picked]))
            yield float(move.scale), move.rotation.numpy(), move.translation.numpy()


def _search_upright(centers: np.ndarray, targets: np.ndarray, up: np.ndarray, seed: int) -> _Start | None:
    """The best similarity with a rotation about `up`, through the horizontal positions of two photos."""
    upright = upright_rotation(up)
    flat = centers @ upright.T
    source, target = flat[:, 0] + 1j * flat[:, 1], targets[:, 0] + 1j * targets[:, 1]
    first, second = _pairs(len(centers), seed)
    base = source[second] - source[first]
    usable = np.abs(base) > 1e-9 * np.abs(source - source.mean()).max()
    first, second, base = first[usable], second[usable], base[usable]
    factor = (target[second] - target[first]) / base  # scale and rotation as one complex number
    moved = factor[:, None] * (source - source[first][:, None]) + target[first][:, None]
    gate = _GATE * NOISE_M
    cost = np.minimum(np.abs(moved - target), gate).sum(1)
    cost[np.abs(factor) == 0] = np.inf
    if not len(cost) or not np.isfinite(cost).any():
        return None
    best = int(cost.argmin())
    inliers = np.abs(moved[best] - target) < gate
    scale, angle = float(np.abs(factor[best])), float(np.angle(factor[best]))
    about_up = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    rotation = about_up @ upright
    offset = targets - scale * centers @ rotation.T
    shift = np.zeros(3)
    shift[:2] = np.median(offset[inliers, :2], 0)
    heights = offset[inliers, 2][np.isfinite(offset[inliers, 2])]
    shift[2] = float(np.median(heights)) if len(heights) else 0.0
    return (scale, rotation, shift, inliers) if inliers.sum() >= _MIN_PHOTOS else None


def _improve(
    centers: np.ndarray,
    targets: np.ndarray,
    start: tuple[float, np.ndarray, np.ndarray],
    information: np.ndarray,
    noise_m: float,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray, float]:
    """One Gauss-Newton step over (rotation, log scale, translation).

    Returns the new similarity, the normal matrix (7, 7) and the size of the step.
    """
    scale, rotation, translation = start
    rotated = scale * centers @ rotation.T
    residuals = rotated + translation - targets
    weights = np.broadcast_to([1.0, 1.0, 1 / _VERTICAL], residuals.shape) / noise_m
    weights = np.where(np.isfinite(residuals), weights, 0.0)
    jacobian = np.zeros((len(centers), 3, 7))
    jacobian[:, :, :3] = -np.stack([cross_matrix(vector) for vector in rotated])
    jacobian[:, :, 3] = rotated
    jacobian[:, :, 4:] = np.eye(3)
    jacobian = (jacobian * weights[:, :, None]).reshape(-1, 7)
    vertical = np.array([0.0, 0.0, 1.0])
    up = rotation.T @ vertical
    up_jacobian = rotation.T @ cross_matrix(vertical)
    normal = jacobian.T @ jacobian
    gradient = jacobian.T @ (np.nan_to_num(residuals) * weights).ravel()
    normal[:3, :3] += up_jacobian.T @ information @ up_jacobian
    gradient[:3] += up_jacobian.T @ information @ up
    step = -np.linalg.pinv(normal) @ gradient
    new_scale = scale * math.exp(float(np.clip(step[3], -1, 1)))
    delta = _rotation_about(step[:3])
    size = float(np.abs(step[:4]).max() + np.abs(step[4:]).max() / max(1.0, float(np.abs(targets[:, :2]).max())))
    return new_scale, delta @ rotation, translation + step[4:], normal, size


def _rotation_about(vector: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) by |vector| radians about it. Source: Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    cross = cross_matrix(vector / angle)
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _distances(residuals: np.ndarray, noise_m: float) -> np.ndarray:
    """(n,) distances in standard deviations, with heights where they are known. residuals: (n, 3) m."""
    return np.linalg.norm(np.nan_to_num(residuals) / (noise_m * np.array([1.0, 1.0, _VERTICAL])), axis=1)


def _noise(residuals: np.ndarray) -> float:
    """Standard deviation along a horizontal axis, m: that of the residuals (n, 3), regularised towards 5 m."""
    scaled = (residuals / [1.0, 1.0, _VERTICAL]).ravel()
    seen = scaled[np.isfinite(scaled)]
    freedom = max(len(seen) - 7, 0)
    variance = float(np.sum(seen**2)) / max(freedom, 1)
    robust = (1.4826 * float(np.median(np.abs(seen)))) ** 2 if len(seen) else 0.0
    variance = min(variance, 4 * robust)
    variance = (freedom * variance + _NOISE_STRENGTH * NOISE_M**2) / (freedom + _NOISE_STRENGTH)
    return min(math.sqrt(variance), _MOST_NOISE_M)
