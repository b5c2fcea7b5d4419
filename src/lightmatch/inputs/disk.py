"""Estimate of the disk space that a run needs, checked before it begins."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from lightmatch.errors import LightmatchError, ReconstructionError
from lightmatch.images import MAX_PIXELS, open_photo, orientation_of
from lightmatch.inputs.share import expected_frames
from lightmatch.inputs.values import PhotoInput, VideoInput
from lightmatch.types import FeatureKind
from lightmatch.video import read_facts

_logger = logging.getLogger(__name__)

# Measured on six sets of photos of buildings and statues: 0.23 to 0.46 at quality 95 without chroma subsampling.
JPEG_BYTES_PER_PIXEL = 0.6
# Matches of a pair, of max_keypoints, on average over all pairs that were tried: 4 to 52 % on six sets.
MATCHED_SHARE = 0.3
_BYTES_PER_MATCH = 2 * 8 + 20  # as found and as verified in COLMAP's database; indices and score in the store
# COLMAP's models hold all keypoints of a registered photo. Points and tracks included, measured on six sets: 27 to 37
# bytes a keypoint in binary, which is written twice (sparse, splat/sparse), 45 to 58 as text. The rest is for clouds.
_MODEL_BYTES_PER_KEYPOINT = 170
_COPIED = {"JPEG", "PNG"}  # Pillow's names of the formats that working copies keep
_DEPTH_MAP_BYTES = 4 * 800 * 800  # at most: float32 at the size that `densify` works at
_TIGHT = 1.5  # times the estimate: with less free space there is a warning


@dataclass(frozen=True)
class PictureSize:
    """One picture to work on."""

    num_pixels: int
    copy_bytes: int  # of its working copy

    @classmethod
    def encoded(cls, size: tuple[int, int]) -> Self:
        """A picture (width, height) px that is written as JPEG, as a video's frame is."""
        num_pixels = size[0] * size[1]
        return cls(num_pixels, round(num_pixels * JPEG_BYTES_PER_PIXEL))


@dataclass(frozen=True)
class DiskEstimate:
    """Bytes that a run will write, by purpose."""

    copies: int
    features: int
    matches: int
    models: int
    splat: int  # undistorted photos, and their depth maps

    @property
    def total(self) -> int:
        """All of them, in bytes."""
        return sum(getattr(self, part.name) for part in fields(self))


def picture_size(photo: PhotoInput) -> PictureSize:
    """Size of a photo from its header; 0 where it cannot be read, since it will be left out."""
    try:
        with open_photo(photo.path, MAX_PIXELS) as picture:
            encoded = PictureSize.encoded(picture.size)
            copied = picture.format in _COPIED and orientation_of(picture) == 1
            return PictureSize(encoded.num_pixels, photo.path.stat().st_size) if copied else encoded
    except (LightmatchError, OSError):
        return PictureSize(0, 0)


def frame_sizes(video: VideoInput) -> list[PictureSize]:
    """Sizes of the frames that are expected of a video; none where it cannot be read, since it will be left out."""
    try:
        facts = read_facts(video.path)
    except (LightmatchError, OSError):
        return []
    num_frames = expected_frames(video)
    if video.max_frames is not None:
        num_frames = min(num_frames, video.max_frames)
    return [PictureSize.encoded((facts.width, facts.height))] * num_frames


def bytes_per_keypoint(kind: FeatureKind, bytes_per_number: int = 4) -> int:
    """Bytes of one keypoint in the store and in COLMAP's database.

    bytes_per_number: 4, or 2 where the store holds descriptors in half precision.
    """
    numbers = 3 + (2 if kind.has_scale_orientation else 0)  # x, y, score; scale and orientation
    return 4 * numbers + bytes_per_number * kind.descriptor_dim + 2 * 4


def estimate_disk(
    pictures: Sequence[PictureSize],
    *,
    num_pairs: int,
    max_keypoints: int,
    keypoint_bytes: int,
    matched_share: float = MATCHED_SHARE,
    splat: bool = True,
    depth_maps: bool = False,
) -> DiskEstimate:
    """The bytes a run will write.

    pictures: photos and frames, with `picture_size` and `frame_sizes`. num_pairs: pairs that will be matched.
    max_keypoints: of a picture. keypoint_bytes: with `bytes_per_keypoint`. matched_share: expected matches of a pair,
    as a share of max_keypoints. splat: whether undistorted copies are written too. depth_maps: whether theirs are.

    Meant to be too high rather than too low: every picture is taken to have all its keypoints.
    """
    num_keypoints = sum(1 for picture in pictures if picture.num_pixels) * max_keypoints
    undistorted = sum(round(picture.num_pixels * JPEG_BYTES_PER_PIXEL) for picture in pictures)
    depths = sum(min(4 * picture.num_pixels, _DEPTH_MAP_BYTES) for picture in pictures)
    return DiskEstimate(
        copies=sum(picture.copy_bytes for picture in pictures),
        features=num_keypoints * keypoint_bytes,
        matches=round(num_pairs * max_keypoints * matched_share) * _BYTES_PER_MATCH,
        models=num_keypoints * _MODEL_BYTES_PER_KEYPOINT,
        splat=(undistorted if splat else 0) + (depths if depth_maps else 0),
    )


def check_disk(estimate: DiskEstimate, output: Path, *, written: int = 0, free: int | None = None) -> None:
    """Raise where the disk has too little space for a run; warn where there is little to spare.

    written: bytes that an earlier, unfinished run of the same output wrote already. free: bytes; by default what is
    free to this user where `output` will lie.
    Raises ReconstructionError where less is free than the estimate.
    """
    if free is None:
        free = free_bytes(output)
    needed = max(0, estimate.total - written)
    if free < needed:
        raise ReconstructionError(
            f"{output}: expected about {readable_bytes(needed)} free on its disk ({_parts(estimate)}),"
            f" found {readable_bytes(free)}; make room, choose another disk, or use fewer photos (--max-images)"
        )
    if free < _TIGHT * needed:
        _logger.warning(
            "%s: about %s will be written (%s), %s are free: it may get tight",
            output,
            readable_bytes(needed),
            _parts(estimate),
            readable_bytes(free),
        )


def free_bytes(path: Path) -> int:
    """Bytes free to this user on the disk that `path` lies, or would lie, on."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def readable_bytes(number: int) -> str:
    """1234567 → "1.2 MB"."""
    size = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _parts(estimate: DiskEstimate) -> str:
    named = {part.name: getattr(estimate, part.name) for part in fields(estimate)}
    return ", ".join(f"{name} {readable_bytes(number)}" for name, number in named.items() if number)
