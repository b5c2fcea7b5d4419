"""Small JPEGs of photos, each within a number of bytes."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image as PilImage

from lightmatch.errors import ImageReadError
from lightmatch.images import open_photo

_THUMBNAIL_PX, _PREVIEW_PX = 256, 800  # longer sides
_QUALITY = 80
_LOW_QUALITY = 62  # of images that must be made smaller
_SHRINK = 0.9
_LITTLE = 1.6  # factor of excess bytes up to which a lower quality is tried first
_MIN_PX = 32
_THUMBNAIL_SHARE = 0.22  # of a photo's bytes
_NO_PREVIEW_BYTES = 4_000  # below this only a thumbnail is made
_MAX_PIXELS = 1 << 31  # no limit here: it was checked when the working copies were made


def encode_pictures(path: Path, max_bytes: int) -> tuple[bytes, bytes, tuple[int, int]] | None:
    """Thumbnail, preview (JPEG, together at most `max_bytes`) and size (width, height) of the upright photo at `path`.

    The preview is empty below 4 kB. None where the photo cannot be read.
    """
    found = _open(path)
    if found is None:
        return None
    pixels, size = found
    if max_bytes < _NO_PREVIEW_BYTES:
        return _encode(pixels, _THUMBNAIL_PX, max_bytes), b"", size
    thumbnail = _encode(pixels, _THUMBNAIL_PX, int(max_bytes * _THUMBNAIL_SHARE))
    return thumbnail, _encode(pixels, _PREVIEW_PX, max_bytes - len(thumbnail)), size


def encode_thumbnail(path: Path, max_bytes: int) -> tuple[bytes, tuple[int, int]] | None:
    """Thumbnail (JPEG of at most `max_bytes`) and size of the photo at `path`, as of `encode_pictures`."""
    found = _open(path)
    return None if found is None else (_encode(found[0], _THUMBNAIL_PX, max_bytes), found[1])


def _open(path: Path) -> tuple[PilImage.Image, tuple[int, int]] | None:
    """The photo no larger than a preview, and its own size (width, height); None where it cannot be read."""
    try:
        with open_photo(path, _MAX_PIXELS) as picture:
            size = picture.size
            picture.draft("RGB", (_PREVIEW_PX, _PREVIEW_PX))  # decodes a JPEG at a fraction of its size, and faster
            pixels = picture.convert("RGB")
            pixels.thumbnail((_PREVIEW_PX, _PREVIEW_PX), PilImage.Resampling.LANCZOS)
    except ImageReadError:
        return None
    return pixels, size


def _encode(pixels: PilImage.Image, long_side: int, max_bytes: int) -> bytes:
    """The largest JPEG of at most `long_side` px and `max_bytes`; empty where none fits."""
    side, quality = long_side, _QUALITY
    while side >= _MIN_PX:
        small = pixels.copy()
        small.thumbnail((side, side), PilImage.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
        if buffer.tell() <= max_bytes:
            return buffer.getvalue()
        excess = buffer.tell() / max_bytes
        if excess < _LITTLE and quality > _LOW_QUALITY:
            quality = max(_LOW_QUALITY, quality - 9)
        else:  # bytes grow slightly less than the area, so this does not skip a size that fits
            quality, side = _LOW_QUALITY, int(side * min(_SHRINK, (1.25 / excess) ** 0.5))
    return b""
