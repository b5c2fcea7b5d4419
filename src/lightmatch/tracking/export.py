"""The map as a COLMAP model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.tracking.camera import TrackedCamera, in_colmap
from lightmatch.tracking.map import Map
from lightmatch.tracking.pose import rigid

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
        model.add_image_with_trivial_frame(image, rigid(keyframe.cam_from_world))
    for point in mapped.points:
        seen = sorted(mapped.observers(point).items())
        if len(seen) >= 2:
            track = pycolmap.Track(elements=[pycolmap.TrackElement(keyframe + 1, row) for keyframe, row in seen])
            model.add_point3D(mapped.xyz[point], track)
    model.update_point_3d_errors()
    return model
