"""Local feature matching with LightGlue, from two photos to a 3D model."""

from lightmatch.errors import LightmatchError
from lightmatch.extractors import create_extractor
from lightmatch.images import load_image
from lightmatch.matchers import LightGlue, NearestNeighbor, SuperGlue
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.networks.superglue import SuperGlueConfig
from lightmatch.pipelines.localize import LocalizeConfig, localize
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
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
    "TwoViewGeometry",
    "TwoViewResult",
    "create_extractor",
    "load_image",
    "localize",
    "match",
    "reconstruct",
]
