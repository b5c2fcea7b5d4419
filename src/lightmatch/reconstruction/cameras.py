"""Which photos were taken by one camera, and so share its intrinsics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import ExifTags, Image

from lightmatch.errors import InvalidValueError

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


def known_camera_model(name: str) -> str:
    """COLMAP's spelling of a camera model, in any case; InvalidValueError lists what there is."""
    import pycolmap

    models = [model for model in pycolmap.CameraModelId.__members__ if model != "INVALID"]
    if name.upper() not in models:
        raise InvalidValueError(f"camera model: expected one of {', '.join(models)}; got {name!r}")
    return name.upper()


def _lens(path: Path) -> tuple[str, ...] | None:
    """What EXIF says of camera and focal length; None where it says nothing."""
    with Image.open(path) as photo:
        exif = photo.getexif()
        tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    said = tuple(str(tags.get(tag, "")) for tag in _LENS_TAGS)
    return said if any(said) else None
