"""Absolute pose: where a camera stood, from points of known place and their pixels (PnP), and how surely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from lightmatch.colmap.cameras import off_centre_px
from lightmatch.colmap.log import FATAL, colmap_log
from lightmatch.colmap.projection import pixels_from_points
from lightmatch.errors import InvalidValueError
from lightmatch.geometry.chance import log10_false_alarms, share_near_point
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.geometry.poses import center_of
from lightmatch.sfm.free_camera import MANY_INLIERS, FreeCamera, free_camera

if TYPE_CHECKING:
    from pycolmap import Camera

MIN_INLIERS = 12

WhyNot = Literal["few correspondences", "few inliers", "by chance", "degenerate", "mirrored"]

_MAX_ERROR_PX = 4.0  # in a photo of _WORKED_ON_PX or less; features of larger ones are as much coarser
_WORKED_ON_PX = 1600
_REFINEMENTS = 3
_LOG_CHANCE = -3.0  # log10 of the number of poses that as many correspondences at random would agree with
_MOST_POSITION_STD = 0.2  # of the median depth of the points seen
_MOST_ROTATION_STD_DEG = 10.0
_PRINCIPAL_POINT_STD = 0.005  # of the longer side, where the camera is a guess
_FREE_COST = 0.8  # of the squared error: at most that, for a camera of which nothing is known to be taken
_OFF_CENTRE, _UNLIKE_SIDES = 0.03, 0.02  # of the longer side, and of 1: a photo that was cropped, or stretched
_LEAST_EIGENVALUE = 1e-13  # of the normal matrix with columns of length 1


@dataclass(frozen=True, eq=False)
class AbsolutePose:
    """Where a photo was taken."""

    cam_from_world: np.ndarray  # (3, 4) x right, y down, z forward; in the units of the points
    covariance: np.ndarray  # (6, 6) rows 0–2: turn about the camera's own axes, rad; 3–5: centre in the world, units
    camera: Camera  # with the intrinsics that were used, refined where they were a guess
    inliers: np.ndarray  # (n,) bool: the correspondences that agree with the pose
    error_px: float  # root of the mean squared reprojection error of the inliers
    focal_std_px: float | None  # where the focal length was refined

    @property
    def num_correspondences(self) -> int:
        """Pixels that were said to show a point."""
        return len(self.inliers)

    @property
    def num_inliers(self) -> int:
        """Those of them that agree with the pose."""
        return int(self.inliers.sum())

    @property
    def center(self) -> np.ndarray:
        """(3,) the camera's centre in the world."""
        return center_of(self.cam_from_world)

    @property
    def shape(self) -> str | None:
        """What was done to the photo, in words, where its camera shows it: cropped, stretched."""
        camera, said = self.camera, []
        side = max(camera.width, camera.height)
        off = off_centre_px(camera)
        if max(map(abs, off)) > _OFF_CENTRE * side:
            said.append(f"cropped: its principal point lies ({off[0]:+.0f}, {off[1]:+.0f}) px from the middle")
        if len(camera.focal_length_idxs()) == 2:
            ratio = camera.focal_length_x / camera.focal_length_y
            if abs(ratio - 1) > _UNLIKE_SIDES:
                said.append(f"stretched: {ratio:.2f} times as wide as it should be")
        return "; ".join(said) or None

    @property
    def position_std(self) -> float:
        """Root of the summed variances of x, y and z, in units of the model: metres where it is metric."""
        return math.sqrt(float(np.trace(self.covariance[3:, 3:])))

    @property
    def rotation_std_deg(self) -> float:
        """Root of the summed variances about three axes, in degrees."""
        return math.degrees(math.sqrt(float(np.trace(self.covariance[:3, :3]))))


