"""Keypoints with depths and relative poses of photos, from verified pairs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.database import Database, open_database
from lightmatch.colmap.log import colmap_log
from lightmatch.reconstruction.disambiguation.depths import Verified, depths_of_keypoints, focal_lengths

if TYPE_CHECKING:
    from pycolmap import Camera

_LEAST_POINTS = 10
_MAX_MATCH_DISTANCE = 0.02  # of the longer side, between a raw match and its projection
_RANSAC_ERROR = 0.006  # of the longer side


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo with the depths of its keypoints."""

    name: str
    keypoints: np.ndarray  # (n, 2) COLMAP's px
    rays: np.ndarray  # (n, 3) in the camera's frame, z = 1
    depth: np.ndarray  # (n,) z in the unit of this photo, NaN where unknown
    camera: Camera

    @property
    def size_px(self) -> int:
        """The longer side, px."""
        return max(self.camera.width, self.camera.height)


@dataclass(frozen=True, eq=False)
class Placement:
    """The pose of photo 1 in the frame of photo 0, from matched keypoints with depth."""

    rotation: np.ndarray  # (3, 3) cam1 from cam0
    translation: np.ndarray  # (3,) in photo 0's unit of depth
    error: float  # median reprojection error of the matches, relative to the longer side
    unit: float  # unit of depth of photo 1, in units of photo 0


@dataclass(frozen=True, eq=False)
class ViewPair:
    """Two photos with verified matches."""

    photos: tuple[int, int]  # numbers, the first below the second
    matches: np.ndarray  # (k, 2) keypoints in the two, verified
    placed: tuple[Placement | None, Placement | None]  # the second in the first, the first in the second
    found: tuple[
        np.ndarray, np.ndarray
    ]  # matched keypoints of either photo: verified, or raw matches near their projection
    first_keypoints: int | None = None  # of either photo, which alone were matched; None: all


@dataclass(frozen=True, eq=False)
class Views:
    """All photos, in the order of their names, and all verified pairs, in the order of their photos."""

    photos: list[Photo]
    pairs: list[ViewPair]


