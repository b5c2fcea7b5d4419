"""A made-up scene as a verified COLMAP database with its true model: points around cameras on a sphere, no pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pycolmap import Reconstruction

SIZE = (640, 480)


def synthetic_model(
    database: Path,
    *,
    num_photos: int = 8,
    num_points: int = 200,
    track_length: int = 5,
    noise_px: float = 0.5,
    inlier_ratio: float = 1.0,
    model: str = "SIMPLE_RADIAL",
    params: Sequence[float] = (500.0, 320.0, 240.0, 0.02),
    cameras_per_rig: int = 1,
    seed: int = 0,
) -> Reconstruction:
    """The true model, its observations noisy; what matching would have found is written to `database`."""
    import pycolmap

    pycolmap.set_random_seed(seed)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig = 1, num_photos
    options.num_cameras_per_rig = cameras_per_rig
    options.num_points3D, options.num_points2D_without_point3D = num_points, 5
    options.track_length = track_length
    options.camera_width, options.camera_height = SIZE
    options.camera_model_id = getattr(pycolmap.CameraModelId, model)
    options.camera_params = list(params)
    options.camera_has_prior_focal_length = True
    options.inlier_match_ratio = inlier_ratio
    options.two_view_geometry_has_relative_pose = True
    with pycolmap.Database.open(database) as opened:
        truth = pycolmap.synthesize_dataset(options, opened)
        noise = pycolmap.SyntheticNoiseOptions()
        noise.point2D_stddev = noise_px
        pycolmap.synthesize_noise(noise, truth, opened)
    return truth


def names_of(model: Reconstruction) -> set[str]:
    """Names of the registered photos."""
    return {model.image(image_id).name for image_id in model.reg_image_ids()}


def position_errors(model: Reconstruction, truth: Reconstruction) -> np.ndarray:
    """Of the camera centres after a similarity, in parts of their extent."""
    import pycolmap

    true = {truth.image(i).name: truth.image(i).projection_center() for i in truth.reg_image_ids()}
    found = {model.image(i).name: model.image(i).projection_center() for i in model.reg_image_ids()}
    centers = np.array([true[name] for name in found])
    moved = pycolmap.estimate_sim3d(np.array([*found.values()]), centers)
    assert moved is not None
    placed = np.array([moved * center for center in found.values()])
    return np.linalg.norm(placed - centers, axis=1) / np.linalg.norm(np.ptp(centers, 0))