@dataclass(frozen=True)
class NoPose:
    """Why no pose is given."""

    reason: WhyNot
    num_correspondences: int
    num_inliers: int = 0

    @property
    def sentence(self) -> str:
        """For people: what was expected and what came."""
        if self.reason == "few correspondences":
            return f"expected at least {MIN_INLIERS} matches with points of the model, got {self.num_correspondences}"
        of = f"{self.num_inliers} of {self.num_correspondences} matches with points of the model"
        if self.reason == "few inliers":
            return f"expected at least {MIN_INLIERS} matches to agree with one pose, got {of}"
        if self.reason == "by chance":
            return f"expected more matches to agree with one pose than by chance, got {of}"
        if self.reason == "mirrored":
            return f"expected a photo as it was taken, got a mirrored one ({of} say so); mirror it back"
        return f"expected matches that fix a pose, got {of} that leave it open: too far, too near to each other or flat"


@dataclass(frozen=True)
class PoseOptions:
    """How the camera of a photo is treated when its pose is sought.

    intrinsics: "known" holds the camera; "guess" also tries other focal lengths, and refines focal length and, from 50
        inliers on, distortion, with a principal point that stays.
    any_camera: take a camera with any principal point, side ratio and radial distortion (see `free_camera`) where the
        correspondences agree better with it by far, and refuse a photo that is mirrored.
    """

    intrinsics: Literal["known", "guess"] = "guess"
    any_camera: bool = False
    seed: int = 0  # of RANSAC


def estimate_absolute_pose(
    pixels: np.ndarray, points: np.ndarray, camera: Camera, options: PoseOptions | None = None
) -> AbsolutePose | NoPose:
    """The pose that most correspondences between pixels of a photo and points of known place agree with.

    pixels: (n, 2) float64 px, the first pixel's centre at (0, 0), distorted as the camera says. points: (n, 3) float64
    in the world, any unit. camera: of the photo; stays as it is.
    A correspondence agrees where the point is seen less than 4 px away, in photos larger than 1600 px as much more. The
    pose is found by COLMAP's LO-RANSAC (Chum et al. 2003), then refined robustly on all that agree, a few times. It is
    refused where fewer than 12 agree, where as many could agree by chance (number of false alarms above 1e-3: Moisan &
    Stival, IJCV 2004, section 4), and where they hardly fix it: with a standard deviation of the position above a fifth
    of the median depth, or of the rotation above 10°.
    The covariance is s² (JᵀJ)⁻¹ of the inliers' reprojection errors, s² their squares over the redundancy
    (Hartley & Zisserman, Multiple View Geometry, 2nd edition, section 5.2). It takes the points as exact, and a guessed
    camera's principal point as known to 0.5 % of the longer side. Same seed, same bits.
    Raises InvalidValueError where the arrays have other shapes or are not finite.
    """
    options = options or PoseOptions()
    _check(pixels, points)
    total, size = len(pixels), (camera.width, camera.height)
    if total < MIN_INLIERS:
        return NoPose("few correspondences", total)
    xy = colmap_from_pixels(torch.from_numpy(pixels)).numpy()
    max_error_px = _MAX_ERROR_PX * max(1.0, max(size) / _WORKED_ON_PX)
    fits = [_fit(xy, points, camera, how, max_error_px, options.seed) for how in _HOWS[options.intrinsics]]
    fit = max((fit for fit in fits if fit is not None), key=_Fit.rank, default=None)
    num_inliers = 0 if fit is None else int(fit.inliers.sum())
    if options.any_camera:
        free = free_camera(xy, points, size, max_error_px, options.seed)
        if free is not None and free.inliers.sum() >= max(MANY_INLIERS, num_inliers):
            freed = _of_free_camera(free, xy, points, size)
            if fit is None or freed.cost(max_error_px) < _FREE_COST * fit.cost(max_error_px):
                fit, num_inliers = freed, int(free.inliers.sum())
                if free.mirrored:
                    return NoPose("mirrored", total, num_inliers)
    if fit is None or num_inliers < MIN_INLIERS:
        return NoPose("few inliers", total, num_inliers)
    if log10_false_alarms(total, num_inliers, share_near_point(max_error_px, *size), 3) > _LOG_CHANCE:
        return NoPose("by chance", total, num_inliers)
    covariance = _covariance(fit, xy, points)
    if covariance is None:
        return NoPose("degenerate", total, num_inliers)
    focal_std_px = math.sqrt(float(covariance[6, 6])) if len(covariance) > 6 else None
    pose = AbsolutePose(fit.pose, covariance[:6, :6], fit.camera, fit.inliers, fit.error_px, focal_std_px)
    depth = float(np.median(points[fit.inliers] @ fit.pose[2, :3] + fit.pose[2, 3]))
    if pose.position_std > _MOST_POSITION_STD * depth or pose.rotation_std_deg > _MOST_ROTATION_STD_DEG:
        return NoPose("degenerate", total, num_inliers)
    return pose


