"""The binary form of a COLMAP model's files: cameras.bin, images.bin, points3D.bin.

Readers take the whole content of a file and raise ValueError or struct.error where it is damaged; writers return it.
Source: https://colmap.github.io/format.html
"""

from __future__ import annotations

import struct

import numpy as np

from lightmatch.colmap.model_rows import (
    ImageRow,
    PointRow,
    point_ids,
    points_from_rows,
    pose_from_numbers,
    pose_numbers,
    rows_of_points,
)
from lightmatch.colmap.model_types import CAMERA_PARAMS, ColmapCamera, ColmapModel, ColmapPoints
from lightmatch.geometry.coordinates import colmap_from_pixels

_MODEL_NAMES = list(CAMERA_PARAMS)
_KEYPOINT = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
_TRACK_BYTES = 8  # two int32 for each observation


class _Bytes:
    """Little-endian numbers, one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from("<" + form, self.content, self.place)
        self.place += struct.calcsize("<" + form)
        return values

    def take_array(self, dtype: np.dtype, count: int) -> np.ndarray:
        values = np.frombuffer(self.content, dtype, count, self.place)
        self.place += values.nbytes
        return values

    def take_name(self) -> str:
        end = self.content.index(b"\0", self.place)
        name = self.content[self.place : end].decode("utf-8")
        self.place = end + 1
        return name


def read_cameras(content: bytes) -> dict[int, ColmapCamera]:
    """The cameras of a file, by their ids."""
    data = _Bytes(content)
    cameras = {}
    for _ in range(data.take("Q")[0]):
        camera_id, model_id, width, height = data.take("IiQQ")
        if not 0 <= model_id < len(_MODEL_NAMES):
            raise ValueError(f"camera model number {model_id}")
        model = _MODEL_NAMES[model_id]
        params = data.take(f"{len(CAMERA_PARAMS[model].split())}d")
        cameras[camera_id] = ColmapCamera(camera_id, model, width, height, params)
    return cameras


def read_images(content: bytes) -> list[ImageRow]:
    """The photos of a file, in its order."""
    data = _Bytes(content)
    images = []
    for _ in range(data.take("Q")[0]):
        image_id, *pose, camera_id = data.take("I7dI")
        name = data.take_name()
        keypoints = data.take_array(_KEYPOINT, data.take("Q")[0])
        images.append(
            ImageRow(
                image_id, camera_id, name, pose_from_numbers(tuple(pose)), keypoints["xy"].copy(), keypoints["point"]
            )
        )
    return images


def read_points(content: bytes) -> ColmapPoints:
    """The 3D points of a file."""
    data = _Bytes(content)
    rows = []
    for _ in range(data.take("Q")[0]):
        point_id, x, y, z, r, g, b, error, track_length = data.take("Q3d3BdQ")
        data.place += _TRACK_BYTES * track_length
        rows.append(PointRow(point_id, [x, y, z], [r, g, b], error))
    if data.place > len(content):
        raise ValueError("the last track is cut off")
    return points_from_rows(rows)


def write_cameras(model: ColmapModel) -> bytes:
    """The file of a model's cameras."""
    parts = [struct.pack("<Q", len(model.cameras))]
    for c in model.cameras.values():
        parts.append(struct.pack("<IiQQ", c.camera_id, _MODEL_NAMES.index(c.model), c.width, c.height))
        parts.append(struct.pack(f"<{len(c.params)}d", *c.params))
    return b"".join(parts)


def write_images(model: ColmapModel) -> bytes:
    """The file of a model's photos."""
    parts = [struct.pack("<Q", len(model.images))]
    for image in model.images.values():
        parts.append(struct.pack("<I7dI", image.image_id, *pose_numbers(image), image.camera_id))
        parts.append(image.name.encode("utf-8") + b"\0" + struct.pack("<Q", len(image.keypoints)))
        table = np.empty(len(image.keypoints), _KEYPOINT)
        table["xy"], table["point"] = colmap_from_pixels(image.keypoints).numpy(), point_ids(model, image)
        parts.append(table.tobytes())
    return b"".join(parts)


def write_points(model: ColmapModel) -> bytes:
    """The file of a model's 3D points."""
    parts = [struct.pack("<Q", len(model.points))]
    for row, track in rows_of_points(model):
        parts.append(struct.pack("<Q3d3BdQ", row.point_id, *row.xyz, *row.rgb, row.error_px, len(track)))
        parts.append(np.array(track, "<i4").tobytes())
    return b"".join(parts)
