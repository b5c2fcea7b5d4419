"""Live photos: the short films that phones save beside a photo, which are not videos to reconstruct."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lightmatch.video.decoding import open_container

LONGEST_S = 5.0
"""Live photos are 1.5 s before and after the shot; other phones' motion photos up to 3 s."""

_SUFFIXES = (".mov", ".mp4")


def live_photo_films(videos: Iterable[Path], photos: Iterable[Path]) -> dict[Path, Path]:
    """For each short film of the same folder and stem as a photo, in any case: that photo.

    Films of unknown length are not among them.
    """
    by_stem: dict[tuple[Path, str], Path] = {}
    for photo in photos:
        by_stem.setdefault((photo.parent, photo.stem.casefold()), photo)
    films: dict[Path, Path] = {}
    for video in videos:
        photo = by_stem.get((video.parent, video.stem.casefold()))
        if photo is not None and video.suffix.lower() in _SUFFIXES:
            seconds = duration_s(video)
            if seconds is not None and seconds <= LONGEST_S:
                films[video] = photo
    return films


def duration_s(path: Path) -> float | None:
    """Length of a film in seconds by its container; None where it is unreadable or has no length."""
    import av
    from av.error import FFmpegError

    try:
        with open_container(path) as container:
            return container.duration / av.time_base if container.duration else None
    except (FFmpegError, OSError):
        return None
