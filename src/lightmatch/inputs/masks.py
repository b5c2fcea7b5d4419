"""Masks: pictures that are black where a photo is to be ignored."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PilImage
from PIL import ImageFile

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.images import (
    ANY_NUMBER,
    SIDEWAYS,
    bits_per_channel,
    load_image,
    open_photo,
    orientation_of,
    upright_pixels,
)
from lightmatch.runtime.files import replacing

_logger = logging.getLogger(__name__)

_ORIENTATIONS = range(1, 9)


def read_mask(path: Path, image_size: tuple[int, int], orientation: int = 1) -> np.ndarray:
    """The mask of a photo: (height, width) bool, False where the photo is to be ignored.

    path: a PNG of any kind. A pixel is to be ignored where it is black (0 in all colours, as COLMAP has it, so that
        masks of 0 and 1 work too) or fully transparent. Or a JPEG, which blurs the border between black and white: a
        pixel is to be ignored where it is darker than the middle.
    image_size: (width, height) px of the upright photo, which the mask must have. orientation: of the photo as its
        camera stored it, 1…8 as in EXIF (`PhotoFacts.orientation`).

    A mask of the stored photo's size, where that is another than the upright one's, is rotated as the photo is. Where
    both are of one size (`may_lie_otherwise`), the mask is taken to be upright, as every viewer shows the photo; a
    log line says so. A mask with an EXIF orientation of its own is rotated by that one first.

    Raises ImageReadError where the file cannot be read or is neither, InvalidValueError where its size is another.
    """
    if orientation not in _ORIENTATIONS:
        raise InvalidValueError(f"orientation: expected 1…8 as in EXIF, got {orientation}")
    with open_photo(path, max_pixels=sys.maxsize) as picture:
        if picture.format not in ("PNG", "JPEG"):
            raise ImageReadError(
                f"cannot use {path} as a mask: expected a PNG or a JPEG, got {picture.format}; save it as PNG"
            )
        if sorted(picture.size) != sorted(image_size):  # before any pixel is decoded
            raise InvalidValueError(_wrong_size(path, picture.size, image_size))
        kept = upright_pixels(_kept(picture, path), orientation_of(picture))
    size = kept.shape[::-1]
    if size != image_size:
        if orientation not in SIDEWAYS:
            raise InvalidValueError(_wrong_size(path, size, image_size))
        kept = upright_pixels(kept, orientation)
    elif may_lie_otherwise(image_size, orientation):
        _logger.info("%s: taken to lie as the photo is shown, not as its camera stored it; both are possible", path)
    if not kept.any():
        _logger.warning("%s: the mask is all black, so nothing of its photo is used", path)
    return kept


def may_lie_otherwise(image_size: tuple[int, int], orientation: int) -> bool:
    """Whether the size of a mask fits both the upright photo and the stored one."""
    return orientation != 1 and (orientation not in SIDEWAYS or image_size[0] == image_size[1])


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Write a mask as the PNG that COLMAP and splat trainers read: 8-bit grey, 0 where the photo is to be ignored.

    mask: (height, width) bool. Missing folders are made; an older file is replaced at once.
    Raises InvalidValueError for another shape or dtype, OSError where the file cannot be written.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_ or 0 in mask.shape:
        raise InvalidValueError(
            f"mask: expected bool (height, width), got {mask.dtype} {mask.shape}; compare it with 0"
        )
    with replacing(path) as partial:
        PilImage.fromarray(mask.astype(np.uint8) * 255).save(partial, "PNG")


def mask_path(masks: Path, name: str) -> Path:
    """Where the mask of the working copy `name` belongs: a/b.jpg → `masks`/a/b.jpg.png."""
    return masks / f"{name}.png"


def working_mask(masks: Path, name: str) -> np.ndarray | None:
    """The mask of the working copy `name`, (height, width) bool, as `write_mask` wrote it; None where it has none."""
    path = mask_path(masks, name)
    if not path.is_file():
        return None
    return load_image(path, ANY_NUMBER).pixels.max(2) > 0


def points_in_mask(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) bool: the value of a mask (height, width) at the pixels nearest to points (n, 2) px."""
    x, y = np.clip(np.rint(points).astype(np.int64), 0, np.array(mask.shape[::-1]) - 1).T
    return mask[y, x]


def _kept(picture: ImageFile.ImageFile, path: Path) -> np.ndarray:
    """(height, width) bool of the pixels as stored: neither black nor fully transparent."""
    bits = bits_per_channel(picture)
    picture.load()  # notices a truncated file
    if bits == 16:  # Pillow drops the low byte of colours
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError("OpenCV cannot decode it")
    elif picture.mode in ("1", "L") and not picture.has_transparency_data:
        pixels = np.asarray(picture)
    else:
        pixels = np.asarray(picture.convert("RGBA"))
    pixels = np.atleast_3d(pixels)
    darkest_kept = 128 if picture.format == "JPEG" else 1
    kept: np.ndarray = np.any(pixels[..., :3] >= darkest_kept, axis=2)
    return np.logical_and(kept, pixels[..., 3] > 0) if pixels.shape[2] == 4 else kept


def _wrong_size(path: Path, size: tuple[int, ...], image_size: tuple[int, int]) -> str:
    return (
        f"{path}: expected a mask of its photo's {image_size[0]} x {image_size[1]} px, got {size[0]} x {size[1]};"
        " draw it on the photo in full size"
    )
