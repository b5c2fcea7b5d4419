"""The map as a COLMAP model, and poses as trajectories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightmatch.geometry.quaternions import quaternion_from_rotation
from lightmatch.tracking.camera import TrackedCamera, in_colmap
from lightmatch.tracking.map import Map

if TYPE_CHECKING:
    from pycolmap import Reconstruction


def colmap_model(mapped: Map, camera: TrackedCamera, names: Sequence[str]) -> Reconstruction:
    """A COLMAP model of the keyframes and the points that two or more of them see. names: of the keyframes' images."""
    import pycolmap

    model = pycolmap.Reconstruction()
    own = pycolmap.Camera(
        camera_id=1,
        model=camera.colmap.model_name,
        width=camera.colmap.width,
        height=camera.colmap.height,
        params=list(camera.colmap.params),
    )
    model.add_camera_with_trivial_rig(own)
    for number, (keyframe, name) in enumerate(zip(mapped.keyframes, names, strict=True), 1):
        pixels = keyframe.features.keypoints.numpy().astype(np.float64)
        image = pycolmap.Image(name=name, camera_id=1, image_id=number, keypoints=in_colmap(pixels).reshape(-1, 2))
        pose = keyframe.cam_from_world
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(pose[:, :3]), pose[:, 3]))
    for point in mapped.points:
        seen = sorted(mapped.observers(point).items())
        if len(seen) >= 2:
            track = pycolmap.Track(elements=[pycolmap.TrackElement(keyframe + 1, row) for keyframe, row in seen])
            model.add_point3D(mapped.xyz[point], track)
    model.update_point_3d_errors()
    return model


def write_tum(trajectory: Iterable[tuple[float, np.ndarray]], path: Path) -> None:
    """Write poses in TUM's format, `time tx ty tz qx qy qz qw`, the camera in the world.

    trajectory: time in s and cam_from_world (3, 4) of each frame, by rising time.
    """
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for timestamp, pose in trajectory:
        w, x, y, z = quaternion_from_rotation(torch.from_numpy(np.ascontiguousarray(pose[:, :3].T)))
        center = -pose[:, :3].T @ pose[:, 3]
        lines.append(" ".join(f"{number:.9f}" for number in (timestamp, *center, x, y, z, w)))
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