def _check(pixels: np.ndarray, points: np.ndarray) -> None:
    if pixels.ndim != 2 or pixels.shape[1] != 2 or points.shape != (len(pixels), 3):
        raise InvalidValueError(
            f"estimate_absolute_pose: expected pixels (n, 2) and as many points (n, 3), got {pixels.shape} and"
            f" {points.shape}"
        )
    if not (np.isfinite(pixels).all() and np.isfinite(points).all()):
        raise InvalidValueError("estimate_absolute_pose: expected finite pixels and points, got others; leave them out")


class _How(NamedTuple):
    """One way to come to a pose."""

    find_focal: bool  # from the correspondences, instead of starting with the camera's
    refine: bool  # intrinsics


_HOWS = {"known": (_How(False, False),), "guess": (_How(False, True), _How(True, True))}


class _Fit(NamedTuple):
    """A pose, and the correspondences that agree with it."""

    pose: np.ndarray  # (3, 4)
    camera: Camera
    free: list[int]  # which of the camera's parameters were refined: the focal lengths first
    inliers: np.ndarray  # (n,) bool
    error_px: float

    def rank(self) -> tuple[int, float]:
        """The greater, the better."""
        return int(self.inliers.sum()), -self.error_px

    def cost(self, max_error_px: float) -> float:
        """Sum of squared errors, those of outliers cut off (MSAC: Torr & Zisserman 2000)."""
        num_inliers = int(self.inliers.sum())
        of_inliers = num_inliers * self.error_px**2 if num_inliers else 0.0
        return of_inliers + (len(self.inliers) - num_inliers) * max_error_px**2


def _fit(xy: np.ndarray, points: np.ndarray, camera: Camera, how: _How, max_error_px: float, seed: int) -> _Fit | None:
    """RANSAC, then refinement and choice of the inliers in turns; None where nothing sensible comes out."""
    import pycolmap

    trial = pycolmap.Camera(camera.todict())
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    estimation.ransac.max_error = max_error_px
    estimation.ransac.random_seed = seed
    estimation.estimate_focal_length = how.find_focal
    refinement = pycolmap.AbsolutePoseRefinementOptions()
    refinement.gradient_tolerance = 1e-8
    refinement.refine_focal_length = how.refine
    with colmap_log(FATAL):
        answer = pycolmap.estimate_and_refine_absolute_pose(xy, points, trial, estimation, refinement)
        if answer is None:
            return None
        pose, inliers = answer["cam_from_world"], np.asarray(answer["inlier_mask"], bool)
        error_px = np.full(len(xy), np.inf)
        for _ in range(_REFINEMENTS):
            refinement.refine_extra_params = how.refine and int(inliers.sum()) >= MANY_INLIERS
            answer = pycolmap.refine_absolute_pose(pose, xy, points, inliers, trial, refinement)
            if answer is None or (how.refine and trial.has_bogus_params(0.1, 10.0, 1.0)):
                return None
            pose = answer["cam_from_world"]
            error_px = _errors_px(xy, points, trial, pose.matrix())
            inliers = error_px < max_error_px
            if inliers.sum() < MIN_INLIERS:
                break
    free = list(trial.focal_length_idxs()) if how.refine else []
    free += list(trial.extra_params_idxs()) if refinement.refine_extra_params else []
    squared = error_px[inliers] ** 2
    return _Fit(pose.matrix(), trial, free, inliers, float(np.sqrt(squared.mean())) if len(squared) else math.inf)


