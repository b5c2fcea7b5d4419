"""Overlays (text, logos, frames) at the same place in most pictures, found by shared gradients.

The scene's edges lie elsewhere in every picture, those of what was laid over it stay (an idea of Dekel et al.: On the
Effectiveness of Visible Watermarks, 2017, section 3.1, there by the median of the gradients).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from lightmatch.errors import ImageReadError
from lightmatch.images import MAX_PIXELS, Levels, load_shrunk, open_photo, upright_size

_PICTURES, _MOST_PICTURES = 5, 15  # of one size, that are compared
_LONG_SIDE_PX = 1024  # larger ones are shrunk for it
_EDGE = 6.0  # grey levels a px, of 255
_MOST = 0.45  # of the pictures: those that have an edge of an overlay
_LEAST_EDGE_PX = 24  # pixels of an edge: fewer agree by chance
_NEAR_PX = 4  # of an edge, where corners are made by it
_LEAST_SHARE = 0.02  # of a picture: ordinary photos have up to 1.4 % by chance
_ALIKE = 0.8  # of a picture's edges: where so many stay, it is the camera that stays

Size = tuple[int, int]


def find_overlays(
    pictures: Sequence[Path], max_pixels: int = MAX_PIXELS, levels: Levels | None = None
) -> dict[Size, np.ndarray]:
    """By (width, height) px of upright pictures, where those of that size have an overlay: (height, width) bool.

    max_pixels, levels: as for `load_image`. Sizes without an overlay, or with too few pictures to tell, are not there.
    """
    by_size: dict[Size, list[Path]] = defaultdict(list)
    for path in pictures:
        size = _upright_size(path, max_pixels)
        if size is not None:
            by_size[size].append(path)
    found = {size: _overlay(paths, max_pixels, levels) for size, paths in by_size.items() if len(paths) >= _PICTURES}
    return {
        size: cv2.resize(overlay.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        for size, overlay in found.items()
        if overlay is not None
    }


def overlay_warning(overlays: Iterable[np.ndarray]) -> str | None:
    """What was masked, (height, width) bool each, in a sentence."""
    shares = [float(overlay.mean()) for overlay in overlays]
    if not shares:
        return None
    return (
        "text, a logo, a frame or a background that most pictures have in one place"
        f" ({max(shares):.0%} of a picture) is masked; save pictures without it where you can"
    )


def _upright_size(path: Path, max_pixels: int) -> Size | None:
    try:
        with open_photo(path, max_pixels) as picture:
            return upright_size(picture)
    except (ImageReadError, OSError):
        return None


def _overlay(paths: Sequence[Path], max_pixels: int, levels: Levels | None) -> np.ndarray | None:
    """(h, w) bool of the pictures shrunk alike; None where they have none."""
    greys = []
    for n in np.linspace(0, len(paths) - 1, min(len(paths), _MOST_PICTURES)):
        try:
            shrunk = load_shrunk(paths[int(n)], _LONG_SIDE_PX, max_pixels, levels)
        except ImageReadError:
            continue
        greys.append(cv2.cvtColor(shrunk.pixels, cv2.COLOR_RGB2GRAY))
    if len(greys) < _PICTURES:
        return None
    slopes = np.stack([[cv2.Sobel(grey, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1))] for grey in greys])
    heights = np.stack([cv2.magnitude(*one) for one in slopes])
    edges = np.zeros(heights.shape[1:], bool)
    for number, height in enumerate(heights):
        steep = height > 8 * _EDGE
        here, least = slopes[:, :, steep], 0.5 * height[steep]
        like_it = sum(np.hypot(*(other - here[number])) < least for other in here)
        edges[steep] |= like_it >= _MOST * len(slopes)
    usual = np.median((heights > 8 * _EDGE).mean((1, 2)))
    if edges.mean() > _ALIKE * usual:
        return None
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(edges.astype(np.uint8))
    long = statistics[:, cv2.CC_STAT_AREA] >= _LEAST_EDGE_PX
    long[0] = False  # what is no edge
    near = np.ones((2 * _NEAR_PX + 1, 2 * _NEAR_PX + 1), np.uint8)
    overlay = cv2.dilate(long[np.asarray(labels, np.intp)].astype(np.uint8), near).astype(bool)
    return overlay if overlay.mean() >= _LEAST_SHARE else None
