"""Re-registration: photos that the mapper left out, placed against the finished model.

The mapper needs two-view geometries; a finished model needs no more than matches with points that are sure. Many more
keypoints are matched than at first, and the pose is tested against chance (see `absolute_pose`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightmatch.colmap.database import open_database
from lightmatch.colmap.models import registered_names
from lightmatch.reconstruction.refinement.adding import add_photo
from lightmatch.sfm.absolute_pose import NoPose, PoseOptions
from lightmatch.sfm.placement import PairMatcher, PlacedPhoto, place_photo
from lightmatch.types import Features

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction

CANDIDATES = 5  # photos of the model that a left-out one is matched with
FIRST_CANDIDATES = 2  # matched before the others: a photo of something else shows hardly a point by them
KEYPOINTS = 4096  # of each photo that the matcher gets


@dataclass(frozen=True)
class Reregistration:
    """What is needed to place photos that a model lacks."""

    candidates: Mapping[str, Sequence[str]]  # by left-out photo: others, the likeliest to overlap first
    matcher: PairMatcher
    known_cameras: frozenset[int] = frozenset()  # ids of cameras whose intrinsics are given
    edited: bool = True  # whether photos may have been cropped or stretched; mirrored ones are refused then


@dataclass(frozen=True)
class ReregistrationTrial:
    """What became of one photo that the model lacked."""

    name: str
    kept: bool  # it was placed
    why: str
    shape: str | None = None  # "cropped: …" or "stretched: …", where its camera is not that of a whole photo


def reregister(
    model: Reconstruction,
    database: Path,
    features: Mapping[str, Features],
    how: Reregistration,
    seed: int | None = None,
) -> tuple[Reconstruction, list[ReregistrationTrial]]:
    """A copy of `model` with those photos of its database in it that can be placed, and what became of each.

    database: its keypoints are those of `features`, in their order. Photos placed help to place others: rounds go on
    until one places none. Meant to be adjusted next.
    """
    import pycolmap

    with open_database(database) as opened:
        cameras = opened.cameras
        camera_of = {photo.name: cameras[photo.camera_id] for photo in opened.photos}
    model = pycolmap.Reconstruction(model)
    sharing = Counter(camera.camera_id for camera in camera_of.values())
    results: dict[str, ReregistrationTrial] = {}
    tried: dict[str, list[str]] = {}  # by photo the candidates of its last trial
    while True:
        registered = set(registered_names(model))
        found = False
        for name in sorted(set(how.candidates) - registered):
            near = [other for other in how.candidates[name] if other in registered][:CANDIDATES]
            if not near or near == tried.get(name):
                continue
            tried[name] = near
            alone = sharing[camera_of[name].camera_id] == 1
            placed = _place(name, near, model, camera_of[name], alone, features, how, seed)
            if isinstance(placed, NoPose):
                results[name] = ReregistrationTrial(name, False, placed.sentence)
            else:
                add_photo(model, database, name, placed)
                found = True
                of = f"{placed.num_inliers} of {placed.num_correspondences} matches with the model agree"
                results[name] = ReregistrationTrial(name, True, of, placed.shape)
        if not found:
            model.update_point_3d_errors()
            return model, list(results.values())


def _place(
    name: str,
    near: Sequence[str],
    model: Reconstruction,
    camera: Camera,
    alone: bool,
    features: Mapping[str, Features],
    how: Reregistration,
    seed: int | None,
) -> PlacedPhoto | NoPose:
    """alone: whether no other photo of the database has the camera."""
    camera_id = camera.camera_id
    used = {model.image(image_id).camera_id for image_id in model.reg_image_ids()}
    known = camera_id in used or camera_id in how.known_cameras
    return place_photo(
        features[name].strongest(KEYPOINTS),
        model.camera(camera_id) if camera_id in used else camera,
        model,
        near,
        {other: features[other].strongest(KEYPOINTS) for other in near},
        how.matcher,
        PoseOptions(
            intrinsics="known" if known else "guess", any_camera=how.edited and not known and alone, seed=seed or 0
        ),
        num_first=FIRST_CANDIDATES,
    )
