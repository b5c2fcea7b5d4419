"""What the tracker is given at one moment: checked, and ready for optical flow."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.tracking.flow import FlowImage
from lightmatch.types import Image

_BLANK = 4.0  # grey levels: a frame that varies less shows nothing

Pixels = Image | np.ndarray


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """An image at its time, with what measures depth."""

    timestamp: float  # s
    image: Image
    flow: FlowImage
    depth: np.ndarray | None  # (h, w) m
    right: FlowImage | None

    @classmethod
    def of(cls, image: Pixels, timestamp: float, depth: np.ndarray | None, right: Pixels | None) -> CameraFrame:
        """image, right: RGB or grey, uint8. All is copied: who gave it may put the next frame there."""
        pixels = image.pixels if isinstance(image, Image) else image
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, 2)
        beside = None if right is None else FlowImage.of(_grey(right))
        held = None if depth is None else depth.copy()
        return cls(timestamp, Image(np.array(pixels)), FlowImage.of(_grey(image)), held, beside)


def problem_of(
    image_size: tuple[int, int],
    last: float | None,
    image: Pixels,
    timestamp: float,
    depth: np.ndarray | None,
    right: Pixels | None,
) -> str | None:
    """Why a frame cannot be tracked, in a sentence; None where it can. last: time of the frame before.

    Raises InvalidValueError for arrays that are no image and no depth map.
    """
    _check_arrays(image, depth, right)
    if not np.isfinite(timestamp) or (last is not None and timestamp <= last):
        return f"expected a time later than {last} s, got {timestamp} s; the frame is passed over"
    width, height = image_size
    for what, given in (("an image", image), ("a depth map", depth), ("a right image", right)):
        if given is None:
            continue
        rows, columns = (given.pixels if isinstance(given, Image) else given).shape[:2]
        if (columns, rows) != image_size:
            return f"expected {what} of {width} x {height} px, got {columns} x {rows}; the frame is passed over"
    if _grey(image).std() < _BLANK:
        return "the frame is blank"
    return None


def _check_arrays(image: Pixels, depth: np.ndarray | None, right: Pixels | None) -> None:
    for name, given in (("image", image), ("right", right)):
        if isinstance(given, np.ndarray) and (given.dtype != np.uint8 or given.shape[2:] not in ((), (3,))):
            raise InvalidValueError(
                f"{name}: expected grey (h, w) or RGB (h, w, 3), uint8; got {given.shape} of {given.dtype}"
            )
    if depth is not None and (depth.ndim != 2 or not np.issubdtype(depth.dtype, np.floating)):
        raise InvalidValueError(
            f"depth: expected metres (h, w), floating point; got {depth.shape} of {depth.dtype}; divide by the scale"
        )


def _grey(image: Pixels) -> np.ndarray:
    pixels = image.pixels if isinstance(image, Image) else image
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
