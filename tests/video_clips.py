"""Small videos, encoded from procedural pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

TIME_BASE = Fraction(1, 1000)


def encode_video(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    source_format: str = "rgb24",
    times_ms: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    set_up: Callable[[Any], None] | None = None,
) -> Path:
    """Encode `frames`, (h, w, 3) uint8 RGB by default, at 30 frames per second or at `times_ms`.

    tags: color_trc, color_primaries, colorspace and color_range of the stream, as numbers of ITU-T H.273.
    set_up: called with the stream before the first frame.
    """
    import av

    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=30, options={"threads": "1"} | (options or {}))
        example = av.VideoFrame.from_ndarray(frames[0], format=source_format)
        stream.width, stream.height, stream.pix_fmt = example.width, example.height, pixel_format
        stream.codec_context.time_base = TIME_BASE
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if set_up:
            set_up(stream)
        for index, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(pixels, format=source_format)
            for name, value in (tags or {}).items():
                setattr(picture, name, value)
            picture.pts = round(index * 1000 / 30) if times_ms is None else times_ms[index]
            picture.time_base = TIME_BASE
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def texture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: blobs of many sizes, with corners everywhere."""
    random = np.random.default_rng(seed)
    layers = []
    for cell in (4, 8, 16, 32):
        coarse = random.uniform(0, 255, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        layers.append(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST))
    return np.mean(layers, axis=0).round().astype(np.uint8)


def pan(shifts_px: Sequence[float], size: tuple[int, int] = (320, 240), seed: int = 0) -> list[np.ndarray]:
    """Windows of `size` (width, height) on one wide texture, each `shifts_px` to the right of the first."""
    width, height = size
    wide = texture(width + int(max(shifts_px)) + 2, height, seed)
    return [cv2.getRectSubPix(wide, size, ((width - 1) / 2 + x, (height - 1) / 2)) for x in shifts_px]
