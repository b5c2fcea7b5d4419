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


_RESERVED = str.maketrans('<>:"|?*\\', "_" * 8)  # characters that disks of Windows do not take in names
_LONGEST_PART = 200  # bytes, of the 255 that most disks take: the rest is for ~2 and for what names of masks add


def valid_name(name: str) -> str:
    """The name, relative with '/', as every kind of disk takes it; what is valid is left as it is.

    10:30.jpg → 10_30.jpg. Parts lose dots and blanks at their end and, where they are too long, their beginning.
    """
    return "/".join(_valid_part(part) for part in name.split("/"))


def _valid_part(part: str) -> str:
    last_bytes = part.translate(_RESERVED).rstrip(". ").encode(errors="ignore")[-_LONGEST_PART:]
    return last_bytes.decode(errors="ignore").lstrip(".") or "_"  # a beginning with a dot would hide it


def free_names(names: Sequence[str]) -> list[str]:
    """The names, made valid, and numbered where one, or its copy as JPEG, would meet another or a folder on any disk.

    names: relative, with '/'. A copy is named name + ".jpg" where it has to be encoded (`working_copies`), which is
    not known yet. Disks of Windows and macOS hold only one of two names that differ in case, or in how accents are
    encoded. a.png → a~2.png. See `valid_name` for what is valid.
    """
    valid = [valid_name(name) for name in names]
    taken = _folders(valid)
    free = []
    for name in valid:
        stem, dot, suffix = name.rpartition(".")
        candidate, number = name, 1
        while not taken.isdisjoint(claimed := {_folded(candidate), _folded(f"{candidate}.jpg")}):
            number += 1
            candidate = f"{stem}~{number}{dot}{suffix}"
        taken |= claimed
        free.append(candidate)
    return free


def free_folders(folders: Sequence[str], names: Sequence[str] = ()) -> list[str]:
    """The folders, made valid, and numbered where one would meet another, or hold one, or meet a photo or its folder.

    names: of the photos, as `free_names` gave them. clip → clip~2.
    """
    valid = [valid_name(folder) for folder in folders]
    taken = _folders([*names, *valid]) | {_folded(copy) for name in names for copy in (name, f"{name}.jpg")}
    free = []
    for folder in valid:
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
