"""Poses over time, in files that trajectory evaluation reads."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.models import registered_images
from lightmatch.runtime.files import replacing

if TYPE_CHECKING:
    from pycolmap import Image, Reconstruction, Rigid3d

logger = logging.getLogger(__name__)


def write_trajectory(model: Reconstruction, times: Mapping[str, float], path: Path) -> int:
    """Write the poses of the photos that `times` names in TUM's format, by rising time; returns how many are written.

    times: seconds by name, in the order in which the photos were taken; photos that are not in the model are left out.
    So are those whose time is not later than all before, with a warning: time stamps of damaged or joined videos repeat
    or go back, which readers refuse or mix up. Each line is `time tx ty tz qx qy qz qw`, the camera in the world,
    camera axes x right, y down, z forward. Where no photo is in the model, nothing is written.
    """
    images = {image.name: image for image in registered_images(model)}
    placed = [(float(time), images[name]) for name, time in times.items() if name in images]
    if not placed:
        return 0
    rising: list[tuple[float, Image]] = []
    for time, image in placed:
        if not rising or time > rising[-1][0]:
            rising.append((time, image))
    if len(rising) < len(placed):
        logger.warning(
            "%s: expected time stamps that rise from frame to frame, got some that repeat or go back; %d of %d frames"
            " are left out of this file",
            path,
            len(placed) - len(rising),
            len(placed),
        )
    write_tum([(time, image.cam_from_world()) for time, image in rising], path)
    return len(rising)


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
