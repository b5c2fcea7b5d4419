"""Duplicate photos: files with the same bytes, or the same pixels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightmatch.runtime.files import file_digest
from lightmatch.types import Image


def same_files(paths: Sequence[Path]) -> dict[Path, Path]:
    """For each file with the bytes of an earlier one: that one, the first of its kind.

    Only files of equal size are read. Empty and unreadable files are no duplicates: they are reported when they are
    to be used.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            by_size[path.stat().st_size].append(path)
        except OSError:
            continue
    first: dict[Path, Path] = {}
    for size, alike in by_size.items():
        seen: dict[str, Path] = {}
        for path in alike if size and len(alike) > 1 else ():
            try:
                digest = file_digest(path)
            except OSError:
                continue
            if digest in seen:
                first[path] = seen[digest]
            seen.setdefault(digest, path)
    return first


def pixels_digest(image: Image) -> str:
    """The SHA-256 of size and upright pixels: equal for one picture saved in two files without loss."""
    digest = hashlib.sha256(str(image.pixels.shape).encode())
    digest.update(np.ascontiguousarray(image.pixels).data)
    return digest.hexdigest()
