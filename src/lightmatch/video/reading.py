"""Any video → upright 8-bit RGB frames with their times.

Decoded by FFmpeg (PyAV's wheel brings it), one frame at a time: memory does not grow with the length of the video.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.images import resize_to_fit
from lightmatch.types import Image
from lightmatch.video.colour import Transfer, tone_map
from lightmatch.video.decoding import Decoded, VideoFile, open_file

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".mpg", ".mpeg", ".3gp", ".wmv", ".flv", ".ogv"}
)

_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}  # ITU-T H.273, table 3
_BT2020 = 9  # H.273, tables 2 and 4
_UNSPECIFIED = 2
_KNOWN_MATRICES = frozenset({0, 1, 4, 5, 6, 7, 9})  # H.273, table 4: those that swscale converts from


@dataclass(frozen=True)
class VideoFacts:
    """Metadata of a video, by its container and its first frame."""

    width: int  # px, upright and with square pixels
    height: int
    duration_s: float | None  # from the first frame to the end; None where unknown
    num_frames: int | None  # by the container; what can be decoded may differ
    rate: float  # frames per second on average
    codec: str
    pixel_format: str
    transfer: Transfer
    rotation_deg: int  # clockwise turn from the stored to the upright picture: 0, 90, 180 or 270
    mirrored: bool  # whether the upright picture is the mirror image of the stored one
    interlaced: bool  # frames are made whole by FFmpeg's bwdif filter


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame, upright."""

    index: int  # 0, 1, … over the sound frames, in the order of presentation
    time_s: float  # presentation time stamp: uneven where the frame rate varies, and not always 0 at first
    pixels: np.ndarray  # (height, width, 3) uint8, RGB


@dataclass(frozen=True)
class _Orientation:
    """From stored to upright: transpose, then mirror left–right, then upside down."""

    transpose: bool = False
    mirror: bool = False
    flip: bool = False

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        turned = pixels.swapaxes(0, 1) if self.transpose else pixels
        turned = turned[:, ::-1] if self.mirror else turned
        return np.ascontiguousarray(turned[::-1] if self.flip else turned)

    @property
    def mirrored(self) -> bool:
        return self.transpose ^ self.mirror ^ self.flip

    @property
    def rotation_deg(self) -> int:
        """The clockwise rotation, after mirroring left–right where mirrored."""
        if self.transpose:
            return 270 if self.flip != self.mirrored else 90
        return 180 if self.flip else 0


class Video:
    """An open video: its facts, its frames once from the beginning, and its damage when they have been read."""

    def __init__(self, file: VideoFile) -> None:
        self._file = file
        frames = file.decode()
        first = next(frames, None)
        if first is None:
            raise ImageReadError(
                f"cannot read {file.path}: expected a video with at least one whole frame, got none;"
                " it is damaged or was cut off: copy it again"
            )
        self._frames = chain([first], frames)
        picture = first.picture
        self._turn = _orientation_of(picture)
        self._stretch = _stretch_of(file)
        self._transfer: Transfer = _TRANSFERS.get(int(picture.color_trc), "sdr")
        self._bt2020 = int(picture.color_primaries) in (_BT2020, _UNSPECIFIED)
        self._stored_size = picture.width, picture.height
        width, height = self._square_size
        if self._turn.transpose:
            width, height = height, width
        self.facts = VideoFacts(
            width=width,
            height=height,
            duration_s=None if file.end_s is None else max(0.0, file.end_s - first.time_s),
            num_frames=file.stream.frames or None,
            rate=float(file.rate),
            codec=file.stream.codec_context.name,
            pixel_format=picture.format.name,
            transfer=self._transfer,
            rotation_deg=self._turn.rotation_deg,
            mirrored=self._turn.mirrored,
            interlaced=first.interlaced,
        )

    @property
    def damage(self) -> tuple[str, ...]:
        """A sentence on each damage met so far: which frames are missing."""
        return tuple(self._file.damage)

    @property
    def _square_size(self) -> tuple[int, int]:
        width, height = self._stored_size
        # Only ever larger, so that no detail is lost.
        return round(width * max(1.0, self._stretch)), round(height * max(1.0, 1 / self._stretch))

    def decode(self) -> Iterator[Decoded]:
        """The frames as stored, for `grey` and `upright`; what is not converted costs only its decoding."""
        return self._frames

    def upright(self, frame: Decoded) -> Frame:
        """The upright frame."""
        from av.video.reformatter import Colorspace, Interpolation

        picture = frame.picture
        # Exact on every processor; chroma interpolated instead of repeated.
        careful = (
            Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
        )
        width, height = self._stored_size
        matrix = None
        if int(picture.colorspace) not in _KNOWN_MATRICES:
            # Untagged video is BT.709 from HD upwards, else BT.601: what players assume.
            matrix = Colorspace.ITU709 if width >= 1280 or height > 576 else Colorspace.ITU601
            matrix = Colorspace.BT2020 if self._transfer != "sdr" else matrix
        pixels = picture.reformat(
            width,
            height,
            "rgb24" if self._transfer == "sdr" else "rgb48le",
            src_colorspace=matrix,
            interpolation=careful,
            threads=1,
        ).to_ndarray()
        if self._transfer != "sdr":
            pixels = tone_map(pixels, self._transfer, self._bt2020)
        if self._square_size != self._stored_size:
            pixels = cv2.resize(pixels, self._square_size, interpolation=cv2.INTER_CUBIC)
        return Frame(frame.index, frame.time_s, self._turn.apply(pixels))

    def grey(self, frame: Decoded, long_side: int) -> np.ndarray:
        """The luma as stored, not rotated, reduced to `long_side` px: (h, w) uint8.

        HDR luma is left as coded: its scale is even to the eye, which is what tracking and sharpness want.
        """
        picture = frame.picture
        if (picture.width, picture.height) != self._stored_size:
            picture = picture.reformat(*self._stored_size, threads=1)
        luma = reduce_to(_luma(picture), long_side)
        if luma.dtype == np.uint8:
            return luma
        return np.right_shift(luma, picture.format.components[0].bits - 8).astype(np.uint8)


