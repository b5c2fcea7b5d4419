"""Draws two photos and their matches, inliers and outliers in different colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.types import Image

_FORMATS = (".png", ".jpg", ".jpeg", ".webp")
_PANEL_PX = 900  # longer side of each photo in the picture
_GAP_PX = 12
_TITLE_PX = 56
_MAX_LINES = 300  # more lines than this hide the photos and each other
_FEW_LINES = 100  # up to this number lines are thick
_OUTLIER = (215, 48, 39)
_BACKGROUND = (24, 24, 27)
_SUBPIXEL_BITS = 4


def draw_matches(image0: Image, image1: Image, points0: Tensor, points1: Tensor, inliers: Tensor) -> np.ndarray:
    """Both photos side by side (wide ones stacked), a line for each match; (h, w, 3) uint8 RGB.

    points0/1: (k, 2) px in each photo. inliers: (k,) bool. Inliers are coloured by their position in
    image 0, so that wrong matches are visible; outliers are thin and red, below them. An even sample of at most 300
    of each is drawn; the title has the full numbers.
    """
    panel0, scale0 = _panel(image0)
    panel1, scale1 = _panel(image1)
    (h0, w0), (h1, w1) = panel0.shape[:2], panel1.shape[:2]
    # Matches across the shorter side hide the least of the photos.
    stacked = w0 + w1 > 1.5 * (h0 + h1)
    offset = np.array([0, h0 + _GAP_PX] if stacked else [w0 + _GAP_PX, 0])
    width = max(w0, w1) if stacked else w0 + _GAP_PX + w1
    height = h0 + _GAP_PX + h1 if stacked else max(h0, h1)
    canvas = np.full((height + _TITLE_PX, width, 3), _BACKGROUND, np.uint8)
    body = canvas[_TITLE_PX:]
    body[:h0, :w0] = panel0
    body[offset[1] : offset[1] + h1, offset[0] : offset[0] + w1] = panel1

    ends0 = _scaled(points0, scale0)
    ends1 = _scaled(points1, scale1) + offset
    agree = inliers.cpu().numpy()
    colors = _colors_by_place(ends0, (w0, h0))
    thick = 2 if agree.sum() <= _FEW_LINES else 1
    for chosen, thickness in ((~agree, 1), (agree, thick)):
        for k in _sample(np.flatnonzero(chosen)):
            color = tuple(map(int, colors[k])) if agree[k] else _OUTLIER
            _line(body, ends0[k], ends1[k], color, thickness)
    for k in _sample(np.flatnonzero(agree)):
        for end in (ends0[k], ends1[k]):
            cv2.circle(body, tuple(np.rint(end).astype(int)), 3, tuple(map(int, colors[k])), -1, cv2.LINE_AA)
    _title(canvas, len(agree), int(agree.sum()))
    return canvas


def check_picture_name(path: Path) -> None:
    """Raise InvalidValueError unless a picture can be written under this name. Call it before long work."""
    if path.suffix.lower() not in _FORMATS:
        raise InvalidValueError(f"{path}: expected a name ending in {', '.join(_FORMATS)}; choose one of these")


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write a picture (h, w, 3) uint8 RGB in the format of the suffix; creates the folder."""
    path = Path(path)
    check_picture_name(path)
    _, data = cv2.imencode(path.suffix, picture[..., ::-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())  # cv2.imwrite fails on some non-Latin paths


def _panel(image: Image) -> tuple[np.ndarray, np.ndarray]:
    """The photo at drawing size, a little darker so that lines stand out, and (x, y) scale factors."""
    width, height = image.size
    scale = _PANEL_PX / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return (resized * 0.75).astype(np.uint8), np.array([size[0] / width, size[1] / height])


def _scaled(points: Tensor, scale: np.ndarray) -> np.ndarray:
    return (points.cpu().numpy() + 0.5) * scale - 0.5


def _sample(indices: np.ndarray) -> np.ndarray:
    if len(indices) <= _MAX_LINES:
        return indices
    return indices[np.linspace(0, len(indices) - 1, _MAX_LINES).round().astype(int)]


def _colors_by_place(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(k, 3) uint8 RGB: hue from left to right, lighter from top to bottom."""
    # OpenCV's hues are 0…180; red, the colour of outliers, is at both ends and left out.
    hue = 22 + np.clip(points[:, 0] / size[0], 0, 1) * 125
    value = 160 + 95 * np.clip(points[:, 1] / size[1], 0, 1)
    hsv = np.stack((hue, np.full_like(hue, 210), value), -1).astype(np.uint8)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] if len(hsv) else hsv


def _line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, color: tuple[int, ...], thickness: int) -> None:
    fixed = [tuple(np.rint(point * (1 << _SUBPIXEL_BITS)).astype(int).tolist()) for point in (start, end)]
    cv2.line(canvas, fixed[0], fixed[1], color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _title(canvas: np.ndarray, num_matches: int, num_inliers: int) -> None:
    share = f" ({100 * num_inliers / num_matches:.0f} %)" if num_matches else ""
    text = f"{num_matches} matches, {num_inliers} inliers{share}"
    left = 14
    cv2.putText(canvas, text, (left, 37), cv2.FONT_HERSHEY_DUPLEX, 0.85, (235, 235, 235), 1, cv2.LINE_AA)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 0.85, 1)
    if num_matches > num_inliers and canvas.shape[1] > width + 260:
        cv2.line(canvas, (left + width + 40, 28), (left + width + 80, 28), _OUTLIER, 2, cv2.LINE_AA)
        place = (left + width + 92, 37)
        cv2.putText(canvas, "outliers", place, cv2.FONT_HERSHEY_DUPLEX, 0.7, (200, 200, 200), 1, cv2.LINE_AA)
