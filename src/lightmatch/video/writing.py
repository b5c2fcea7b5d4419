"""The chosen frames as JPEG files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image as PilImage

from lightmatch.errors import ImageReadError
from lightmatch.runtime.files import replacing
from lightmatch.video.choosing import ChosenFrame
from lightmatch.video.reading import Frame, read_frames


def frame_name(index: int) -> str:
    """The file name of a frame, by its index: 000123.jpg."""
    return f"{index:06d}.jpg"


def write_frames(
    path: str | Path,
    folder: str | Path,
    chosen: Sequence[ChosenFrame],
    on_progress: Callable[[float], None] | None = None,
) -> list[tuple[str, float]]:
    """Write chosen frames of the video as `folder`/000123.jpg: JPEG of quality 95 without chroma subsampling, no EXIF.

    A file that is there already stays as it is, so a run that was stopped goes on where it was; each file is whole or
    absent. What is written depends on the video and the frame alone, to the bit: a folder belongs to one video.
    on_progress: called with the part that is done, 0…1. Returns (file, time_s) of each frame, in their order.
    Raises ImageReadError where the video cannot be read or lacks a chosen frame, OSError where `folder` cannot be
    written.
    """
    folder = Path(folder)
    missing = [frame.index for frame in chosen if not (folder / frame_name(frame.index)).is_file()]
    for done, frame in enumerate(read_frames(path, missing), start=1):
        with replacing(folder / frame_name(frame.index)) as partial:
            write_jpeg(frame, partial)
        if on_progress:
            on_progress(done / len(missing))
    lost = [index for index in missing if not (folder / frame_name(index)).is_file()]
    if lost:
        raise ImageReadError(
            f"cannot read {path}: expected the frames that were chosen, got none at {lost[0]} ({len(lost)} missing);"
            " the video has changed since: choose again"
        )
    return [(str(folder / frame_name(frame.index)), frame.time_s) for frame in chosen]


def write_jpeg(frame: Frame, path: Path) -> None:
    """Encode a frame: quality 95, no chroma subsampling."""
    PilImage.fromarray(frame.pixels).save(path, "JPEG", quality=95, subsampling="4:4:4")
