"""A photo that the mapper left out, and that was placed since, into its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightmatch.colmap.database import open_database
from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.sfm.placement import SAME_PX, PlacedPhoto

if TYPE_CHECKING:
    from pycolmap import Reconstruction


def add_photo(
    model: Reconstruction, database: Path, name: str, placed: PlacedPhoto, *, append_keypoints: bool = False
) -> None:
    """Put one more photo of its database into `model`, at the pose found, with its inliers as observations.

    The photo's camera takes the intrinsics of `placed` unless photos of the model share it. Inliers are found among
    the database's keypoints by where they are, for `placed` may come from other features of the photo; those that are
    no keypoint there are left out, or, with append_keypoints, added behind them in model and database (matches keep
    their indices). Points keep the errors they had: the model is meant to be adjusted next. A photo of a rig brings the
    whole frame in. Raises InvalidValueError where the photo is not in the database, or placed already.
    """
    import pycolmap

    with open_database(database) as opened:
        if name not in opened:
            raise InvalidValueError(f"add_photo: expected a photo of {database}, got {name!r}, which is not in it")
        number = opened.photo(name).image_id
        if model.exists_image(number) and model.image(number).has_pose:
            raise InvalidValueError(f"add_photo: expected a photo that is not placed yet, got {name!r}, which is")
        used = {model.image(image_id).camera_id for image_id in model.reg_image_ids()}
        opened.enter_frame(model, name)
        keypoints = opened.keypoints(name)
        indices = _indices_of(placed, keypoints)
        if append_keypoints and (indices < 0).any():
            missing = np.flatnonzero(indices < 0)
            indices[missing] = len(keypoints) + np.arange(len(missing))
            added = colmap_from_pixels(torch.from_numpy(placed.inlier_pixels[missing])).numpy()
            keypoints = opened.append_keypoints(name, added)
        camera = opened.camera_of(name)
        if camera.camera_id not in used and camera.model != placed.camera.model:
            camera.model, camera.params = placed.camera.model, list(placed.camera.params)
            opened.update_camera(camera)  # COLMAP goes on only where model and database name the same
    image = model.image(number)
    for xy in keypoints[image.num_points2D() :]:
        image.points2D.append(pycolmap.Point2D(xy))
    if image.camera_id not in used:
        camera = model.camera(image.camera_id)
        camera.model, camera.params = placed.camera.model, list(placed.camera.params)
    frame = model.frame(image.frame_id)
    frame.set_cam_from_world(image.camera_id, pycolmap.Rigid3d(placed.cam_from_world))
    model.register_frame(image.frame_id)
    for index, point_id in zip(indices.tolist(), placed.point_ids.tolist(), strict=True):
        if index >= 0 and model.exists_point3D(point_id):
            model.add_observation(point_id, pycolmap.TrackElement(number, index))


def _indices_of(placed: PlacedPhoto, keypoints: np.ndarray) -> np.ndarray:
    """(k,) which keypoint (COLMAP's pixels) each inlier is, none twice; −1 for none."""
    wanted = colmap_from_pixels(torch.from_numpy(placed.inlier_pixels)).numpy()
    indices = np.full(len(wanted), -1)
    taken = np.zeros(len(keypoints), bool)
    for row, (own, xy) in enumerate(zip(placed.inlier_keypoints.tolist(), wanted, strict=True)):
        apart = np.where(taken, np.inf, np.abs(keypoints - xy).max(1)) if len(keypoints) else np.array([np.inf])
        # Its own place first: several keypoints may lie at one place, with different orientations.
        best = own if own < len(apart) and apart[own] <= SAME_PX else int(apart.argmin())
        if apart[best] <= SAME_PX:
            indices[row] = best
            taken[best] = True
    return indices
