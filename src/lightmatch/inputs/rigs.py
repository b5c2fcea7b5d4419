"""Camera rigs: one folder for each camera, with the same file names in all folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lightmatch.errors import InvalidValueError
from lightmatch.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class RigGap:
    """A frame with photos of only some cameras of its rig."""

    frame: str
    cameras: tuple[str, ...]  # that took it
    missing: tuple[str, ...]


def rig_frames(names: Sequence[str], depth: int | None = None) -> dict[str, dict[str, str]]:
    """Photos taken at one moment by several cameras: frame → camera → name.

    names: of working copies, such as left/0001.jpg. depth: which folder of a name is the camera's, 0 the first; where
    it is not given, the one by which most photos have a partner, of several the deepest, as in COLMAP's
    rig1/left/0001.jpg.

    A camera is known by its folder (rig1/left), a frame by what is left of the path without the camera's folder and
    the suffix (rig1/0001): cameras of different rigs are never one. Sorted by frame and camera; names outside of any
    camera's folder are left out.
    Raises InvalidValueError where two photos of one camera have one frame, as 0001.jpg and 0001.png have.
    """
    paths = [PurePosixPath(name) for name in sorted(names)]
    if depth is None:
        depths = range(max((len(path.parts) - 1 for path in paths), default=0))
        depth = max(depths, key=lambda each: (_num_partnered(paths, each), each), default=0)
    frames: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        if len(path.parts) > depth + 1:
            frame, camera = _split(path, depth)
            if camera in frames[frame]:
                raise InvalidValueError(
                    f"{camera}: expected one photo of frame {frame}, got {PurePosixPath(frames[frame][camera]).name}"
                    f" and {path.name}; rename one of them"
                )
            frames[frame][camera] = str(path)
    return {frame: dict(sorted(frames[frame].items())) for frame in sorted(frames)}


def rig_gaps(frames: Mapping[str, Mapping[str, str]]) -> list[RigGap]:
    """The frames that lack a photo of some camera of their rig.

    frames: of `rig_frames`. A rig is what the path of its frames begins with: all cameras with a photo there.
    Raises InvalidValueError where no frame has photos of two cameras: it is no rig then.
    """
    if not any(len(photos) > 1 for photos in frames.values()):
        raise InvalidValueError(
            "rig: expected a folder for each camera with the same file names in all of them (left/0001.jpg,"
            f" right/0001.jpg), got {_what_there_is(frames)}; rename the photos, or reconstruct without rig"
        )
    cameras: dict[str, set[str]] = defaultdict(set)
    for photos in frames.values():
        cameras[_rig(photos)].update(photos)
    gaps = []
    for frame, photos in frames.items():
        missing = sorted(cameras[_rig(photos)] - set(photos))
        if missing:
            gaps.append(RigGap(frame, tuple(sorted(photos)), tuple(missing)))
    return gaps


def describe_gaps(gaps: Sequence[RigGap], num_frames: int) -> str:
    """One sentence on the frames that are not whole; "" where all are."""
    if not gaps:
        return ""
    first = gaps[0]
    return (
        f"{len(gaps)} of {num_frames} frames of the rig are not whole; the first, {first.frame}, has no photo of"
        f" {', '.join(first.missing)}"
    )


def _split(path: PurePosixPath, depth: int) -> tuple[str, str]:
    """Frame and camera of a name."""
    camera = PurePosixPath(*path.parts[: depth + 1])
    return str(PurePosixPath(*path.parts[:depth], *path.parts[depth + 1 : -1], _stem(path.name))), str(camera)


def _stem(name: str) -> str:
    """Without the suffix, and without the one that a working copy got: a.heic.jpg → a."""
    path = PurePosixPath(name)
    inner = PurePosixPath(path.stem)
    return inner.stem if path.suffix == ".jpg" and inner.suffix.lower() in IMAGE_SUFFIXES else path.stem


def _num_partnered(paths: Sequence[PurePosixPath], depth: int) -> int:
    """How many photos another camera has a partner for."""
    cameras: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        if len(path.parts) > depth + 1:
            frame, camera = _split(path, depth)
            cameras[frame].add(camera)
    return sum(len(there) for there in cameras.values() if len(there) > 1)


def _rig(photos: Mapping[str, str]) -> str:
    """What stands before the camera's folder."""
    return str(PurePosixPath(next(iter(photos))).parent)


def _what_there_is(frames: Mapping[str, Mapping[str, str]]) -> str:
    cameras = sorted({camera for photos in frames.values() for camera in photos})
    if len(cameras) < 2:
        return f"photos in {len(cameras)} folder{'s' if len(cameras) != 1 else ''}"
    return f"folders without a common name, such as {cameras[0]} and {cameras[1]}"
