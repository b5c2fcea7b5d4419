"""Films with nothing but a length, and photos of a few pixels."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage


def movie(seconds: float, version: int = 0, before: bytes = b"") -> bytes:
    """The boxes of an MP4 file that say how long it is, after ISO/IEC 14496-12; no picture in it."""

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), kind) + content

    times = struct.pack(">QQIQ" if version else ">IIII", 0, 0, 600, round(seconds * 600))
    header = box(b"mvhd", bytes([version, 0, 0, 0]) + times + bytes(80))
    return box(b"ftyp", b"qt  \0\0\0\0") + before + box(b"moov", box(b"iods", bytes(4)) + header)


@pytest.fixture
def write_movie() -> Callable[..., Path]:
    def write(path: Path, seconds: float, **layout: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(movie(seconds, **layout))  # type: ignore[arg-type]
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
