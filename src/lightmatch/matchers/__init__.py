"""The matchers: features of two images, or the images themselves, in; matches out.

A new matcher is one new file in this folder: a `Matcher` or an `ImageMatcher`, and a `MatcherFamily` under
`@register("name")`, which says what its specifications mean. docs/extending.md has an example.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightmatch.matchers.family import (
    MatcherFamily,
    MatcherSetup,
    Proposals,
    available_matchers,
    matcher_family,
    parse_matcher,
    register,
    takes_images,
)
from lightmatch.matchers.spec import MatcherSpec

if TYPE_CHECKING:
    from lightmatch.matchers.base import ImageMatcher, Matcher, PointMatches
    from lightmatch.matchers.create import create_image_matcher, create_matcher
    from lightmatch.matchers.lightglue import LightGlue
    from lightmatch.matchers.nearest import NearestNeighbor
    from lightmatch.matchers.superglue import SuperGlue

__all__ = [
    "DEFAULT_MATCHER",
    "ImageMatcher",
    "LightGlue",
    "Matcher",
    "MatcherFamily",
    "MatcherSetup",
    "MatcherSpec",
    "NearestNeighbor",
    "PointMatches",
    "Proposals",
    "SuperGlue",
    "available_matchers",
    "create_image_matcher",
    "create_matcher",
    "matcher_family",
    "parse_matcher",
    "register",
    "takes_images",
]

DEFAULT_MATCHER = "lightglue"

_HOMES = {
    "ImageMatcher": "base",
    "LightGlue": "lightglue",
    "Matcher": "base",
    "NearestNeighbor": "nearest",
    "PointMatches": "base",
    "SuperGlue": "superglue",
    "create_image_matcher": "create",
    "create_matcher": "create",
}


def __getattr__(name: str) -> Any:
    """What needs PyTorch is imported when it is first used (PEP 562): names can be listed without it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
