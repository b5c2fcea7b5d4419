"""Files that are whole or absent, and known by what is in them."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_NAME = 255  # bytes, on most file systems
_writer = ""  # this process, where others write the same files


def share_files(writer: str) -> None:
    """Other processes, perhaps of other machines, may write the same files as this one, which is called `writer`."""
    global _writer
    _writer = writer


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Generator[Path]:
    """A temporary name to write to, which becomes `path` at the end; an error leaves `path` as it was.

    shared: other processes may write the same file at this moment, so the name is this process's own. What a killed
    process leaves of it stays, while without `shared` the next one to write `path` clears it. After `share_files` all
    files are. A pipe or a device is no file to replace: it is written to as it is.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = _writer or (str(os.getpid()) if shared else "")
    ending = ".".join(filter(None, ("", writer, "partial")))
    stem = path.name
    if len(os.fsencode(stem + ending)) > _LONGEST_NAME:
        stem = hashlib.sha256(os.fsencode(stem)).hexdigest()
    partial = path.with_name(stem + ending)
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Generator[Path]:
    """An empty folder to fill, which becomes `path` at the end; an error leaves `path` as it was.

    A process that is killed while the two change places leaves the old one under another name; the next call takes it
    back.
    """
    partial, old = (path.with_name(path.name + ending) for ending in (".partial", ".old"))
    if old.exists() and not path.exists():
        old.rename(path)
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file, 64 hexadecimal digits; read piece by piece. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_state(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in ns, by which a changed file is told; None where there is no file."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # safetensors, SQLite and COLMAP have errors of their own for it.
        said = str(error).lower()
        if "no space left on device" in said or "disk is full" in said:
            return True
        error = error.__cause__ or error.__context__
    return False
