"""Dense maps of COLMAP's stereo folder, read and written without pycolmap.

Source: https://colmap.github.io/format.html
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError


def read_colmap_array(path: str | Path) -> Tensor:
    """A dense map of COLMAP's stereo folder, such as `photo.jpg.geometric.bin`: float32.

    Returns (height, width) for one channel (depth: z in the camera, 0 where unknown), (height, width, channels)
    for more (normals). Raises InvalidValueError where the file is missing or damaged.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        width, height, channels = (int(number) for number in content[:64].split(b"&")[:3])
        start = len(f"{width}&{height}&{channels}&")
        # Column-major in (x, y, channel): rows of pixels, one plane for each channel.
        values = np.frombuffer(content[start:], "<f4").reshape(channels, height, width)
    except (OSError, ValueError) as error:
        raise InvalidValueError(
            f"{path}: expected COLMAP's 'width&height&channels&' and as many float32 numbers, could not read that"
            f" ({error}); check the path or run the stereo step again"
        ) from error
    array = torch.from_numpy(values.astype(np.float32))
    return array[0] if channels == 1 else array.permute(1, 2, 0).contiguous()


def write_colmap_array(array: Tensor, path: str | Path) -> None:
    """Write a dense map, (height, width) or (height, width, channels), as `read_colmap_array` reads it."""
    if array.ndim not in (2, 3):
        raise InvalidValueError(f"array: expected (height, width) or (height, width, channels), got {array.ndim} axes")
    planes = array[None] if array.ndim == 2 else array.permute(2, 0, 1)
    channels, height, width = planes.shape
    header = f"{width}&{height}&{channels}&".encode("ascii")
    Path(path).write_bytes(header + planes.cpu().numpy().astype("<f4").tobytes())
