"""Copies of photos that COLMAP reads like `load_image`: upright, 8-bit, JPEG or PNG, with their EXIF block.

COLMAP keeps the stored width and height of a photo whatever its EXIF orientation says, and cannot
read HEIC; keypoints of the upright photo would lie elsewhere in its camera.
"""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import ExifTags, ImageFile
from PIL import Image as PilImage

from lightmatch.errors import InvalidValueError
from lightmatch.images import SIDEWAYS, bits_per_channel, open_photo, orientation_of
from lightmatch.types import Image

_Tag = ExifTags.Base

_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}  # by Pillow's name of the format


_KEPT_TAGS = (  # of the first directory; the others describe how a TIFF stores its pixels
    _Tag.ImageDescription,
    _Tag.Make,
    _Tag.Model,
    _Tag.XResolution,
    _Tag.YResolution,
    _Tag.ResolutionUnit,
    _Tag.Software,
    _Tag.DateTime,
    _Tag.Artist,
    _Tag.Copyright,
)

_MAX_EXIF_BYTES = 65533  # a JPEG segment's 16-bit length counts its own 2 bytes

_logger = logging.getLogger(__name__)


def write_working_copy(source: Path, image: Image, target: Path, *, is_changed: bool = False) -> Path:
    """Write a copy of the photo `source` for 3D reconstruction; returns its path.

    image: `source` read by load_image, in full size. target: path of the copy; missing folders are created, an older
    copy is replaced atomically. is_changed: whether `image` was given other
    pixels since, of the same size.

    An upright JPEG or PNG of 8-bit RGB or grey, and named so, is copied byte for byte to `target`.
    All else, and what is changed, is encoded from `image`: as JPEG (quality 95, no chroma subsampling) or PNG under
    the same name where that is the name of one, else as JPEG at `target` + ".jpg" (a.heic → a.heic.jpg, so that a.heic
    and a.jpg do not collide); with camera, lens, date and GPS from the EXIF block, orientation 1 and the dimensions of
    `image`. Maker notes are left out: they hold offsets into the old file. A damaged EXIF block is left out and logged.

    Raises ImageReadError where `source` cannot be read, InvalidValueError where `image` has another
    size than the upright `source`, OSError where `target` cannot be written.
    """
    with open_photo(source, max_pixels=sys.maxsize) as picture:  # the limit was checked when `image` was read
        if sorted(picture.size) != sorted(image.size):
            raise InvalidValueError(
                f"image: expected {source} in its full size {picture.size}, got {image.size};"
                " give what load_image returned for it"
            )
        copied = not is_changed and _is_fit_for_colmap(picture, target)
        exif = b"" if copied else _upright_exif(picture, image.size, source)
    kept = [name for name, suffixes in _SUFFIXES.items() if target.suffix.lower() in suffixes]
    if not kept:
        target = target.with_name(target.name + ".jpg")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid4().hex}.tmp")
    try:
        if copied:
            shutil.copyfile(source, temporary)
        else:
            pixels = PilImage.fromarray(image.pixels)
            if kept == ["PNG"]:
                pixels.save(temporary, "PNG", compress_level=1, exif=exif)
            else:
                pixels.save(temporary, "JPEG", quality=95, subsampling="4:4:4", exif=exif)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _is_fit_for_colmap(picture: ImageFile.ImageFile, target: Path) -> bool:
    """Whether COLMAP gets from the file, under the name of `target`, the pixels that load_image gives."""
    return (
        target.suffix.lower() in _SUFFIXES.get(picture.format or "", ())
        and picture.mode in ("L", "RGB")
        and bits_per_channel(picture) == 8
        and not picture.has_transparency_data
        and orientation_of(picture) == 1
    )


def _upright_exif(picture: ImageFile.ImageFile, size: tuple[int, int], source: Path) -> bytes:
    """The EXIF block of the opened photo, rewritten for its upright pixels of `size` (width, height).

    Empty where the photo's own is damaged or too long: a copy without a focal length is better than none.
    """
    try:
        old, new = picture.getexif(), PilImage.Exif()
        camera, gps = (_writable(old, directory) for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))
        camera[_Tag.ExifImageWidth], camera[_Tag.ExifImageHeight] = size
        # HEIC is rotated outside of EXIF; its reader keeps the original orientation.
        if (picture.info.get("original_orientation") or orientation_of(picture)) in SIDEWAYS:
            across, down = _Tag.FocalPlaneXResolution, _Tag.FocalPlaneYResolution
            if across in camera and down in camera:
                camera[across], camera[down] = camera[down], camera[across]
        for tag in _KEPT_TAGS:
            if tag in old:
                new[tag] = old[tag]
        new[_Tag.Orientation] = 1
        new[ExifTags.IFD.Exif] = camera
        if gps:
            new[ExifTags.IFD.GPSInfo] = gps
        block = new.tobytes()
        if len(block) > _MAX_EXIF_BYTES:
            raise ValueError(f"{len(block)} bytes do not fit a JPEG")
    except Exception as error:  # the EXIF parser raises nearly any exception on damaged bytes
        _logger.warning("%s: its EXIF block is left out of the working copy (%s)", source, error)
        return b""
    return block


def _writable(exif: PilImage.Exif, directory: ExifTags.IFD) -> dict[int, Any]:
    """The tags of one directory that can be written back: one invalid tag must not lose the focal length."""
    kept: dict[int, Any] = {}
    for tag, value in exif.get_ifd(directory).items():
        if tag in (ExifTags.IFD.MakerNote, ExifTags.IFD.Interop):
            continue
        alone = PilImage.Exif()
        alone[directory] = {tag: value}
        try:
            alone.tobytes()
        except Exception:  # Pillow guesses a type from the value, and fails on some in any way
            _logger.debug("EXIF tag %s cannot be kept: %r", tag, value)
        else:
            kept[tag] = value
    return kept
