"""The seconds of film that phones save beside a photo: no videos of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

LONGEST_S = 5.0
"""Live photos are 1.5 s before and after the shot; other phones' motion photos up to 3 s."""

_SUFFIXES = (".mov", ".mp4")
_MOST_BOXES = 1000  # a real file has a handful at its top


def live_photo_films(videos: Iterable[Path], photos: Iterable[Path]) -> dict[Path, Path]:
    """For each short film of the same folder and stem as a photo, in any case: that photo.

    Films whose length cannot be told are none of these.
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
    """The length of a QuickTime or MP4 file by its movie header, in seconds; None where there is none.

    Read without a decoder, from a few hundred bytes: folders hold thousands of such films.
    Source: ISO/IEC 14496-12, sections 4.2 (box), 8.2.1 (moov) and 8.2.2 (mvhd).
    """
    try:
        with path.open("rb") as file:
            end = path.stat().st_size
            moov = _find_box(file, b"moov", 0, end)
            mvhd = moov and _find_box(file, b"mvhd", *moov)
            if not mvhd:
                return None
            file.seek(mvhd[0])
            version = file.read(4)[0]
            # creation and modification time, time scale in units a second, duration in these units
            layout = ">QQIQ" if version == 1 else ">III I"
            _, _, scale, duration = struct.unpack(layout, file.read(struct.calcsize(layout)))
    except (OSError, struct.error, IndexError):
        return None
    unknown = (1 << (64 if version == 1 else 32)) - 1
    return duration / scale if scale and duration not in (0, unknown) else None


def _find_box(file: BinaryIO, kind: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Where the content of the first box of this kind begins and ends, between two places in the file."""
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            break
        file.seek(start)
        size, found = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            size, header = struct.unpack(">Q", file.read(8))[0], 16
        elif size == 0:
            size = end - start  # to the end
        if found == kind:
            return start + header, min(end, start + size)
        if size < header:
            break  # damaged
        start += size
    return None
