"""Incremental mapping: from verified matches to models, the best first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightmatch.reconstruction.colmap_log import FATAL, colmap_log
from lightmatch.threads import num_threads

if TYPE_CHECKING:
    from pycolmap import Reconstruction

MIN_MODEL_SIZE = 3  # photos; COLMAP's own 10 drops small models without a word


def map_incrementally(
    database: Path, images: Path, *, seed: int | None = None, on_image: Callable[[], None] = lambda: None
) -> list[Reconstruction]:
    """Models found by incremental mapping, the one with most photos (then points) first; may be empty.

    database: verified matches. images: folder for the colours. on_image: called for each photo placed.
    seed: makes the result repeat to the bit; COLMAP's mapper is deterministic on one thread only, so a
        seeded run uses one.
    """
    import pycolmap

    with pycolmap.Database.open(database) as opened:
        num_images = opened.num_images()
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = min(MIN_MODEL_SIZE, num_images)
    # Tracks of two views are the weakest, but of two photos there are no others.
    options.triangulation.ignore_two_view_tracks = num_images > 2
    options.num_threads = options.mapper.num_threads = num_threads()
    if seed is not None:
        options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
        options.num_threads = options.mapper.num_threads = 1
    with tempfile.TemporaryDirectory(dir=database.parent) as scratch, colmap_log(FATAL):
        models = pycolmap.incremental_mapping(
            database,
            images,
            scratch,
            options=options,
            initial_image_pair_callback=lambda: (on_image(), on_image())[0],
            next_image_callback=on_image,
        )
    found = sorted(models.values(), key=lambda model: (-model.num_reg_images(), -model.num_points3D()))
    for model in found:
        model.update_point_3d_errors()  # the mean error is stale before
    return found


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


class ModelArrays(NamedTuple):
    """A model as plain arrays, for pictures and comparisons."""

    names: list[str]  # (c) photos
    centers: np.ndarray  # (c, 3) camera centres in the world
    rotations: np.ndarray  # (c, 3, 3) camera from world
    points: np.ndarray  # (n, 3)
    colors: np.ndarray  # (n, 3) uint8 RGB


def model_arrays(model: Reconstruction) -> ModelArrays:
    """Cameras in the order of their photos' names, and points."""
    photos = sorted((model.image(image_id) for image_id in model.reg_image_ids()), key=lambda photo: photo.name)
    poses = [photo.cam_from_world() for photo in photos]
    points = list(model.points3D.values())
    return ModelArrays(
        [photo.name for photo in photos],
        np.array([photo.projection_center() for photo in photos]),
        np.array([pose.rotation.matrix() for pose in poses]),
        np.array([point.xyz for point in points]).reshape(-1, 3),
        np.array([point.color for point in points], np.uint8).reshape(-1, 3),
    )
