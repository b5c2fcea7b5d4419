"""Points from two keyframes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightmatch.geometry.poses import center_of
from lightmatch.tracking.camera import TrackedCamera


@dataclass(frozen=True, eq=False)
class TriangulatedPoints:
    """Points and how good they are."""

    xyz: np.ndarray  # (n, 3)
    angles_deg: np.ndarray  # (n,) between the two rays
    errors_px: np.ndarray  # (n,) the larger of both images; inf behind a camera

    def good(self, min_angle_deg: float, max_error_px: float) -> np.ndarray:
        """(n,) bool."""
        return (self.angles_deg >= min_angle_deg) & (self.errors_px <= max_error_px)


def triangulate(
    camera: TrackedCamera, pose0: np.ndarray, pose1: np.ndarray, places0: np.ndarray, places1: np.ndarray
) -> TriangulatedPoints:
    """Points from two views: linear, by the singular vectors (Hartley & Zisserman 2004, section 12.2).

    pose0, pose1: (3, 4) cam_from_world. places0, places1: (n, 2) px of the ideal camera. Where a place is NaN, as the
    lens has no ray there, the error is infinite.
    """
    known = np.asarray(np.isfinite(np.hstack((places0, places1))).all(axis=1))
    if not known.all():
        some = triangulate(camera, pose0, pose1, places0[known], places1[known])
        found = TriangulatedPoints(np.zeros((len(known), 3)), np.zeros(len(known)), np.full(len(known), np.inf))
        found.xyz[known], found.angles_deg[known], found.errors_px[known] = some.xyz, some.angles_deg, some.errors_px
        return found
    rows = []
    for pose, places in ((pose0, places0), (pose1, places1)):
        rays = camera.rays(places)
        rows += [rays[:, :1] * pose[2] - pose[0], rays[:, 1:] * pose[2] - pose[1]]
    if not len(places0):
        return TriangulatedPoints(np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    homogeneous = np.linalg.svd(np.stack(rows, 1))[2][:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        xyz = homogeneous[:, :3] / homogeneous[:, 3:]
    errors = np.zeros(len(xyz))
    for pose, places in ((pose0, places0), (pose1, places1)):
        seen, depth = camera.project(xyz, pose)
        errors = np.maximum(errors, np.where(depth > 0, np.linalg.norm(seen - places, axis=1), np.inf))
    rays = [xyz - center_of(pose) for pose in (pose0, pose1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = (rays[0] * rays[1]).sum(1) / np.linalg.norm(rays[0], axis=1) / np.linalg.norm(rays[1], axis=1)
    angles = np.degrees(np.arccos(np.clip(np.nan_to_num(cosine, nan=1.0), -1, 1)))
    finite = np.isfinite(np.abs(xyz).max(axis=1))
    return TriangulatedPoints(
        np.where(finite[:, None], xyz, 0.0), angles, np.where(finite, np.nan_to_num(errors, nan=np.inf), np.inf)
    )
