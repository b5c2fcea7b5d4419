"""A frame becomes part of the map: its keypoints are matched with keyframes, and new points are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lightmatch.matchers import Matcher
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.map import NO_POINT, Keyframe, Map
from lightmatch.tracking.triangulation import triangulate

_PARTNERS = 2  # keyframes that a new one is matched with: the latest, and the one that sees most with it
_NEAR_PX = 1.5  # a followed point and a keypoint nearer than this are the same
_LEAST_ANGLE_DEG = 1.0
_AROUND = 10  # keyframes whose points are looked for where they should be seen
_FARTHEST = 60.0  # baselines: points farther by their disparity are too uncertain to be made of it, but for
_NEAREST = 100  # of the keypoints with a depth: a scene may be far as a whole


@dataclass(frozen=True, eq=False)
class AddedKeyframe:
    """A keyframe that is part of the map now, and its matches."""

    number: int
    matched: dict[int, np.ndarray]  # by the keyframe it was matched with, the latest first: (m, 2) keypoints of both


@dataclass(frozen=True, eq=False)
class FollowedPoints:
    """Points of the map that optical flow found in a frame, and that agree with its pose."""

    points: np.ndarray  # (n,) numbers
    places: np.ndarray  # (n, 2) px of the ideal camera


def add_keyframe(
    mapped: Map,
    camera: TrackedCamera,
    matcher: Matcher,
    keyframe: Keyframe,
    followed: FollowedPoints,
    max_error_px: float,
) -> AddedKeyframe:
    """Add a keyframe with its pose to the map.

    Keypoints show points that were followed to them, points of the keypoints they match in other keyframes where these
    are seen as expected, points of the keyframes around that should be seen there and look alike, and new ones: by
    measured depth, or from two views.
    """
    partners = _partners(mapped, followed)
    both = [(mapped.keyframes[partner].features, keyframe.features) for partner in partners]
    matched = [one_to_one(found.indices.numpy()) for found in matcher.match_batch(both)]
    number = mapped.add_keyframe(keyframe)
    _observe_followed(mapped, number, followed)
    for partner, indices in zip(partners, matched, strict=True):
        _observe_matched(mapped, camera, number, partner, indices, max_error_px)
    _observe_projected(mapped, camera, number, max_error_px)
    if camera.baseline is not None:
        add_measured(mapped, camera, number)
    for partner, indices in zip(partners, matched, strict=True):
        _add_triangulated(mapped, camera, number, partner, indices, max_error_px)
    return AddedKeyframe(number, dict(zip(partners, matched, strict=True)))


def one_to_one(indices: np.ndarray) -> np.ndarray:
    """Of matches (m, 2) the first of each keypoint of the second image: matchers that are not mutual give several."""
    return indices[np.sort(np.unique(indices[:, 1], return_index=True)[1])]


def _partners(mapped: Map, followed: FollowedPoints) -> list[int]:
    """The latest keyframe, and those that see most of the followed points."""
    if not mapped.keyframes:
        return []
    latest = mapped.latest
    seen = mapped.seen_by(point for point in followed.points.tolist() if point in mapped)
    del seen[latest]
    return [latest, *sorted(seen, key=lambda keyframe: (-seen[keyframe], keyframe))[: _PARTNERS - 1]]


def _observe_followed(mapped: Map, number: int, followed: FollowedPoints) -> None:
    keyframe = mapped.keyframes[number]
    if not len(followed.points) or not len(keyframe.places):
        return
    distance = np.linalg.norm(followed.places[:, None] - keyframe.places[None], axis=2)
    distance[~np.isfinite(distance)] = np.inf  # a place that the ideal camera does not see
    nearest = distance.argmin(1)
    for row in np.argsort(distance[np.arange(len(nearest)), nearest], kind="stable"):
        point, keypoint = int(followed.points[row]), int(nearest[row])
        if distance[row, keypoint] > _NEAR_PX:
            break
        if point in mapped:
            mapped.observe_where_free(point, number, keypoint)


def _observe_matched(
    mapped: Map, camera: TrackedCamera, number: int, partner: int, indices: np.ndarray, max_error_px: float
) -> None:
    keyframe, other = mapped.keyframes[number], mapped.keyframes[partner]
    points = other.points[indices[:, 0]]
    rows = np.flatnonzero(points != NO_POINT)
    places, depth = camera.project(mapped.xyz[points[rows]], keyframe.cam_from_world)
    near = (depth > 0) & (np.linalg.norm(places - keyframe.places[indices[rows, 1]], axis=1) <= max_error_px)
    for row in rows[near].tolist():
        mapped.observe_where_free(int(points[row]), number, int(indices[row, 1]))


def _observe_projected(mapped: Map, camera: TrackedCamera, number: int, max_error_px: float) -> None:
    """Points of the keyframes around, where the keypoint that looks most like them lies where they are expected.

    Where that keypoint shows another point already, both are one (as the fusion of Mur-Artal et al., ORB-SLAM, 2015,
    section VI.B): so a place that is seen again is not mapped again.
    """
    keyframe = mapped.keyframes[number]
    around = mapped.covisible(number)[:_AROUND]
    points = sorted({point for other in around for point in mapped.points_of(other)} - set(mapped.points_of(number)))
    places, depth = camera.project(mapped.xyz[points], keyframe.cam_from_world)
    ahead = np.flatnonzero(depth > 0)
    pixels = camera.real(places[ahead])
    with np.errstate(invalid="ignore"):
        inside = (pixels > -max_error_px).all(1) & (pixels < np.add(camera.image_size, max_error_px)).all(1)
    rows = ahead[inside]
    if not len(rows) or not len(keyframe.places):
        return
    latest = [max(mapped.observers(points[row]).items()) for row in rows.tolist()]
    looks = torch.stack([mapped.keyframes[other].features.descriptors[keypoint] for other, keypoint in latest])
    keypoints = (looks @ keyframe.features.descriptors.T).argmax(1).numpy()
    near = np.linalg.norm(places[rows] - keyframe.places[keypoints], axis=1) <= max_error_px
    for row, keypoint in zip(rows[near].tolist(), keypoints[near].tolist(), strict=True):
        point, own = points[row], int(keyframe.points[keypoint])
        if own == NO_POINT:
            mapped.observe_where_free(point, number, keypoint)
        elif not mapped.observers(own).keys() & mapped.observers(point).keys():
            mapped.merge(point, own)


def add_measured(mapped: Map, camera: TrackedCamera, number: int) -> None:
    """Points of keypoints that have a depth and no point: the near ones, and the nearest in any case.

    So do Mur-Artal & Tardós, ORB-SLAM2, 2017, when they insert a keyframe.
    """
    assert camera.baseline is not None
    keyframe = mapped.keyframes[number]
    depth = camera.depth_of(keyframe.places, keyframe.right_x)
    reach = max([_FARTHEST * camera.baseline, *np.sort(depth[np.isfinite(depth)])[:_NEAREST]])
    with np.errstate(invalid="ignore"):
        new = np.flatnonzero((keyframe.points == NO_POINT) & (depth <= reach))
    for keypoint, xyz in zip(
        new.tolist(), camera.unproject(keyframe.places[new], depth[new], keyframe.cam_from_world), strict=True
    ):
        mapped.add_point(xyz, [(number, keypoint)])


def _add_triangulated(
    mapped: Map, camera: TrackedCamera, number: int, partner: int, indices: np.ndarray, max_error_px: float
) -> None:
    """Points of matches neither of whose keypoints has one."""
    keyframe, other = mapped.keyframes[number], mapped.keyframes[partner]
    free = (other.points[indices[:, 0]] == NO_POINT) & (keyframe.points[indices[:, 1]] == NO_POINT)
    first, second = indices[free].T
    found = triangulate(
        camera, other.cam_from_world, keyframe.cam_from_world, other.places[first], keyframe.places[second]
    )
    for row in np.flatnonzero(found.good(_LEAST_ANGLE_DEG, max_error_px)).tolist():
        mapped.add_point(found.xyz[row], [(partner, int(first[row])), (number, int(second[row]))])


def place_again(mapped: Map, camera: TrackedCamera) -> None:
    """Move points to where the first keyframe that measured their depth sees them: what depths mean has changed."""
    for point in mapped.points:
        for number, keypoint in sorted(mapped.observers(point).items()):
            keyframe = mapped.keyframes[number]
            place, right_x = keyframe.places[[keypoint]], keyframe.right_x[[keypoint]]
            depth = camera.depth_of(place, right_x)
            if np.isfinite(depth[0]):
                mapped.xyz[point] = camera.unproject(place, depth, keyframe.cam_from_world)[0]
                break
