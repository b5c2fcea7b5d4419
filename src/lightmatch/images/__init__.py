"""Reads any photo as an upright RGB Image; resizing and rotation, with the exact inverse for keypoints."""

from lightmatch.images.loading import (
    ANY_NUMBER,
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    Levels,
    bits_per_channel,
    common_levels,
    is_image_file,
    keypoints_to_size,
    list_images,
    load_image,
    open_photo,
    orientation_of,
    resize_to_fit,
)
from lightmatch.images.rotation import (
    features_in_stored_pixels,
    features_in_upright_pixels,
    flip_features,
    flip_image,
    rotate_features,
    rotate_image,
)

__all__ = [
    "ANY_NUMBER",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Levels",
    "bits_per_channel",
    "common_levels",
    "features_in_stored_pixels",
    "features_in_upright_pixels",
    "flip_features",
    "flip_image",
    "is_image_file",
    "keypoints_to_size",
    "list_images",
    "load_image",
    "open_photo",
    "orientation_of",
    "resize_to_fit",
    "rotate_features",
    "rotate_image",
]
