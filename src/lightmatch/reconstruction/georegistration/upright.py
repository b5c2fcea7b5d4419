"""The up direction of a model: from level cameras, from measured gravity, and from the ground plane.

Up is a unit vector u in the frame of the model with an information matrix A (3, 3) in rad⁻²: its cost is uᵀ A u.
The matrices of independent measurements add, and the least certain tilt of u has the variance 1 / λ, with λ the
second smallest eigenvalue of A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

UpSource = Literal["gravity", "cameras", "cameras and ground", "ground"]

TRUSTED_STD_DEG = 5.0  # a less certain tilt counts as unknown
_ROLL_STD_DEG = 2.0  # at best: the roll of hand-held cameras varies by this
_ROLL_GATE_DEG = 10.0  # a camera rolled by more was rotated on purpose, or up is wrong
_PITCH_STD_DEG = 20.0  # of the mean pitch of a set of photos
_GRAVITY_STD_DEG = 2.0
_GROUND_STD_DEG = 3.0  # streets and lawns slope
_INDEPENDENT = 30  # the rolls of more photos than this are not independent: they depend on the photographer
_PARALLEL, _ALL_ROUND = 0.9, 0.7  # largest eigenvalue of mean x xᵀ and y yᵀ: cameras rotated by 90°
_MIN_CAMERAS = 4
_MIN_LEVEL_SHARE = 0.6
_UPSIDE_DOWN = 0.3  # sine; a camera whose y axis points up by more is upside down
_MOST_HYPOTHESES = 600
_GROUND_TOLERANCE = 0.01  # of the median distance between cameras and points
_GROUND_SHARE = 0.15  # of all points
_MOST_BELOW = 0.1  # of all points may lie below the ground
_GROUND_POINTS = 4000
_GROUND_TRIALS = 1500


@dataclass(frozen=True, eq=False)
class UpDirection:
    """The estimate of up with its uncertainty."""

    direction: np.ndarray  # (3,) unit, in the frame of the model
    information: np.ndarray  # (3, 3) rad⁻²
    std_deg: float  # of the least certain tilt
    source: UpSource
    level_share: float  # part of the cameras whose roll is within 10° of level
    trustworthy: bool
    note: str  # one sentence: the source, or why it is not trustworthy
    ground: np.ndarray | None = None  # (4,) plane n·x + d = 0 of the ground, n up; None where none was found


def find_up(
    rotations: np.ndarray,
    centers: np.ndarray,
    points: np.ndarray,
    *,
    gravity: np.ndarray | None = None,
    seed: int = 0,
) -> UpDirection:
    """Estimate up in the frame of a model.

    rotations: (n, 3, 3) camera from world, n ≥ 1. centers: (n, 3). points: (p, 3), p ≥ 0. gravity: (n, 3) measured
    direction of gravity in each camera's axes (x right, y down, z forward), NaN where a photo has none.
    seed: of the searches; the same seed gives the same bits.

    Photographers hold cameras level, so up is the direction most orthogonal to the cameras' x axes: the smallest
    eigenvector of Σ r rᵀ (Szeliski 2006, "Image alignment and stitching", section 5.1, "up vector selection"), here
    with a robust search, and with a weak prior that the mean pitch of a set is small, since parallel x axes do not
    determine the pitch. The y axes give the sign. Cameras that were all held in portrait orientation (parallel x axes,
    y axes all round) are rotated by 90° first. A ground plane below the cameras refines the estimate.
    """
    rng = np.random.default_rng(seed)
    measured = None if gravity is None else _from_gravity(rotations, gravity)
    if measured is not None:
        direction, information = measured
        level = _level(rotations, direction)
        source: UpSource = "gravity"
        note = "up is measured gravity"
    else:
        direction, information, level = _from_cameras(_landscape(rotations), rng)
        source = "cameras"
        note = f"up is taken from the {int(level.sum())} of {len(level)} cameras that were held level"
    before = tilt_std_deg(information)
    share = float(level.mean())
    enough = source == "gravity" or (int(level.sum()) >= _MIN_CAMERAS and share >= _MIN_LEVEL_SHARE)

    search_deg = float(np.clip(3 * before, 20.0, 45.0)) if enough else 90.0
    ground = find_ground(points, centers, direction, search_deg, rng)
    if ground is not None:
        normal = ground[:3]
        apart_deg = math.degrees(math.acos(float(np.clip(normal @ direction, -1, 1))))
        if not enough and float((rotations[:, 2] @ normal).mean()) < -0.2:
            # The cameras are inconsistent, and all look down on one plane below them.
            direction, information, source = normal, _plane_information(normal), "ground"
            note = "up is the normal of the largest plane below the cameras, which were not held level"
        elif apart_deg <= 3 * math.hypot(before, _GROUND_STD_DEG):
            information = information + _plane_information(normal)
            direction = _smallest(information, direction)
            source = "cameras and ground" if source == "cameras" else source
            note += ", and the ground below them"
        else:
            ground = None
    std_deg = tilt_std_deg(information)
    trustworthy = enough and std_deg <= TRUSTED_STD_DEG
    if not trustworthy:
        note = _doubt(note, source, len(level), share, std_deg)
    return UpDirection(direction, information, std_deg, source, share, trustworthy, note, ground)


def _doubt(note: str, source: UpSource, num_cameras: int, share: float, std_deg: float) -> str:
    if source == "ground":
        why = "it may be a wall"
    elif num_cameras < _MIN_CAMERAS:
        why = f"{num_cameras} cameras are too few"
    elif share < _MIN_LEVEL_SHARE:
        why = "too few agree"
    else:
        why = f"all cameras face one way, so the tilt is uncertain by {std_deg:.0f}°"
    return f"{note}, but not trustworthy: {why}"


def tilt_std_deg(information: np.ndarray) -> float:
    """Standard deviation of the least certain tilt, degrees, at most 90. information: (3, 3) rad⁻²."""
    middle = float(np.linalg.eigvalsh(information)[1])
    return min(90.0, math.degrees(1 / math.sqrt(middle))) if middle > 0 else 90.0


def upright_rotation(up: np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that maps `up` (3,) to the z axis."""
    up = up / np.linalg.norm(up)
    axis = np.cross(up, [0.0, 0.0, 1.0])
    if np.linalg.norm(axis) < 1e-12:
        return np.eye(3) if up[2] > 0 else np.diag([1.0, -1.0, -1.0])
    cross = cross_matrix(axis)
    return np.eye(3) + cross + cross @ cross / (1 + up[2])


