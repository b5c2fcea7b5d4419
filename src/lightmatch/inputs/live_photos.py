"""Live photos: the short films that phones save beside a photo, which are not videos to reconstruct."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lightmatch.errors import ImageReadError
from lightmatch.video.decoding import open_file

LONGEST_S = 5.0
"""Live photos are 1.5 s before and after the shot; other phones' motion photos up to 3 s."""

_SUFFIXES = (".mov", ".mp4")


def live_photo_films(videos: Iterable[Path], photos: Iterable[Path]) -> dict[Path, Path]:
    """For each short film of the same folder and stem as a photo, in any case: that photo.

    Films of unknown length, or that cannot be read, are not among them.
    """
    by_stem: dict[tuple[Path, str], Path] = {}
    for photo in photos:
        by_stem.setdefault((photo.parent, photo.stem.casefold()), photo)
    films: dict[Path, Path] = {}
    for video in videos:
        photo = by_stem.get((video.parent, video.stem.casefold()))
        if photo is not None and video.suffix.lower() in _SUFFIXES and _is_short(video):
            films[video] = photo
    return films


def duration_s(path: Path) -> float | None:
    """Length of a film in seconds by its container; None where unknown.

    Raises ImageReadError where it cannot be opened, as `open_file` does.
    """
    with open_file(path) as film:
        duration = film.container.duration
        return duration / 1_000_000 if duration else None


def _is_short(video: Path) -> bool:
    try:
        seconds = duration_s(video)
    except ImageReadError:
        return False
    return seconds is not None and seconds <= LONGEST_S
