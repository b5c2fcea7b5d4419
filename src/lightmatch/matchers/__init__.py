"""The matchers: features of two images in, matches out.

A new matcher is one new file in this folder: a `Matcher`, and a factory under `@register("name")`.
"""

import importlib
import pkgutil

from lightmatch.errors import InvalidValueError
from lightmatch.matchers import vismatch
from lightmatch.matchers.base import ImageMatcher, Matcher, MatcherFactory, PointMatches, registrations
from lightmatch.matchers.lightglue import LightGlue
from lightmatch.matchers.nearest import NearestNeighbor
from lightmatch.matchers.superglue import SuperGlue
from lightmatch.runtime.devices import pick_device, pick_dtype
from lightmatch.types import FeatureKind

__all__ = [
    "DEFAULT_MATCHER",
    "ImageMatcher",
    "LightGlue",
    "Matcher",
    "NearestNeighbor",
    "PointMatches",
    "SuperGlue",
    "available_matchers",
    "create_image_matcher",
    "create_matcher",
]

DEFAULT_MATCHER = "lightglue"


def available_matchers() -> list[str]:
    """The names `create_matcher` knows, sorted."""
    return sorted(_all_registrations())


def create_matcher(name: str, kind: FeatureKind, *, device: str = "cpu", precision: str = "auto") -> Matcher:
    """The matcher `name` for features of `kind`, with the weights inside the package where it needs any.

    name: of `available_matchers`; "lightglue:FILE" and "superglue:FILE" take weights of your own, "nearest:0.8" and
    "ratio:0.8" a ratio. device: as for `pick_device`. precision: float32, bfloat16, float16 or auto: what is fastest
    on the device for the LightGlue inside the package (docs/precision.md has what it costs), else float32. Raises
    InvalidValueError for a name, value, device or precision it does not know, WeightsError where there are no such
    weights.
    """
    device, dtype = pick_device(device), pick_dtype(precision)
    known = _all_registrations()
    base, _, value = name.partition(":")
    if base not in known:
        raise InvalidValueError(f"matcher: expected one of {', '.join(sorted(known))}, got {name!r}")
    return known[base](kind, device, dtype, value)


def create_image_matcher(name: str, *, max_keypoints: int = 2048, device: str = "cpu") -> ImageMatcher | None:
    """The matcher of images that `name` is, "vismatch:NAME"; None where it is one of features.

    Raises InvalidValueError for a NAME that vismatch does not know, MissingDependencyError without vismatch,
    WeightsError where it cannot make the matcher.
    """
    base, _, value = name.partition(":")
    return vismatch.Vismatch(value, max_keypoints=max_keypoints, device=device) if base == vismatch.NAME else None


def _all_registrations() -> dict[str, MatcherFactory]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return registrations()
