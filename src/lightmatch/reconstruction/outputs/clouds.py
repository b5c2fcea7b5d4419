"""Point clouds with colours and normals, and PLY files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.runtime.files import replacing

if TYPE_CHECKING:
    from pycolmap import Reconstruction


@dataclass(frozen=True, eq=False)
class DensePoints:
    """n points of a scene, in the frame of its model."""

    points: np.ndarray  # (n, 3) float32
    colors: np.ndarray  # (n, 3) uint8 RGB
    normals: np.ndarray  # (n, 3) float32, unit length, towards the cameras; 0 0 0 where unknown
    num_views: np.ndarray  # (n,) int32, photos that agree on the point

    def __post_init__(self) -> None:
        count = len(self.points)
        for name, shape, dtype in (
            ("points", (count, 3), np.float32),
            ("colors", (count, 3), np.uint8),
            ("normals", (count, 3), np.float32),
            ("num_views", (count,), np.int32),
        ):
            value = getattr(self, name)
            if value.shape != shape or value.dtype != dtype:
                raise InvalidValueError(
                    f"DensePoints.{name}: expected an array of shape {shape} and {np.dtype(dtype)},"
                    f" got {value.shape} and {value.dtype}"
                )

    def __len__(self) -> int:
        return len(self.points)

    def select(self, index: np.ndarray) -> DensePoints:
        """The points at `index`, (m,) integers in that order or an (n,) bool mask."""
        return DensePoints(self.points[index], self.colors[index], self.normals[index], self.num_views[index])


def sparse_points(model: Reconstruction) -> DensePoints:
    """The sparse points of the model, by ascending id, without normals."""
    chosen = [model.point3D(number) for number in sorted(model.points3D)]
    return DensePoints(
        np.array([point.xyz for point in chosen], np.float32).reshape(-1, 3),
        np.array([point.color for point in chosen], np.uint8).reshape(-1, 3),
        np.zeros((len(chosen), 3), np.float32),
        np.array([len({seen.image_id for seen in point.track.elements}) for point in chosen], np.int32),
    )


def write_ply(path: Path, points: np.ndarray, colors: np.ndarray, normals: np.ndarray | None = None) -> None:
    """Write points as binary little-endian PLY: x y z, nx ny nz if there are normals, red green blue.

    points: (n, 3). colors: (n, 3) uint8 RGB. normals: (n, 3), or None. The file is written atomically.
    Raises InvalidValueError on other shapes, or points that are not finite.
    """
    columns = {"points": points, "colors": colors} | ({} if normals is None else {"normals": normals})
    for name, value in columns.items():
        if value.shape != (len(points), 3):
            raise InvalidValueError(f"{name}: expected an array of shape ({len(points)}, 3), got {value.shape}")
    if colors.dtype != np.uint8:
        raise InvalidValueError(f"colors: expected uint8 of 0…255, got {colors.dtype}")
    if not np.isfinite(points).all():
        raise InvalidValueError("points: expected finite coordinates, got NaN or infinity; drop these points first")
    fields = [(axis, "<f4") for axis in ("x", "y", "z")]
    fields += [] if normals is None else [(axis, "<f4") for axis in ("nx", "ny", "nz")]
    fields += [(channel, "u1") for channel in ("red", "green", "blue")]
    table = np.empty(len(points), np.dtype(fields))
    numbers = np.concatenate([points] if normals is None else [points, normals], 1)
    for (name, _), column in zip(fields, [*numbers.T, *colors.T], strict=True):
        table[name] = column
    types = {"<f4": "float", "u1": "uchar"}
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property {types[kind]} {name}" for name, kind in fields] + ["end_header"]
    with replacing(path) as partial:
        partial.write_bytes("".join(f"{line}\n" for line in lines).encode("ascii") + table.tobytes())
