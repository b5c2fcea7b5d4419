"""Search for the masks of all inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightmatch.errors import ReconstructionError
from lightmatch.inputs.mask_files import MaskFolder, MaskPlace, mask_places
from lightmatch.inputs.names import printable
from lightmatch.inputs.sources import InputRoot, folder_around, mask_folders_in
from lightmatch.inputs.values import Ignored


class MaskSearch:
    """Finds masks in the folder the user named, or else in those called "masks" inside and beside the photos.

    In a folder that is named, the mask of photos/left/a.jpg is that of left/a.jpg or, where photos are one of several
    sources, of photos/left/a.jpg.
    """

    def __init__(self, named: Path | None, sources: Sequence[tuple[InputRoot, Sequence[Path]]]) -> None:
        """sources: each with its photos and videos."""
        self._named = named
        self._folders: dict[Path, MaskFolder] = {}  # by real path: one may be inside one source and beside another
        self._inside: set[Path] = set()
        self._places: dict[int, list[MaskPlace]] = {}  # by the source's id
        if named is not None:
            self._open([named])
            return
        for source, files in sources:
            around = mask_folders_in(folder_around(source.root))
            beside = [folder for folder in around if not folder.samefile(source.root)]
            self._inside.update(folder.resolve() for folder in source.mask_folders)
            self._places[id(source)] = mask_places(
                source.root, files, self._open(source.mask_folders), self._open(beside)
            )

    def _open(self, folders: Sequence[Path]) -> dict[Path, MaskFolder]:
        for folder in folders:
            if folder.resolve() not in self._folders:
                self._folders[folder.resolve()] = MaskFolder(folder)
        return {folder: self._folders[folder.resolve()] for folder in folders}

    def mask_of(self, path: Path, source: InputRoot, prefix: str, *, is_video: bool) -> Path | None:
        """The nearest mask of a photo or video; prefix: the folder that its source's working copies go to."""
        if self._named is not None:
            masks = self._folders[self._named.resolve()]
            places = [MaskPlace(source.root, masks, within) for within in (prefix, "")]
        else:
            places = self._places[id(source)]
        found = (place.mask_of(path, is_video=is_video) for place in places)
        return next((mask for mask in found if mask is not None), None)

    def unused(self, example: str) -> list[Ignored]:
        """The folders with files that are the mask of no photo; call when all masks are found.

        example: the name of a photo. Raises ReconstructionError where a folder that was named, or lies inside the
        photos' own, holds no mask at all.
        """
        listed = []
        for real, folder in self._folders.items():
            unused = folder.unused
            if len(unused) == len(folder):
                if self._named is None and (real not in self._inside or not len(folder)):
                    continue  # beside the photos, with which it may have nothing to do, or empty
                hint = "" if self._named is not None else "; where these are photos, give the folder another name"
                raise ReconstructionError(
                    f"{folder.path}: expected masks named after the photos, such as {example}.png, found none"
                    f" among its {len(folder)} files; rename them{hint}"
                )
            if unused:
                reason = (
                    f"{len(unused)} of {len(folder)} files are no photo's mask, the first: {printable(unused[0])};"
                    " a.jpg has its mask in a.jpg.png, a.png or a_mask.png"
                )
                listed.append(Ignored(printable(str(folder.path)), "masks", reason, lost=False))
        return listed
