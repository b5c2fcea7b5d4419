"""`track`: a video or frames → poses frame by frame, a map, and files of both."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.pipelines.output import finish_output, prepare_output
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.track_report import TrackedSequence, write_track_report
from lightmatch.reconstruction import read_camera_priors
from lightmatch.sfm.trajectories import write_tum
from lightmatch.tracking import VIRTUAL_BASELINE, TrackedCamera, TrackedFrame, Tracker, TrackerConfig
from lightmatch.tracking.export import colmap_model
from lightmatch.tracking.pose import rigid
from lightmatch.tracking.sequences import Sequence, SequenceConfig, SequenceFrame
from lightmatch.video.reading import Frame
from lightmatch.video.writing import write_jpeg

TRAJECTORY, FRAMES, MODEL, IMAGES = "trajectory.txt", "frames.jsonl", "sparse", "images"
REPORT = "report.html"

_SAVED_EVERY_S = 20.0  # the map, while it grows


@dataclass(frozen=True)
class TrackConfig:
    """What to track, and with which camera."""

    sequence: SequenceConfig
    known: Path  # intrinsics: what `reconstruction.read_camera_priors` reads
    baseline: float | None = None  # m, of a rectified stereo pair
    tracker: TrackerConfig = field(default_factory=TrackerConfig)


@dataclass(frozen=True)
class TrackSummary:
    """What came of it."""

    num_frames: int
    num_tracked: int  # with a measured pose
    num_keyframes: int
    num_points: int
    num_loops: int  # that were closed
    seconds: float
    milliseconds_median: float  # of a frame
    milliseconds_95: float
    statuses: dict[str, int]  # frames by status


def track(
    config: TrackConfig,
    output: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    on_frame: Callable[[TrackedFrame], None] = lambda frame: None,
) -> TrackSummary:
    """Track all frames; write OUT/trajectory.txt (TUM), frames.jsonl, sparse/0, images of the keyframes, report.html.

    frames.jsonl has a line for each frame as soon as it is done; the map is saved every 20 s, so that a run that is
    killed leaves both. on_frame: called after each frame. Raises InvalidValueError for wrong input,
    ReconstructionError where no frame could be tracked.
    """
    sequence = Sequence(config.sequence)
    tracker = Tracker(_camera(config, sequence), config.tracker)
    prepare_output(output, (TRAJECTORY, FRAMES, MODEL, IMAGES, REPORT), overwrite)
    frames: list[TrackedFrame] = []
    frame_names: list[str] = []
    names: list[str] = []  # of keyframes' images
    begun = saved = time.perf_counter()
    progress = progress or Progress()
    with (
        tracker,
        progress.stage("track", sequence.num_frames) as step,
        (output / FRAMES).open("w", encoding="utf-8") as log,
    ):
        recent: list[SequenceFrame] = []
        try:
            for given in sequence:
                frame = _step(tracker, given)
                frames.append(frame)
                frame_names.append(given.name)
                recent.append(given)
                log.write(json.dumps(_line(given, frame)) + "\n")
                log.flush()
                _write_keyframes(tracker, recent, names, output / IMAGES)
                if tracker.map.keyframes and time.perf_counter() - saved > _SAVED_EVERY_S and not tracker.is_mapping:
                    _save(tracker, names, output)
                    saved = time.perf_counter()
                on_frame(frame)
                step()
        finally:
            tracker.close()
            _write_keyframes(tracker, recent, names, output / IMAGES)
            if tracker.map.keyframes:
                _save(tracker, names, output)
            write_tum([(when, rigid(pose)) for when, pose in tracker.trajectory()], output / TRAJECTORY)
    tracked = sum(frame.status == "tracking" for frame in frames)
    if not tracked:
        reason = frames[-1].reason if frames else "there are no frames"
        raise ReconstructionError(f"{config.sequence.source}: no frame could be tracked; the last: {reason}")
    write_track_report(output, TrackedSequence.of(tracker, frame_names, frames, names))
    finish_output(output)
    milliseconds = 1000 * np.array([frame.seconds for frame in frames])
    statuses = [frame.status for frame in frames]
    return TrackSummary(
        len(frames),
        tracked,
        len(tracker.map.keyframes),
        len(tracker.map),
        len(tracker.loops),
        round(time.perf_counter() - begun, 2),
        round(float(np.median(milliseconds)), 1),
        round(float(np.percentile(milliseconds, 95)), 1),
        {status: statuses.count(status) for status in sorted(set(statuses))},
    )


def _step(tracker: Tracker, given: SequenceFrame) -> TrackedFrame:
    if given.image is None:
        return tracker.skip(given.timestamp, given.problem)
    return tracker.step(given.image, given.timestamp, depth=given.depth, right=given.right)


def _camera(config: TrackConfig, sequence: Sequence) -> TrackedCamera:
    if config.sequence.right is not None and config.baseline is None:
        raise InvalidValueError("--right: expected the baseline of the pair in metres too; name it with --baseline")
    if config.baseline is not None and config.sequence.right is None:
        raise InvalidValueError("--baseline: expected the folder of the right images too; name it with --right")
    priors = read_camera_priors(config.known)
    of_all = {one for each in priors.intrinsics.values() for one in each}  # a model names them photo by photo
    known = next(iter(of_all)) if len(of_all) == 1 else priors.intrinsics_of("frame", sequence.image_size)
    if known is None:
        raise InvalidValueError(
            f"{config.known}: expected the intrinsics of one camera, found {len(of_all)}; name a file with those of the"
            " frames"
        )
    baseline = VIRTUAL_BASELINE if config.sequence.depth is not None else config.baseline
    return TrackedCamera(known.camera(sequence.image_size), baseline)


def _line(given: SequenceFrame, frame: TrackedFrame) -> dict[str, Any]:
    """Of frames.jsonl."""
    pose, covariance = frame.cam_from_world, frame.covariance
    return {
        "name": given.name,
        "timestamp": frame.timestamp,
        "status": frame.status,
        "cam_from_world": None if pose is None else pose.round(9).tolist(),
        "covariance": None if covariance is None else covariance.tolist(),
        "num_tracked": frame.num_tracked,
        "is_keyframe": frame.is_keyframe,
        "reason": frame.reason,
        "milliseconds": round(1000 * frame.seconds, 1),
    }


def _write_keyframes(tracker: Tracker, recent: list[SequenceFrame], names: list[str], folder: Path) -> None:
    """Write the images of keyframes that are new in the map, and let go of frames that cannot become one."""
    keyframes = tracker.map.keyframes
    for keyframe in keyframes[len(names) :]:
        image = next(given.image for given in recent if given.timestamp == keyframe.timestamp)
        assert image is not None
        names.append(f"{len(names):06d}.jpg")
        folder.mkdir(parents=True, exist_ok=True)
        write_jpeg(Frame(len(names) - 1, keyframe.timestamp, image.pixels), folder / names[-1])
    oldest = tracker.oldest_needed
    while recent and oldest is not None and recent[0].timestamp < oldest:
        recent.pop(0)


def _save(tracker: Tracker, names: list[str], output: Path) -> None:
    folder = output / MODEL / "0"
    folder.mkdir(parents=True, exist_ok=True)
    model = colmap_model(tracker.map, tracker.camera, names[: len(tracker.map.keyframes)])
    model.extract_colors_for_all_images(output / IMAGES)
    model.write_binary(folder)