def predict(photo0: Photo, photo1: Photo, place: Placement) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project the n keypoints of photo 0 into photo 1.

    Returns pixels (n, 2), the angle between the two viewing rays (n,) in degrees and the ratio of depth 1 to depth 0
    (n,); NaN where the depth is unknown or the point is behind photo 1.
    """
    points = photo0.rays * photo0.depth[:, None]
    seen = points @ place.rotation.T + place.translation
    in_front = seen[:, 2] > 1e-6 * np.abs(photo0.depth)
    seen = np.where(in_front[:, None], seen, np.nan)
    pixels = np.full((len(points), 2), np.nan)
    known = np.flatnonzero(np.isfinite(seen[:, 0]))
    if len(known):
        pixels[known] = photo1.camera.img_from_cam(seen[known])
    from_centre1 = points + place.rotation.T @ place.translation
    cosine = (points * from_centre1).sum(1) / (
        np.linalg.norm(points, axis=1) * np.linalg.norm(from_centre1, axis=1) + 1e-300
    )
    angle_deg = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return pixels, np.where(in_front, angle_deg, np.nan), seen[:, 2] / photo0.depth


def views_of_database(path: Path, first_keypoints: Mapping[tuple[str, str], int] | None = None) -> Views:
    """Views from keypoints and verified matches.

    path: a COLMAP database whose pairs were verified. Cameras without a prior focal length get the one that most of
    their fundamental matrices agree with; distortion is ignored.
    first_keypoints: as for `find_doppelgangers`.
    """
    few = {frozenset(names): number for names, number in (first_keypoints or {}).items()}
    with colmap_log(), open_database(path) as database:
        images, cameras = database.photos, database.cameras
        keypoints = [database.keypoints(image.name) for image in images]
        number = {image.name: n for n, image in enumerate(images)}
        verified = list(database.verified())
        raw = _raw_matches(database, number)
    found: Verified = []
    for pair, geometry in verified:
        if not len(geometry.inlier_matches):
            continue
        first, second = (number[name] for name in pair)
        if first > second:
            geometry.invert()
            first, second = second, first
        found.append(((first, second), geometry))
    found.sort(key=lambda pair: pair[0])

    focal = focal_lengths(cameras, [image.camera_id for image in images], found)
    pinholes = {camera_id: _pinhole(camera, focal[camera_id]) for camera_id, camera in sorted(cameras.items())}
    own = [pinholes[image.camera_id] for image in images]
    rays = [_rays(camera, points) for camera, points in zip(own, keypoints, strict=True)]
    depths = depths_of_keypoints(found, keypoints, rays, own)
    photos = [
        Photo(image.name, points, ray, depth, camera)
        for image, points, ray, depth, camera in zip(images, keypoints, rays, depths, own, strict=True)
    ]
    pairs = []
    for numbers, geometry in found:
        first, second = (photos[n] for n in numbers)
        matches = np.array(geometry.inlier_matches).reshape(-1, 2)
        placed = (_place(first, second, matches), _place(second, first, matches[:, ::-1]))
        pair = _view_pair(photos, numbers, matches, raw.get(numbers, matches), placed)
        pairs.append(replace(pair, first_keypoints=few.get(frozenset((first.name, second.name)))))
    return Views(photos, pairs)


def _rays(camera: Camera, keypoints: np.ndarray) -> np.ndarray:
    """(n, 3) with z = 1; NaN where a distortion has no inverse."""
    normalized = np.full((len(keypoints), 2), np.nan)
    if len(keypoints):
        normalized[:] = camera.cam_from_img(keypoints)
    return np.column_stack([normalized, np.ones(len(keypoints))])


def _pinhole(camera: Camera, focal_px: float) -> Camera:
    import pycolmap

    params = [focal_px, camera.width / 2, camera.height / 2]
    return pycolmap.Camera(model="SIMPLE_PINHOLE", width=camera.width, height=camera.height, params=params)


def _raw_matches(database: Database, number: Mapping[str, int]) -> dict[tuple[int, int], np.ndarray]:
    """Matches before verification by numbers of photos: (k, 2)."""
    raw = {}
    for pair, matches in database.all_matches():
        first, second = (number[name] for name in pair)
        raw[min(first, second), max(first, second)] = matches if first < second else matches[:, ::-1]
    return raw


def _view_pair(
    photos: list[Photo],
    numbers: tuple[int, int],
    matches: np.ndarray,
    raw: np.ndarray,
    placed: tuple[Placement | None, Placement | None],
) -> ViewPair:
    """A pair with its matched keypoints.

    Where the pair was verified by a homography, matches off the plane are not among the verified ones; raw matches
    near their projection are added.
    """
    found = []
    for side, place in enumerate(placed):
        here, there = photos[numbers[side]], photos[numbers[1 - side]]
        index = matches[:, side]
        if place is not None and len(raw):
            pixels, _, _ = predict(here, there, place)
            distance = np.linalg.norm(pixels[raw[:, side]] - there.keypoints[raw[:, 1 - side]], axis=1)
            with np.errstate(invalid="ignore"):
                index = np.union1d(index, raw[distance < _MAX_MATCH_DISTANCE * there.size_px, side])
        found.append(index)
    return ViewPair(numbers, matches, placed, (found[0], found[1]))


def _place(photo0: Photo, photo1: Photo, matches: np.ndarray) -> Placement | None:
    """The absolute pose of photo 1 from keypoints of photo 0 with depth; None where too few have one."""
    import pycolmap

    known = matches[np.isfinite(photo0.depth[matches[:, 0]])]
    if len(known) < _LEAST_POINTS:
        return None
    points = photo0.rays[known[:, 0]] * photo0.depth[known[:, 0], None]
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = _RANSAC_ERROR * photo1.size_px
    options.ransac.max_num_trials = 200
    options.ransac.random_seed = 0
    found = pycolmap.estimate_and_refine_absolute_pose(photo1.keypoints[known[:, 1]], points, photo1.camera, options)
    if found is None:
        return None
    pose = found["cam_from_world"]
    place = Placement(np.array(pose.rotation.matrix()), np.array(pose.translation), 0.0, 1.0)
    error = _error(photo0, photo1, place, matches)
    if error is None:
        return None
    depth1 = points @ place.rotation[2] + place.translation[2]
    both = np.isfinite(photo1.depth[known[:, 1]]) & (depth1 > 0)
    unit = float(np.median(depth1[both] / photo1.depth[known[both, 1]])) if both.any() else np.nan
    return Placement(place.rotation, place.translation, error, unit)


def _error(photo0: Photo, photo1: Photo, place: Placement, matches: np.ndarray) -> float | None:
    pixels, _, _ = predict(photo0, photo1, place)
    distance = np.linalg.norm(pixels[matches[:, 0]] - photo1.keypoints[matches[:, 1]], axis=1)
    distance = distance[np.isfinite(distance)]
    return float(np.median(distance)) / photo1.size_px if len(distance) >= _LEAST_POINTS else None
