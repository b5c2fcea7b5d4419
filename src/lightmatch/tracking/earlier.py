"""A map that was made before, from a COLMAP model and the features of its images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightmatch.colmap.models import registered_images
from lightmatch.colmap.projection import rays_from_pixels
from lightmatch.errors import InvalidValueError
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.keyframes import add_measured
from lightmatch.tracking.map import Keyframe, Map
from lightmatch.types import Features

if TYPE_CHECKING:
    from pycolmap import Reconstruction


def map_of_model(
    model: Reconstruction,
    camera: TrackedCamera,
    features: Mapping[str, Features],
    depths: Mapping[str, np.ndarray] | None = None,
    most: int | None = None,
) -> tuple[Map, dict[int, str]]:
    """A map of the registered images and points of a model; and the names of the images by keyframe.

    features: of each image, by name, in the order of its points in the model; there may be more of them.
    depths: (n,) m, measured ones of the keypoints, NaN where unknown.
    most: keypoints of an image that are kept, those that show a point before all others.
    Places are as the ideal camera of `camera` would see them, whatever took the image. Raises InvalidValueError where
    features are fewer than the points of the model.
    """
    import pycolmap

    mapped, names = Map(), {}
    observations: dict[int, dict[int, int]] = {}  # of each point of the model: keypoint by keyframe
    for image in registered_images(model):
        own = features[image.name].strongest(image.num_points2D())
        if len(own) < image.num_points2D():
            raise InvalidValueError(
                f"{image.name}: expected the {image.num_points2D()} keypoints of the model, got {len(own)} features"
            )
        points2D = list(image.points2D)  # COLMAP's word; read once, for it is a copy
        shows = np.array([point.has_point3D() for point in points2D], bool)
        rows = np.sort(np.argsort(~shows, kind="stable")[:most])
        xy = np.array([points2D[row].xy for row in rows], np.float64).reshape(-1, 2)
        taken_by = pycolmap.Camera(model.camera(image.camera_id).todict())  # which does not keep the model alive
        places = camera.ideal_of_rays(rays_from_pixels(taken_by, xy))
        right_x = np.full(len(rows), np.nan)
        if depths is not None and camera.baseline is not None:
            right_x = camera.right_of(places, depths[image.name][rows])
        pose = np.array(image.cam_from_world().matrix())
        chosen = own.select(torch.from_numpy(rows))
        number = mapped.add_keyframe(Keyframe(np.nan, pose, chosen, places, right_x, camera=taken_by))
        names[number] = image.name
        for keypoint, row in enumerate(rows.tolist()):
            if shows[row]:
                observations.setdefault(points2D[row].point3D_id, {}).setdefault(number, keypoint)
    for point, seen in sorted(observations.items()):
        mapped.add_point(model.point3D(point).xyz, seen.items())
    for number in names if camera.baseline is not None else ():
        add_measured(mapped, camera, number)  # what one keyframe alone sees is not in the model
    return mapped, names
