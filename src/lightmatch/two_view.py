"""Two photos in; features, matches and the geometry between them out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import DEFAULT_FEATURES, Extractor, create_extractor
from lightmatch.geometry.chance import log10_false_alarms, share_near_line, share_near_point
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental, estimate_homography, estimate_relative_pose
from lightmatch.images import common_levels, load_image
from lightmatch.images.rotation import rotate_features, rotate_image
from lightmatch.matchers import (
    DEFAULT_MATCHER,
    ImageMatcher,
    Matcher,
    MatcherSpec,
    create_image_matcher,
    create_matcher,
    takes_images,
)
from lightmatch.matchers.base import matched_places
from lightmatch.pairing import overlap_probability
from lightmatch.types import Features, Image, Matches, TwoViewGeometry


@dataclass(frozen=True)
class TwoViewResult:
    """What `match` finds between two photos."""

    features0: Features
    features1: Features
    matches: Matches
    geometry: TwoViewGeometry
    overlap_probability: float | None  # that the photos show part of the same, by their matches alone: see
    # pairing.classify_overlap; None for matchers of images
    log10_false_alarms: float  # of the geometry, see geometry.chance; above 0 as many would agree by chance

    @property
    def overlap(self) -> bool:
        """Whether the photos are taken to show part of the same: by their matches, or by geometry beyond all doubt."""
        return (self.overlap_probability or 0.0) >= 0.5 or self.log10_false_alarms < _BEYOND_DOUBT

    def to_json(self) -> dict[str, Any]:
        """The matches as plain numbers; docs/match-json.md documents every field."""
        found = self.geometry.model != "none"
        points0, points1 = self.matches.points(self.features0, self.features1)
        pose, probabilities = self.geometry.cam1_from_cam0, self.matches.probabilities
        return {
            "format": "lightmatch-matches",
            "version": 1,
            "features": self.features0.kind.name,
            "image_size0": list(self.features0.image_size),
            "image_size1": list(self.features1.image_size),
            "num_keypoints0": len(self.features0),
            "num_keypoints1": len(self.features1),
            "num_matches": len(self.matches),
            "num_inliers": self.geometry.num_inliers,
            "overlap": self.overlap,
            "overlap_probability": self.overlap_probability,
            "log10_false_alarms": self.log10_false_alarms if math.isfinite(self.log10_false_alarms) else None,
            "stop_layer": self.matches.stop_layer,
            "geometry": {
                "model": self.geometry.model,
                "matrix": self.geometry.matrix.tolist() if found else None,
                "cam1_from_cam0": None if pose is None else pose.tolist(),
            },
            "matches": [
                {"index0": i, "index1": j, "point0": p0, "point1": p1, "score": s, "probability": p, "inlier": inlier}
                for (i, j), p0, p1, s, p, inlier in zip(
                    self.matches.indices.tolist(),
                    points0.tolist(),
                    points1.tolist(),
                    self.matches.scores.tolist(),
                    [None] * len(self.matches) if probabilities is None else probabilities.tolist(),
                    self.geometry.inliers.tolist(),
                    strict=True,
                )
            ],
        }


@torch.no_grad()
def match(
    image0: str | Path | Image,
    image1: str | Path | Image,
    features: str | Extractor = DEFAULT_FEATURES,
    matcher: str | MatcherSpec | Matcher | ImageMatcher = DEFAULT_MATCHER,
    *,
    geometry: Literal["fundamental", "homography"] = "fundamental",
    K0: Tensor | None = None,
    K1: Tensor | None = None,
    max_keypoints: int = 2048,
    rotations: bool = False,
    threshold_px: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "auto",
) -> TwoViewResult:
    """Match two photos and estimate the geometry between them.

    features: NAME or NAME:FILE (see `create_extractor`), or an extractor made before. matcher: a specification (see
        `parse_matcher`), or a matcher made before. Of those made before, max_keypoints, device and precision are their
        own. A matcher of images has no use for features: those of the result are the places that it matched.
    device: as for `pick_device`; where matching runs. precision: of the matcher, as for `create_matcher`.
    rotations: try the second photo rotated by 0, 90, 180 and 270° and keep what gives most matches, for features or
        matchers that know upright photos alone; four times the work. Keypoints are those of the photo as it is.
    geometry: "fundamental" for a scene in depth, "homography" for a plane or a turning camera.
    K0, K1: (3, 3) intrinsics, px; with both, the relative pose is estimated (model "essential").
    threshold_px: how far an inlier may lie off, in original pixels; by default 2 px, or 0.2 % of the
        longer side for photos over 1000 px, since features are found at bounded resolution.
    Where no geometry can be found its model is "none".
    """
    if (K0 is None) != (K1 is None):
        raise InvalidValueError("match: expected K0 and K1, or neither; got one; give the other too")
    if geometry not in ("fundamental", "homography"):
        raise InvalidValueError(f"match.geometry: expected 'fundamental' or 'homography', got {geometry!r}")
    if geometry == "homography" and K0 is not None:
        raise InvalidValueError(
            "match.geometry: expected 'fundamental' where K0 and K1 are given, for they make it a relative pose,"
            " got 'homography'; leave the intrinsics out"
        )
    images_matcher = matcher if isinstance(matcher, ImageMatcher) else None
    if isinstance(matcher, str | MatcherSpec) and takes_images(matcher):
        images_matcher = create_image_matcher(matcher, max_keypoints=max_keypoints, device=device)
    levels = common_levels(image for image in (image0, image1) if not isinstance(image, Image))
    photo0, photo1 = (
        image if isinstance(image, Image) else load_image(image, levels=levels) for image in (image0, image1)
    )
    find: Callable[[Image], tuple[Features, Features, Matches]]
    if images_matcher is not None:
        find = partial(_match_images, images_matcher, photo0)
    else:
        extractor = features
        if isinstance(extractor, str):
            extractor = create_extractor(extractor, max_keypoints=max_keypoints, device=device)
        if isinstance(matcher, str | MatcherSpec):
            matcher = create_matcher(matcher, extractor.kind, device=device, precision=precision)
        assert isinstance(matcher, Matcher)
        find = partial(_match_features, extractor, matcher, extractor(photo0))
    tries = []
    for quarter_turns in range(4 if rotations else 1):
        first, turned, matched = find(rotate_image(photo1, quarter_turns))
        tries.append((first, rotate_features(turned, -quarter_turns), matched))
    features0, features1, matches = max(tries, key=lambda one: len(one[2]))
    probability = None if images_matcher else overlap_probability(features0, features1, matches)
    points0, points1 = matches.points(features0, features1)
    if threshold_px is None:
        threshold_px = max(2.0, 0.002 * max(*features0.image_size, *features1.image_size))
    if K0 is not None and K1 is not None:
        found = estimate_relative_pose(points0, points1, K0, K1, SearchOptions(threshold_px=threshold_px, seed=seed))
    else:
        estimate = estimate_homography if geometry == "homography" else estimate_fundamental
        found = estimate(points0, points1, SearchOptions(threshold_px=threshold_px, seed=seed))
    return TwoViewResult(
        features0, features1, matches, found, probability, _false_alarms(found, features1.image_size, threshold_px)
    )


def _match_features(
    extractor: Extractor, matcher: Matcher, features0: Features, image1: Image
) -> tuple[Features, Features, Matches]:
    features1 = extractor(image1)
    return features0, features1, matcher(features0, features1)


def _match_images(matcher: ImageMatcher, image0: Image, image1: Image) -> tuple[Features, Features, Matches]:
    """The places matched, as features that have no descriptors."""
    found = matcher(image0, image1)
    every = torch.arange(len(found))
    return (
        matched_places(found.points0, found.scores, image0.size, matcher.name),
        matched_places(found.points1, found.scores, image1.size, matcher.name),
        Matches(torch.stack((every, every), 1), found.scores),
    )


_BEYOND_DOUBT = -12.0  # log10 of the false alarms
_SAMPLES = {"fundamental": (7, 3), "essential": (5, 10), "homography": (4, 1)}  # matches of a model, models of them


def _false_alarms(geometry: TwoViewGeometry, size: tuple[int, int], threshold_px: float) -> float:
    """log10 of the geometries that as many of as many random matches would agree with."""
    if geometry.model == "none":
        return math.inf
    sample, models = _SAMPLES[geometry.model]
    share = (share_near_point if geometry.model == "homography" else share_near_line)(threshold_px, *size)
    return log10_false_alarms(len(geometry.inliers), geometry.num_inliers, share, sample, models)
