"""Names of working copies that are valid and distinct on every file system."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath


def printable(text: str) -> str:
    """The text with '?' for bytes of a file name that are not UTF-8."""
    return text.encode(errors="replace").decode()


def name_problem(name: str) -> str | None:
    """Why COLMAP's files cannot hold this name, and what to do; None where they can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"cannot use {name!r}: expected a name in UTF-8, got other bytes; rename it"
    if any(ord(character) < 32 for character in name):
        return f"cannot use {name!r}: expected a name on one line, got control characters; rename it"
    return None


def free_names(names: Sequence[str]) -> list[str]:
    """The names, numbered where one, or its copy as JPEG, would meet another or a folder on any kind of disk.

    names: relative, with '/'. A copy is named name + ".jpg" where it has to be encoded (`working_copies`), which is
    not known yet. Disks of Windows and macOS hold only one of two names that differ in case, or in how accents are
    encoded. a.png → a~2.png.
    """
    taken = _folders(names)
    free = []
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        candidate, number = name, 1
        while not taken.isdisjoint(claimed := {_folded(candidate), _folded(f"{candidate}.jpg")}):
            number += 1
            candidate = f"{stem}~{number}{dot}{suffix}"
        taken |= claimed
        free.append(candidate)
    return free


def free_folders(folders: Sequence[str], names: Sequence[str] = ()) -> list[str]:
    """The folders, numbered where one would meet another, or hold one, or meet a photo or a folder of photos.

    names: of the photos, as `free_names` gave them. clip → clip~2.
    """
    taken = _folders([*names, *folders]) | {_folded(copy) for name in names for copy in (name, f"{name}.jpg")}
    free = []
    for folder in folders:
        candidate, number = folder, 1
        while _folded(candidate) in taken:
            number += 1
            candidate = f"{folder}~{number}"
        taken.add(_folded(candidate))
        free.append(candidate)
    return free


def common_folder(paths: Sequence[Path]) -> Path:
    """The folder that names of photos are relative to: the one named, or the nearest around all of several."""
    folders = [path if path.is_dir() else path.parent for path in paths]
    return Path(os.path.commonpath([folder.absolute() for folder in folders])) if len(folders) > 1 else folders[0]


def relative_name(path: Path, folder: Path) -> str:
    """The name of a file relative to a folder around it, with '/'; links are not followed."""
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()


def folder_name(path: Path) -> str:
    """A name for what comes out of the folder or video `path`: its own, made fit for COLMAP's files."""
    own = path.resolve().name if path.name in ("", "..") else path.name
    fit = "".join("_" if ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 else c for c in own).lstrip(".")
    return fit or "photos"


def _folders(names: Iterable[str]) -> set[str]:
    return {_folded(str(parent)) for name in names for parent in PurePosixPath(name).parents if parent.name}


def _folded(name: str) -> str:
    """Equal for names that are the same on some file system."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
