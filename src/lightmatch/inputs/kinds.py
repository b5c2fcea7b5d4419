"""Kinds of files by their names: raw photos, formats that cannot be read."""

from __future__ import annotations

from pathlib import Path

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef"}
    | {".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)

_PICTURES = frozenset(
    {".avif", ".avifs", ".dds", ".exr", ".gif", ".hdr", ".heics", ".heifs", ".hif", ".j2k", ".jp2", ".jpf", ".jpm"}
    | {".jpx", ".jxl", ".pbm", ".pnm", ".psb", ".psd", ".qoi", ".svg", ".tga", ".xcf"}
)
_JPEG_BY_ANOTHER_NAME = frozenset({".jfif", ".jpe", ".mpo"})
_UNREAD_VIDEOS = frozenset({".ari", ".braw", ".r3d"})
_OF_360_CAMERAS = {".insp": "photo", ".360": "video", ".insv": "video"}  # two fisheye circles, or faces of a cube


def is_raw(path: Path) -> bool:
    """Whether the name of `path` is that of a camera's raw file."""
    return path.suffix.lower() in RAW_SUFFIXES and not path.name.startswith(".")


def what_to_do(path: Path) -> str | None:
    """What to do with a picture or video of a kind we cannot read; None where it is neither, or is one we can."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return None
    if suffix in RAW_SUFFIXES:
        return f"a camera's raw file ({suffix}), which is not read; export it as JPEG"
    if suffix in _JPEG_BY_ANOTHER_NAME:
        return f"a picture named {suffix}, which is not looked into; rename it to .jpg"
    if suffix in _PICTURES:
        return f"a picture in a format that is not read ({suffix}); export it as JPEG or PNG"
    if suffix in _OF_360_CAMERAS:
        return (
            f"a 360° camera's own {_OF_360_CAMERAS[suffix]} ({suffix}), which is not read; export it in equirectangular"
            " projection (2:1) with the camera's program"
        )
    if suffix in _UNREAD_VIDEOS:
        return f"a video in a format that is not read ({suffix}); export it as MP4"
    return None
