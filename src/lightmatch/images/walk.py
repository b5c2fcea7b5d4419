"""All files of a folder, in an order that does not change."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from lightmatch.errors import ImageReadError


def by_numbers(name: str) -> list[tuple[int, str]]:
    """What sorts names by the numbers in them: 2 comes before 10."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def list_files(folder: Path, skip: Callable[[Path], bool] = lambda _: False) -> list[Path]:
    """All files under `folder` that are not hidden, sorted by their path relative to it (with '/').

    skip: called once for every subfolder; True leaves it out with all that is in it. Hidden folders are left out.
    Linked folders are followed, but every real folder is entered once: loops end, and no file comes twice by way of
    two links. A link to nothing is listed.
    Raises ImageReadError where `folder`, or a folder below it, is missing or cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise ImageReadError(
            f"cannot list {error.filename}: expected a readable folder, got '{error.strerror}';"
            " check the path and its permissions"
        ) from error

    found: list[Path] = []
    entered: set[str] = set()
    for parent, subfolders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(parent)
        if real in entered:
            subfolders.clear()
            continue
        entered.add(real)
        # In place: os.walk goes on with what is left, in this order.
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and not skip(Path(parent, name)))
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())
