"""Who is compared: matchers by their specifications.

A method is a matcher that proposes all it can, and the score above which its proposals count. So nearest neighbours are
matched once, whatever the ratios compared, and the same proposals give the whole curve of precision and recall.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lightmatch.matchers import ImageMatcher, Matcher, MatcherSetup, matcher_family, parse_matcher
from lightmatch.types import FeatureKind


@dataclass(frozen=True, eq=False)
class Method:
    """One row of the tables."""

    name: str
    matcher: Matcher | ImageMatcher  # proposes matches of any score
    min_score: float  # those above it count
    fingerprint: str  # changes with everything the proposals depend on; equal where they are the same
    device: str = "cpu"


def create_method(matcher: str, kind: FeatureKind, *, device: str = "cpu", max_keypoints: int = 2048) -> Method:
    """The method of a specification (see `parse_matcher`), for features of `kind`.

    Learned matchers compute in float32 unless the specification names a precision, so that the numbers are those of
    every machine. max_keypoints: for matchers of images that find keypoints first.
    Raises InvalidValueError for specifications that are not known, WeightsError or FeatureMismatchError where weights
    are missing or unfit.
    """
    spec = parse_matcher(matcher)
    setup = MatcherSetup(kind.name, device, torch.float32, max_keypoints)
    found = matcher_family(spec.family).propose(spec, setup)
    return Method(matcher, found.matcher, found.min_score, found.fingerprint, device)
