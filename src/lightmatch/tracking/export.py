"""The map as a COLMAP model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.models import rigid
from lightmatch.tracking.camera import TrackedCamera, in_colmap
from lightmatch.tracking.map import Map

if TYPE_CHECKING:
    from pycolmap import Reconstruction


def colmap_model(mapped: Map, camera: TrackedCamera, names: Mapping[int, str]) -> Reconstruction:
    """A COLMAP model of the keyframes and the points that two or more of them see.

    names: of the keyframes' images. Ids of images are the numbers of keyframes and one more, as COLMAP counts from 1.
    """
    import pycolmap

    model = pycolmap.Reconstruction()
    cameras: dict[tuple[object, ...], int] = {}  # ids, by all that is said of a camera
    for number, keyframe in mapped.keyframes.items():
        taken_by = keyframe.camera or camera.colmap
        said = taken_by.model_name, taken_by.width, taken_by.height, *taken_by.params
        if said not in cameras:
            cameras[said] = len(cameras) + 1
            model.add_camera_with_trivial_rig(pycolmap.Camera({**taken_by.todict(), "camera_id": cameras[said]}))
        pixels = keyframe.features.keypoints.numpy().astype(np.float64)
        image = pycolmap.Image(
            name=names[number], camera_id=cameras[said], image_id=number + 1, keypoints=in_colmap(pixels).reshape(-1, 2)
        )
        model.add_image_with_trivial_frame(image, rigid(keyframe.cam_from_world))
    for point in mapped.points:
        seen = sorted(mapped.observers(point).items())
        if len(seen) >= 2:
            track = pycolmap.Track(elements=[pycolmap.TrackElement(keyframe + 1, row) for keyframe, row in seen])
            model.add_point3D(mapped.xyz[point], track)
    model.update_point_3d_errors()
    return model
