"""How far each camera may be off, from the covariance of the bundle adjustment.

COLMAP offers a covariance too (`estimate_ba_covariance`), but only in a gauge that holds some cameras or points, where
those held seem exact and the others as uncertain as they are far from them. Here the normal equations are written down
anew, points eliminated, and solved in the gauge of all cameras together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lightmatch.colmap.models import registered_images
from lightmatch.colmap.projection import pixels_from_points
from lightmatch.sfm.bundle_adjustment import AdjustOptions, used_cameras

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction

MOST_PHOTOS = 400  # time grows with their cube

_ROTATION_WEIGHT = 1e-2  # of squared radians against squared positions in units of the extent
_PAIRS_AT_ONCE = 100_000  # of observations of one point: bounds the memory


@dataclass(frozen=True)
class CameraUncertainty:
    """One standard deviation of a camera's pose."""

    name: str
    position: float  # root of the summed variances of x, y and z, in the model's units
    rotation_deg: float  # root of the summed variances about three axes


class _Problem(NamedTuple):
    """The observations of a model, linearised. Unknowns: six per photo (turn, centre), then intrinsics."""

    residuals: np.ndarray  # (m, 2) px
    points: np.ndarray  # (m,) number of the point; ascending
    columns: np.ndarray  # (m, w) unknowns each observation depends on, beside its point; -1: none
    to_unknowns: np.ndarray  # (m, 2, w) derivatives
    to_point: np.ndarray  # (m, 2, 3)
    num_points: int
    num_unknowns: int


def camera_uncertainties(model: Reconstruction, options: AdjustOptions | None = None) -> list[CameraUncertainty]:
    """Standard deviations of all poses of an adjusted model, by name; empty where they cannot be had.

    options: what is free of the intrinsics: what is fixed counts as known exactly.
    The noise of observations is estimated from the residuals: their squares over the number of observations that
    overdetermine the model. Position, rotation and scale of the whole model are free (the gauge), so these
    deviations are those left after the similarity that fits all cameras best: what one sees when models of the same
    photos are aligned by their cameras. (Least squares over the positions; over the rotations too, with little weight,
    for cameras on one line.) They know of noise only, not of wrong matches or a wrong kind of lens. Less than three or
    more than MOST_PHOTOS photos, or a model that its observations do not determine, give an empty list.
    Source: Triggs et al. 2000, sections 6.1 (points eliminated) and 9.4 (inner constraints).
    """
    options = options or AdjustOptions()
    images = registered_images(model)
    if not 3 <= len(images) <= MOST_PHOTOS or model.num_points3D() < 3:
        return []
    if len({image.frame_id for image in images}) < len(images):  # cameras of a rig do not move by themselves
        return []
    problem = _linearise(model, images, options)
    redundancy = problem.residuals.size - (problem.num_unknowns + 3 * problem.num_points - 7)
    if redundancy <= 0:
        return []
    noise = float((problem.residuals**2).sum()) / redundancy
    variances = _free_of_gauge(_reduced_normal(problem), images)
    if variances is None:
        return []
    deviations = np.sqrt(np.maximum(noise * variances, 0))
    return [
        CameraUncertainty(
            image.name,
            float(position),
            float(np.degrees(rotation)),
        )
        for image, (position, rotation) in zip(images, deviations, strict=True)
    ]


