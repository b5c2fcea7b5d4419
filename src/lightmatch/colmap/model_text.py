"""The text form of a COLMAP model's files: cameras.txt, images.txt, points3D.txt.

Readers take the whole content of a file and raise ValueError where it is damaged; writers return it.
Source: https://colmap.github.io/format.html
"""

from __future__ import annotations

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
from lightmatch.colmap.model_types import ColmapCamera, ColmapModel, ColmapPoints
from lightmatch.geometry.coordinates import colmap_from_pixels


def _lines(content: bytes) -> list[str]:
    return [line.strip() for line in content.decode("utf-8-sig").split("\n")]


def _data_lines(content: bytes) -> list[str]:
    return [line for line in _lines(content) if line and not line.startswith("#")]


def read_cameras(content: bytes) -> dict[int, ColmapCamera]:
    """The cameras of a file, by their ids."""
    cameras = {}
    for line in _data_lines(content):
        camera_id, model, width, height, *params = line.split()
        cameras[int(camera_id)] = ColmapCamera(
            int(camera_id), model, int(width), int(height), tuple(float(number) for number in params)
        )
    return cameras


def read_images(content: bytes) -> list[ImageRow]:
    """The photos of a file, in its order."""
    images = []
    lines = iter(_lines(content))
    for line in lines:
        if not line or line.startswith("#"):
            continue
        image_id, qw, qx, qy, qz, tx, ty, tz, camera_id, name = line.split(maxsplit=9)
        # The line after a photo's holds its keypoints; it is empty where there are none.
        table = np.array(next(lines, "").split(), dtype=np.float64).reshape(-1, 3)
        point_ids = table[:, 2].astype(np.int64).astype(np.uint64)  # −1 becomes NO_POINT
        pose = pose_from_numbers(tuple(float(number) for number in (qw, qx, qy, qz, tx, ty, tz)))
        images.append(ImageRow(int(image_id), int(camera_id), name, pose, table[:, :2], point_ids))
    return images


def read_points(content: bytes) -> ColmapPoints:
    """The 3D points of a file."""
    rows = []
    for line in _data_lines(content):
        point_id, x, y, z, r, g, b, error, *_ = line.split(maxsplit=8)
        rows.append(PointRow(int(point_id), [float(x), float(y), float(z)], [int(r), int(g), int(b)], float(error)))
    return points_from_rows(rows)


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def _join(*values: object) -> str:
    return " ".join(str(value) for value in values)


def write_cameras(model: ColmapModel) -> bytes:
    """The file of a model's cameras."""
    lines = [_join(c.camera_id, c.model, c.width, c.height, *c.params) for c in model.cameras.values()]
    return _text(["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]", *lines])


def write_images(model: ColmapModel) -> bytes:
    """The file of a model's photos."""
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME", "# POINTS2D[] as X Y POINT3D_ID"]
    for image in model.images.values():
        lines.append(_join(image.image_id, *pose_numbers(image), image.camera_id, image.name))
        keypoints = colmap_from_pixels(image.keypoints).tolist()
        ids = point_ids(model, image).astype(np.int64).tolist()
        lines.append(_join(*(_join(x, y, point) for (x, y), point in zip(keypoints, ids, strict=True))))
    return _text(lines)


def write_points(model: ColmapModel) -> bytes:
    """The file of a model's 3D points."""
    lines = ["# POINT3D_ID X Y Z R G B ERROR TRACK[] as IMAGE_ID POINT2D_IDX"]
    for row, track in rows_of_points(model):
        lines.append(_join(row.point_id, *row.xyz, *row.rgb, row.error_px, *(_join(*seen) for seen in track)))
    return _text(lines)
