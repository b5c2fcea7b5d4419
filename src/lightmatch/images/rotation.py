"""Rotation of images by multiples of 90° and flips, and the same for keypoints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lightmatch.types import Features, Image

# EXIF orientation → whether left and right of the stored pixels are exchanged first, and by how many quarter turns
# clockwise they are then rotated, to be upright (CIPA DC-008, section 4.6.5, tag 274).
_UPRIGHT = {
    1: (False, 0),
    2: (True, 0),
    3: (False, 2),
    4: (True, 2),
    5: (True, 3),
    6: (False, 1),
    7: (True, 1),
    8: (False, 3),
}
SIDEWAYS = tuple(number for number, (_, quarter_turns) in _UPRIGHT.items() if quarter_turns % 2)  # sides are swapped
MIRRORED = tuple(number for number, (flipped, _) in _UPRIGHT.items() if flipped)


def stored_size(upright_size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) px of the stored pixels of an upright photo. orientation: EXIF's; also the inverse."""
    width, height = upright_size
    return (height, width) if orientation in SIDEWAYS else (width, height)


def upright_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels (height, width, …) made upright. orientation: 1…8, as EXIF has it."""
    flipped, quarter_turns = _UPRIGHT[orientation]
    return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if flipped else pixels, -quarter_turns))


def rotate_image(image: Image, quarter_turns: int) -> Image:
    """The image rotated clockwise by `quarter_turns` × 90°."""
    return Image(np.ascontiguousarray(np.rot90(image.pixels, -quarter_turns)), image.path)


def flip_image(image: Image) -> Image:
    """The image mirrored left to right."""
    return Image(np.ascontiguousarray(image.pixels[:, ::-1]), image.path)


def flip_features(features: Features) -> Features:
    """The features in the coordinates of the image mirrored left to right; descriptors are unchanged."""
    x, y = features.keypoints.unbind(1)
    flipped = replace(features, keypoints=torch.stack((features.image_size[0] - 1 - x, y), 1))
    if flipped.orientations is None:
        return flipped
    return replace(flipped, orientations=(torch.pi - flipped.orientations) % (2 * torch.pi))


def rotate_features(features: Features, quarter_turns: int) -> Features:
    """The features in the coordinates of the image rotated clockwise by `quarter_turns` × 90°."""
    rotated = features
    for _ in range(quarter_turns % 4):
        width, height = rotated.image_size
        x, y = rotated.keypoints.unbind(1)
        rotated = replace(rotated, keypoints=torch.stack((height - 1 - y, x), 1), image_size=(height, width))
    if rotated.orientations is None:
        return rotated
    return replace(rotated, orientations=(rotated.orientations + quarter_turns * torch.pi / 2) % (2 * torch.pi))


def features_in_stored_pixels(features: Features, orientation: int) -> Features:
    """Features of an upright photo, in the pixels as its file stores them; for programs that ignore EXIF orientation.

    orientation: 1…8, as EXIF has it. Descriptors stay as they are.
    """
    flipped, quarter_turns = _UPRIGHT[orientation]
    stored = rotate_features(features, -quarter_turns % 4) if quarter_turns else features
    return flip_features(stored) if flipped else stored


def features_in_upright_pixels(features: Features, orientation: int) -> Features:
    """The inverse of `features_in_stored_pixels`."""
    flipped, quarter_turns = _UPRIGHT[orientation]
    upright = flip_features(features) if flipped else features
    return rotate_features(upright, quarter_turns) if quarter_turns else upright