def _linearise(model: Reconstruction, images: list[Any], options: AdjustOptions) -> _Problem:
    """Residuals and derivatives at the model as it is, of points that two photos or more see."""
    free = {camera: _free_parameters(model.camera(camera), options) for camera in used_cameras(model)}
    first_column, next_column = {}, 6 * len(images)
    for camera, parameters in sorted(free.items()):
        first_column[camera] = next_column
        next_column += len(parameters)
    width = 6 + max((len(parameters) for parameters in free.values()), default=0)
    parts: list[tuple[np.ndarray, ...]] = []
    for number, image in enumerate(images):
        keypoints = image.get_observation_point2D_idxs()
        observed = [image.point2D(keypoint) for keypoint in keypoints]
        if not observed:
            continue
        ids = np.array([point.point3D_id for point in observed], np.int64)
        xy = np.array([point.xy for point in observed])
        pose = image.cam_from_world()
        rotation = pose.rotation.matrix()
        local = np.array([model.point3D(point_id).xyz for point_id in ids.tolist()]) @ rotation.T + pose.translation
        projected, by_local, by_parameters = _project(model.camera(image.camera_id), local, free[image.camera_id])
        derivative = np.zeros((len(ids), 2, width))
        derivative[:, :, :3] = -by_local @ _cross(local)  # the camera turned by ω: R' = exp(ω) R
        derivative[:, :, 3:6] = -by_local @ rotation  # its centre moved: R (X − C)
        derivative[:, :, 6 : 6 + by_parameters.shape[2]] = by_parameters
        columns = np.full((len(ids), width), -1)
        columns[:, :6] = 6 * number + np.arange(6)
        count = by_parameters.shape[2]
        columns[:, 6 : 6 + count] = first_column[image.camera_id] + np.arange(count)
        good = np.isfinite(projected).all(1) & (local[:, 2] > 0)
        parts.append(tuple(x[good] for x in (ids, projected - xy, columns, derivative, by_local @ rotation)))
    ids, residuals, columns, to_unknowns, to_point = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(ids, kind="stable")
    _, numbers, counts = np.unique(ids[order], return_inverse=True, return_counts=True)
    order = order[counts[numbers] > 1]
    _, numbers = np.unique(ids[order], return_inverse=True)
    return _Problem(
        residuals[order],
        numbers,
        columns[order],
        to_unknowns[order],
        to_point[order],
        int(numbers.max(initial=-1)) + 1,
        next_column,
    )


def _free_parameters(camera: Camera, options: AdjustOptions) -> list[int]:
    kind = options.of(camera.camera_id)
    chosen = list(camera.focal_length_idxs()) * kind.focal_length
    chosen += list(camera.principal_point_idxs()) * kind.principal_point
    return sorted(chosen + list(camera.extra_params_idxs()) * kind.distortion)


