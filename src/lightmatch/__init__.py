"""Local feature matching with LightGlue, from two photos to a 3D model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightmatch.errors import LightmatchError
    from lightmatch.extractors import create_extractor
    from lightmatch.images import load_image
    from lightmatch.matchers import LightGlue, NearestNeighbor, SuperGlue
    from lightmatch.networks.lightglue import LightGlueConfig
    from lightmatch.networks.superglue import SuperGlueConfig
    from lightmatch.pipelines.localize import LocalizeConfig, localize
    from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
    from lightmatch.tracking import TrackedCamera, TrackedFrame, Tracker, TrackerConfig
    from lightmatch.two_view import TwoViewResult, match
    from lightmatch.types import FeatureBatch, FeatureKind, Features, Image, Matches, TwoViewGeometry

__all__ = [
    "FeatureBatch",
    "FeatureKind",
    "Features",
    "Image",
    "LightGlue",
    "LightGlueConfig",
    "LightmatchError",
    "LocalizeConfig",
    "Matches",
    "NearestNeighbor",
    "ReconstructConfig",
    "SuperGlue",
    "SuperGlueConfig",
    "TrackedCamera",
    "TrackedFrame",
    "Tracker",
    "TrackerConfig",
    "TwoViewGeometry",
    "TwoViewResult",
    "create_extractor",
    "load_image",
    "localize",
    "match",
    "reconstruct",
]

_HOMES = {
    "FeatureBatch": "lightmatch.types",
    "FeatureKind": "lightmatch.types",
    "Features": "lightmatch.types",
    "Image": "lightmatch.types",
    "LightGlue": "lightmatch.matchers",
    "LightGlueConfig": "lightmatch.networks.lightglue",
    "LightmatchError": "lightmatch.errors",
    "LocalizeConfig": "lightmatch.pipelines.localize",
    "Matches": "lightmatch.types",
    "NearestNeighbor": "lightmatch.matchers",
    "ReconstructConfig": "lightmatch.pipelines.reconstruct",
    "SuperGlue": "lightmatch.matchers",
    "SuperGlueConfig": "lightmatch.networks.superglue",
    "TrackedCamera": "lightmatch.tracking",
    "TrackedFrame": "lightmatch.tracking",
    "Tracker": "lightmatch.tracking",
    "TrackerConfig": "lightmatch.tracking",
    "TwoViewGeometry": "lightmatch.types",
    "TwoViewResult": "lightmatch.two_view",
    "create_extractor": "lightmatch.extractors",
    "load_image": "lightmatch.images",
    "localize": "lightmatch.pipelines.localize",
    "match": "lightmatch.two_view",
    "reconstruct": "lightmatch.pipelines.reconstruct",
}


def __getattr__(name: str) -> Any:
    """What `__all__` names is imported when it is first used: PyTorch takes a second and a half (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lightmatch' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
