"""The matchers: features of two images in, matches out.

A new matcher is one new file in this folder: a `Matcher`, and a factory under `@register("name")`.
"""

import importlib
import pkgutil

from lightmatch.devices import pick_device
from lightmatch.errors import InvalidValueError
from lightmatch.matchers.base import Matcher, MatcherFactory, registrations
from lightmatch.matchers.lightglue import LightGlue
from lightmatch.matchers.nearest import NearestNeighbor
from lightmatch.matchers.superglue import SuperGlue
from lightmatch.types import FeatureKind

__all__ = [
    "DEFAULT_MATCHER",
    "LightGlue",
    "Matcher",
    "NearestNeighbor",
    "SuperGlue",
    "available_matchers",
    "create_matcher",
]

DEFAULT_MATCHER = "lightglue"


def available_matchers() -> list[str]:
    """The names `create_matcher` knows, sorted."""
    return sorted(_all_registrations())


def create_matcher(name: str, kind: FeatureKind, *, device: str = "cpu") -> Matcher:
    """The matcher `name` for features of `kind`, with the weights inside the package where it needs any.

    device: as for `pick_device`. Raises InvalidValueError for a name or device it does not know, WeightsError
    where there are no such weights.
    """
    device = pick_device(device)
    known = _all_registrations()
    if name not in known:
        raise InvalidValueError(f"matcher: expected one of {', '.join(sorted(known))}, got {name!r}")
    return known[name](kind, device)


def _all_registrations() -> dict[str, MatcherFactory]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return registrations()
