"""COLMAP's models through pycolmap: files, registered photos, and models as plain arrays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightmatch.colmap.log import FATAL, colmap_log

if TYPE_CHECKING:
    from pycolmap import Image, Reconstruction, Rigid3d


def registered_images(model: Reconstruction) -> list[Image]:
    """The photos that have a pose, by their names."""
    return sorted((model.image(number) for number in model.reg_image_ids()), key=lambda image: image.name)


def registered_names(model: Reconstruction) -> list[str]:
    """The names of the photos that have a pose, sorted."""
    return [image.name for image in registered_images(model)]


def write_models(models: list[Reconstruction], output: Path) -> None:
    """Write models as sparse/0, sparse/1, … and the first one's points as points.ply."""
    for number, model in enumerate(models):
        folder = output / "sparse" / str(number)
        folder.mkdir(parents=True)
        model.write_binary(folder)
    models[0].export_PLY(output / "points.ply")


def read_model(folder: Path) -> Reconstruction:
    """A COLMAP model from its folder."""
    import pycolmap

    return pycolmap.Reconstruction(folder)


def extract_colors(models: Iterable[Reconstruction], images: Path) -> None:
    """Give all points the mean of their colours in the photos of a folder, all of which are read."""
    with colmap_log(FATAL):
        for model in models:
            model.extract_colors_for_all_images(images)


class ModelArrays(NamedTuple):
    """A model as plain arrays, for pictures and comparisons."""

    names: list[str]  # (c) photos
    centers: np.ndarray  # (c, 3) camera centres in the world
    rotations: np.ndarray  # (c, 3, 3) camera from world
    points: np.ndarray  # (n, 3)
    colors: np.ndarray  # (n, 3) uint8 RGB


def model_arrays(model: Reconstruction) -> ModelArrays:
    """Cameras in the order of their photos' names, and points."""
    photos = registered_images(model)
    poses = [photo.cam_from_world() for photo in photos]
    points = list(model.points3D.values())
    return ModelArrays(
        [photo.name for photo in photos],
        np.array([photo.projection_center() for photo in photos]),
        np.array([pose.rotation.matrix() for pose in poses]),
        np.array([point.xyz for point in points]).reshape(-1, 3),
        np.array([point.color for point in points], np.uint8).reshape(-1, 3),
    )


def rigid(cam_from_world: np.ndarray) -> Rigid3d:
    """COLMAP's form of a pose (3, 4)."""
    import pycolmap

    return pycolmap.Rigid3d(pycolmap.Rotation3d(cam_from_world[:, :3]), cam_from_world[:, 3])
