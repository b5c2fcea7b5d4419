"""Folders of photos, and which of them are for training and which for validation."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lightmatch.errors import InvalidValueError
from lightmatch.images import list_images
from lightmatch.runtime.files import file_state

Split = Literal["train", "validation"]


def photo_states(photos: Sequence[Path]) -> list[tuple[str, tuple[int, int] | None]]:
    """What tells photos from others: their paths, sizes and dates."""
    return [(str(photo.resolve()), file_state(photo)) for photo in photos]


def photo_id(path: Path, pattern: str) -> str:
    """What the file `path` shows: the first group of `pattern` that matched in its name, or the whole name.

    Windows cut from one photo, or frames of one walk, share an id so they are never on both sides of the split.
    """
    found = re.match(pattern, path.stem)
    groups = () if found is None else found.groups()
    return next((group for group in groups if group is not None), path.stem if found is None else found[0])


def list_photos(
    folders: Sequence[Path],
    split: Split,
    validation_share: float = 0.05,
    id_pattern: str = r"(.*)",
    exclude_pattern: str | None = None,
    exclude_folders: Sequence[str] = (),
    scenes: Sequence[Path] = (),
) -> list[Path]:
    """The photos of one side of the split, sorted.

    folders: searched with all folders below. validation_share: part of the ids held out, chosen by a hash of the
    id, so that adding photos never moves others to the other side. id_pattern: see `photo_id`. exclude_pattern: names
    that begin like this are left out. exclude_folders: names of folders whose photos are left out. scenes: folders of
    folders, each with photos of one place, which have one id together unless that leaves one side without photos.
    Raises InvalidValueError where nothing is left, ImageReadError where a folder is missing.
    """
    if not 0 <= validation_share < 1:
        raise InvalidValueError(f"validation_share: expected 0 to below 1, got {validation_share}")
    photos = [path for folder in folders for path in list_images(folder) if path.parent.name not in exclude_folders]
    if exclude_pattern is not None:
        photos = [path for path in photos if not re.match(exclude_pattern, path.stem)]
    held_out = split == "validation"
    roots = {scene.resolve() for scene in scenes}

    def is_held_out(path: Path, by_scene: bool) -> bool:
        is_of_scene = by_scene and path.parent.parent.resolve() in roots
        return _fraction(path.parent.name if is_of_scene else photo_id(path, id_pattern)) < validation_share

    by_scene = len({is_held_out(path, True) for path in photos}) > 1  # else one side would be empty
    chosen = [path for path in photos if is_held_out(path, by_scene) == held_out]
    if not chosen:
        listed = ", ".join(map(str, folders))
        raise InvalidValueError(f"expected photos for {split} under {listed}, found none; add photos there")
    return chosen


def _fraction(name: str) -> float:
    """A number in 0…1 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48
