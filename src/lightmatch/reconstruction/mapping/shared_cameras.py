"""One focal length for several photos is a guess: where photos ask for others, each gets a camera of its own to try.

Photos without EXIF that have one size may come from a lens that zoomed, or from two telephones. The model then bends
until one focal length fits all, with errors of half a pixel; but each photo by itself, placed anew before the points of
the model, asks for another focal length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.database import open_database
from lightmatch.colmap.verification import MatchDatabase
from lightmatch.reconstruction.mapping.held_out import HeldOutScorer, compare
from lightmatch.reconstruction.mapping.history import CameraPerPhotoTrial
from lightmatch.reconstruction.mapping.model_selection import (
    MappingOptions,
    MappingResult,
    map_with_selection,
)
from lightmatch.reconstruction.mapping.thinning import FEW_PHOTOS
from lightmatch.sfm.bundle_adjustment import AdjustOptions, FreeIntrinsics, adjust
from lightmatch.sfm.tracks import read_tracks

if TYPE_CHECKING:
    from pycolmap import Reconstruction

_FAR, _USUALLY_FAR = 0.015, 0.0025  # ln: how far one photo, and half of them, may lie from the middle one
_LEAST_GAIN = 0.1  # of the area of `HeldOutScore`; a plane seen by one lens gains 0.03, lenses that zoom 0.3 to 2
_PART = 0.5  # of the gain, before anything is mapped anew
_ROBUST_PX = 2.0
_SQUARE = 0.02  # ln: of pixels whose sides differ by less
_FEWEST = 3  # photos of one camera that can disagree
_POINTS = 50  # of the model that a photo must see for a focal length of its own


@dataclass(frozen=True)
class Remapper:
    """How a run maps, for mapping again with other cameras."""

    images: Path  # folder of the photos
    camera_model: str  # COLMAP's name, to start with
    seed: int | None
    options: MappingOptions

    def map(self, database: Path, free: Mapping[int, FreeIntrinsics] | None = None) -> MappingResult:
        """Models of a database. free: by id of the camera, what may be adjusted of it beside what the options say."""
        options = replace(self.options, free={**self.options.free, **(free or {})})
        return map_with_selection(database, self.images, seed=self.seed, options=options)

    def give_cameras(self, source: Path, target: Path, own: Collection[str] | None = None) -> None:
        """As `give_photos_cameras`."""
        give_photos_cameras(source, target, self.images, self.camera_model, own)


def try_camera_per_photo(
    result: MappingResult, database: Path, target: Path, remapper: Remapper
) -> tuple[MappingResult, Path]:
    """Map anew with a camera for each photo, where photos disagree about the focal length they share.

    result: what `remapper` made of `database`. target: where the database for it is written.
    Returns what predicts held-out tracks better, and its database.
    """
    if not result.models or not photos_disagree(result.models[0]):
        return result, database
    if result.models[0].num_reg_images() > FEW_PHOTOS and not _is_worth_trying(result, database):
        return result, database
    remapper.give_cameras(database, target)
    other = remapper.map(target)
    if other.score is None or result.score is None:
        return result, database
    comparison = compare(other.score, result.score)
    kept = comparison.improves and comparison.difference >= _LEAST_GAIN * result.score.area
    why = f"predicts held-out observations {'better' if kept else 'no better, or by too little to matter'}"
    trial = CameraPerPhotoTrial(
        comparison, kept, f"the photos disagree about the focal length they share; a camera for each {why}"
    )
    chosen = other if kept else result
    history = replace(chosen.history, camera_per_photo=trial)
    return replace(chosen, history=history), target if kept else database


def _is_worth_trying(result: MappingResult, database: Path) -> bool:
    """Whether the model predicts held-out tracks better by a part of _LEAST_GAIN once it is adjusted with own cameras.

    Of many photos a few always disagree, and to map them anew takes as long as the first time.
    """
    if result.score is None or not result.score.is_valid:
        return False
    scorer = HeldOutScorer(read_tracks(database))
    freed = with_own_cameras(result, scorer, AdjustOptions())
    return scorer.measure(freed).area - result.score.area >= _PART * _LEAST_GAIN * result.score.area


def photos_disagree(model: Reconstruction) -> bool:
    """Whether photos of one camera, placed one by one, need focal lengths that differ too much for one lens."""
    sharing: dict[int, list[int]] = defaultdict(list)
    for image_id in sorted(model.reg_image_ids()):
        sharing[model.image(image_id).camera_id].append(image_id)
    for photos in sharing.values():
        if len(photos) < _FEWEST:
            continue
        ratios = [ratio for image_id in photos if (ratio := _focal_ratio(model, image_id)) is not None]
        if len(ratios) < _FEWEST:
            continue
        apart = np.abs(np.log(ratios) - np.median(np.log(ratios)))
        if apart.max() > _FAR or np.median(apart) > _USUALLY_FAR:
            return True
    return False


def _focal_ratio(model: Reconstruction, image_id: int) -> float | None:
    """Focal length of a photo placed by itself before the points of the model, by that of its camera there."""
    import pycolmap

    image = model.image(image_id)
    camera = model.camera(image.camera_id)
    seen = [(point.xy, model.point3D(point.point3D_id).xyz) for point in image.points2D if point.has_point3D()]
    if len(seen) < _POINTS:
        return None
    pixels, points = (np.array(side) for side in zip(*seen, strict=True))
    alone = pycolmap.Camera(model=camera.model, width=camera.width, height=camera.height, params=list(camera.params))
    options = pycolmap.AbsolutePoseRefinementOptions()
    options.refine_focal_length = True
    found = pycolmap.refine_absolute_pose(
        image.cam_from_world(), pixels, points, np.ones(len(pixels), bool), alone, options
    )
    return alone.mean_focal_length() / camera.mean_focal_length() if found is not None else None


def with_own_cameras(result: MappingResult, scorer: HeldOutScorer, options: AdjustOptions) -> Reconstruction:
    """A copy of the best model that has not seen the held-out tracks, adjusted with a camera for each photo.

    options: what is free of these cameras; errors count robustly, on the threads of the result's own options.
    """
    freed = _a_camera_each(scorer.without(result.models[0]))
    adjust(freed, replace(options, robust_px=_ROBUST_PX, threads=result.adjust_options.threads))
    return freed


def _a_camera_each(model: Reconstruction) -> Reconstruction:
    """The model with a camera without distortion for each photo, of square pixels unless they are clearly not."""
    import pycolmap

    copy = pycolmap.Reconstruction()
    for image_id in sorted(model.reg_image_ids()):
        image = model.image(image_id)
        shared = model.camera(image.camera_id)
        place = [shared.principal_point_x, shared.principal_point_y]
        focal = (shared.focal_length_x, shared.focal_length_y)
        square = abs(np.log(focal[0] / focal[1])) <= _SQUARE
        camera = pycolmap.Camera(
            model="SIMPLE_PINHOLE" if square else "PINHOLE",
            width=shared.width,
            height=shared.height,
            params=[*([shared.mean_focal_length()] if square else focal), *place],
            camera_id=image_id,
        )
        copy.add_camera_with_trivial_rig(camera)
        keypoints = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
        same = pycolmap.Image(name=image.name, camera_id=image_id, image_id=image_id, keypoints=keypoints)
        copy.add_image_with_trivial_frame(same, image.cam_from_world())
    for point_id in sorted(model.points3D):
        point = model.point3D(point_id)
        copy.add_point3D(point.xyz, point.track, point.color)
    return copy


def give_photos_cameras(
    source: Path, target: Path, images: Path, camera_model: str, own: Collection[str] | None = None
) -> None:
    """A copy of a verified database in which photos have cameras of their own. Ids of photos and cameras change.

    images: folder of the photos, for focal lengths in EXIF. camera_model: COLMAP's name. own: names of the photos, all
    by default; the others share cameras as before.
    """
    with open_database(source) as old:
        groups: dict[Hashable, list[str]] = defaultdict(list)
        for photo in sorted(old.photos, key=lambda photo: photo.image_id):
            groups[photo.name if own is None or photo.name in own else photo.camera_id].append(photo.name)
        MatchDatabase(target, images, groups.values(), camera_model)
        with open_database(target, write=True) as new:
            new.copy_contents(old)  # what was found out about a camera holds for each
