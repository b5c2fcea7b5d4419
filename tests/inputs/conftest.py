"""Films and photos of a few pixels."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as PilImage


@pytest.fixture
def write_movie() -> Callable[..., Path]:
    """Writes a film of two frames of 16 × 16 px that lasts so many seconds."""

    def write(path: Path, seconds: float) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", format="mov") as container:
            stream: Any = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height = 16, 16
            for number in (0, round(10 * seconds) - 1):
                frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def write_photo() -> Callable[..., Path]:
    """Writes a small photo, by number another one; `exif` and other options go to the encoder."""

    def write(path: Path, number: int = 0, size: tuple[int, int] = (48, 32), **options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        picture = PilImage.fromarray(pixels)
        if path.suffix.lower() in (".heic", ".heif"):
            import pillow_heif

            pillow_heif.from_pillow(picture).save(path, quality=90, **options)
        else:
            picture.save(path, **options)  # type: ignore[arg-type]
        return path

    return write
