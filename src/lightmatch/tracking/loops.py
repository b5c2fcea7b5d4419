"""Loops: a keyframe that shows a place from before closes the path, and what was measured in between is corrected.

The keyframe is matched with the older one that looks most like it. Where enough of the points of that one are seen from
one pose, the difference to the pose that was tracked is spread over the keyframes, points are merged, and everything is
adjusted. One camera alone also loses its scale on the way, which the matched points show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from lightmatch.geometry.poses import angle_deg, center_of
from lightmatch.matchers import Matcher
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.map import NO_POINT, Map, alikeness
from lightmatch.tracking.relocalization import pose_of

_APART = 8  # keyframes at least between the two ends of a loop
INLIERS = 50  # points of the older keyframe that agree with one pose
SHARE = 0.5  # of those that match
_DRIFT, _DRIFT_OF_ONE = 0.1, 0.25  # of the way in between, in metres and of one camera: what a loop may correct
_TURNED_DEG = 30.0  # that it may turn; beyond these, two places look alike
_SCALED = 0.3  # ln of the scale that it may correct
_BOTH = 20  # matched points of both, to measure the scale
_NEIGHBOURS = 15  # points that a keyframe shares with those around it; a few are shared by chance


@dataclass(frozen=True, eq=False)
class Correction:
    """How the world moves at one end of a loop: turned and scaled about a centre, and shifted."""

    rotation: np.ndarray  # (3, 3)
    scale: float
    shift: np.ndarray  # (3,)

    def share(self, share: float) -> Correction:
        """A part of it, 0…1."""
        turn = cv2.Rodrigues(cv2.Rodrigues(self.rotation)[0] * share)[0]
        return Correction(turn, self.scale**share, self.shift * share)

    def points(self, xyz: np.ndarray, center: np.ndarray) -> np.ndarray:
        """(n, 3) after it. center: (3,) of the camera that it is seen from."""
        return self.scale * (xyz - center) @ self.rotation.T + center + self.shift

    def pose(self, cam_from_world: np.ndarray) -> np.ndarray:
        """(3, 4) of a camera that moves with the world around it."""
        rotation = cam_from_world[:, :3] @ self.rotation.T
        return np.column_stack((rotation, -rotation @ (center_of(cam_from_world) + self.shift)))


@dataclass(frozen=True, eq=False)
class Loop:
    """Two keyframes that show one place."""

    old: int
    new: int
    indices: np.ndarray  # (m, 2) matched keypoints of both
    correction: Correction  # at the new one


def find_loop(mapped: Map, camera: TrackedCamera, matcher: Matcher, number: int, seed: int) -> Loop | None:
    """The loop that a keyframe closes, if it does."""
    neighbours = [other for other, count in mapped.shared(number).most_common() if count >= _NEIGHBOURS]
    keyframe = mapped.keyframes[number]
    others = [other for other in mapped.keyframes if other != number]
    older = [other for other in others[:-_APART] if other not in neighbours]
    if not older:
        return None
    known = [other for other in neighbours if other != others[-1]] or others[-1:]
    usual = min(alikeness(keyframe.signature, mapped.keyframes[other].signature) for other in known[:5])
    scores = [alikeness(keyframe.signature, mapped.keyframes[other].signature) for other in older]
    best = int(np.argmax(scores))
    if scores[best] < usual:
        return None
    old = older[best]
    indices = matcher(mapped.keyframes[old].features, keyframe.features).indices.numpy()
    points = mapped.keyframes[old].points[indices[:, 0]]
    indices, points = indices[points != NO_POINT], points[points != NO_POINT]
    if len(points) < INLIERS:
        return None
    pose = pose_of(mapped, camera, points, keyframe.features, indices[:, 1], seed)
    if pose is None or pose.num_inliers < max(INLIERS, SHARE * len(points)):
        return None
    indices, points = indices[pose.inliers], points[pose.inliers]
    scale = 1.0
    if camera.baseline is None:
        own = keyframe.points[indices[:, 1]]
        both = (own != NO_POINT) & (own != points)
        if both.sum() < _BOTH:
            return None
        scale = depth_ratio(mapped, camera, own[both], keyframe.cam_from_world, points[both], pose.cam_from_world)
        if abs(math.log(scale)) > _SCALED:
            return None
    rotation = pose.cam_from_world[:, :3].T @ keyframe.cam_from_world[:, :3]
    shift = pose.center - center_of(keyframe.cam_from_world)
    most = (_DRIFT if camera.baseline is not None else _DRIFT_OF_ONE) * _way(mapped, old, number)
    if np.linalg.norm(shift) > most or angle_deg(rotation) > _TURNED_DEG:
        return None
    return Loop(old, number, indices, Correction(rotation, scale, shift))


def depth_ratio(
    mapped: Map, camera: TrackedCamera, own: np.ndarray, own_pose: np.ndarray, old: np.ndarray, old_pose: np.ndarray
) -> float:
    """How much farther the old points (n,) are from their pose than the new ones of the same keypoints from theirs.

    The median: the newest points are the least exact, and a few of them may be far off.
    """
    own_depth, old_depth = (
        np.maximum(camera.project(mapped.xyz[points], pose)[1], 1e-12)
        for points, pose in ((own, own_pose), (old, old_pose))
    )
    return float(np.median(old_depth / own_depth))


def _way(mapped: Map, old: int, new: int) -> float:
    """Length of the path from one keyframe to a later one, or, from one of an earlier map, of the path since then."""
    centers = [
        center_of(keyframe.cam_from_world)
        for number, keyframe in mapped.keyframes.items()
        if old <= number <= new and np.isfinite(keyframe.timestamp)
    ]
    return float(np.linalg.norm(np.diff(centers, axis=0), axis=1).sum()) if len(centers) > 1 else 0.0


def close_loop(mapped: Map, loop: Loop) -> None:
    """Spread the correction over the keyframes, and merge the points of both ends.

    Points move with the first keyframe that saw them. What that leaves is for an adjustment of the whole map.
    """
    parts = {number: loop.correction.share(share) for number, share in _shares(mapped, loop).items()}
    poses = {number: keyframe.cam_from_world for number, keyframe in mapped.keyframes.items()}
    for point in mapped.points:
        if observers := mapped.observers(point):
            first = min(observers)
            mapped.xyz[point] = parts[first].points(mapped.xyz[[point]], center_of(poses[first]))[0]
    for number, part in parts.items():
        mapped.keyframes[number].cam_from_world = part.pose(poses[number])
    for i, j in loop.indices.tolist():
        kept, gone = int(mapped.keyframes[loop.old].points[i]), int(mapped.keyframes[loop.new].points[j])
        if kept in (NO_POINT, gone):
            continue
        if gone != NO_POINT:
            mapped.merge(kept, gone)
        else:
            mapped.observe_where_free(kept, loop.new, j)


def _shares(mapped: Map, loop: Loop) -> dict[int, float]:
    """The part of the correction that each keyframe takes: none of it up to the old one, all of it the new one.

    Keyframes that see many points together take nearly the same part: the sum over all pairs of their shared points
    times the squared difference of their parts is least. So a pose graph spreads a small correction that one loop asks
    for, with the covisibility as its edges (the essential graph of Mur-Artal et al., ORB-SLAM, 2015, section VII.C).
    """
    numbers = list(mapped.keyframes)
    place = {number: row for row, number in enumerate(numbers)}
    shared = np.zeros((len(numbers), len(numbers)))
    for number, row in place.items():
        for other, count in mapped.shared(number).items():
            shared[row, place[other]] = count
    for row in range(1, len(numbers)):  # two that follow each other hang together where they share nothing
        shared[row - 1, row] = shared[row, row - 1] = max(shared[row, row - 1], 1)
    new = place[loop.new]  # the latest
    # Keyframes of an earlier map have no time: they did not drift with this run.
    rows = range(place[loop.old] + 1, new)
    free = np.array([row for row in rows if np.isfinite(mapped.keyframes[numbers[row]].timestamp)], int)
    laplacian = np.diag(shared.sum(1)) - shared
    parts = np.zeros(len(numbers))
    parts[new] = 1.0
    parts[free] = np.linalg.solve(laplacian[np.ix_(free, free)], shared[free, new])
    return dict(zip(numbers, parts.tolist(), strict=True))
