"""Which camera took the frames: what a file says, what the map was made with, or what some of the frames say."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.pipelines.track.earlier_map import model_of
from lightmatch.reconstruction import read_camera_priors, read_model
from lightmatch.tracking import VIRTUAL_BASELINE, TrackedCamera
from lightmatch.tracking.live_camera import LiveCamera
from lightmatch.tracking.sequences import FrameSequence
from lightmatch.video.choosing import choose
from lightmatch.video.measuring import SHARPNESS_SIDE_PX, FrameMeasure, measure_frames
from lightmatch.video.reading import Frame, reduce_to
from lightmatch.video.writing import frame_name, write_jpeg

if TYPE_CHECKING:
    from pycolmap import Camera

_FRAMES = 20  # to estimate the intrinsics from
_FEWEST = 6  # of them that must be registered
_READ = 1800  # frames that are looked at for them, at most
_ADVICE = "name the intrinsics: --known"
_SAME_SHAPE = 0.01  # of the aspect ratio: sizes of one camera differ by less
_LOOK_EVERY = 60  # frames, whether they are enough


@dataclass(frozen=True, eq=False)
class FoundCamera:
    """A camera, and where its intrinsics come from."""

    camera: TrackedCamera
    source: str  # for people


def find_camera(
    known: Path | None,
    earlier: Path | None,
    baseline: float | None,
    sequence: FrameSequence | LiveCamera,
    device: str,
    progress: Progress,
) -> FoundCamera:
    """The camera of a sequence: of the file `known`, else of the run `earlier`, else estimated from its first frames.

    baseline: m, of a stereo pair. Raises InvalidValueError where a file says nothing of this camera,
    ReconstructionError where the frames do not say enough.
    """
    named = known if known is not None or earlier is None else model_of(earlier)
    if named is not None:
        camera, source = _named(named, sequence), str(named)
    elif isinstance(sequence, LiveCamera):
        raise InvalidValueError(
            f"{sequence.config.source}: expected the intrinsics of a live camera; name them with --known, or record a"
            " clip, track it without, and name its OUT/sparse/0"
        )
    else:
        camera, source = estimate_camera(sequence, device, progress), "the frames"
    beside = VIRTUAL_BASELINE if sequence.config.depth is not None else baseline
    return FoundCamera(TrackedCamera(camera, beside), source)


def _named(known: Path, sequence: FrameSequence | LiveCamera) -> Camera:
    priors = read_camera_priors(known)
    of_all = {one for each in priors.intrinsics.values() for one in each}  # a model names them photo by photo
    found = next(iter(of_all)) if len(of_all) == 1 else priors.intrinsics_of("frame", sequence.image_size)
    if found is None:
        raise InvalidValueError(
            f"{known}: expected the intrinsics of one camera, found {len(of_all)}; name a file with those of the"
            " frames: --known"
        )
    size, own = sequence.image_size, found.size or sequence.image_size
    if abs(own[0] * size[1] / (own[1] * size[0]) - 1) > _SAME_SHAPE:
        raise InvalidValueError(
            f"{known}: expected intrinsics of frames of {size[0]} x {size[1]} px, got those of {own[0]} x {own[1]} px,"
            " another shape; name a file with those of the frames: --known"
        )
    return found.camera(sequence.image_size)


def estimate_camera(sequence: FrameSequence, device: str, progress: Progress) -> Camera:
    """The intrinsics of a camera, from a reconstruction of the first frames that differ enough.

    Raises ReconstructionError where too few of them can be registered.
    """
    with progress.stage("intrinsics", 1) as step, tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch, "frames")
        photos.mkdir()
        count = _write_chosen(sequence, photos)
        if count < _FEWEST:
            raise ReconstructionError(
                f"{sequence.config.source}: expected at least {_FEWEST} frames to estimate the intrinsics from, found"
                f" {count} of {sequence.image_size[0]} x {sequence.image_size[1]} px; {_ADVICE}"
            )
        config = ReconstructConfig(
            cameras="folder", splat=False, guided_keypoints=0, panorama="no", mirrored="keep", seed=0, device=device
        )
        try:
            summary = reconstruct(photos, Path(scratch, "out"), config)
        except ReconstructionError as error:
            raise ReconstructionError(
                f"{sequence.config.source}: expected frames that determine the intrinsics, {count} of the"
                f" first cannot be reconstructed ({error}); {_ADVICE}"
            ) from error
        if summary.num_registered < _FEWEST:
            raise ReconstructionError(
                f"{sequence.config.source}: expected frames that determine the intrinsics, only"
                f" {summary.num_registered} of {count} could be registered; {_ADVICE}"
            )
        model = read_model(Path(scratch, "out", "sparse", "0"))
        step()
        return model.camera(model.image(model.reg_image_ids()[0]).camera_id)


def _write_chosen(sequence: FrameSequence, folder: Path) -> int:
    """Write the first frames that differ enough from each other; how many there are."""
    wanted = _chosen(sequence)
    for index, given in enumerate(sequence):
        if index in wanted and given.image is not None:
            write_jpeg(Frame(index, given.timestamp, given.image.pixels), folder / frame_name(index))
        if index >= max(wanted, default=0):
            break
    return len(wanted)


def _chosen(sequence: FrameSequence) -> set[int]:
    """Their indices: as `video.choosing` finds them, or, where these are few, evenly spaced."""
    measures: list[FrameMeasure] = []
    for measure in measure_frames(_greys(sequence)):
        measures.append(measure)
        if len(measures) % _LOOK_EVERY == 0 and len(chosen := choose(measures)) >= _FRAMES:
            return {frame.index for frame in chosen[:_FRAMES]}
    chosen = choose(measures) if measures else []
    if len(chosen) >= _FRAMES:
        return {frame.index for frame in chosen[:_FRAMES]}
    rows = np.linspace(0, len(measures) - 1, min(_FRAMES, len(measures))).round().astype(int)
    return {measures[row].index for row in rows}


def _greys(sequence: FrameSequence) -> Iterator[tuple[int, float, np.ndarray]]:
    for index, given in enumerate(sequence):
        if index == _READ:
            return
        if given.image is not None and given.image.size == sequence.image_size:
            grey = cv2.cvtColor(given.image.pixels, cv2.COLOR_RGB2GRAY)
            yield index, given.timestamp, reduce_to(grey, SHARPNESS_SIDE_PX)
