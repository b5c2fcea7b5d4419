"""A photo that the mapper left out, and that was placed since, into its model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.sfm.absolute_pose import SAME_PX, Placed

if TYPE_CHECKING:
    from pycolmap import Reconstruction


def add_photo(
    model: Reconstruction, database: Path, name: str, placed: Placed, *, append_keypoints: bool = False
) -> Reconstruction:
    """A copy of `model` with one more photo of its database in it, at the pose found, with its inliers as observations.

    The photo's camera takes the intrinsics of `placed` unless photos of the model share it. Inliers are found among
    the database's keypoints by where they are, for `placed` may come from other features of the photo; those that are
    no keypoint there are left out, or, with append_keypoints, added behind them in model and database (matches keep
    their indices). Meant to be adjusted next. A photo of a rig brings the whole frame in.
    Raises InvalidValueError where the photo is not in the database, or placed already.
    """
    import pycolmap

    extended = pycolmap.Reconstruction(model)
    with pycolmap.Database.open(database) as opened:
        stored = next((image for image in opened.read_all_images() if image.name == name), None)
        if stored is None:
            raise InvalidValueError(f"add_photo: expected a photo of {database}, got {name!r}, which is not in it")
        number = stored.image_id
        if extended.exists_image(number) and extended.image(number).has_pose:
            raise InvalidValueError(f"add_photo: expected a photo that is not placed yet, got {name!r}, which is")
        used = {extended.image(image_id).camera_id for image_id in extended.reg_image_ids()}
        _enter_frame(extended, opened, opened.read_frame(stored.frame_id))
        keypoints = np.asarray(opened.read_keypoints(number))[:, :2].astype(np.float64)
        indices = _indices_of(placed, keypoints)
        if append_keypoints and (indices < 0).any():
            keypoints = _append(opened, number, placed, indices)
        camera = opened.read_camera(stored.camera_id)
        if stored.camera_id not in used and camera.model != placed.camera.model:
            camera.model, camera.params = placed.camera.model, list(placed.camera.params)
            opened.update_camera(camera)  # COLMAP goes on only where model and database name the same
    image = extended.image(number)
    for xy in keypoints[image.num_points2D() :]:
        image.points2D.append(pycolmap.Point2D(xy))
    if image.camera_id not in used:
        camera = extended.camera(image.camera_id)
        camera.model, camera.params = placed.camera.model, list(placed.camera.params)
    frame = extended.frame(image.frame_id)
    frame.set_cam_from_world(image.camera_id, pycolmap.Rigid3d(placed.cam_from_world))
    extended.register_frame(image.frame_id)
    for index, point_id in zip(indices.tolist(), placed.point_ids.tolist(), strict=True):
        if index >= 0 and extended.exists_point3D(point_id):
            extended.add_observation(point_id, pycolmap.TrackElement(number, index))
    extended.update_point_3d_errors()
    return extended


def _enter_frame(model: Reconstruction, database: Any, frame: Any) -> None:
    """The frame, its rig, cameras and images, as far as the model does not have them."""
    import pycolmap

    images = [database.read_image(data.id) for data in frame.image_ids]
    for image in images:
        if not model.exists_camera(image.camera_id):
            model.add_camera(database.read_camera(image.camera_id))
    if not model.exists_rig(frame.rig_id):
        model.add_rig(database.read_rig(frame.rig_id))
    if not model.exists_frame(frame.frame_id):
        added = copy.copy(frame)
        added.reset_rig_ptr()
        model.add_frame(added)
    for image in images:
        if not model.exists_image(image.image_id):
            xy = np.asarray(database.read_keypoints(image.image_id))[:, :2].astype(np.float64)
            same = pycolmap.Image(name=image.name, keypoints=xy, camera_id=image.camera_id, image_id=image.image_id)
            same.frame_id = frame.frame_id
            model.add_image(same)


def _indices_of(placed: Placed, keypoints: np.ndarray) -> np.ndarray:
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


def _append(database: Any, image_id: int, placed: Placed, indices: np.ndarray) -> np.ndarray:
    """Add the inliers that have no index behind the keypoints of a photo; their indices are filled in. All (n, 2)."""
    stored = np.asarray(database.read_keypoints(image_id), np.float32)
    missing = np.flatnonzero(indices < 0)
    added = np.zeros((len(missing), stored.shape[1]), np.float32)
    added[:, :2] = colmap_from_pixels(torch.from_numpy(placed.inlier_pixels[missing])).numpy()
    if stored.shape[1] == 4:  # scale and orientation; of 6, an affine shape
        added[:, 2] = 1
    elif stored.shape[1] == 6:
        added[:, 2] = added[:, 5] = 1
    indices[missing] = len(stored) + np.arange(len(missing))
    both = np.concatenate((stored, added))
    database.update_keypoints(image_id, both)
    return both[:, :2].astype(np.float64)
