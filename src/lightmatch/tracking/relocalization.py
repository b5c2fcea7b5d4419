"""Where a lost camera is, in its own map: keyframes that look alike, matched, and an absolute pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightmatch.matchers import Matcher
from lightmatch.sfm.absolute_pose import AbsolutePose, PoseOptions, estimate_absolute_pose
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.map import NO_POINT, Map, alikeness, signature
from lightmatch.types import Features

_PARTNERS = 4  # keyframes that a lost frame is matched with


@dataclass(frozen=True, eq=False)
class Relocalized:
    """A pose from matches with keyframes."""

    cam_from_world: np.ndarray  # (3, 4)
    covariance: np.ndarray  # (6, 6) as of AbsolutePose
    points: np.ndarray  # (n,) numbers of the points that agree
    keypoints: np.ndarray  # (n,) that show them


def relocalize(
    mapped: Map, camera: TrackedCamera, matcher: Matcher, features: Features, least: int, seed: int
) -> Relocalized | None:
    """The pose of a frame by the keyframes that look most like it; None where fewer than `least` points agree."""
    partners = most_alike(mapped, features)[:_PARTNERS]
    both = [(mapped.keyframes[partner].features, features) for partner in partners]
    found = [
        _shared_points(mapped, partner, matches.indices.numpy())
        for partner, matches in zip(partners, matcher.match_batch(both), strict=True)
    ]
    points, keypoints = _unique_rows([each[0] for each in found], [each[1] for each in found])
    if len(points) < least:
        return None
    pose = pose_of(mapped, camera, points, features, keypoints, seed)
    if pose is None or pose.num_inliers < least:
        return None
    return Relocalized(pose.cam_from_world, pose.covariance, points[pose.inliers], keypoints[pose.inliers])


def pose_of(
    mapped: Map, camera: TrackedCamera, points: np.ndarray, features: Features, keypoints: np.ndarray, seed: int
) -> AbsolutePose | None:
    """The pose of an image whose keypoints (n,) show points (n,) of the map; None where no pose explains enough."""
    pixels = features.keypoints.numpy().astype(np.float64)[keypoints]
    pose = estimate_absolute_pose(pixels, mapped.xyz[points], camera.colmap, PoseOptions(intrinsics="known", seed=seed))
    return pose if isinstance(pose, AbsolutePose) else None


def most_alike(mapped: Map, features: Features) -> list[int]:
    """Keyframes by how much a frame looks like them."""
    own = signature(features)
    scores = {number: alikeness(own, keyframe.signature) for number, keyframe in mapped.keyframes.items()}
    return sorted(scores, key=lambda number: -scores[number])


def _shared_points(mapped: Map, keyframe: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of matches (keypoint of a keyframe, keypoint of an image): the points (m,) and the image's keypoints (m,)."""
    points = mapped.keyframes[keyframe].points[indices[:, 0]]
    known = points != NO_POINT
    return points[known], indices[known, 1]


def _unique_rows(points: Sequence[np.ndarray], keypoints: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Joined, each point once."""
    joined = np.concatenate(points) if points else np.zeros(0, int)
    first = np.unique(joined, return_index=True)[1]
    return joined[first], (np.concatenate(keypoints) if keypoints else np.zeros(0, int))[first]
