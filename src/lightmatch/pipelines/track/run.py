"""`track`: a video or frames → poses frame by frame, a map, and files of both."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lightmatch.colmap.models import rigid
from lightmatch.errors import InvalidValueError, ReconstructionError, import_optional
from lightmatch.pipelines.output import check_output, finish_output, is_output, prepare_output
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.track.camera import find_camera
from lightmatch.pipelines.track.earlier_map import EarlierMap, read_map
from lightmatch.pipelines.track.keyframes import IMAGES, KEYFRAMES, MAP, MODEL, KeyframeFiles, MapFacts
from lightmatch.pipelines.track.report import TrackedSequence, write_track_report
from lightmatch.sfm.trajectories import write_kitti, write_tum
from lightmatch.tracking import TrackedCamera, TrackedFrame, Tracker, TrackerConfig
from lightmatch.tracking.live_camera import LiveCamera, open_sequence
from lightmatch.tracking.sequences import FrameSequence, SequenceConfig, SequenceFrame
from lightmatch.tracking.view import SUFFIX, TrackView

TRAJECTORY, TRAJECTORY_KITTI = "trajectory.txt", "trajectory_kitti.txt"
FRAMES, REPORT = "frames.jsonl", "report.html"

_SAVED_EVERY_S = 20.0  # the map, while it grows


@dataclass(frozen=True)
class TrackConfig:
    """What to track, and with which camera."""

    sequence: SequenceConfig
    known: Path | None = None  # intrinsics: what `reconstruction.read_camera_priors` reads; None: estimated
    baseline: float | None = None  # m, of a rectified stereo pair
    map: Path | None = None  # an output of `track` or `reconstruct` to go on with; its features and matcher are taken
    view: bool = False  # whether Rerun's viewer shows it while it runs
    record: Path | None = None  # file for Rerun's viewer
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    def __post_init__(self) -> None:
        if self.sequence.right is not None and self.baseline is None:
            raise InvalidValueError("--right: expected the baseline of the pair in metres too; name it with --baseline")
        if self.baseline is not None and self.sequence.right is None:
            raise InvalidValueError("--baseline: expected the folder of the right images too; name it with --right")
        if not self.tracker.mapping and self.map is None:
            raise InvalidValueError("--no-mapping: expected an earlier map too; name it with --map")
        if self.record is not None and self.record.suffix != SUFFIX:
            raise InvalidValueError(f"{self.record}: expected a file name that ends in {SUFFIX}")
        if self.view or self.record is not None:
            import_optional("rerun", "view")


@dataclass(frozen=True)
class TrackSummary:
    """What came of it."""

    num_frames: int
    num_tracked: int  # with a measured pose
    num_keyframes: int
    num_points: int
    num_loops: int  # that were closed
    focal_px: float
    focal_from: str  # where it comes from: a file, a map, or the frames
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
    check_output(output, overwrite)
    if config.map is not None and config.map.resolve() == output.resolve():
        raise InvalidValueError(f"{output}: expected another folder than that of --map, whose map is read; name one")
    sequence, progress = open_sequence(config.sequence, is_output), progress or Progress()
    found = find_camera(config.known, config.map, config.baseline, sequence, config.tracker.device, progress)
    earlier = _earlier(config, found.camera)
    settings, camera = config.tracker, found.camera
    if earlier is not None:
        settings = replace(settings, features=earlier.facts.features, matcher=earlier.facts.matcher)
        camera = replace(camera, shift_px=earlier.facts.shift_px)
    tracker = Tracker(camera, settings, None if earlier is None else earlier.map)
    is_metric = tracker.camera.baseline is not None or (earlier is not None and earlier.facts.is_metric)
    prepare_output(output, (TRAJECTORY, TRAJECTORY_KITTI, FRAMES, MODEL, IMAGES, KEYFRAMES, MAP, REPORT), overwrite)
    keyframes = KeyframeFiles(output, tracker, MapFacts(settings.features, settings.matcher, is_metric), earlier)
    frames: list[TrackedFrame] = []
    frame_names: list[str] = []
    begun = time.perf_counter()
    with ExitStack() as at_end:  # whatever ends the run, the last of these first
        log = at_end.enter_context((output / FRAMES).open("w", encoding="utf-8"))
        step = at_end.enter_context(progress.stage("track", sequence.num_frames))
        at_end.callback(_save, output, tracker, keyframes)
        views = _views(config, tracker, at_end)
        at_end.enter_context(tracker)
        if isinstance(sequence, LiveCamera):
            at_end.enter_context(suppress(KeyboardInterrupt))  # it has no other end
        for given, frame in _track_frames(tracker, sequence, keyframes):
            frames.append(frame)
            frame_names.append(given.name)
            log.write(json.dumps(_line(given, frame)) + "\n")
            log.flush()
            for view in views:
                view.show(given.image, frame, tracker)
            on_frame(frame)
            step()
    summary = _summary(tracker, frames, found.source, time.perf_counter() - begun)
    if not summary.num_tracked:
        reason = frames[-1].reason if frames else "there are no frames"
        raise ReconstructionError(f"{config.sequence.source}: no frame could be tracked; the last: {reason}")
    write_track_report(output, TrackedSequence.of(tracker, frame_names, frames, keyframes.names, is_metric))
    finish_output(output)
    return summary


def _track_frames(
    tracker: Tracker, sequence: FrameSequence | LiveCamera, keyframes: KeyframeFiles
) -> Iterator[tuple[SequenceFrame, TrackedFrame]]:
    """Each frame with what came of it, when its keyframe is written; the map is saved on the way."""
    saved = time.perf_counter()
    for given in sequence:
        keyframes.offer(given)
        frame = _step(tracker, given)
        is_still = not tracker.is_mapping  # asked first: all keyframes are written then
        keyframes.write(tracker)
        is_due = tracker.config.mapping and time.perf_counter() - saved > _SAVED_EVERY_S
        if is_due and tracker.map.keyframes and is_still:
            keyframes.save(tracker, colors=False)
            saved = time.perf_counter()
        yield given, frame


def _save(output: Path, tracker: Tracker, keyframes: KeyframeFiles) -> None:
    """Write the trajectory and the map at the end of a run: what takes long last, for Ctrl-C may come again."""
    poses = [(when, rigid(pose)) for when, pose in tracker.trajectory()]
    write_tum(poses, output / TRAJECTORY)
    write_kitti([pose for _, pose in poses], output / TRAJECTORY_KITTI)
    keyframes.write(tracker)
    if tracker.map.keyframes:
        keyframes.save(tracker, colors=True)


def _summary(tracker: Tracker, frames: list[TrackedFrame], focal_from: str, seconds: float) -> TrackSummary:
    milliseconds = 1000 * np.array([frame.seconds for frame in frames] or [0.0])
    statuses = Counter(frame.status for frame in frames)
    return TrackSummary(
        num_frames=len(frames),
        num_tracked=statuses["tracking"],
        num_keyframes=len(tracker.map.keyframes),
        num_points=len(tracker.map),
        num_loops=len(tracker.loops),
        focal_px=round(tracker.camera.colmap.mean_focal_length(), 1),
        focal_from=focal_from,
        seconds=round(seconds, 2),
        milliseconds_median=round(float(np.median(milliseconds)), 1),
        milliseconds_95=round(float(np.percentile(milliseconds, 95)), 1),
        statuses={status: statuses[status] for status in sorted(set(statuses))},
    )


def _earlier(config: TrackConfig, camera: TrackedCamera) -> EarlierMap | None:
    if config.map is None:
        return None
    earlier = read_map(config.map, camera, config.tracker.max_keypoints)
    if camera.baseline is not None and not earlier.facts.is_metric:
        raise InvalidValueError(
            f"{config.map}: expected a map in metres for depths and stereo pairs, this one has a unit of its own;"
            " track with one camera alone, or make a map with depths"
        )
    return earlier


def _views(config: TrackConfig, tracker: Tracker, at_end: ExitStack) -> list[TrackView]:
    """What shows the run; at its end each shows the map, and is closed."""
    targets: list[Path | None] = [None] if config.view else []
    if config.record is not None:
        targets.append(config.record)
    views = []
    for target in targets:
        views.append(TrackView(tracker.camera, target))
        at_end.callback(views[-1].close)
        at_end.callback(views[-1].show_map, tracker)
    return views


def _step(tracker: Tracker, given: SequenceFrame) -> TrackedFrame:
    if given.image is None:
        return tracker.skip(given.timestamp, given.problem)
    frame = tracker.step(given.image, given.timestamp, depth=given.depth, right=given.right)
    return frame if frame.reason else replace(frame, reason=given.problem)


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
