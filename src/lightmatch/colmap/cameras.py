"""Which photos were taken by one camera, and so share its intrinsics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import ExifTags

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.images import ANY_NUMBER, open_photo

if TYPE_CHECKING:
    from pycolmap import Camera

CameraSharing = Literal["auto", "folder", "photo"]

_LENS_TAGS = (
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.FocalLength,
    ExifTags.Base.FocalLengthIn35mmFilm,
    ExifTags.Base.DigitalZoomRatio,
)


def group_by_camera(
    images: Path, sizes: Mapping[str, tuple[int, int]], sharing: CameraSharing = "auto"
) -> list[list[str]]:
    """Names of photos, grouped by the camera they share; the order of `sizes` is kept.

    images: the folder the names are relative to. sizes: (width, height) px by name.
    sharing: "photo" gives each its own camera; "folder" one to each folder (and picture size in it);
        "auto" one to photos of a folder that have the same size and the same EXIF camera and focal
        length. Photos without EXIF share one only where their whole folder is of one size, as frames
        of one video are; otherwise they may come from anywhere.
    """
    sizes_of_folder: dict[PurePosixPath, set[tuple[int, int]]] = defaultdict(set)
    for name, size in sizes.items():
        sizes_of_folder[PurePosixPath(name).parent].add(size)

    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name, size in sizes.items():
        folder = PurePosixPath(name).parent
        if sharing == "photo":
            groups[name].append(name)
        elif sharing == "folder":
            groups[folder, size].append(name)
        else:
            lens = _lens(images / name)
            alone = lens is None and len(sizes_of_folder[folder]) > 1
            groups[name if alone else (folder, size, lens)].append(name)
    return list(groups.values())


def off_centre_px(camera: Camera) -> tuple[float, float]:
    """How far right and down of the middle of the photo the principal point of a camera lies."""
    return camera.principal_point_x - camera.width / 2, camera.principal_point_y - camera.height / 2


# Without distortion where all of these parameters are 0.
_PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")


def is_distorted(camera: Camera) -> bool:
    """Whether straight lines are known to be bent by a camera: by distortion that is not 0, or by a fisheye lens."""
    bent = camera.params[list(camera.extra_params_idxs())]
    return camera.model_name not in _PERSPECTIVE or bool(np.any(bent != 0))


def known_camera_model(name: str) -> str:
    """COLMAP's spelling of a camera model, in any case; InvalidValueError lists what there is."""
    import pycolmap

    models = [model for model in pycolmap.CameraModelId.__members__ if model != "INVALID"]
    if name.upper() not in models:
        raise InvalidValueError(f"camera model: expected one of {', '.join(models)}; got {name!r}")
    return name.upper()


_FOCAL_LENGTHS = (0.3, 10.0)  # of any lens, in long sides of the picture: from a fisheye to a long telephoto lens
_GUESSED_FOCAL_LENGTH = 1.2  # COLMAP's, where EXIF says nothing


def guess_impossible_focal_length(camera: Camera) -> float | None:
    """Put a guess in the place of a focal length of EXIF that no lens has; returns what it was, px, or None.

    camera: of a photo, as COLMAP made it from EXIF; one whose focal length can be, or is a guess, is left alone.
    """
    side = max(camera.width, camera.height)
    said = camera.mean_focal_length()
    if not camera.has_prior_focal_length or _FOCAL_LENGTHS[0] <= said / side <= _FOCAL_LENGTHS[1]:
        return None
    params = camera.params
    params[list(camera.focal_length_idxs())] = _GUESSED_FOCAL_LENGTH * side
    camera.params = params.tolist()
    camera.has_prior_focal_length = False
    return float(said)


def _lens(path: Path) -> tuple[str, ...] | None:
    """What EXIF says of camera and focal length; None where it says nothing, or is damaged."""
    try:
        with open_photo(path, ANY_NUMBER) as photo:
            exif = photo.getexif()
            tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except ImageReadError:
        return None
    said = tuple(str(tags.get(tag, "")) for tag in _LENS_TAGS)
    return said if any(said) else None
