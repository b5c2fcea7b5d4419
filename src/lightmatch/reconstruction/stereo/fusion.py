"""Fusion of depth maps: points on which several views agree, without duplicates."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from lightmatch.reconstruction.outputs.clouds import DensePoints
from lightmatch.reconstruction.stereo.views import StereoView, rays

_ERROR_PX = 1.0  # forward–backward reprojection error
_RELATIVE_ERROR = 0.01  # of the depths
_LEAST_ANGLE_DEG = 1.5


class Agreed(NamedTuple):
    """The pixels of a view whose depth is confirmed by other views; n of them."""

    points: np.ndarray  # (n, 3) float64 in the frame of the model, the mean over the agreeing views
    normals: np.ndarray  # (n, 3) float32 in the frame of the model, towards the camera
    pixels: np.ndarray  # (n,) int64, row · width + column
    num_views: np.ndarray  # (n,) int32, this one included
    footprint: np.ndarray  # (n,) float32: size of a pixel at that depth, in units of the model


def agreed_points(
    view: StereoView, inverse_depth: np.ndarray, others: list[tuple[StereoView, np.ndarray]], least: int
) -> Agreed:
    """The points of one view that at least `least` of the other views confirm.

    inverse_depth: (h, w), 0 where unknown. others: views with their inverse depths. A view confirms a point where the
    forward–backward reprojection through its own depth map ends within a pixel. At least one confirming view must
    have a triangulation angle of 1.5°.
    """
    width = inverse_depth.shape[1]
    pixels = np.flatnonzero(inverse_depth)
    directions = rays(view.K, view.size).reshape(3, -1)[:, pixels].T
    depth = 1 / inverse_depth.reshape(-1)[pixels].astype(np.float64)
    points = (directions * depth[:, None]) @ view.rotation + view.center
    place = np.column_stack((pixels % width, pixels // width))
    total, count, widest = points.copy(), np.zeros(len(points), np.int32), np.zeros(len(points))
    for other, other_inverse_depth in others:
        there, confirmed = _seen_by(other, other_inverse_depth, points)
        back = (there - view.center) @ view.rotation.T
        confirmed &= back[:, 2] > 0
        z = np.where(confirmed, back[:, 2], 1)
        x = back[:, 0] / z * view.K[0, 0] + view.K[0, 2] - place[:, 0]
        y = back[:, 1] / z * view.K[1, 1] + view.K[1, 2] - place[:, 1]
        confirmed &= (x * x + y * y <= _ERROR_PX**2) & (np.abs(z - depth) <= _RELATIVE_ERROR * depth)
        total[confirmed] += there[confirmed]
        count += confirmed
        angle = _angle_deg(points, view.center, other.center)
        widest = np.where(confirmed, np.maximum(widest, angle), widest)
    kept = (count >= least) & (widest >= _LEAST_ANGLE_DEG)
    normals = _normals(view, inverse_depth).reshape(-1, 3)[pixels[kept]]
    mean = total[kept] / (count[kept] + 1)[:, None]
    footprint = (depth[kept] / view.K[0, 0]).astype(np.float32)
    return Agreed(mean, normals, pixels[kept], count[kept] + 1, footprint)


def _seen_by(other: StereoView, inverse_depth: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the depth map of `other` at the projections of `points` (n, 3), and whether they are known (n,)."""
    local = (points - other.center) @ other.rotation.T
    ahead = local[:, 2] > 1e-9
    z = np.where(ahead, local[:, 2], 1)
    x = np.where(ahead, local[:, 0] / z * other.K[0, 0] + other.K[0, 2], -9)
    y = np.where(ahead, local[:, 1] / z * other.K[1, 1] + other.K[1, 2], -9)
    height, width = inverse_depth.shape
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    # Bilinear; unknown where one of the four pixels is.
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    across, down = x - left, y - top
    corners = [inverse_depth[top + j, left + i] for j in (0, 1) for i in (0, 1)]
    known = np.minimum.reduce(corners) > 0
    upper, lower = (a + across * (b - a) for a, b in (corners[:2], corners[2:]))
    found = upper + down * (lower - upper)
    there = 1 / np.where(known, found, 1)
    ray = np.column_stack(((x - other.K[0, 2]) / other.K[0, 0], (y - other.K[1, 2]) / other.K[1, 1], np.ones(len(x))))
    return (ray * there[:, None]) @ other.rotation + other.center, inside & known


