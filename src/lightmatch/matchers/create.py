"""Matchers by their specifications."""

from __future__ import annotations

from lightmatch.errors import InvalidValueError
from lightmatch.matchers.base import ImageMatcher, Matcher
from lightmatch.matchers.family import MatcherSetup, matcher_family, parse_matcher
from lightmatch.matchers.spec import MatcherSpec
from lightmatch.runtime.devices import pick_device, pick_dtype
from lightmatch.types import FeatureKind


def create_matcher(
    matcher: str | MatcherSpec,
    kind: FeatureKind | str | None = None,
    *,
    device: str = "cpu",
    precision: str = "auto",
) -> Matcher:
    """The matcher of features that a specification means; see `parse_matcher`.

    kind: of the features, or its name; may be left out where a file of weights says which features it is for.
    device: as for `pick_device`. precision: float32, bfloat16, float16 or auto, where the specification names none;
    auto is what is fastest on the device for the LightGlue inside the package (docs/precision.md has what it costs),
    else float32.
    Raises InvalidValueError for a specification, device or precision that is not known, or a matcher of images;
    WeightsError where there are no such weights.
    """
    spec = parse_matcher(matcher)
    family = matcher_family(spec.family)
    if family.takes != "features":
        raise InvalidValueError(
            f"matcher: expected one that matches features, got {str(spec)!r}, which matches images; `lightmatch match`,"
            " `lightmatch reconstruct` and `lightmatch evaluate` take it"
        )
    features = kind.name if isinstance(kind, FeatureKind) else kind
    made = family.create(spec, MatcherSetup(features, pick_device(device), pick_dtype(precision)))
    assert isinstance(made, Matcher)  # as the family says
    return made


def create_image_matcher(matcher: str | MatcherSpec, *, max_keypoints: int = 2048, device: str = "cpu") -> ImageMatcher:
    """The matcher of images that a specification means; see `parse_matcher` and `takes_images`.

    max_keypoints: for those that find keypoints first. device: as for `pick_device`.
    Raises InvalidValueError for a specification that is not known or one of features, MissingDependencyError where its
    package is not installed, WeightsError where its weights cannot be had.
    """
    spec = parse_matcher(matcher)
    family = matcher_family(spec.family)
    if family.takes != "images":
        raise InvalidValueError(f"matcher: expected one that matches images, got {str(spec)!r}, which matches features")
    made = family.create(spec, MatcherSetup(device=pick_device(device), max_keypoints=max_keypoints))
    assert isinstance(made, ImageMatcher)  # as the family says
    return made
