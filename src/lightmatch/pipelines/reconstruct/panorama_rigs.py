"""The views of panoramas as cameras: exact intrinsics, one rig for those that were cut alike, one pose a panorama."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.geometry.coordinates import COLMAP_PIXEL_OFFSET
from lightmatch.geometry.panoramas import VIEWS, view_intrinsics
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.jobs import FIRST_VIEW
from lightmatch.reconstruction import CameraPriors, CameraRig, IntrinsicsPrior, RigCamera

if TYPE_CHECKING:
    from pycolmap import Reconstruction


def is_first(picture: Picture) -> bool:
    """Whether the pose of a picture is that of the whole panorama, or of a photo."""
    return picture.view_of is None or picture.view_of.view == FIRST_VIEW


def panorama_poses(pictures: Sequence[Picture], model: Reconstruction) -> dict[str, np.ndarray | None]:
    """Of each panorama, by what the user calls it, its pose (3, 4) camera from world; None where it has none."""
    by_view = {picture.name: picture.view_of for picture in pictures if picture.view_of is not None}
    poses: dict[str, np.ndarray | None] = dict.fromkeys(view.panorama for view in by_view.values())
    for image_id in sorted(model.reg_image_ids()):
        image = model.image(image_id)
        if image.name in by_view and by_view[image.name].view == FIRST_VIEW:
            poses[by_view[image.name].panorama] = image.cam_from_world().matrix()
    return poses


def panorama_note(poses: Mapping[str, np.ndarray | None]) -> str | None:
    """What became of panoramas, in a sentence."""
    if not poses:
        return None
    placed = sum(pose is not None for pose in poses.values())
    return (
        f"{len(poses)} of the pictures are 360° panoramas, {placed} of which have a pose (panoramas.json); each was cut"
        " into views of 90° that share one place; with --panorama no they would be taken for ordinary photos"
    )


def without_same_panorama(pairs: Sequence[tuple[str, str]], pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """The pairs that are not two views of one panorama, which say nothing of depth."""
    of = {p.name: (p.view_of.rig, p.view_of.panorama) for p in pictures if p.view_of is not None}
    return [pair for pair in pairs if pair[0] not in of or of[pair[0]] != of.get(pair[1])]


def view_folders(pictures: Sequence[Picture]) -> dict[str, list[str]]:
    """Names of the views in each folder: one camera's."""
    folders: dict[str, list[str]] = defaultdict(list)
    for picture in pictures:
        if picture.view_of is not None:
            folders[picture.view_of.folder].append(picture.name)
    return dict(folders)


def with_view_intrinsics(known: CameraPriors | None, pictures: Sequence[Picture]) -> CameraPriors | None:
    """What is known of the cameras, and the exact intrinsics of all views."""
    intrinsics = {}
    for picture in pictures:
        if picture.view_of is not None:
            focal, center = view_intrinsics(picture.image_size[0])
            params = (focal, focal, center + COLMAP_PIXEL_OFFSET, center + COLMAP_PIXEL_OFFSET)
            camera = IntrinsicsPrior("PINHOLE", params, picture.image_size)
            intrinsics[picture.view_of.folder] = (camera,)
    if not intrinsics:
        return known
    if known is None:
        return CameraPriors("panoramas", intrinsics)
    return replace(known, intrinsics={**known.intrinsics, **intrinsics})


def panorama_rigs(pictures: Sequence[Picture]) -> list[CameraRig]:
    """The rigs that the views belong to: all at one place, turned as they were cut."""
    views: dict[str, set[str]] = defaultdict(set)
    for picture in pictures:
        if picture.view_of is not None:
            views[picture.view_of.rig].add(picture.view_of.view)
    rigs = []
    for rig, there in sorted(views.items()):
        names = [view for view in VIEWS if view in there]
        if len(names) > 1 and names[0] == FIRST_VIEW:
            poses = {view: np.column_stack([VIEWS[view], np.zeros(3)]) for view in names}
            rigs.append(CameraRig(tuple(RigCamera(f"{rig}/{view}", poses[view]) for view in names)))
    return rigs