def _of_free_camera(free: FreeCamera, xy: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> _Fit:
    import pycolmap

    model, params, refined = "PINHOLE", list(free.params), [0, 1, 2, 3]
    if free.k1:
        model, params, refined = "OPENCV", [*params, free.k1, 0.0, 0.0, 0.0], [*refined, 4]
    camera = pycolmap.Camera(model=model, width=size[0], height=size[1], params=params)
    if free.mirrored:
        xy = np.column_stack((size[0] - xy[:, 0], xy[:, 1]))
    squared = _errors_px(xy, points, camera, free.pose)[free.inliers] ** 2
    return _Fit(free.pose, camera, refined, free.inliers, float(np.sqrt(squared.mean())))


def _errors_px(xy: np.ndarray, points: np.ndarray, camera: Camera, pose: np.ndarray) -> np.ndarray:
    """(n,) reprojection errors; infinite behind the camera."""
    local = points @ pose[:, :3].T + pose[:, 3]
    error = np.linalg.norm(pixels_from_points(camera, local) - xy, axis=1)
    return np.where(np.isfinite(error) & (local[:, 2] > 0), error, np.inf)


def _covariance(fit: _Fit, xy: np.ndarray, points: np.ndarray) -> np.ndarray | None:
    """(6 + f, 6 + f) of turn, centre and the free intrinsics: s² (JᵀJ)⁻¹; None where that is singular.

    J by central differences; s² is the squared residuals of the inliers over the redundancy. Where intrinsics are free
    but for the principal point, that is held without being known: what an error of it would do to the others is added.
    """
    import pycolmap

    xy, points = xy[fit.inliers], points[fit.inliers]
    rotation, center = fit.pose[:, :3], center_of(fit.pose)
    changed = pycolmap.Camera(fit.camera.todict())
    given = np.array(fit.camera.params)
    depth = float(np.median((points - center) @ rotation[2]))
    steps = np.array([1e-6] * 3 + [1e-6 * depth] * 3 + [1e-6 * max(1.0, abs(given[index])) for index in fit.free])

    def project(change: np.ndarray) -> np.ndarray:
        params = given.copy()
        params[fit.free] += change[6:]
        changed.params = params.tolist()
        turned = pycolmap.Rotation3d(change[:3]).matrix() @ rotation
        return pixels_from_points(changed, (points - center - change[3:6]) @ turned.T).ravel()

    axes = np.diag(steps)
    jacobian = np.stack([(project(axis) - project(-axis)) for axis in axes], 1) / (2 * steps)
    residuals = project(np.zeros(len(steps))) - xy.ravel()
    redundancy = len(residuals) - len(steps)
    scale = np.linalg.norm(jacobian, axis=0)
    if redundancy < 1 or not np.isfinite(jacobian).all() or (scale == 0).any():
        return None
    normal = (jacobian / scale).T @ (jacobian / scale)
    if np.linalg.eigvalsh(normal)[0] < _LEAST_EIGENVALUE:
        return None
    covariance = np.linalg.inv(normal) / np.outer(scale, scale)
    moved = np.zeros((len(residuals), 2))
    moved[::2, 0] = moved[1::2, 1] = _PRINCIPAL_POINT_STD * max(fit.camera.width, fit.camera.height)
    is_held = fit.free and set(fit.free).isdisjoint(fit.camera.principal_point_idxs())
    held = covariance @ jacobian.T @ moved if is_held else np.zeros((len(steps), 2))
    return float(residuals @ residuals) / redundancy * covariance + held @ held.T
