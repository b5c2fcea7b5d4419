"""Photos that were cropped or stretched: their principal point is not in the middle, or their pixels are not square.

Mapping takes neither into account, and bends what it can: poses, focal lengths, distortion. So each photo of a model
is given a camera of its own whose principal point may move: where that predicts held-out tracks of the photo far better
and lies far from the middle, the photo is taken for cropped. One that is predicted badly and has a side ratio that most
photos have not is taken for one of these, stretched. Mapping then runs again with what was found.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.cameras import off_centre_px
from lightmatch.colmap.database import open_database
from lightmatch.colmap.models import registered_images
from lightmatch.errors import listed
from lightmatch.reconstruction.mapping.held_out import HeldOutScore, HeldOutScorer, compare
from lightmatch.reconstruction.mapping.model_selection import MappingResult
from lightmatch.reconstruction.mapping.shared_cameras import Remapper, with_own_cameras
from lightmatch.reconstruction.mapping.thinning import FEW_PHOTOS
from lightmatch.sfm.bundle_adjustment import AdjustOptions, FreeIntrinsics
from lightmatch.sfm.tracks import read_tracks

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction

_FAR = 0.05  # of the long side: how far from the middle the principal point of a cropped photo lies at least
_NEAR = 0.02  # nearer, it is not worth a word
_GAIN, _LEAST_GAIN = 1.5, 0.1  # of the area of the photo's `HeldOutScore`, relative and absolute
_BAD = 0.5  # of the area of the middle photo: a photo predicted worse is checked for stretching
_ODD = 0.02  # ln: between side ratios that are not the same
_OBSERVATIONS = 30  # held out, of a photo that is checked
_TANGENTIAL = ("OPENCV", "FULL_OPENCV", "THIN_PRISM_FISHEYE")  # whose distortion trades against the principal point
_ROUNDS = 3  # while more photos are found
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class EditedPhoto:
    """A photo that was cropped or stretched, and its camera."""

    name: str
    is_stretched: bool  # its pixels are not square; else it is cropped
    focal_px: tuple[float, float]  # across and down
    principal_point_px: tuple[float, float]  # as COLMAP's


def edited_warnings(model: Reconstruction, photos: Collection[str]) -> list[str]:
    """What is worth saying of photos that were given cameras of their own, as they are in `model`.

    photos: names; those that are not registered are passed over.
    """
    cropped, stretched = [], []
    for name in sorted(photos):
        image = model.find_image_with_name(name)
        if image is None or not image.has_pose:
            continue
        camera = model.camera(image.camera_id)
        ratio = camera.focal_length_x / camera.focal_length_y
        off = off_centre_px(camera)
        if abs(np.log(ratio)) > _ODD:
            stretched.append(f"{name} (width by height times {ratio:.2f})")
        elif np.hypot(*off) > _NEAR * max(camera.width, camera.height):
            cropped.append(f"{name} (principal point {off[0]:+.0f} px right, {off[1]:+.0f} px down of the centre)")
    return [
        f"{len(found)} photo{' looks' if len(found) == 1 else 's look'} {what}: {listed(found)}; the intrinsics of each"
        " were estimated alone"
        for found, what in ((cropped, "cropped"), (stretched, "stretched"))
        if found
    ]


def try_edited_photos(
    result: MappingResult, database: Path, target: Path, remapper: Remapper
) -> tuple[MappingResult, Path]:
    """Map anew with cameras of their own for photos that look cropped or stretched, as long as that predicts better.

    result: what `remapper` made of `database`. target: where the database for it is written, and others beside it.
    Returns the better result, whose adjust options let principal points of cropped photos move and whose history names
    the edited photos; and its database.
    """
    known: dict[str, EditedPhoto] = {}
    for number in range(_ROUNDS):
        found = find_edited_photos(result, database)
        if not set(found) - set(known):
            break
        trial = target.with_name(f"{target.stem}-{number}{target.suffix}")
        edited = known | found
        ids = _give_cameras(database, trial, remapper, edited)
        free = {ids[name]: FreeIntrinsics(principal_point=not photo.is_stretched) for name, photo in edited.items()}
        other = remapper.map(trial, free)
        if other.score is None or result.score is None or not compare(other.score, result.score).improves:
            break
        known = edited
        history = replace(
            other.history, edited_photos=tuple(sorted(known)), camera_per_photo=result.history.camera_per_photo
        )
        result, database = replace(other, history=history), trial
    return result, database


def find_edited_photos(result: MappingResult, database: Path) -> dict[str, EditedPhoto]:
    """The photos of the best model that look cropped or stretched, by name. database: of the matches it was made of."""
    if not result.models or result.score is None or not result.score.is_valid:
        return {}
    as_is = _areas(result.score)
    if not as_is:
        return {}
    # One kind at a time: the mapping with all of them together decides whether it is better.
    return _cropped(result, database, as_is) or _stretched(result.models[0], as_is)


def _cropped(result: MappingResult, database: Path, as_is: Mapping[str, float]) -> dict[str, EditedPhoto]:
    """Photos that are predicted better by a principal point far from the middle."""
    least = {name: max(_GAIN * area, area + _LEAST_GAIN) for name, area in as_is.items()}
    if min(least.values()) >= 1:  # no photo can be predicted so much better
        return {}
    scorer = HeldOutScorer(read_tracks(database))
    # Of many photos few are cropped, and the points are where the others put them.
    moves_points = result.models[0].num_reg_images() <= FEW_PHOTOS
    free = AdjustOptions(FreeIntrinsics(principal_point=True), points=moves_points, tolerance=_TOLERANCE)
    freed = with_own_cameras(result, scorer, free)
    areas = _areas(scorer.measure(freed))
    cameras = {name: camera for name, camera in _cameras(freed).items() if name in areas}
    offered = {name: _as_cropped(name, camera) for name, camera in cameras.items()}
    off = {
        name: np.hypot(*off_centre_px(camera)) / max(camera.width, camera.height) for name, camera in cameras.items()
    }
    enough = _BAD * float(np.median([*areas.values()])) if areas else 0.0
    cropped = {
        name: photo for name, photo in offered.items() if off[name] > _FAR and areas[name] > max(least[name], enough)
    }
    if len(cropped) > len(offered) / 2:  # others may be cropped by less
        return {name: photo for name, photo in offered.items() if areas[name] > max(as_is[name], enough)}
    return cropped


def _as_cropped(name: str, camera: Camera) -> EditedPhoto:
    focal = camera.mean_focal_length()
    return EditedPhoto(name, False, (focal, focal), (camera.principal_point_x, camera.principal_point_y))


def _cameras(model: Reconstruction) -> dict[str, Camera]:
    """Of each placed photo."""
    return {image.name: model.camera(image.camera_id) for image in registered_images(model)}


def _stretched(model: Reconstruction, areas: Mapping[str, float]) -> dict[str, EditedPhoto]:
    """Photos that are predicted badly and have another side ratio than most: as if they were made from one of these."""
    cameras = _cameras(model)
    usual = float(np.median([_side_ratio(camera) for camera in cameras.values()]))
    good = [name for name in cameras if name in areas and abs(_side_ratio(cameras[name]) - usual) <= _ODD]
    if not good:
        return {}
    enough = _BAD * float(np.median([areas[name] for name in good]))
    focal = float(np.median([_focal_in_long_sides(cameras[name]) for name in good]))
    found: dict[str, EditedPhoto] = {}
    for name, camera in cameras.items():
        width, height = camera.width, camera.height
        ratio = _side_ratio(camera)
        stretch = ratio - usual
        is_usual = abs(stretch) <= _ODD or abs(ratio + usual) <= _ODD  # or turned by 90°
        if is_usual or areas.get(name, enough) >= enough:
            continue
        # The photo had this width, and the height that belongs to it; the focal length is that of the longer side.
        across = focal * (width if usual >= 0 else width / np.exp(usual))
        down = across / np.exp(stretch)
        found[name] = EditedPhoto(name, True, (float(across), float(down)), (width / 2, height / 2))
    return found


def _side_ratio(camera: Camera) -> float:
    """Ln of width by height."""
    return float(np.log(camera.width / camera.height))


def _focal_in_long_sides(camera: Camera) -> float:
    return camera.mean_focal_length() / max(camera.width, camera.height)


def _areas(score: HeldOutScore) -> dict[str, float]:
    """Of each photo with observations enough."""
    return {name: of.area for name, of in score.by_photo().items() if of.num_observations >= _OBSERVATIONS}


def _give_cameras(source: Path, target: Path, remapper: Remapper, photos: Mapping[str, EditedPhoto]) -> dict[str, int]:
    """A copy of a database in which these photos have cameras of their own; their ids, by name."""
    import pycolmap

    remapper.give_cameras(source, target, photos)
    ids: dict[str, int] = {}
    with open_database(target, write=True) as opened:
        by_id = sorted(opened.photos, key=lambda stored: stored.image_id)
        for name in (stored.name for stored in by_id if stored.name in photos):
            photo, camera = photos[name], opened.camera_of(name)
            if photo.is_stretched:
                camera.model = pycolmap.CameraModelId.PINHOLE
                camera.params = [*photo.focal_px, *photo.principal_point_px]
            else:
                if camera.model_name in _TANGENTIAL:
                    camera.model = pycolmap.CameraModelId.SIMPLE_RADIAL
                camera.params = pycolmap.Camera.create_from_model_name(
                    camera.camera_id, camera.model_name, photo.focal_px[0], camera.width, camera.height
                ).params.tolist()
                camera.principal_point_x, camera.principal_point_y = photo.principal_point_px
            camera.has_prior_focal_length = True
            opened.update_camera(camera)
            ids[name] = camera.camera_id
    return ids
