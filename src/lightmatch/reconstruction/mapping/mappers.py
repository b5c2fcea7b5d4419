"""COLMAP's two mappers: from verified matches to models, the best first."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightmatch.colmap.database import copy_database, open_database
from lightmatch.colmap.interruption import run_cancellable, run_process
from lightmatch.colmap.log import FATAL, colmap_log
from lightmatch.colmap.models import extract_colors, read_model
from lightmatch.colmap.options import pipeline_options
from lightmatch.errors import ReconstructionError
from lightmatch.reconstruction.mapping import global_worker
from lightmatch.reconstruction.mapping.growing import GrownModels
from lightmatch.runtime.threads import num_threads
from lightmatch.sfm.bundle_adjustment import KNOWN, AdjustOptions, adjust
from lightmatch.sfm.view_graph import distrust_focal_lengths, drop_weak_pairs

if TYPE_CHECKING:
    from pycolmap import Reconstruction

MANY_PHOTOS = 1000  # above, COLMAP's own pipeline adjusts slowly (see `growing`)
MIN_MODEL_SIZE = 3  # photos; COLMAP's own 10 drops small models without a word


@dataclass(frozen=True)
class StartOptions:
    """What the incremental mapper requires of its first pair, of added photos and of points. Defaults: COLMAP's own."""

    name: str = "default thresholds"
    init_min_num_inliers: int = 100
    init_min_angle_deg: float = 16.0
    init_max_forward_motion: float = 0.95  # 1: straight ahead is allowed
    min_num_inliers: int = 30  # to place a photo
    min_angle_deg: float = 1.5  # of a point
    two_view_tracks: bool = False  # points of two photos only


ORDINARY = StartOptions()
# Where the default thresholds find little: cameras that go straight ahead see few points under wide angles.
FORWARD = StartOptions("forward motion", init_min_num_inliers=60, init_min_angle_deg=6.0, init_max_forward_motion=1.0)
RELAXED = StartOptions(
    "relaxed",
    init_min_num_inliers=40,
    init_min_angle_deg=4.0,
    init_max_forward_motion=1.0,
    min_num_inliers=20,
    min_angle_deg=0.75,
    two_view_tracks=True,
)


def map_incrementally(
    database: Path,
    images: Path,
    *,
    seed: int | None = None,
    on_image: Callable[[], None] = lambda: None,
    start: StartOptions = ORDINARY,
    known_cameras: frozenset[int] = frozenset(),
    extend: Reconstruction | None = None,
    colors: bool = True,
) -> list[Reconstruction]:
    """Models found by incremental mapping, the one with most photos (then points) first; may be empty.

    database: verified matches. images: folder for the colours. on_image: called for each photo placed.
    seed: makes the result repeat to the bit; COLMAP's mapper is deterministic on one thread only, so a
        seeded run uses one. known_cameras: ids whose intrinsics are never changed. extend: a model of this database to
        add photos to, instead of starting anew; it stays as it is, and only the extended one is returned.
    Stops cleanly on KeyboardInterrupt. Source: Schönberger & Frahm 2016.
    """
    import pycolmap

    with open_database(database) as opened:
        num_images = len(opened.photos)
    options = pipeline_options(seed)
    options.min_model_size = min(MIN_MODEL_SIZE, num_images)
    options.extract_colors = colors
    options.constant_cameras = options.mapper.constant_cameras = set(known_cameras)
    options.multiple_models = extend is None
    _set_start(options, start, num_images)
    if num_images > MANY_PHOTOS:
        grown = GrownModels(database, options, on_image, extend)
        with colmap_log(FATAL):
            models = run_cancellable(grown.grow, grown.cancel)
        if colors:
            extract_colors(models, images)
        return _finished(models, database, known_cameras, seed)
    token = pycolmap.CancellationToken()
    with tempfile.TemporaryDirectory(dir=database.parent) as scratch, colmap_log(FATAL):
        before = ""
        if extend is not None:
            before = Path(scratch, "before")
            before.mkdir()
            extend.write_binary(before)
        found = run_cancellable(
            lambda: pycolmap.incremental_mapping(
                database,
                images,
                scratch,
                options=options,
                input_path=before,
                initial_image_pair_callback=lambda: (on_image(), on_image())[0],
                next_image_callback=on_image,
                cancellation_token=token,
            ),
            token.cancel,
        )
    return _finished(list(found.values()), database, known_cameras, seed)


