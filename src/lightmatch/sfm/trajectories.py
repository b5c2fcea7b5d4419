"""Poses over time, in files that trajectory evaluation reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.models import registered_images
from lightmatch.errors import InvalidValueError
from lightmatch.runtime.files import replacing

if TYPE_CHECKING:
    from pycolmap import Reconstruction, Rigid3d


def write_trajectory(model: Reconstruction, times: Mapping[str, float], path: Path) -> int:
    """Write the poses of the photos that `times` names in TUM's format, by rising time; returns how many there were.

    times: seconds by name; photos that are not in the model are left out. Each line is `time tx ty tz qx qy qz qw`,
    the camera in the world, camera axes x right, y down, z forward. Where no photo is in the model, nothing is written.
    Raises InvalidValueError where two photos share a time, which readers refuse or mix up.
    """
    named = [(float(times[image.name]), image) for image in registered_images(model) if image.name in times]
    found = sorted(named, key=lambda pair: pair[0])
    if not found:
        return 0
    last = None
    for time, image in found:
        if time == last:
            raise InvalidValueError(
                f"times: expected a time of its own for each photo, got {time} again ({image.name})"
            )
        last = time
    write_tum([(time, image.cam_from_world()) for time, image in found], path)
    return len(found)


def write_tum(poses: Iterable[tuple[float, Rigid3d]], path: Path) -> None:
    """Write poses in TUM's format, `time tx ty tz qx qy qz qw`, the camera in the world.

    poses: time in s and cam_from_world of each, by rising time.
    """
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for time, cam_from_world in poses:
        pose = cam_from_world.inverse()
        numbers = (time, *pose.translation, *pose.rotation.quat)  # quat is x y z w
        lines.append(" ".join(f"{number:.9f}" for number in numbers))
    with replacing(path) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def write_kitti(poses: Iterable[Rigid3d], path: Path) -> None:
    """Write poses in KITTI's format: a line each, the 12 numbers of the 3 × 4 matrix of the camera in the world.

    poses: cam_from_world of each, by rising time.
    """
    matrices = [np.array(cam_from_world.inverse().matrix()) for cam_from_world in poses]
    with replacing(path) as partial:
        np.savetxt(partial, np.reshape(matrices, (-1, 12)), fmt="%.9g")
