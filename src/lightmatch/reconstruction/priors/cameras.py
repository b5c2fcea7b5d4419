"""Known intrinsics, held while mapping, and known poses, to triangulate from or to start from."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from lightmatch.colmap.database import open_database
from lightmatch.colmap.log import FATAL, colmap_log
from lightmatch.colmap.options import pipeline_options
from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.reconstruction.priors.files import KnownCameras, KnownIntrinsics, fit_names, read_known
from lightmatch.sfm.bundle_adjustment import KNOWN, AdjustOptions, adjust

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction

__all__ = [
    "Entered",
    "KnownCameras",
    "KnownIntrinsics",
    "enter_intrinsics",
    "enter_position_priors",
    "map_known_poses",
    "read_known",
    "split_by_intrinsics",
]

Refine = Literal["nothing", "intrinsics", "poses"]

_LEAST_EXPLAINED = 0.2  # wrong poses explain a tenth by chance, right ones more than half

_logger = logging.getLogger(__name__)


class Entered(NamedTuple):
    """What came of entering known values into a database."""

    camera_ids: frozenset[int]  # of the database's cameras: to be held while mapping
    photos: tuple[str, ...]  # photos whose values are known now
    strangers: tuple[str, ...]  # names in the file that mean no photo here


def _renamed(known: KnownCameras, photos: Sequence[str]) -> tuple[KnownCameras, list[str]]:
    """`known` by the names of `photos` where it names photos, and the names that mean none of them."""
    folders = {parent.as_posix() for name in photos for parent in _parents(name)}
    by_photo = {name: value for name, value in known.intrinsics.items() if name != "*" and name not in folders}
    whose, strangers = fit_names(by_photo, list(photos))
    intrinsics = {
        whose.get(name, name): value
        for name, value in known.intrinsics.items()
        if name in whose or name not in by_photo
    }
    posed, unposed = fit_names(known.poses, list(photos))
    poses = {posed[name]: pose for name, pose in known.poses.items() if name in posed}
    left = strangers + [name for name in unposed if name not in strangers]
    return KnownCameras(known.source, intrinsics, dict(sorted(poses.items()))), left


def _parents(name: str) -> Sequence[Path]:
    return Path(name).parents[:-1]


def split_by_intrinsics(
    cameras: Sequence[Sequence[str]], known: KnownCameras, sizes: Mapping[str, tuple[int, int]]
) -> list[list[str]]:
    """Groups of photos that share a camera, split where their known intrinsics differ.

    cameras: as from group_by_camera. sizes: (width, height) px by photo. One group has one camera in the database,
    and a camera is either known or not: do this before the database is made.
    """
    fitted, _ = _renamed(known, list(sizes))
    groups = []
    for names in cameras:
        parts: dict[KnownIntrinsics | None, list[str]] = {}
        for name in names:
            parts.setdefault(fitted.intrinsics_of(name, sizes[name]), []).append(name)
        groups += parts.values()
    return groups


def enter_intrinsics(database: Path, known: KnownCameras) -> Entered:
    """Put known intrinsics into a COLMAP database, for verification and mapping to hold.

    database: with its photos entered; enter before verification, which they improve. Sizes other than the calibrated
    one, of the same shape, are scaled to. Hold the cameras of the answer while mapping
    (`IncrementalPipelineOptions.constant_cameras`).
    Raises InvalidValueError where photos that share a camera have different intrinsics (split_by_intrinsics), or
    where no name in the file fits a photo.
    """
    with open_database(database, write=True) as opened:
        images, cameras = opened.photos, opened.cameras
        fitted, strangers = _renamed(known, [image.name for image in images])
        wanted: dict[int, dict[KnownIntrinsics | None, str]] = {}
        photos = []
        for image in images:
            camera = cameras[image.camera_id]
            intrinsics = fitted.intrinsics_of(image.name, (camera.width, camera.height))
            wanted.setdefault(image.camera_id, {}).setdefault(intrinsics, image.name)
            if intrinsics is not None:
                photos.append(image.name)
        if known.intrinsics and not photos:
            raise InvalidValueError(
                f"{known.source}: expected intrinsics of the photos here, got those of {', '.join(strangers[:3])};"
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
    for name in strangers:
        _logger.warning("%s: %s is none of the photos", known.source, name)
    return Entered(frozenset(held), tuple(photos), tuple(strangers))


def _colmap_camera(camera: Camera, known: KnownIntrinsics) -> Camera:
    """The database's camera with known intrinsics, for its own size."""
    import pycolmap

    width, height = known.size or (camera.width, camera.height)
    calibrated = pycolmap.Camera(
        camera_id=camera.camera_id, model=known.model, width=width, height=height, params=list(known.params)
    )
    calibrated.has_prior_focal_length = True
    if (width, height) != (camera.width, camera.height):
        calibrated.rescale(camera.width, camera.height)
    return calibrated


