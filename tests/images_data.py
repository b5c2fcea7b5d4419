"""Small photos in many formats, made on the spot."""

import struct
from typing import Any

import numpy as np
from PIL import ExifTags
from PIL import Image as PilImage


def gradient(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8, smooth, with no symmetry: every turn and flip of it is another picture."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.rint(np.stack([40 + 200 * x, 30 + 180 * y, 200 - 150 * x * y], axis=-1)).astype(np.uint8)


def noise(shape: tuple[int, ...], dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    """Unsigned integers over the whole range of `dtype`."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def stored_for(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores so that EXIF `orientation` makes it `upright`, from the words of CIPA DC-008.

    The standard says where row 0 and column 0 of the stored pixels lie in the upright picture.
    """
    return {
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.swapaxes(0, 1),  # left, top
        6: upright[:, ::-1].swapaxes(0, 1),  # right, top
        7: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
        8: upright[::-1].swapaxes(0, 1),  # left, bottom
    }[orientation].copy()


def camera_exif(orientation: int, size: tuple[int, int], **camera: Any) -> PilImage.Exif:
    """EXIF of a camera; `size` is the stored (width, height), `camera` names further tags of the EXIF directory."""
    exif = PilImage.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Model] = "Model 1"
    tags = {"FocalLength": 4.5, "FocalLengthIn35mmFilm": 28} | camera
    tags |= {"ExifImageWidth": size[0], "ExifImageHeight": size[1]}
    exif[ExifTags.IFD.Exif] = {ExifTags.Base[name]: value for name, value in tags.items()}
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (48.0, 51.0, 24.0)}
    return exif


def tiff_bytes(
    data: bytes,
    size: tuple[int, int],
    bits: tuple[int, ...],
    photometric: int,
    orientation: int = 1,
    sample_format: int = 1,
    planes: int = 1,
) -> bytes:
    """A TIFF 6.0 file, little-endian, one uncompressed strip a plane: Pillow writes too few layouts."""
    strip = len(data) // planes
    entries = [
        (256, "I", [size[0]]),
        (257, "I", [size[1]]),
        (258, "H", list(bits)),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "I", [8 + strip * plane for plane in range(planes)]),
        (274, "H", [orientation]),
        (277, "H", [len(bits)]),
        (278, "I", [size[1]]),
        (279, "I", [strip] * planes),
        (284, "H", [2 if planes > 1 else 1]),
        (339, "H", [sample_format] * len(bits)),
    ]
    data += b"\0" * (len(data) % 2)
    directory, beyond = struct.pack("<H", len(entries)), b""
    beyond_at = 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, code, values in entries:
        packed = struct.pack(f"<{len(values)}{code}", *values)
        if len(packed) > 4:
            field, beyond = struct.pack("<I", beyond_at + len(beyond)), beyond + packed
        else:
            field = packed.ljust(4, b"\0")
        directory += struct.pack("<HHI", tag, {"H": 3, "I": 4}[code], len(values)) + field
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + b"\0" * 4 + beyond