def _project(camera: Camera, local: np.ndarray, parameters: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (m, 2), derivatives by the point in the camera (m, 2, 3) and by parameters (m, 2, k), by differences."""
    import pycolmap

    changed = pycolmap.Camera(camera.todict())
    depth = np.where(local[:, 2] > 0, local[:, 2], np.nan)

    def central(step: float, move: Any) -> np.ndarray:
        return (move(step) - move(-step)) / (2 * step)

    def along_ray(axis: int) -> np.ndarray:  # by x / z or y / z
        def move(step: float) -> np.ndarray:
            moved = np.column_stack((local[:, :2] / depth[:, None], np.ones(len(local))))
            moved[:, axis] += step
            return pixels_from_points(camera, moved)

        return central(1e-6, move)

    def by_parameter(index: int) -> np.ndarray:
        given = np.array(camera.params)

        def move(step: float) -> np.ndarray:
            moved = given.copy()
            moved[index] += step
            changed.params = moved.tolist()
            return pixels_from_points(changed, local)

        return central(max(1e-6, 1e-6 * abs(given[index])), move)

    by_ray = np.stack([along_ray(axis) for axis in (0, 1)], -1)
    plane = local[:, :2] / depth[:, None]
    ray_by_local = np.zeros((len(local), 2, 3))
    ray_by_local[:, 0, 0] = ray_by_local[:, 1, 1] = 1 / depth
    ray_by_local[:, :, 2] = -plane / depth[:, None]
    by_parameters = np.stack([by_parameter(index) for index in parameters], -1) if parameters else None
    if by_parameters is None:
        by_parameters = np.zeros((len(local), 2, 0))
    return pixels_from_points(camera, local), by_ray @ ray_by_local, by_parameters


def _reduced_normal(problem: _Problem) -> np.ndarray:
    """JᵀJ of all unknowns after the points are eliminated: S = U − W V⁻¹ Wᵀ, (u, u)."""
    size = problem.num_unknowns
    starts = np.searchsorted(problem.points, np.arange(problem.num_points + 1))
    own = np.add.reduceat(np.einsum("mki,mkj->mij", problem.to_point, problem.to_point), starts[:-1])
    damping = 1e-12 * np.trace(own, axis1=1, axis2=2)
    inverse = np.linalg.inv(own + damping[:, None, None] * np.eye(3))
    coupling = np.einsum("mki,mkj->mij", problem.to_unknowns, problem.to_point)  # (m, w, 3)
    spread = np.einsum("mij,mjk->mik", coupling, inverse[problem.points])
    total = np.zeros((size, size))

    def add(columns0: np.ndarray, columns1: np.ndarray, blocks: np.ndarray) -> None:
        rows, columns = np.broadcast_arrays(columns0[:, :, None], columns1[:, None])
        used = (rows >= 0) & (columns >= 0)
        flat = np.bincount(rows[used] * size + columns[used], blocks[used], size * size)
        total[...] += flat.reshape(size, size)

    for start in range(0, len(problem.columns), _PAIRS_AT_ONCE):
        columns, derivative = (part[start : start + _PAIRS_AT_ONCE] for part in (problem.columns, problem.to_unknowns))
        add(columns, columns, np.einsum("mki,mkj->mij", derivative, derivative))
    lengths = np.diff(starts)
    partners = lengths[problem.points]
    begin = np.concatenate(([0], np.cumsum(partners)))
    position = 0
    while position < len(partners):
        end = max(position + 1, int(np.searchsorted(begin, begin[position] + _PAIRS_AT_ONCE, "right")) - 1)
        one = np.repeat(np.arange(position, end), partners[position:end])
        within = np.arange(len(one)) - np.repeat(begin[position:end] - begin[position], partners[position:end])
        other = starts[problem.points[one]] + within
        add(problem.columns[one], problem.columns[other], -np.einsum("pij,pkj->pik", spread[one], coupling[other]))
        position = end
    return total


def _free_of_gauge(normal: np.ndarray, images: list[Any]) -> np.ndarray | None:
    """(c, 2) summed variances of positions and of rotations (rad²) at noise 1 px, after the best similarity.

    None where the normal equations leave more than a similarity open.
    """
    count, size = len(images), len(normal)
    centers = np.array([image.projection_center() for image in images])
    rotations = np.array([image.cam_from_world().rotation.matrix() for image in images])
    extent = float(np.sqrt(((centers - centers.mean(0)) ** 2).sum(1).mean()))
    local = (centers - centers.mean(0)) / extent
    # What a small similarity of the world, X → X + τ + θ × X + σ X, does to each pose, in units of the extent.
    moves = np.zeros((count, 6, 7))
    moves[:, :3, 3:6] = -rotations
    moves[:, 3:, :3] = np.eye(3)
    moves[:, 3:, 3:6] = -_cross(local)
    moves[:, 3:, 6] = local
    moves = np.concatenate((moves.reshape(6 * count, 7), np.zeros((size - 6 * count, 7))))
    weights = np.concatenate((np.tile([_ROTATION_WEIGHT] * 3 + [1.0] * 3, count), np.zeros(size - 6 * count)))
    units = np.concatenate((np.tile([1.0] * 3 + [extent] * 3, count), np.ones(size - 6 * count)))

    normal = normal * units[:, None] * units
    if not (np.diag(normal) > 0).all():
        return None
    scale = 1 / np.sqrt(np.diag(normal))
    held = moves / scale[:, None]
    held /= np.linalg.norm(held, axis=0)
    held = np.linalg.qr(held)[0]  # what the observations say nothing about, held; taken out again below
    try:
        root = np.linalg.cholesky(normal * scale[:, None] * scale + held @ held.T)
    except np.linalg.LinAlgError:
        return None
    fit = np.linalg.pinv(moves.T @ (weights[:, None] * moves)) @ (moves.T * weights)
    rest = (np.eye(size) - moves @ fit) * scale
    half = np.linalg.solve(root, rest.T)
    variances = (half**2).sum(0)[: 6 * count].reshape(count, 6)
    if not np.isfinite(variances).all():
        return None
    return np.stack((variances[:, 3:].sum(1) * extent**2, variances[:, :3].sum(1)), 1)


def _cross(vectors: np.ndarray) -> np.ndarray:
    """(n, 3) → (n, 3, 3), the matrices [v]× with [v]× w = v × w."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack((zero, -z, y, z, zero, -x, -y, x, zero), 1).reshape(-1, 3, 3)