def enter_position_priors(database: Path, known: KnownCameras, std: float) -> Entered:
    """Put the centres of known poses into a COLMAP database as priors of standard deviation `std`, in their unit.

    For poses that are only roughly right: the mapper then fits photos first and places second
    (`IncrementalPipelineOptions.use_prior_position`). Priors that are there, such as GPS, give way.
    """
    if not std > 0:
        raise InvalidValueError(f"std: expected a positive standard deviation of the known places, got {std}")
    with open_database(database, write=True) as opened:
        fitted, strangers = _renamed(known, [photo.name for photo in opened.photos])
        centers = {name: -pose[:, :3].T @ pose[:, 3] for name, pose in fitted.poses.items()}
        opened.replace_position_priors(centers, std)
    return Entered(frozenset(), tuple(fitted.poses), tuple(strangers))


def map_known_poses(
    database: Path,
    images: Path,
    known: KnownCameras,
    *,
    refine: Refine = "nothing",
    seed: int | None = None,
) -> Reconstruction:
    """Points triangulated from verified matches and known poses; photos without a known pose stay out.

    database: verified, in it the known intrinsics (enter_intrinsics) if there are any. images: folder for the colours.
    refine: "nothing" leaves the cameras as given; "intrinsics" adjusts the cameras' parameters that were not known;
    "poses" adjusts poses too, and then moves the whole back onto the known places.
    seed: makes the result repeat to the bit, on one thread.
    Raises ReconstructionError where fewer than two photos have a known pose, or the poses contradict the matches.
    """
    import pycolmap

    if refine not in ("nothing", "intrinsics", "poses"):
        raise InvalidValueError(f"refine: expected nothing, intrinsics or poses; got {refine!r}")
    model = pycolmap.Reconstruction()
    held: set[int] = set()
    with open_database(database) as opened:
        cameras = opened.cameras
        fitted, strangers = _renamed(known, [photo.name for photo in opened.photos])
        for photo in opened.photos:
            if photo.name not in fitted.poses:
                continue
            camera = cameras[photo.camera_id]
            if not model.exists_camera(photo.camera_id):
                model.add_camera_with_trivial_rig(camera)
            if fitted.intrinsics_of(photo.name, (camera.width, camera.height)) is not None:
                held.add(photo.camera_id)
            image = pycolmap.Image(name=photo.name, camera_id=photo.camera_id, image_id=photo.image_id)
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(fitted.poses[photo.name]))
    for name in strangers:
        _logger.warning("%s: %s is none of the photos", known.source, name)
    if model.num_images() < 2:
        raise ReconstructionError(
            f"{known.source}: expected known poses of at least two photos, got {model.num_images()}"
            + (f" (and {', '.join(strangers[:3])}, which are none of the photos)" if strangers else "")
        )
    options = pipeline_options(seed)
    options.triangulation.ignore_two_view_tracks = model.num_images() > 2
    options.constant_cameras = held
    with tempfile.TemporaryDirectory(dir=database.parent) as scratch, colmap_log(FATAL):
        model = pycolmap.triangulate_points(
            model, database, images, scratch, options=options, refine_intrinsics=refine != "nothing"
        )
        explained = _share_explained(database, model)
        if explained < _LEAST_EXPLAINED:
            raise ReconstructionError(
                f"{known.source}: expected poses that agree with the matches, got some that explain {explained:.0%} of"
                " them; are they camera from world, of these photos, and do the photos overlap?"
            )
        if refine == "poses":
            fixed = dict.fromkeys(sorted(held), KNOWN)
            adjust(model, AdjustOptions(cameras=fixed, threads=None if seed is None else 1))
            _move_back(model, fitted, seed or 0)
    model.update_point_3d_errors()
    return model


def _share_explained(database: Path, model: Reconstruction) -> float:
    """Of the keypoints that have verified matches between photos of `model`, the part that sees a point; 0 of none."""
    photos = {model.image(image_id).name for image_id in model.reg_image_ids()}
    with open_database(database) as opened:
        verified = list(opened.verified())
    matched: dict[str, list[np.ndarray]] = {}
    for pair, geometry in verified:
        if set(pair) <= photos:
            for column, name in enumerate(pair):
                matched.setdefault(name, []).append(geometry.inlier_matches[:, column])
    num_matched = sum(len(np.unique(np.concatenate(indices))) for indices in matched.values())
    return model.compute_num_observations() / num_matched if num_matched else 0.0


def _move_back(model: Reconstruction, known: KnownCameras, seed: int) -> None:
    """Move `model`, in place, to where its cameras are nearest to the known ones, which bundle adjustment forgot."""
    import pycolmap

    names = sorted(model.image(image_id).name for image_id in model.reg_image_ids())
    places = np.array([-known.poses[name][:, :3].T @ known.poses[name][:, 3] for name in names])
    spread = float(np.linalg.norm(places - places.mean(0), axis=1).max())
    if len(names) < 3 or spread == 0:
        return
    ransac = pycolmap.RANSACOptions()
    ransac.max_error, ransac.random_seed = 0.1 * spread, seed
    back = pycolmap.align_reconstruction_to_locations(model, names, places, 3, ransac)
    if back is not None:
        model.transform(back)
