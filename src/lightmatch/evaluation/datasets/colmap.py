"""Photos with a COLMAP model: images/ and the model in the same folder, in sparse/0 or in a subfolder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lightmatch.colmap.model_files import is_colmap_model, read_colmap_model
from lightmatch.evaluation.datasets.posed import PosedPhoto, find_photo, pose_pair, scene_name
from lightmatch.evaluation.pairs import Camera, EvaluationPair


def is_colmap(folder: Path) -> bool:
    """Whether `folder` holds images/ and a model."""
    return (folder / "images").is_dir() and _model_folder(folder) is not None


def read_colmap(folder: Path, *, min_shared_points: int = 30) -> list[EvaluationPair]:
    """Pairs of photos that see at least `min_shared_points` of the model's 3D points in common.

    Raises InvalidValueError where a file is damaged or a camera is a fisheye.
    """
    model_folder = _model_folder(folder)
    model = read_colmap_model(folder if model_folder is None else model_folder)
    images = sorted(model.images.values(), key=lambda image: image.name)
    cameras = {
        number: Camera(camera.K(), camera.distortion(), (camera.width, camera.height))
        for number, camera in model.cameras.items()
    }
    photos = [
        PosedPhoto(find_photo(image.name, folder / "images"), cameras[image.camera_id], image.cam_from_world)
        for image in images
    ]
    seen = [np.unique(image.observed.numpy()) for image in images]
    return [
        pose_pair(scene_name(folder), photos[i], photos[j])
        for i in range(len(photos))
        for j in range(i + 1, len(photos))
        if len(np.intersect1d(seen[i], seen[j], assume_unique=True)) >= min_shared_points
    ]


def _model_folder(folder: Path) -> Path | None:
    candidates = [folder, folder / "sparse" / "0", *sorted(path for path in folder.iterdir() if path.is_dir())]
    return next((path for path in candidates if is_colmap_model(path)), None)
