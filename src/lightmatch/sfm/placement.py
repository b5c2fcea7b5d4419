"""A photo placed against a model: matched with photos of the model, its keypoints show points of known place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import pixels_from_colmap
from lightmatch.sfm.absolute_pose import MIN_INLIERS, AbsolutePose, NoPose, PoseOptions, estimate_absolute_pose
from lightmatch.types import Features, Matches

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction

SAME_PX = 0.5  # keypoints nearer than this are one; COLMAP keeps them in float32

_PAIRS_AT_ONCE = 8


class PairMatcher(Protocol):
    """What of a matcher is used."""

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of each pair."""
        ...


class Correspondences(NamedTuple):
    """Keypoints of a photo and the points of a model that they show, each of them once."""

    keypoints: np.ndarray  # (n,) place in the photo's features, ascending
    point_ids: np.ndarray  # (n,) COLMAP's ids
    support: np.ndarray  # (c, n) bool: which candidates say so


@dataclass(frozen=True, eq=False)
class PlacedPhoto(AbsolutePose):
    """Where a photo was taken, and what of the model it shows."""

    inlier_keypoints: np.ndarray  # (k,) place in the photo's features, ascending
    inlier_pixels: np.ndarray  # (k, 2) px, the first pixel's centre at (0, 0)
    point_ids: np.ndarray  # (k,) COLMAP's id of the point that each of them shows
    inliers_by_candidate: Mapping[str, int]


def place_photo(
    features: Features,
    camera: Camera,
    model: Reconstruction,
    candidates: Sequence[str],
    features_of: Mapping[str, Features],
    matcher: PairMatcher,
    options: PoseOptions | None = None,
    num_first: int | None = None,
) -> PlacedPhoto | NoPose:
    """Find the pose of a photo by matching it with photos of a model: see `estimate_absolute_pose`.

    camera: of the photo, of its size; stays as it is. candidates: names of placed photos to match with. features_of:
    their features, keypoint i being point i of the model's image; more or fewer keypoints than the image has are fine.
    num_first: as for `find_correspondences`. Same seed, same bits.
    Raises InvalidValueError for candidates that are not placed in the model or features that are not the model's, and
    for a camera of another size.
    """
    if (camera.width, camera.height) != features.image_size:
        raise InvalidValueError(
            f"camera: expected the photo's size {features.image_size}, got {(camera.width, camera.height)}; rescale it"
        )
    found = find_correspondences(features, model, candidates, features_of, matcher, num_first)
    if len(found.point_ids) < MIN_INLIERS:
        return NoPose("few correspondences", len(found.point_ids))
    pixels = features.keypoints.cpu().double()[torch.from_numpy(found.keypoints)].numpy()
    points = np.array([model.point3D(point_id).xyz for point_id in found.point_ids.tolist()])
    pose = estimate_absolute_pose(pixels, points, camera, options)
    if isinstance(pose, NoPose):
        return pose
    supported = found.support[:, pose.inliers].sum(1)
    return PlacedPhoto(
        **vars(pose),
        inlier_keypoints=found.keypoints[pose.inliers],
        inlier_pixels=pixels[pose.inliers],
        point_ids=found.point_ids[pose.inliers],
        inliers_by_candidate=dict(zip(candidates, supported.tolist(), strict=True)),
    )


def find_correspondences(
    features: Features,
    model: Reconstruction,
    candidates: Sequence[str],
    features_of: Mapping[str, Features],
    matcher: PairMatcher,
    num_first: int | None = None,
) -> Correspondences:
    """Points of `model` that keypoints of a photo show, by way of the matches with photos that see them.

    Of several points for one keypoint, or several keypoints for one point, the one stays that most candidates agree
    on, then the one with the greatest sum of scores. As for `place_photo`. num_first: so many candidates are matched
    first; where these show fewer points than a pose needs, the photo is not matched with the others.
    """
    if len(set(candidates)) < len(candidates):
        raise InvalidValueError(f"candidates: expected each photo once, got {list(candidates)}")
    votes: dict[tuple[int, int], dict[int, float]] = {}  # (keypoint, point) → score by candidate
    tables = [_points_of_keypoints(model, name, features_of[name]) for name in candidates]
    others = [features_of[name] for name in candidates]
    for number, matches in enumerate(_matched(features, others, matcher, num_first or _PAIRS_AT_ONCE)):
        seen = tables[number][matches.indices[:, 1].cpu().numpy()]
        ours = matches.indices[:, 0].cpu().numpy()
        for keypoint, point, score in zip(ours.tolist(), seen.tolist(), matches.scores.cpu().tolist(), strict=True):
            if point >= 0:
                votes.setdefault((keypoint, point), {})[number] = score
        if number + 1 == num_first and len(votes) < MIN_INLIERS:
            break
    ranked = sorted(votes, key=lambda pair: (-len(votes[pair]), -sum(votes[pair].values()), pair))
    keypoints: set[int] = set()
    points: set[int] = set()
    chosen = []
    for keypoint, point in ranked:
        if keypoint not in keypoints and point not in points:
            keypoints.add(keypoint)
            points.add(point)
            chosen.append((keypoint, point))
    chosen.sort()
    support = np.zeros((len(candidates), len(chosen)), bool)
    for column, pair in enumerate(chosen):
        support[list(votes[pair]), column] = True
    both = np.array(chosen, np.int64).reshape(-1, 2)
    return Correspondences(both[:, 0], both[:, 1], support)


def _points_of_keypoints(model: Reconstruction, name: str, features: Features) -> np.ndarray:
    """(n,) for each keypoint of a placed photo the id of the point it shows, −1 for none."""
    image = model.find_image_with_name(name)
    if image is None or not image.has_pose:
        raise InvalidValueError(f"candidates: expected photos that are placed in the model, got {name!r}")
    table = np.full(len(features), -1, np.int64)
    observed = [index for index in image.get_observation_point2D_idxs() if index < len(table)]
    if not observed:
        return table
    xy = np.array([image.point2D(index).xy for index in observed])
    keypoints = features.keypoints.cpu().double().numpy()[observed]
    apart = np.linalg.norm(pixels_from_colmap(torch.from_numpy(xy)).numpy() - keypoints, axis=1)
    if np.median(apart) > SAME_PX:
        raise InvalidValueError(
            f"features of {name!r}: expected those that the model was made of, got keypoints elsewhere"
            f" ({np.median(apart):.1f} px away, in the median)"
        )
    same = np.array(observed)[apart <= SAME_PX]
    table[same] = [image.point2D(index).point3D_id for index in same.tolist()]
    return table


def _matched(features: Features, others: Sequence[Features], matcher: PairMatcher, num_first: int) -> Iterator[Matches]:
    """Matches with each of the others, in batches, each when its turn comes; num_first: size of the first batch."""
    bounds = sorted({0, *range(num_first, len(others), _PAIRS_AT_ONCE), len(others)})
    for start, end in pairwise(bounds):
        yield from matcher.match_batch([(features, other) for other in others[start:end]])
