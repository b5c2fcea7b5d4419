"""Rotations as quaternions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def rotation_from_quaternion(quaternion: Sequence[float]) -> Tensor:
    """The rotation matrix (3, 3) float64 of a quaternion (w, x, y, z) of any length. Raises ValueError for 0 0 0 0."""
    if not any(quaternion):
        raise ValueError("a rotation of 0 0 0 0")
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.tensor(rows, dtype=torch.float64)


def quaternion_from_rotation(R: Tensor) -> list[float]:
    """The unit quaternion [w, x, y, z] with w ≥ 0 of a rotation matrix R (3, 3).

    Source: Bar-Itzhack, New method for extracting the quaternion from a rotation matrix, 2000, equation 22: the main
    eigenvector.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = R.tolist()
    rows = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ]
    quaternion = np.linalg.eigh(np.array(rows))[1][:, -1]
    return (quaternion if quaternion[0] >= 0 else -quaternion).tolist()
