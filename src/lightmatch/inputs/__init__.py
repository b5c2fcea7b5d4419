"""Input paths → photos and videos to reconstruct, with their masks and metadata."""

from lightmatch.inputs.disk import (
    DiskEstimate,
    PictureSize,
    bytes_per_keypoint,
    check_disk,
    estimate_disk,
    frame_sizes,
    free_bytes,
    picture_size,
    readable_bytes,
)
from lightmatch.inputs.duplicates import pixels_digest
from lightmatch.inputs.exif import GeoPosition, PhotoFacts, gps_position, read_facts
from lightmatch.inputs.find import find_inputs, too_few
from lightmatch.inputs.gimbal import Gimbal
from lightmatch.inputs.mask_files import frame_mask
from lightmatch.inputs.masks import mask_path, may_lie_otherwise, points_in_mask, read_mask, working_mask, write_mask
from lightmatch.inputs.names import common_folder, relative_name, valid_name
from lightmatch.inputs.overlays import find_overlays, overlay_warning
from lightmatch.inputs.panoramas import Panoramas, declared_area, looks_like_panorama, two_to_one_size
from lightmatch.inputs.rigs import RigGap, describe_gaps, rig_frames, rig_gaps
from lightmatch.inputs.share import at_most, expected_frames
from lightmatch.inputs.values import Duplicate, Ignored, IgnoredKind, Inputs, PhotoInput, VideoInput

__all__ = [
    "DiskEstimate",
    "Duplicate",
    "GeoPosition",
    "Gimbal",
    "Ignored",
    "IgnoredKind",
    "Inputs",
    "Panoramas",
    "PhotoFacts",
    "PhotoInput",
    "PictureSize",
    "RigGap",
    "VideoInput",
    "at_most",
    "bytes_per_keypoint",
    "check_disk",
    "common_folder",
    "declared_area",
    "describe_gaps",
    "estimate_disk",
    "expected_frames",
    "find_inputs",
    "find_overlays",
    "frame_mask",
    "frame_sizes",
    "free_bytes",
    "gps_position",
    "looks_like_panorama",
    "mask_path",
    "may_lie_otherwise",
    "overlay_warning",
    "picture_size",
    "pixels_digest",
    "points_in_mask",
    "read_facts",
    "read_mask",
    "readable_bytes",
    "relative_name",
    "rig_frames",
    "rig_gaps",
    "too_few",
    "two_to_one_size",
    "valid_name",
    "working_mask",
    "write_mask",
]
