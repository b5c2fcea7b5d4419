"""Detection of 360° panoramas: by the XMP packet (GPano), or by the continuity of the edges.

Source: Google's Photo Sphere XMP metadata, https://developers.google.com/streetview/spherical-metadata.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from lightmatch.errors import ImageReadError
from lightmatch.geometry.panoramas import PanoramaArea
from lightmatch.images import open_photo, orientation_of
from lightmatch.inputs.xmp import xmp_packet

Panoramas = Literal["auto", "yes", "no"]  # which pictures are panoramas: by XMP or appearance, all of 2:1, none

_SMALL_PX = 1024  # pictures are shrunk to this width to look at their edges
_LEAST_CONTRAST = 15.0  # grey levels, standard deviation along the left edge: a plain edge fits any other
_SEAM = 3.0  # the left and right edge differ by at most so many times what neighbouring columns do, or
_SEAM_SHARE = 0.25  # by this share of what columns far from each other do
_POLE = 0.25  # neighbours in the first and in the last row differ by this share of what is usual, at most


def declared_area(path: Path) -> PanoramaArea | None:
    """The equirectangular area in the XMP packet of a photo; None without one, or of another projection."""
    try:
        with open_photo(path, max_pixels=sys.maxsize) as picture:
            if orientation_of(picture) != 1:
                return None
            packet, size = xmp_packet(picture), picture.size
    except (ImageReadError, OSError):
        return None
    projection = re.search(r"GPano:ProjectionType\s*(?:=\s*[\"']|>)\s*(\w+)", packet)
    if projection is None or projection[1].lower() != "equirectangular":
        return None
    full = _number(packet, "FullPanoWidthPixels"), _number(packet, "FullPanoHeightPixels")
    cropped = _number(packet, "CroppedAreaImageWidthPixels"), _number(packet, "CroppedAreaImageHeightPixels")
    left, top = _number(packet, "CroppedAreaLeftPixels") or 0, _number(packet, "CroppedAreaTopPixels") or 0
    if full[0] and full[1] and cropped[0] and cropped[1]:
        shrunk = size[0] / cropped[0]  # saved in another size by a program that kept the packet
        area = PanoramaArea(
            (round(full[0] * shrunk), round(full[1] * shrunk)), round(left * shrunk), round(top * shrunk)
        )
        fits = area.left + size[0] <= area.full_size[0] + 2 and area.top + size[1] <= area.full_size[1] + 2
        if fits and abs(size[1] - cropped[1] * shrunk) <= 2 and abs(full[0] - 2 * full[1]) <= 2:
            return area
    return PanoramaArea(size) if size[0] == 2 * size[1] else None


def two_to_one_size(path: Path) -> tuple[int, int] | None:
    """Width and height px of a photo that is twice as wide as high, as a whole panorama is; None of any other."""
    try:
        with open_photo(path, max_pixels=sys.maxsize) as picture:
            width, height = picture.size
            return (width, height) if width == 2 * height and orientation_of(picture) == 1 else None
    except (ImageReadError, OSError):
        return None


def looks_like_panorama(pixels: np.ndarray) -> bool:
    """Whether a picture, (h, w, 3) uint8, is a whole equirectangular panorama by what can be seen of it.

    It is twice as wide as high, its left edge goes on at its right one, and its first and last row, which are one
    direction each, are stretched until nothing changes along them. Pictures with a plain left edge are never taken for
    one: it would meet anything.
    """
    height, width = pixels.shape[:2]
    if width != 2 * height or width < 64:
        return False
    size = (min(width, _SMALL_PX), min(width, _SMALL_PX) // 2)
    grey = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.float32)
    if grey[:, 0].std() < _LEAST_CONTRAST:
        return False
    seam = np.abs(grey[:, 0] - grey[:, -1]).mean()
    beside = np.median(np.abs(np.diff(grey, axis=1)).mean(0))
    apart = np.median([np.abs(grey - np.roll(grey, size[0] * turn // 8, 1)).mean() for turn in (2, 3, 4)])
    if seam > _SEAM * beside or seam > _SEAM_SHARE * apart:
        return False
    along = np.abs(np.diff(grey, axis=1)).mean(1)
    return bool(max(along[0], along[-1]) <= _POLE * np.median(along))


def _number(packet: str, name: str) -> int | None:
    found = re.search(rf"GPano:{name}\s*(?:=\s*[\"']|>)\s*(\d+)", packet)
    return int(found[1]) if found else None