def cross_matrix(v: np.ndarray) -> np.ndarray:
    """The matrix (3, 3) of x → v × x. v: (3,)."""
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


def _smallest(information: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The unit vector (3,) of least cost, with the sign that has a positive product with `like`."""
    vector = np.linalg.eigh(information)[1][:, 0]
    return vector if vector @ like >= 0 else -vector


def _plane_information(normal: np.ndarray) -> np.ndarray:
    return (np.eye(3) - np.outer(normal, normal)) / math.radians(_GROUND_STD_DEG) ** 2


def _level(rotations: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(n,) bool: cameras rolled by less than the gate and not upside down."""
    return (np.abs(rotations[:, 0] @ up) < math.sin(math.radians(_ROLL_GATE_DEG))) & (
        rotations[:, 1] @ up < _UPSIDE_DOWN
    )


def _from_gravity(rotations: np.ndarray, gravity: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Up and its information from gravity (n, 3) in camera axes; None where less than two thirds agree."""
    known = np.isfinite(gravity).all(1) & (np.linalg.norm(np.nan_to_num(gravity), axis=1) > 0)
    if not known.any():
        return None
    world = np.einsum("nji,nj->ni", rotations[known], gravity[known])  # Rᵀ g
    ups = -world / np.linalg.norm(world, axis=1, keepdims=True)
    agree = ups @ ups.T > math.cos(math.radians(_ROLL_GATE_DEG))
    best = agree[int(agree.sum(1).argmax())]
    if 3 * best.sum() < 2 * len(ups):
        return None
    direction = ups[best].mean(0)
    direction /= np.linalg.norm(direction)
    weight = min(int(best.sum()), _INDEPENDENT) / math.radians(_GRAVITY_STD_DEG) ** 2
    return direction, weight * (np.eye(3) - np.outer(direction, direction))


def _landscape(rotations: np.ndarray) -> np.ndarray:
    """The rotations (n, 3, 3), by another 90° about the viewing axis where all photos are in portrait orientation."""
    right, down, forward = rotations[:, 0], rotations[:, 1], rotations[:, 2]
    of_right, of_down = (float(np.linalg.eigvalsh(axes.T @ axes / len(axes))[-1]) for axes in (right, down))
    if len(rotations) < _MIN_CAMERAS or of_right < _PARALLEL or of_down > _ALL_ROUND:
        return rotations
    # The axes leave the sign open; photographers look down a little more than up.
    sign = 1.0 if float((forward @ right.mean(0)).mean()) <= 0 else -1.0  # up is along x, or against it
    return np.stack([sign * down, -sign * right, forward], 1)


def _from_cameras(rotations: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Up (3,), its information (3, 3), and which cameras are level, (n,) bool."""
    right, down, forward = rotations[:, 0], rotations[:, 1], rotations[:, 2]
    pitch = forward.T @ forward / len(forward) / math.radians(_PITCH_STD_DEG) ** 2
    hypotheses = _hypotheses(right, down, forward, rng)
    gate = (_ROLL_GATE_DEG / _ROLL_STD_DEG) ** 2
    roll = np.minimum((np.degrees(np.arcsin(np.clip(right @ hypotheses.T, -1, 1))) / _ROLL_STD_DEG) ** 2, gate)
    wrong_way = gate * (down @ hypotheses.T > _UPSIDE_DOWN) + (forward @ hypotheses.T > 0.7)
    cost = (roll + wrong_way).sum(0) + np.einsum("hi,ij,hj->h", hypotheses, pitch, hypotheses)
    up = hypotheses[int(cost.argmin())]
    level = _level(rotations, up)
    information = pitch
    for _ in range(10):
        weight, used = _roll_weight(right[level] @ up), level
        information = weight * right[level].T @ right[level] + pitch
        up = _smallest(information, up)
        level = _level(rotations, up)
        if (level == used).all():
            break
    return up, information, level


def _roll_weight(sines: np.ndarray) -> float:
    """Weight of the x axis of one camera, rad⁻², from the scatter of all. sines: (n,) of the rolls."""
    if not len(sines):
        return 0.0
    std = max(math.radians(_ROLL_STD_DEG), float(np.sqrt(np.mean(sines**2))))
    return min(1.0, _INDEPENDENT / len(sines)) / std**2


def _hypotheses(right: np.ndarray, down: np.ndarray, forward: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(h, 3) candidates for up: orthogonal to two x axes each, and the −y and −z axes of single cameras."""
    count = len(right)
    first, second = np.triu_indices(count, 1) if count <= 35 else rng.integers(0, count, (2, _MOST_HYPOTHESES))
    crossed = np.cross(right[first], right[second])
    length = np.linalg.norm(crossed, axis=1)
    crossed = crossed[length > math.sin(math.radians(5))] / length[length > math.sin(math.radians(5)), None]
    alone = np.concatenate([-down, -forward])[rng.permutation(2 * count)[:_MOST_HYPOTHESES]]
    return np.concatenate([crossed, -crossed, alone])


def find_ground(
    points: np.ndarray, centers: np.ndarray, up: np.ndarray, search_deg: float, rng: np.random.Generator
) -> np.ndarray | None:
    """The plane (4,), n·x + d = 0 with n up, that is the ground: the largest one below the cameras.

    points: (p, 3). centers: (n, 3). up: (3,). search_deg: how far its normal may be from `up`.
    None where no plane has 15 % of the points, nine tenths of the cameras above it and at most a tenth of the points
    below it. The tolerance is 1 % of the median distance from the median camera to the points.
    """
    if len(points) < 50:
        return None
    if len(points) > _GROUND_POINTS:
        points = points[np.sort(rng.permutation(len(points))[:_GROUND_POINTS])]
    tolerance = _GROUND_TOLERANCE * float(np.median(np.linalg.norm(points - np.median(centers, 0), axis=1)))
    corners = points[rng.integers(0, len(points), (_GROUND_TRIALS, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1)
    kept = length > 0
    normals, corners = normals[kept] / length[kept, None], corners[kept]
    normals *= np.where(normals @ up < 0, -1.0, 1.0)[:, None]
    near = normals @ up >= math.cos(math.radians(search_deg)) - 1e-9
    normals, offsets = normals[near], -np.einsum("ij,ij->i", normals[near], corners[near, 0])
    best, best_count = None, _GROUND_SHARE * len(points)
    for normal, offset in zip(normals, offsets, strict=True):
        # Where up is unknown, the cameras are on the upper side of the plane.
        if search_deg >= 90 and float(np.mean(centers @ normal + offset > 0)) < 0.5:
            normal, offset = -normal, -offset
        heights = points @ normal + offset
        count = int((np.abs(heights) < tolerance).sum())
        if count > best_count and _is_below(heights, centers @ normal + offset, tolerance):
            best, best_count = np.append(normal, offset), count
    return None if best is None else _refined(best, points, centers, tolerance)


def _is_below(heights: np.ndarray, camera_heights: np.ndarray, tolerance: float) -> bool:
    return bool(np.mean(camera_heights > 2 * tolerance) >= 0.9 and np.mean(heights < -3 * tolerance) <= _MOST_BELOW)


def _refined(plane: np.ndarray, points: np.ndarray, centers: np.ndarray, tolerance: float) -> np.ndarray | None:
    """Least squares over the points on the plane; None where these are nearly on a line, so that the normal is open."""
    for _ in range(5):
        on = points[np.abs(points @ plane[:3] + plane[3]) < tolerance]
        middle = on.mean(0)
        spread, axes = np.linalg.svd(on - middle, full_matrices=False)[1:]
        if spread[1] < 0.1 * spread[0]:
            return None
        normal = axes[2] if axes[2] @ plane[:3] >= 0 else -axes[2]
        plane = np.append(normal, -normal @ middle)
    heights, camera_heights = points @ plane[:3] + plane[3], centers @ plane[:3] + plane[3]
    return plane if _is_below(heights, camera_heights, tolerance) else None
