"""Very large photos tile by tile, in bounded memory, without seams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch

from lightmatch.types import Features, Image

MARGIN_PX = 96  # what is nearer to the edge of a tile is left to its neighbour: about the receptive field of a detector
_GRID_PX = 32  # tiles start at its multiples, so that pyramids and strides fall on the same pixels as in the whole
WIDEST_SCALE_PX = 18  # diameter of a blob whose descriptor, 5.3 diameters to either side, fits into the margin
SMALLEST_PX = 2 * MARGIN_PX + _GRID_PX


class Box(NamedTuple):
    """Pixels from (left, top) up to, not including, (right, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""
        return self.right - self.left, self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of an array (height, width, …)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, other: Box) -> Box:
        """The same pixels, counted from the corner of `other`."""
        return Box(self.left - other.left, self.top - other.top, self.right - other.left, self.bottom - other.top)


def tiles(size: tuple[int, int], tile_size: int) -> Iterator[tuple[Box, Box]]:
    """Tiles of at most `tile_size` px a side, row by row, and the part of each whose keypoints are its own.

    size: (width, height) px. Every pixel is in the own part of exactly one tile, and there at least `MARGIN_PX` from
    the edges of the tile, except where those are the image's. Needs tile_size of at least `SMALLEST_PX`.
    """
    across, down = (list(_spans(length, tile_size)) for length in size)
    for (top, bottom, own_top, own_bottom), (left, right, own_left, own_right) in product(down, across):
        yield Box(left, top, right, bottom), Box(own_left, own_top, own_right, own_bottom)


def _spans(length: int, tile_size: int) -> Iterator[tuple[int, int, int, int]]:
    """Start and end of the tiles along one side, and of their own parts."""
    step = (tile_size - 2 * MARGIN_PX) // _GRID_PX * _GRID_PX
    for start in range(0, length, step):
        end = min(start + step, length)
        yield max(start - MARGIN_PX, 0), min(end + MARGIN_PX, length), start, end


def cut(image: Image, box: Box) -> Image:
    """The part of the image in the box."""
    return Image(np.ascontiguousarray(image.pixels[box.slices]), image.path)


def moved(features: Features, shift: tuple[int, int], image_size: tuple[int, int]) -> Features:
    """The same features, `shift` px to the right and down, in an image of which theirs is a part, or is part of."""
    keypoints = features.keypoints + features.keypoints.new_tensor(shift)
    return replace(features, keypoints=keypoints, image_size=image_size)


def joined(first: Features, second: Features) -> Features:
    """The features of both, which are of one kind and one image."""
    names = ("keypoints", "scores", "descriptors", "scales", "orientations")
    both = {name: (getattr(first, name), getattr(second, name)) for name in names}
    values: dict[str, Any] = {name: torch.cat(pair) for name, pair in both.items() if pair[0] is not None}
    return replace(first, **values)
