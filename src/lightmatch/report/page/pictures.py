"""Small JPEGs of photos, each within a number of bytes."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image as PilImage

from lightmatch.errors import ImageReadError
from lightmatch.images import open_photo

_THUMBNAIL_PX, _PREVIEW_PX = 256, 800  # longer sides
_QUALITY = 80
_LOW_QUALITY = 62  # of pictures that must shrink: fewer details, not more blocks
_SHRINK = 0.9
_LITTLE = 1.6  # times too many bytes: a lower quality may do
_MIN_PX = 32
_THUMBNAIL_SHARE = 0.22  # of a photo's bytes
_NO_PREVIEW_BYTES = 4_000  # so few make one picture, not two
_MAX_PIXELS = 1 << 31  # working copies were held to the limit when they were made


def encode_pictures(path: Path, max_bytes: int) -> tuple[bytes, bytes, tuple[int, int]] | None:
    """Thumbnail, preview (JPEG, together at most `max_bytes`) and size (width, height) of the upright photo at `path`.

    The preview is empty where the bytes are so few that one picture is better. None where the photo cannot be read.
    """
    try:
        with open_photo(path, _MAX_PIXELS) as picture:
            size = picture.size
            picture.draft("RGB", (_PREVIEW_PX, _PREVIEW_PX))  # decodes a JPEG at a fraction of its size, and faster
            pixels = picture.convert("RGB")
            pixels.thumbnail((_PREVIEW_PX, _PREVIEW_PX), PilImage.Resampling.LANCZOS)
    except ImageReadError:
        return None
    if max_bytes < _NO_PREVIEW_BYTES:
        return _encode(pixels, _THUMBNAIL_PX, max_bytes), b"", size
    thumbnail = _encode(pixels, _THUMBNAIL_PX, int(max_bytes * _THUMBNAIL_SHARE))
    return thumbnail, _encode(pixels, _PREVIEW_PX, max_bytes - len(thumbnail)), size


def _encode(pixels: PilImage.Image, long_side: int, max_bytes: int) -> bytes:
    """The largest JPEG, up to `long_side`, that fits; empty where none does."""
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
        else:  # the bytes go with the area, or a little less: so this does not leap below what fits
            quality, side = _LOW_QUALITY, int(side * min(_SHRINK, (1.25 / excess) ** 0.5))
    return b""
