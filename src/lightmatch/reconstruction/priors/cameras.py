"""Given intrinsics, held constant while mapping, and given poses, to triangulate points from."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightmatch.colmap.database import open_database
from lightmatch.colmap.log import FATAL, colmap_log
from lightmatch.colmap.models import registered_images, registered_names
from lightmatch.colmap.options import pipeline_options
from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.reconstruction.priors.files import CameraPriors, IntrinsicsPrior, fit_names, read_camera_priors

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction

__all__ = [
    "CameraPriors",
    "EnteredPriors",
    "IntrinsicsPrior",
    "enter_intrinsics",
    "map_given_poses",
    "read_camera_priors",
    "split_by_intrinsics",
]

_COARSE = 1e-4  # of the spread of the cameras: points in single precision that are rounded to more are told of
_LEAST_EXPLAINED = 0.2  # of the matches; wrong poses explain a tenth by chance, correct ones more than half

_logger = logging.getLogger(__name__)


class EnteredPriors(NamedTuple):
    """Result of entering priors into a database."""

    camera_ids: frozenset[int]  # of the database: to be held constant while mapping
    unmatched_names: tuple[str, ...]  # names in the file that refer to none of the photos


def _renamed(known: CameraPriors, photos: Sequence[str]) -> tuple[CameraPriors, list[str]]:
    """`known` with its names replaced by those of `photos`, and the names that refer to none of them."""
    folders = {parent.as_posix() for name in photos for parent in _parents(name)}
    by_photo = {name: value for name, value in known.intrinsics.items() if name != "*" and name not in folders}
    whose, unmatched = fit_names(by_photo, list(photos))
    intrinsics = {
        whose.get(name, name): value
        for name, value in known.intrinsics.items()
        if name in whose or name not in by_photo
    }
    posed, unposed = fit_names(known.poses, list(photos))
    poses = {posed[name]: pose for name, pose in known.poses.items() if name in posed}
    left = unmatched + [name for name in unposed if name not in unmatched]
    return CameraPriors(known.source, intrinsics, dict(sorted(poses.items()))), left


def _parents(name: str) -> Sequence[Path]:
    return Path(name).parents[:-1]


def split_by_intrinsics(
    cameras: Sequence[Sequence[str]], known: CameraPriors, sizes: Mapping[str, tuple[int, int]]
) -> list[list[str]]:
    """Groups of photos that share a camera, split where their given intrinsics differ.

    cameras: groups of names, as from group_by_camera. sizes: (width, height) px by photo. Each group gets one camera
    in the database, so call this before the database is made.
    """
    fitted, _ = _renamed(known, list(sizes))
    groups = []
    for names in cameras:
        parts: dict[IntrinsicsPrior | None, list[str]] = {}
        for name in names:
            parts.setdefault(fitted.intrinsics_of(name, sizes[name]), []).append(name)
        groups += parts.values()
    return groups


def enter_intrinsics(database: Path, known: CameraPriors) -> EnteredPriors:
    """Write given intrinsics to the cameras of a COLMAP database.

    database: with its photos; call this before geometric verification, which uses the intrinsics. They are scaled to
    photos of another size and the same aspect ratio. Hold the returned cameras constant while mapping
    (`IncrementalPipelineOptions.constant_cameras`).
    Raises InvalidValueError where photos that share a camera have different intrinsics (split_by_intrinsics), or
    where no name in the file refers to a photo.
    """
    with open_database(database, write=True) as opened:
        images, cameras = opened.photos, opened.cameras
        fitted, unmatched = _renamed(known, [image.name for image in images])
        wanted: dict[int, dict[IntrinsicsPrior | None, str]] = {}
        for image in images:
            camera = cameras[image.camera_id]
            intrinsics = fitted.intrinsics_of(image.name, (camera.width, camera.height))
            wanted.setdefault(image.camera_id, {}).setdefault(intrinsics, image.name)
        if known.intrinsics and not any(given for found in wanted.values() for given in found):
            raise InvalidValueError(
                f"{known.source}: expected intrinsics of the photos here, got those of {', '.join(unmatched[:3])};"
                ' name photos, their folders, or "*" for all'
            )
        held = set()
        for camera_id, found in sorted(wanted.items()):
            if len(found) > 1:
                raise InvalidValueError(
                    f"{known.source}: expected one set of intrinsics for photos that share a camera,"
                    f" got different ones for {' and '.join(list(found.values())[:2])}; give them cameras of their own"
                )
            (intrinsics,) = found
            if intrinsics is not None:
                opened.update_camera(_colmap_camera(cameras[camera_id], intrinsics))
                held.add(camera_id)
    for name in unmatched:
        _logger.warning("%s: %s is not among the photos", known.source, name)
    return EnteredPriors(frozenset(held), tuple(unmatched))


def _colmap_camera(camera: Camera, known: IntrinsicsPrior) -> Camera:
    """The camera of the database with given intrinsics, scaled to its size."""
    calibrated = known.camera((camera.width, camera.height))
    calibrated.camera_id = camera.camera_id
    calibrated.has_prior_focal_length = True
    return calibrated


def map_given_poses(
    database: Path,
    images: Path,
    known: CameraPriors,
    *,
    seed: int | None = None,
) -> Reconstruction:
    """Triangulate points from verified matches and given poses; photos without a given pose are left out.

    database: verified, with the given intrinsics entered if there are any (enter_intrinsics). images: folder of the
    photos. seed: makes the result repeat to the bit, on one thread. Cameras stay as they are; points have no colours.
    Raises ReconstructionError where fewer than two photos have a given pose, or the poses contradict the matches.
    """
    import pycolmap

    model = pycolmap.Reconstruction()
    with open_database(database) as opened:
        cameras = opened.cameras
        fitted, unmatched = _renamed(known, [photo.name for photo in opened.photos])
        for photo in opened.photos:
            if photo.name not in fitted.poses:
                continue
            if not model.exists_camera(photo.camera_id):
                model.add_camera_with_trivial_rig(cameras[photo.camera_id])
            image = pycolmap.Image(name=photo.name, camera_id=photo.camera_id, image_id=photo.image_id)
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(fitted.poses[photo.name]))
    for name in unmatched:
        _logger.warning("%s: %s is not among the photos", known.source, name)
    if model.num_images() < 2:
        raise ReconstructionError(
            f"{known.source}: expected poses of at least two photos, got {model.num_images()}"
            + (f" (and {', '.join(unmatched[:3])}, which are not among the photos)" if unmatched else "")
        )
    _warn_far_from_origin(known, model)
    options = pipeline_options(seed)
    with tempfile.TemporaryDirectory(dir=database.parent) as scratch, colmap_log(FATAL):
        explained = 0.0
        # Points of two photos alone are less exact: they count where there are hardly any others.
        for ignores_pairs in (True, False) if model.num_images() > 2 else (False,):
            options.triangulation.ignore_two_view_tracks = ignores_pairs
            model = pycolmap.triangulate_points(model, database, images, scratch, options=options)
            explained = _share_explained(database, model)
            if explained >= _LEAST_EXPLAINED:
                break
        if explained < _LEAST_EXPLAINED:
            raise ReconstructionError(
                f"{known.source}: expected poses that agree with the matches, got poses that explain {explained:.0%} of"
                " them; are they camera from world, of these photos, and do the photos overlap?"
            )
    model.update_point_3d_errors()
    return model


def _warn_far_from_origin(known: CameraPriors, model: Reconstruction) -> None:
    """Point clouds are written in single precision, which is coarse far from the origin, as in UTM."""
    centers = np.array([image.projection_center() for image in registered_images(model)])
    farthest, spread = float(np.abs(centers).max()), float(np.ptp(centers, axis=0).max())
    if farthest * np.finfo(np.float32).eps > _COARSE * spread:
        _logger.warning(
            "%s: the cameras lie up to %.3g units from the origin, and %.3g apart: points in PLY files are rounded to"
            " %.2g units; move the origin near the cameras",
            known.source,
            farthest,
            spread,
            farthest * np.finfo(np.float32).eps,
        )


def _share_explained(database: Path, model: Reconstruction) -> float:
    """Share of the keypoints with verified matches between photos of `model` that observe a point; 0 without any."""
    photos = set(registered_names(model))
    with open_database(database) as opened:
        verified = list(opened.verified())
    matched: dict[str, list[np.ndarray]] = {}
    for pair, geometry in verified:
        if set(pair) <= photos:
            for column, name in enumerate(pair):
                matched.setdefault(name, []).append(geometry.inlier_matches[:, column])
    num_matched = sum(len(np.unique(np.concatenate(indices))) for indices in matched.values())
    return model.compute_num_observations() / num_matched if num_matched else 0.0
