"""What tracking, the odometry that it is compared with, and an offline reconstruction make of a sequence."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from klt_odometry import KltOdometry
from track_errors import Errors, Trajectory, errors_of
from track_sequences import Run

from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.reconstruction import model_arrays, read_model
from lightmatch.tracking import TrackedFrame, Tracker, TrackerConfig
from lightmatch.types import Image

OFFLINE_FRAMES = 40  # at most, for `reconstruct`


@dataclass(frozen=True, eq=False)
class Tracked:
    """What came of a run."""

    frames: list[TrackedFrame]
    times: np.ndarray  # (n,) s, that the tracker was given
    trajectory: list[tuple[int, np.ndarray]]  # frame and cam_from_world, as the map knows them at the end
    loops: list[tuple[int, int]]  # keyframes of each: the older and the newer
    keyframes: list[int]  # frames that are one at the end

    def frames_with(self, *statuses: str) -> list[int]:
        """Their numbers."""
        return [number for number, frame in enumerate(self.frames) if frame.status in statuses]


def track(run: Run, background: bool = False) -> Tracked:
    """Frame after frame: as fast as they can be tracked, or at their own pace with the map made in the background."""
    begun, times = time.perf_counter(), run.times - run.times[0]
    found: list[TrackedFrame] = []
    with Tracker(run.camera, TrackerConfig(background=background)) as tracker:
        for frame, moment in zip(run.frames, times, strict=True):
            if background:
                time.sleep(max(0.0, moment - (time.perf_counter() - begun)))
            assert frame.image is not None
            found.append(tracker.step(frame.image, float(moment), depth=frame.depth, right=frame.right))
    numbers = {frame.timestamp: number for number, frame in enumerate(found)}
    keyframes = [numbers[keyframe.timestamp] for keyframe in tracker.map.keyframes.values()]
    return Tracked(
        found,
        times,
        [(numbers[when], pose) for when, pose in tracker.trajectory()],
        tracker.loops,
        keyframes,
    )


def final_errors(run: Run, tracked: Tracked) -> Errors:
    """Of the trajectory at the end."""
    return errors_of_run(run, tracked.trajectory, run.is_metric)


def live_errors(run: Run, tracked: Tracked) -> Errors:
    """Of the poses as `step` gave them."""
    poses = [(n, tracked.frames[n].cam_from_world) for n in tracked.frames_with("tracking")]
    return errors_of_run(run, [(number, pose) for number, pose in poses if pose is not None], run.is_metric)


def measure(run: Run, background: bool) -> dict[str, Any]:
    """A row of the table."""
    tracked = track(run, background)
    milliseconds = 1000 * np.array([frame.seconds for frame in tracked.frames])
    with_pose = tracked.frames_with("tracking")
    return {
        "name": run.name,
        "kind": run.kind,
        "num_frames": len(tracked.frames),
        "loops": len(tracked.loops),
        "tracked": len(with_pose) / len(tracked.frames),
        "first": with_pose[0] if with_pose else None,
        "lost": len(tracked.frames_with("coasting", "lost")),
        "keyframes": len(tracked.keyframes),
        "milliseconds": [float(np.median(milliseconds)), float(np.percentile(milliseconds, 95))],
        "frames_per_second": len(tracked.frames) / float(milliseconds.sum() / 1000),
        "walked_m": run.walked_m,
        **asdict(final_errors(run, tracked)),
        "live_ate_m": live_errors(run, tracked).ate_m,
    }


def measure_klt(run: Run) -> dict[str, Any]:
    """The odometry of `klt_odometry`: its errors at keyframes, and the time of a frame."""
    odometry, poses, seconds = KltOdometry(run.camera.K), [], []
    for number, frame in enumerate(run.frames):
        begun = time.perf_counter()
        pose = odometry.step(_grey(frame.image))
        seconds.append(time.perf_counter() - begun)
        if pose is not None:
            poses.append((number, pose))
    milliseconds = 1000 * np.array(seconds)
    return {
        "name": run.name,
        "num_frames": len(run.frames),
        "keyframes": len(poses),
        "milliseconds": [float(np.median(milliseconds)), float(np.percentile(milliseconds, 95))],
        "frames_per_second": len(run.frames) / float(milliseconds.sum() / 1000),
        "walked_m": run.walked_m,
        **asdict(errors_of_run(run, poses, False)),
    }


def measure_offline(run: Run, work: Path, most: int = OFFLINE_FRAMES) -> dict[str, Any]:
    """`reconstruct` of every k-th frame, at most `most`, with known intrinsics. work: an empty folder is made there."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "frames").mkdir(parents=True)
    chosen = range(0, len(run.frames), -(-len(run.frames) // most))
    for number in chosen:
        image = run.frames[number].image
        assert image is not None
        cv2.imwrite(str(work / "frames" / f"{number:06d}.png"), image.pixels[..., ::-1])
    colmap, known = run.camera.colmap, work / "cameras.txt"
    parameters = " ".join(map(str, colmap.params))
    known.write_text(f"1 {colmap.model_name} {colmap.width} {colmap.height} {parameters}\n")
    begun = time.perf_counter()
    reconstruct(work / "frames", work / "out", ReconstructConfig(splat=False, seed=0, known=known))
    seconds = time.perf_counter() - begun
    found = model_arrays(read_model(Layout(work / "out").best_model))
    poses = [
        (int(Path(name).stem), np.column_stack((rotation, -rotation @ center)))
        for name, rotation, center in zip(found.names, found.rotations, found.centers, strict=True)
    ]
    return {
        "name": run.name,
        "num_frames": len(chosen),
        "registered": len(poses),
        "seconds": seconds,
        "walked_m": run.walked_m,
        **asdict(errors_of_run(run, poses, False)),
    }


def trajectory_of(run: Run, poses: list[tuple[int, np.ndarray]]) -> Trajectory:
    """poses: frame and cam_from_world (3, 4) of each."""
    numbers = [number for number, _ in poses]
    found = np.array([pose for _, pose in poses]).reshape(-1, 3, 4)
    return Trajectory(run.times[numbers] - run.times[0], found, run.poses[numbers])


def errors_of_run(run: Run, poses: list[tuple[int, np.ndarray]], is_metric: bool) -> Errors:
    """poses: frame and cam_from_world (3, 4) of each."""
    return errors_of(trajectory_of(run, poses), is_metric)


def _grey(image: Image | None) -> np.ndarray:
    assert image is not None
    return cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