def _angle_deg(points: np.ndarray, center0: np.ndarray, center1: np.ndarray) -> np.ndarray:
    a, b = center0 - points, center1 - points
    cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-300)
    return np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))


def _normals(view: StereoView, inverse_depth: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32 normals in the frame of the model, from the depths of neighbouring pixels."""
    smooth = cv2.medianBlur(inverse_depth, 5)
    w = np.where(smooth > 0, smooth, np.float32(np.inf))
    local = rays(view.K, view.size).astype(np.float32) / w
    dx, dy = (np.gradient(local, axis=axis) for axis in (2, 1))
    normal = np.cross(dx, dy, axis=0)
    length = np.linalg.norm(normal, axis=0)
    away = (normal * rays(view.K, view.size)).sum(0) > 0
    normal = np.where(length > 0, normal / np.maximum(length, 1e-30), 0) * np.where(away, -1, 1)
    return np.einsum("chw,cd->hwd", normal, view.rotation).astype(np.float32)


def merge(cloud: DensePoints, footprint: np.ndarray) -> tuple[DensePoints, np.ndarray]:
    """One mean point for all points in the same voxel, and the mean footprints.

    footprint: (n,) size of a pixel at each point. The side of a voxel is the footprint rounded up to a power of two.
    The result is ordered by voxel, the finest first.
    """
    level = np.ceil(np.log2(footprint)).astype(int)
    clouds, sizes = [cloud.select(np.zeros(0, int))], [footprint[:0]]
    for size in np.unique(level):
        chosen = np.flatnonzero(level == size)
        cubes = np.floor(cloud.points[chosen] / 2.0**size).astype(np.int64)
        _, group, count = np.unique(_flat(cubes), return_inverse=True, return_counts=True)

        def mean(values: np.ndarray, group: np.ndarray = group, count: np.ndarray = count) -> np.ndarray:
            return np.stack([np.bincount(group, column, len(count)) / count for column in values.T], 1)

        normals = mean(cloud.normals[chosen])
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        views = np.zeros(len(count), np.int32)
        np.maximum.at(views, group, cloud.num_views[chosen])
        clouds.append(
            DensePoints(
                mean(cloud.points[chosen]).astype(np.float32),
                np.rint(mean(cloud.colors[chosen])).astype(np.uint8),
                np.where(length > 0, normals / np.maximum(length, 1e-30), 0).astype(np.float32),
                views,
            )
        )
        sizes.append(mean(footprint[chosen, None])[:, 0].astype(np.float32))
    return joined(clouds), np.concatenate(sizes)


def _flat(cubes: np.ndarray) -> np.ndarray:
    """(n,) one number for each different voxel. cubes: (n, 3) int."""
    cubes = cubes - cubes.min(0)
    spans = [int(span) + 1 for span in cubes.max(0)]
    if spans[0] * spans[1] * spans[2] < 2**62:
        return (cubes[:, 0] * spans[1] + cubes[:, 1]) * spans[2] + cubes[:, 2]
    return np.unique(cubes, axis=0, return_inverse=True)[1].reshape(-1)


def joined(clouds: list[DensePoints]) -> DensePoints:
    """The concatenation of at least one cloud."""
    return DensePoints(
        *(
            np.concatenate([getattr(cloud, name) for cloud in clouds])
            for name in ("points", "colors", "normals", "num_views")
        )
    )
