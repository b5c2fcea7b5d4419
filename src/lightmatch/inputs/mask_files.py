"""Names of mask files: COLMAP's masks/a.jpg.png, masks/a.png, and those of other programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lightmatch.images import is_image_file
from lightmatch.images.walk import list_files


def is_mask_folder(folder: Path) -> bool:
    """Whether a folder of this name, beside or among photos, holds masks."""
    return folder.name.casefold() == "masks"


class MaskFolder:
    """The files of one folder of masks, and which of them belong to a photo."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = {file.relative_to(path).as_posix(): file for file in list_files(path)}
        self._folded = {name.casefold(): name for name in reversed(self._files)}
        self._used: set[str] = set()

    def __len__(self) -> int:
        return len(self._files)

    @property
    def unused(self) -> list[str]:
        """The files that are the mask of no photo, sorted."""
        return [name for name in self._files if name not in self._used]

    def has_folder(self, name: str) -> bool:
        """Whether any file lies in a folder of this name."""
        return any(file.startswith(f"{name}/") for file in self._files)

    def of_photo(self, relative: str) -> Path | None:
        """The mask of the photo of this path in the folder of photos, see `mask_names`. Letters may differ in case."""
        for wanted in mask_names(relative):
            name = wanted if wanted in self._files else self._folded.get(wanted.casefold())
            if name is not None:
                self._used.add(name)
                return self._files[name]
        return None

    def of_video(self, relative: str) -> Path | None:
        """One mask for all frames, named as a photo's would be, or else a folder named after the video."""
        if (single := self.of_photo(relative)) is not None:
            return single
        for folder in (relative, _stem(relative)):
            inside = [name for name in self._files if name.startswith(f"{folder}/") and name.lower().endswith(".png")]
            if inside:
                self._used.update(inside)
                return self.path / folder
        return None


def mask_names(photo: str) -> list[str]:
    """What the mask of photo a.jpg may be called in a folder of masks, the most usual first.

    a.jpg.png (COLMAP; of a.heic a.heic.jpg.png too, after its working copy, for masks that came out of an earlier
    run), a.png, a_mask.png (Metashape), a.mask.png, a-mask.png, and as JPEG a.jpg and a_mask.jpg.
    """
    stem = _stem(photo)
    marked = [f"{stem}{mark}" for mark in _MARKS]
    return [
        *(f"{name}.png" for name in (photo, f"{photo}.jpg", stem, *marked)),
        *(f"{name}{suffix}" for name in (stem, *marked) for suffix in (".jpg", ".jpeg")),
    ]


def masked_by(mask: Path, beside: Mapping[str, Sequence[Path]]) -> Sequence[Path]:
    """Of which photos and videos a picture beside them is the mask by its name: a_mask.png or a_mask.jpg of a.jpg.

    beside: the photos and videos of that folder by stem, in small letters.
    """
    stem = mask.stem.casefold()
    for mark in _MARKS:
        if stem.endswith(mark) and stem != mark and (masked := beside.get(stem.removesuffix(mark))):
            return masked
    return ()


_MARKS = ("_mask", ".mask", "-mask")


class MaskPlace(NamedTuple):
    """Where the masks of the files below `base` are: under their paths relative to it, in a folder of `masks`."""

    base: Path
    masks: MaskFolder
    within: str = ""  # that folder

    def mask_of(self, path: Path, *, is_video: bool = False) -> Path | None:
        """The mask of one of these files."""
        if self.base not in path.parents:
            return None
        relative = (PurePosixPath(self.within) / path.relative_to(self.base).as_posix()).as_posix()
        return self.masks.of_video(relative) if is_video else self.masks.of_photo(relative)


def mask_places(
    root: Path, files: Iterable[Path], inside: Mapping[Path, MaskFolder], beside: Mapping[Path, MaskFolder]
) -> list[MaskPlace]:
    """Where the masks of the files below `root` may be, the nearest first.

    files: photos and videos. inside, beside: folders of masks by path, at or below the root and around it.

    A folder of masks is for what lies around it: photos/left/a.jpg has its mask in photos/left/masks/a.jpg.png or in
    photos/masks/left/a.jpg.png. Where all of that lies in one folder, as in COLMAP's images/a.jpg and
    masks/a.jpg.png, the masks may do without that folder's name.
    """
    children: dict[Path, set[Path]] = {}
    for file in files:
        for child in (file, *file.parents):
            if child == root:
                break
            children.setdefault(child.parent, set()).add(child)
    places = []
    for path, masks in inside.items():
        around = children.get(path.parent, set())
        places.append(MaskPlace(path.parent, masks))
        places += [
            MaskPlace(child, masks)
            for child in around
            if len(around) == 1 and child.is_dir() and not masks.has_folder(child.name)
        ]
    places.sort(key=lambda place: -len(place.base.parts))
    for path, masks in beside.items():
        name = root.resolve().name
        needs_name = masks.has_folder(name) or _holds_photos(path.parent)
        places.append(MaskPlace(root, masks, name if needs_name else ""))
    return places


def frame_mask(masks: Path | None, frame: str) -> Path | None:
    """The mask of one frame of a video, if there is one.

    masks: of its `VideoInput`. frame: the file name of the frame, such as 000123.jpg: 000123.jpg.png or 000123.png is
    looked for in a folder of masks.
    """
    if masks is None or masks.is_file():
        return masks
    name = PurePosixPath(frame).name
    candidates = (masks / f"{name}.png", masks / f"{_stem(name)}.png")
    return next((path for path in candidates if path.is_file()), None)


def _holds_photos(folder: Path) -> bool:
    try:
        return any(is_image_file(path) for path in folder.iterdir())
    except OSError:
        return False


def _stem(relative: str) -> str:
    return str(PurePosixPath(relative).with_suffix(""))
