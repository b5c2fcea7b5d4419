"""Verified pairs → cameras and points: mapping, model selection, refinement, georegistration, outputs."""

from lightmatch.colmap.cameras import group_by_camera, guess_impossible_focal_length, known_camera_model
from lightmatch.colmap.database import copy_database, replacing_database
from lightmatch.colmap.models import ModelArrays, model_arrays, read_model, write_models
from lightmatch.colmap.verification import MatchDatabase, verified_matches
from lightmatch.inputs.image_quality import PictureQuality, picture_quality
from lightmatch.reconstruction.diagnostics.capture_advice import advise, matches_seen_twice
from lightmatch.reconstruction.diagnostics.reasons import Evidence, LeftOut, no_model_reason
from lightmatch.reconstruction.diagnostics.summary import (
    ModelSummary,
    PhotosSummary,
    summarize_model,
    summarize_photos,
)
from lightmatch.reconstruction.disambiguation.find import drop_pairs, find_doppelgangers
from lightmatch.reconstruction.georegistration.frame import KNOWN_POSES_FRAME, FrameSummary, georegister
from lightmatch.reconstruction.history import ModelHistory
from lightmatch.reconstruction.mapping.edited_photos import edited_warnings, try_edited_photos
from lightmatch.reconstruction.mapping.history import MappingHistory
from lightmatch.reconstruction.mapping.mappers import map_incrementally
from lightmatch.reconstruction.mapping.model_selection import (
    MappingOptions,
    map_with_selection,
    models_apart,
)
from lightmatch.reconstruction.mapping.shared_cameras import Remapper, try_camera_per_photo
from lightmatch.reconstruction.mapping.thinning import database_to_map, restore_matches, with_all_points
from lightmatch.reconstruction.outputs.depth_maps import DepthMapWriter
from lightmatch.reconstruction.outputs.exports import write_splat_folder, write_text_model
from lightmatch.reconstruction.priors.cameras import (
    CameraPriors,
    IntrinsicsPrior,
    enter_intrinsics,
    map_given_poses,
    read_camera_priors,
    split_by_intrinsics,
)
from lightmatch.reconstruction.priors.rigs import CameraRig, RigCamera, apply_rigs, derive_rig, folders_of
from lightmatch.reconstruction.refinement.reregistration import Reregistration
from lightmatch.reconstruction.refinement.steps import Refined, RefineOptions, refine, refining_steps
from lightmatch.reconstruction.stereo.densify import DensifyOptions, densify
from lightmatch.reconstruction.verification.fisheye import find_fisheyes, make_fisheyes
from lightmatch.reconstruction.verification.static_points import find_fixed_places
from lightmatch.sfm.bundle_adjustment import KNOWN, AdjustOptions, adjust
from lightmatch.sfm.pure_rotation import PureRotation, PureRotationError, find_pure_rotations
from lightmatch.sfm.trajectories import write_trajectory

__all__ = [
    "KNOWN",
    "KNOWN_POSES_FRAME",
    "AdjustOptions",
    "CameraPriors",
    "CameraRig",
    "DensifyOptions",
    "DepthMapWriter",
    "Evidence",
    "FrameSummary",
    "IntrinsicsPrior",
    "LeftOut",
    "MappingHistory",
    "MappingOptions",
    "MatchDatabase",
    "ModelArrays",
    "ModelHistory",
    "ModelSummary",
    "PhotosSummary",
    "PictureQuality",
    "PureRotation",
    "PureRotationError",
    "RefineOptions",
    "Refined",
    "Remapper",
    "Reregistration",
    "RigCamera",
    "adjust",
    "advise",
    "apply_rigs",
    "copy_database",
    "database_to_map",
    "densify",
    "derive_rig",
    "drop_pairs",
    "edited_warnings",
    "enter_intrinsics",
    "find_doppelgangers",
    "find_fisheyes",
    "find_fixed_places",
    "find_pure_rotations",
    "folders_of",
    "georegister",
    "group_by_camera",
    "guess_impossible_focal_length",
    "known_camera_model",
    "make_fisheyes",
    "map_given_poses",
    "map_incrementally",
    "map_with_selection",
    "matches_seen_twice",
    "model_arrays",
    "models_apart",
    "no_model_reason",
    "picture_quality",
    "read_camera_priors",
    "read_model",
    "refine",
    "refining_steps",
    "replacing_database",
    "restore_matches",
    "split_by_intrinsics",
    "summarize_model",
    "summarize_photos",
    "try_camera_per_photo",
    "try_edited_photos",
    "verified_matches",
    "with_all_points",
    "write_models",
    "write_splat_folder",
    "write_text_model",
    "write_trajectory",
]