def map_globally(
    database: Path,
    images: Path,
    *,
    seed: int | None = None,
    known_cameras: frozenset[int] = frozenset(),
    doubtful_cameras: list[int] | None = None,
) -> list[Reconstruction]:
    """Models found by global mapping, the one with most photos first; may be empty.

    All rotations at once, then all positions and points: nothing depends on a good first pair, and errors do not add up
    along the way. Works on a copy of the database without weak pairs, which contradict the rest most often.
    doubtful_cameras: ids whose focal lengths are estimated from the pairs, whatever EXIF says.
    In a process of its own: stops with KeyboardInterrupt, and a failed check in it is a ReconstructionError.
    Source: Pan et al. 2024 (GLOMAP).
    """
    with tempfile.TemporaryDirectory(dir=database.parent) as scratch:
        copy = Path(scratch, "database.db")
        copy_database(database, copy)
        drop_weak_pairs(copy)
        distrust_focal_lengths(copy, doubtful_cameras or [])
        with open_database(copy) as opened:
            cameras = opened.cameras
        ids = cameras.keys()
        guessed = any(not camera.has_prior_focal_length for camera in cameras.values())
        settings = {
            "seed": seed,
            "threads": 1 if seed is not None else num_threads(),
            "min_model_size": MIN_MODEL_SIZE,
            "calibrate": guessed,
            "refine": not ids <= known_cameras,
        }
        output = Path(scratch, "out")
        output.mkdir()
        paths = [str(path) for path in (copy, images, output)]
        status, said = run_process([sys.executable, global_worker.__file__, *paths, json.dumps(settings)])
        if status:
            last = (said.strip().splitlines() or [f"exit status {status}"])[-1]
            raise ReconstructionError(f"COLMAP's global mapper failed: {last}")
        folders = sorted(output.glob("models/*"), key=lambda folder: int(folder.name))
        return _finished([read_model(folder) for folder in folders], database, known_cameras, seed)


def _set_start(options: Any, start: StartOptions, num_images: int) -> None:
    """Our options as pycolmap.IncrementalPipelineOptions."""
    mapper, triangulation = options.mapper, options.triangulation
    mapper.init_min_num_inliers = start.init_min_num_inliers
    mapper.init_min_tri_angle = start.init_min_angle_deg
    mapper.init_max_forward_motion = start.init_max_forward_motion
    mapper.abs_pose_min_num_inliers = start.min_num_inliers
    mapper.filter_min_tri_angle = triangulation.min_angle = start.min_angle_deg
    # Tracks of two views are the weakest, but of two photos there are no others.
    triangulation.ignore_two_view_tracks = num_images > 2 and not start.two_view_tracks


def _finished(
    models: list[Reconstruction], database: Path, known_cameras: frozenset[int], seed: int | None
) -> list[Reconstruction]:
    """Models in order, with known intrinsics as they were given and errors up to date."""
    with open_database(database) as opened:
        cameras = opened.cameras
    given = {camera_id: cameras[camera_id].params for camera_id in sorted(known_cameras)}
    for model in models:
        moved = [
            number
            for number in given
            if number in model.cameras and (model.camera(number).params != given[number]).any()
        ]
        for number in moved:  # the global mapper refines all cameras or none
            model.camera(number).params = given[number].tolist()
        if moved:
            fixed = dict.fromkeys(known_cameras, KNOWN)
            adjust(model, AdjustOptions(cameras=fixed, threads=1 if seed is not None else None))
        model.update_point_3d_errors()  # the mean error is stale before
    return sorted(models, key=lambda model: (-model.num_reg_images(), -model.num_points3D()))
