"""Files at the given paths, before they are sorted by kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightmatch.errors import ReconstructionError
from lightmatch.images.walk import list_files
from lightmatch.inputs.mask_files import is_mask_folder
from lightmatch.inputs.names import printable


@dataclass
class InputRoot:
    """Files that share a root: those of one folder, or those named one by one that lie in one folder."""

    root: Path
    named_one_by_one: bool
    files: list[Path] = field(default_factory=list)  # sorted, each `root` / something
    mask_folders: list[Path] = field(default_factory=list)  # at or below the root


def open_sources(
    given: Sequence[Path], output: Path, masks: Path | None, is_output: Callable[[Path], bool]
) -> list[InputRoot]:
    """Every file that was given or lies in a given folder, once; roots without files are left out.

    Folders that runs of ours wrote, and folders of masks, are not looked into.
    Raises ReconstructionError where a path does not exist, would be held by `output`, or is a run's own folder.
    """
    for path in given:
        _check_given(path, output, is_output)
    named = masks.resolve() if masks is not None else None
    sources: dict[tuple[Path, bool], InputRoot] = {}
    parents = [folder_around(path) for path in given]
    for path, parent in zip(given, parents, strict=True):
        if not path.is_dir():
            source = sources.setdefault((path.parent, True), InputRoot(path.parent, named_one_by_one=True))
            source.files.append(path)
        elif path.resolve() != named and not (is_mask_folder(path) and parents.count(parent) > 1):
            # Folders of masks that are left out here were named beside the photos by "folder/*".
            source = sources[path, False] = InputRoot(path, named_one_by_one=False)
            source.files = list_files(path, _leave_out(output, named, is_output, source.mask_folders))
    seen: set[tuple[str, str]] = set()
    for source in sources.values():
        if source.named_one_by_one:
            source.files.sort(key=lambda path: path.name)
            source.mask_folders = [folder for folder in mask_folders_in(source.root) if folder.resolve() != named]
        # Folders may hold each other, by links too.
        identities = [(os.path.realpath(path.parent), path.name) for path in source.files]
        new = []
        for path, identity in zip(source.files, identities, strict=True):
            if identity not in seen:
                new.append(path)
            seen.add(identity)
        source.files = new
    return [source for source in sources.values() if source.files]


def what_is(path: Path) -> str:
    """A word for what lies at `path`. Raises ReconstructionError where the user has no permission to look."""
    try:
        return "a folder" if path.is_dir() else "a file" if path.exists() else "nothing"
    except OSError as error:
        raise ReconstructionError(f"{printable(str(path))}: cannot be opened ({error.strerror})") from error


def mask_folders_in(folder: Path) -> list[Path]:
    """The folder of masks directly in `folder`, or none."""
    return [path for path in (folder / "masks", folder / "Masks") if path.is_dir()][:1]


def folder_around(path: Path) -> Path:
    """The folder that `path`, itself and not what it may link to, lies in."""
    return (path.resolve() if path.name in ("", "..") else path.absolute()).parent


def _check_given(path: Path, output: Path, is_output: Callable[[Path], bool]) -> None:
    shown = printable(str(path))
    if what_is(path) == "nothing":
        raise ReconstructionError(
            f"{shown}: expected a folder of photos, found nothing; give a folder, photos or videos that are there"
        )
    real = path.resolve()
    if output.resolve() in (real, *real.parents):
        raise ReconstructionError(
            f"{output}: expected an output folder that does not contain the photos ({shown});"
            " results written there could replace them; choose another"
        )
    if path.is_dir() and is_output(path):
        raise ReconstructionError(
            f"{shown}: expected a folder of photos, found the results of an earlier run;"
            f" give the folder the photos came from, or {printable(str(path / 'images'))}"
        )


def _leave_out(
    output: Path, named_masks: Path | None, is_output: Callable[[Path], bool], mask_folders: list[Path]
) -> Callable[[Path], bool]:
    """Which folders hold no photos: what runs of ours wrote, and masks, which are noted in `mask_folders`."""
    ours = output.resolve()

    def skip(folder: Path) -> bool:
        real = folder.resolve()
        if real == ours or is_output(folder):
            return True
        if is_mask_folder(folder) or real == named_masks:
            mask_folders.append(folder)
            return True
        return False

    return skip