def is_video_file(path: Path) -> bool:
    """Whether the name of `path` is a video's: a known suffix in any case, and not hidden (nor macOS '._')."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


@contextmanager
def open_video(path: str | Path) -> Generator[Video]:
    """The video, its facts known, its frames not yet read.

    Raises ImageReadError where the file is missing, no video, or has no whole frame.
    """
    with open_file(Path(path)) as file:
        yield Video(file)


def read_facts(path: str | Path) -> VideoFacts:
    """Metadata of the video. Raises ImageReadError as `open_video` does."""
    with open_video(path) as video:
        return video.facts


def read_frames(
    path: str | Path, indices: Iterable[int] | None = None, *, long_side: int | None = None
) -> Iterator[Frame]:
    """Frames of a video, in the order of presentation, one at a time.

    indices: which ones, all by default; those beyond the end are not given. long_side: px they are shrunk to fit.
    Frames from damage up to the next key frame are left out; `open_video` reports them.
    Raises ImageReadError as `open_video` does, at the first frame; InvalidValueError where long_side < 1.
    """
    if long_side is not None and long_side < 1:
        raise InvalidValueError(f"long_side: expected at least 1 px, got {long_side}")
    wanted = None if indices is None else set(indices)
    return _frames(Path(path), wanted, long_side)


def _frames(path: Path, wanted: set[int] | None, long_side: int | None) -> Iterator[Frame]:
    if wanted is not None and not wanted:
        return
    last = None if wanted is None else max(wanted)
    with open_video(path) as video:
        for decoded in video.decode():
            if wanted is None or decoded.index in wanted:
                frame = video.upright(decoded)
                if long_side is not None:
                    smaller = resize_to_fit(Image(frame.pixels), long_side)
                    frame = Frame(frame.index, frame.time_s, smaller.pixels)
                yield frame
            if last is not None and decoded.index >= last:
                return


def reduce_to(grey: np.ndarray, long_side: int) -> np.ndarray:
    """`grey` (h, w) with its longer side at `long_side` px at most, each pixel the mean of what it covers.

    One that fits is returned itself.
    """
    scale = long_side / max(grey.shape)
    if scale >= 1:
        return grey
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA))


def _luma(picture: VideoFrame) -> np.ndarray:
    """(h, w) uint8 or uint16: the first plane where it is the luma, without a copy, else converted."""
    name = picture.format.name
    if name.startswith(("yuv", "nv")) and picture.format.is_planar and not name.endswith("be"):
        plane = picture.planes[0]
        kind = np.uint8 if picture.format.components[0].bits == 8 else np.dtype("<u2")
        rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        return rows[:, : plane.width]
    return picture.reformat(format="gray", threads=1).to_ndarray()


def _orientation_of(picture: VideoFrame) -> _Orientation:
    """How the display matrix of the picture lays it out: ISO/IEC 14496-12, section 8.3.2 (the matrix of a track).

    The matrix (a b u; c d v; x y w) takes the stored point (p, q) to (a p + c q + x, b p + d q + y). Turns that are no
    multiple of 90° are rounded to one.
    """
    from av.sidedata.sidedata import Type

    side_data: Any = picture.side_data
    stored = side_data.get(Type.DISPLAYMATRIX)
    if stored is None:
        return _Orientation()
    a, b, _, c, d = np.frombuffer(bytes(stored), np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _Orientation(False, a < 0, d < 0)
    return _Orientation(True, c < 0, b < 0)


def _stretch_of(file: VideoFile) -> float:
    """Aspect ratio (width by height) of a stored pixel; 1 where unknown or implausible."""
    ratio = float(file.stream.sample_aspect_ratio or 1)
    return ratio if 0.2 <= ratio <= 5 else 1.0
