"""What ends a run with a reason, and what to do about it: a full disk, too few photos, a camera that only rotated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.inputs import (
    DiskEstimate,
    Inputs,
    PictureSize,
    bytes_per_keypoint,
    check_disk,
    describe_gaps,
    estimate_disk,
    frame_sizes,
    picture_size,
    readable_bytes,
    rig_frames,
    rig_gaps,
    too_few,
)
from lightmatch.pipelines.forecast import readable_time
from lightmatch.pipelines.reconstruct import first_pass
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.costs import expected_seconds
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.pairs import expected_pairs
from lightmatch.pipelines.reconstruct.pictures import Gathered
from lightmatch.reconstruction import PureRotationError
from lightmatch.runtime import codec
from lightmatch.runtime.files import is_disk_full
from lightmatch.types import FeatureKind

_WORTH_SAYING_S = 60.0


@contextmanager
def explained_when_full(output: Path) -> Generator[None]:
    """A full disk ends the run with what to do; what is whole by then is kept."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise ReconstructionError(
                f"{output}: its disk is full; make room and start the same command again, it goes on from here"
            ) from error
        raise


@contextmanager
def orientations_kept(path: Path) -> Generator[None]:
    """Where a camera only rotated, what can be had is written: focal lengths and rotations."""
    path.unlink(missing_ok=True)
    try:
        yield
    except PureRotationError as error:
        codec.write(path, tuple(camera.orientations() for camera in error.turned), indent=1)
        raise


def check_disk_holds(run: Run, inputs: Inputs, kind: FeatureKind) -> None:
    """Raise ReconstructionError where the disk cannot hold the results. kind: of the features."""
    config, output = run.config, run.layout.folder
    sizes = [picture_size(photo) for photo in inputs.photos]
    sizes += [size for video in inputs.videos for size in frame_sizes(video)]
    num_pairs = expected_pairs(len(sizes), config.pairs)
    estimate = _disk(config, sizes, num_pairs, config.extracted_keypoints, kind)
    written = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    check_disk(estimate, output, written=written)


def announce_costs(
    run: Run, pictures: Sequence[Picture], num_pairs: int, kind: FeatureKind, *, few_first: bool = False
) -> None:
    """Tell the run's progress how long it will take, and say it with the bytes on disk where it takes minutes.

    kind: of the features. few_first: as for `match_pairs`.
    """
    config = run.config
    num_keypoints = sum(picture.num_keypoints for picture in pictures) / len(pictures)
    matched = min(num_keypoints, config.max_keypoints)
    share = first_pass.expected_share(len(pictures), num_pairs) if few_first else 1.0
    sizes = [picture.image_size for picture in pictures]
    run.progress.forecast.expect(expected_seconds(sizes, num_pairs, matched, share))
    left = run.progress.forecast.seconds_left()
    if left is not None and left > _WORTH_SAYING_S:
        files = [_size_of(picture, run.layout.images / picture.name) for picture in pictures]
        disk = _disk(config, files, num_pairs, num_keypoints, kind)
        run.progress.announce(
            f"{len(pictures)} pictures, {num_pairs} pairs: {readable_time(left)}, {readable_bytes(disk.total)} on disk"
        )


def _size_of(picture: Picture, copy: Path) -> PictureSize:
    width, height = picture.image_size
    return PictureSize(width * height, copy.stat().st_size)


def _disk(
    config: ReconstructConfig, sizes: Sequence[PictureSize], num_pairs: int, num_keypoints: float, kind: FeatureKind
) -> DiskEstimate:
    return estimate_disk(
        sizes,
        num_pairs=num_pairs,
        max_keypoints=round(num_keypoints),
        keypoint_bytes=bytes_per_keypoint(kind),
        splat=config.splat,
        depth_maps=config.depth_maps,
    )


def with_rig_gaps(gathered: Gathered) -> Gathered:
    """With a warning where moments lack a photo of a camera. Raises InvalidValueError where the photos are no rig's."""
    photos = [picture.name for picture in gathered.pictures if picture.view_of is None]
    if not photos:  # panoramas alone, each a rig in itself
        return gathered
    frames = rig_frames(photos)
    size_of = {picture.name: picture.image_size for picture in gathered.pictures}
    sizes: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for moment in frames.values():
        for camera, name in moment.items():
            sizes[camera].add(size_of[name])
    for camera, found in sizes.items():
        if len(found) > 1:
            listed = ", ".join(f"{width} x {height}" for width, height in sorted(found))
            raise InvalidValueError(f"rig: expected photos of one size in {camera}, got {listed} px; leave some out")
    said = describe_gaps(rig_gaps(frames), len(frames))
    return replace(gathered, warnings=(*gathered.warnings, *filter(None, [said])))


def check_enough(paths: Sequence[Path], inputs: Inputs, gathered: Gathered) -> None:
    """Raise ReconstructionError where fewer than two pictures can be used. paths: as the user named them."""
    if len(gathered.pictures) < 2:
        raise ReconstructionError(_too_few(paths, inputs, gathered))


def _too_few(paths: Sequence[Path], inputs: Inputs, gathered: Gathered) -> str:
    if len(gathered.pictures) == len(inputs.videos) == 1 and not inputs.photos:
        shown = inputs.videos[0].shown
        return (
            f"{shown}: expected a video in which the camera moves, all of this one shows one view; walk while filming"
        )
    mirrored = [left for left in gathered.left_out if left.kind == "mirrored"]
    if mirrored:
        photo = mirrored[0]
        return f"{photo.name}: expected a photo as it was taken, got one that is {photo.reason}; {photo.advice}"
    unreadable = [left.problem for left in gathered.left_out if left.kind == "unreadable"]
    twice = sum(left.kind == "duplicate" for left in gathered.left_out) + len(inputs.duplicates)
    return too_few(paths, len(gathered.pictures), unreadable, twice)
