"""One focal length for several photos is a guess: where photos ask for others, each gets a camera of its own to try.

Photos without EXIF that have one size may come from a lens that zoomed, or from two telephones. The model then bends
until one focal length fits all, with errors of half a pixel; but each photo by itself, placed anew before the points of
the model, asks for another focal length.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.reconstruction.database import MatchDatabase

if TYPE_CHECKING:
    from pycolmap import Reconstruction

_FAR, _USUALLY_FAR = 0.015, 0.0025  # ln: how far one photo, and half of them, may lie from the middle one
LEAST_GAIN_OF_A_CAMERA_EACH = 0.1  # of the judge's area; a plane seen by one lens gains 0.03, lenses that zoom 0.3 to 2
_POINTS = 50  # of the model that a photo must see to be asked


def photos_disagree(model: Reconstruction) -> bool:
    """Whether the photos of one camera ask for focal lengths that one lens has not."""
    asked: dict[int, list[float]] = defaultdict(list)
    for image_id in sorted(model.reg_image_ids()):
        ratio = _asked_for(model, image_id)
        if ratio is not None:
            asked[model.image(image_id).camera_id].append(np.log(ratio))
    for ratios in asked.values():
        apart = np.abs(np.array(ratios) - np.median(ratios))
        if len(ratios) > 2 and (apart.max() > _FAR or np.median(apart) > _USUALLY_FAR):
            return True
    return False


def _asked_for(model: Reconstruction, image_id: int) -> float | None:
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


def give_each_photo_a_camera(source: Path, target: Path, images: Path, camera_model: str) -> None:
    """A copy of a verified database in which each photo has a camera of its own.

    images: folder of the photos, for focal lengths in EXIF. camera_model: COLMAP's name.
    """
    import pycolmap

    with pycolmap.Database.open(source) as old:
        names = {image.image_id: image.name for image in old.read_all_images()}
        MatchDatabase(target, images, [[name] for name in names.values()], camera_model)
        with pycolmap.Database.open(target) as new, pycolmap.DatabaseTransaction(new):
            new_ids = {image.name: image.image_id for image in new.read_all_images()}
            for image_id, name in names.items():
                new.write_keypoints(new_ids[name], old.read_keypoints(image_id))
            for pair_id, geometry in zip(*old.read_two_view_geometries(), strict=True):
                pair = pycolmap.pair_id_to_image_pair(pair_id)
                id0, id1 = (new_ids[names[image_id]] for image_id in pair)
                new.write_two_view_geometry(id0, id1, geometry)
                if old.exists_matches(*pair):
                    new.write_matches(id0, id1, old.read_matches(*pair))
