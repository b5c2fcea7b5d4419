"""Matched photos → cameras and points, through pycolmap's mapper (its only caller)."""

from lightmatch.reconstruction.cameras import group_by_camera, known_camera_model
from lightmatch.reconstruction.database import MatchDatabase, verified_matches
from lightmatch.reconstruction.mapping import ModelArrays, map_incrementally, model_arrays, read_model, write_models
from lightmatch.reconstruction.summary import LeftOut, ReconstructionSummary, no_model_reason, summarize

__all__ = [
    "LeftOut",
    "MatchDatabase",
    "ModelArrays",
    "ReconstructionSummary",
    "group_by_camera",
    "known_camera_model",
    "map_incrementally",
    "model_arrays",
    "no_model_reason",
    "read_model",
    "summarize",
    "verified_matches",
    "write_models",
]
