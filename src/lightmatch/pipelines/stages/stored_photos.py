"""Photos under the names and in the pixels of the user's own files, as COLMAP and hloc read them.

Both ignore EXIF orientation: their keypoints lie in the pixels as the file stores them, while ours are found in the
upright photo. Keypoints are rotated back, so that the user's folder of photos is the one to give to COLMAP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.images import ANY_NUMBER, MIRRORED, features_in_stored_pixels, open_photo, stored_size
from lightmatch.inputs import Inputs, read_facts, relative_name
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.types import Features

_READ_BY_COLMAP = {"JPEG", "MPO", "PNG", "TIFF", "BMP", "PPM"}  # Pillow's names


@dataclass(frozen=True)
class NamedPhoto:
    """How the result names a picture."""

    name: str  # relative to the folder of images, with '/'
    image_size: tuple[int, int]  # (width, height) px, as stored
    orientation: int = 1  # EXIF's: features are rotated back from upright by it


@dataclass(frozen=True)
class OriginalPhoto:
    """A file of the user's that COLMAP reads."""

    name: str  # relative to the folder of images, with '/'
    orientation: int  # EXIF's


def name_copies(pictures: Sequence[Picture]) -> dict[str, NamedPhoto]:
    """By name of the working copy: the working copy itself, which is upright."""
    return {picture.name: NamedPhoto(picture.name, picture.image_size) for picture in pictures}


def find_originals(inputs: Inputs, root: Path) -> dict[str, OriginalPhoto]:
    """The user's photos by the name their working copies are to have; those that cannot be read are left out.

    root: the folder that names are relative to. Raises InvalidValueError for what COLMAP cannot read as a photo of its
    own: videos, HEIC and WebP, and photos that are stored mirrored.
    """
    if inputs.videos:
        raise InvalidValueError(
            f"{inputs.videos[0].shown}: expected photos, got a video; name a folder for its frames with --images"
        )
    found = {}
    for photo in inputs.photos:
        try:
            with open_photo(photo.path, ANY_NUMBER) as opened:
                form = str(opened.format)
            orientation = read_facts(photo.path).orientation
        except ImageReadError:
            continue
        if form not in _READ_BY_COLMAP:
            raise InvalidValueError(
                f"{photo.shown}: expected a format that COLMAP reads (JPEG, PNG, TIFF, BMP), got {form}; name a folder"
                " for converted copies with --images"
            )
        if orientation in MIRRORED:
            raise InvalidValueError(
                f"{photo.shown}: expected a photo that is not stored mirrored (EXIF orientation {orientation}), which"
                " COLMAP ignores; name a folder for upright copies with --images"
            )
        found[photo.name] = OriginalPhoto(relative_name(photo.path, root), orientation)
    return found


def name_originals(pictures: Sequence[Picture], originals: Mapping[str, OriginalPhoto]) -> dict[str, NamedPhoto]:
    """By name of the working copy: the file it was made of. Raises InvalidValueError for views of panoramas."""
    named = {}
    for picture in pictures:
        if picture.view_of is not None:
            raise InvalidValueError(
                f"{picture.view_of.panorama}: expected an ordinary photo, got a 360° panorama; name a folder for its"
                " views with --images, or take it as it is with --panorama no"
            )
        original = originals[picture.requested_name]
        size = stored_size(picture.image_size, original.orientation)
        named[picture.name] = NamedPhoto(original.name, size, original.orientation)
    return named


class StoredFeatures(Mapping[str, Features]):
    """Features by the name in the result, in stored pixels; read when asked for."""

    def __init__(self, upright: Mapping[str, Features], photos: Mapping[str, NamedPhoto]) -> None:
        """upright: by name of the working copy."""
        self._upright = upright
        self._photos = {photo.name: (copy, photo.orientation) for copy, photo in photos.items()}

    def __getitem__(self, name: str) -> Features:
        copy, orientation = self._photos[name]
        return features_in_stored_pixels(self._upright[copy], orientation)

    def __iter__(self) -> Iterator[str]:
        return iter(self._photos)

    def __len__(self) -> int:
        return len(self._photos)
