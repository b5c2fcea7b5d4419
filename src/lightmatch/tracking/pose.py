"""The pose of a frame from points of the map whose places are known."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lightmatch.tracking.camera import TrackedCamera

_ROUNDS = 15
_FEWEST = 4  # points that fix a pose
_ENOUGH = 1e-6  # rad, and of the distance of the points: a step that ends the search
_NEAR = 1e-3  # least depth, of the median


@dataclass(frozen=True, eq=False)
class PoseFit:
    """A refined pose."""

    cam_from_world: np.ndarray  # (3, 4)
    inliers: np.ndarray  # (n,) bool
    covariance: np.ndarray  # (6, 6) rows 0–2: rotation about the camera's axes, rad; 3–5: centre in the world
    error_px: float  # median of the inliers


def refine_pose(
    cam_from_world: np.ndarray,
    points: np.ndarray,
    pixels: np.ndarray,
    camera: TrackedCamera,
    max_error_px: float,
    sigma_px: float = 1.0,
) -> PoseFit | None:
    """The pose near a given one that agrees best with where points are seen; None where they do not fix it.

    cam_from_world: (3, 4) to start from. points: (n, 3) in the world. pixels: (n, 2) of the ideal camera. Gauss–Newton
    on reprojection errors that count less the larger they are (Cauchy, scale sigma_px, more while most are larger).
    Inliers are nearer than max_error_px.
    """
    if len(points) < _FEWEST:
        return None
    pose = np.array(cam_from_world, np.float64)
    normal = np.eye(6)
    for _ in range(_ROUNDS):
        local = points @ pose[:, :3].T + pose[:, 3]
        ahead = local[:, 2] > _NEAR * max(float(np.median(np.abs(local[:, 2]))), 1e-12)
        if ahead.sum() < _FEWEST:
            return None
        x = local if ahead.all() else local[ahead]
        residual, jacobian = _linearized(x, pixels[ahead], camera)
        error = np.hypot(residual[:, 0], residual[:, 1])
        scale_px = max(sigma_px, 1.5 * float(np.median(error)))  # far from the end, all errors are large
        weight = 1 / (1 + (error / scale_px) ** 2)
        weighted = (jacobian * weight[:, None, None]).reshape(-1, 6)
        normal = weighted.T @ jacobian.reshape(-1, 6)
        right = weighted.T @ residual.reshape(-1)
        scale = np.sqrt(np.diag(normal)) + 1e-12
        try:
            step = -np.linalg.solve(normal / scale / scale[:, None], right / scale) / scale
        except np.linalg.LinAlgError:
            return None
        turn = cv2.Rodrigues(step[:3])[0]
        pose = np.column_stack((turn @ pose[:, :3], turn @ pose[:, 3] + step[3:]))
        if np.linalg.norm(step[:3]) < _ENOUGH and np.linalg.norm(step[3:]) < _ENOUGH * float(np.median(x[:, 2])):
            break
    places, depth = camera.project(points, pose)
    error = np.where(depth > 0, np.linalg.norm(places - pixels, axis=1), np.inf)
    inliers = error < max_error_px
    if inliers.sum() < _FEWEST or not np.isfinite(pose).all():
        return None
    median = float(np.median(error[inliers]))
    try:
        covariance = np.linalg.inv(normal) * max(median, 0.3) ** 2
    except np.linalg.LinAlgError:
        return None
    turned = np.zeros((6, 6))
    turned[:3, :3], turned[3:, 3:] = np.eye(3), -pose[:, :3].T
    return PoseFit(pose, inliers, turned @ covariance @ turned.T, median)


def _linearized(local: np.ndarray, pixels: np.ndarray, camera: TrackedCamera) -> tuple[np.ndarray, np.ndarray]:
    """Reprojection errors (n, 2) px, and their derivatives (n, 2, 6) by a turn about the camera's axes, then a shift.

    local: (n, 3) in the camera, before it. pixels: (n, 2) where they are seen.
    """
    (fx, fy), center = np.diag(camera.K)[:2], camera.K[:2, 2]
    inverse = 1 / local[:, 2]
    u, v = local[:, 0] * inverse, local[:, 1] * inverse
    residual = np.column_stack((fx * u, fy * v)) + center - pixels
    jacobian = np.zeros((len(local), 2, 6))
    jacobian[:, 0, 0], jacobian[:, 0, 1], jacobian[:, 0, 2] = -fx * u * v, fx * (1 + u * u), -fx * v
    jacobian[:, 1, 0], jacobian[:, 1, 1], jacobian[:, 1, 2] = -fy * (1 + v * v), fy * u * v, fy * u
    jacobian[:, 0, 3], jacobian[:, 0, 5] = fx * inverse, -fx * u * inverse
    jacobian[:, 1, 4], jacobian[:, 1, 5] = fy * inverse, -fy * v * inverse
    return residual, jacobian
