"""Track real and rendered sequences: errors against the truth, frames tracked, milliseconds a frame.

Usage: python benchmarks/track.py --data FOLDER [--threads 2]
FOLDER holds the evaluation sets (track_kitti_turn, track_redkitchen, tum_fr3_office_17frames). Writes
benchmarks/results/track.json and docs/track.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, describe_machine, fill_table

from lightmatch.geometry.alignment import Similarity, align_points
from lightmatch.runtime.devices import keep_freed_memory
from lightmatch.runtime.threads import use_threads
from lightmatch.scenes.cameras import camera_path, pinhole
from lightmatch.scenes.render import render
from lightmatch.scenes.world import build_world
from lightmatch.tracking import VIRTUAL_BASELINE, TrackedCamera, TrackedFrame, Tracker, TrackerConfig
from lightmatch.tracking.pose import center_of
from lightmatch.tracking.sequences import Sequence, SequenceConfig, SequenceFrame
from lightmatch.types import Image

RESULT = RESULTS / "track.json"
BASELINE = 0.2  # m, of the rendered stereo camera


@dataclass(frozen=True)
class Run:
    """One sequence, as one kind of camera sees it."""

    name: str
    kind: str  # one camera, depths, stereo
    camera: TrackedCamera
    frames: list[SequenceFrame]
    times: np.ndarray  # (n,) s
    centers: np.ndarray  # (n, 3) true


def runs(data: Path) -> Iterator[Run]:
    """All of them."""
    folder = data / "track_redkitchen"
    times, centers = _truth(folder / "groundtruth.txt")
    K, size = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]]), (640, 480)
    frames = list(Sequence(SequenceConfig(folder / "rgb", depth=folder / "depth", times=folder / "times.txt")))
    yield Run("7-Scenes red kitchen", "one camera", TrackedCamera.pinhole(K, size), _alone(frames), times, centers)
    yield Run(
        "7-Scenes red kitchen", "depths", TrackedCamera.pinhole(K, size, VIRTUAL_BASELINE), frames, times, centers
    )
    folder = data / "tum_fr3_office_17frames"
    K = np.array([[535.4, 0, 320.1], [0, 539.2, 247.6], [0, 0, 1]])
    rgb = next(path.parent for path in sorted(folder.rglob("*.png")) if "." in path.stem)
    frames = list(Sequence(SequenceConfig(rgb)))
    times, centers = _truth(folder / "groundtruth.txt")
    nearest = [int(np.abs(times - frame.timestamp).argmin()) for frame in frames]
    yield Run("TUM fr3 office", "one camera", TrackedCamera.pinhole(K, size), frames, times[nearest], centers[nearest])
    folder = data / "track_kitti_turn"
    projections = [
        np.array(line.split(), float).reshape(3, 4) for line in (folder / "calib.txt").read_text().splitlines()
    ]
    K, baseline = projections[0][:, :3], -projections[1][0, 3] / projections[1][0, 0]
    frames = list(Sequence(SequenceConfig(folder / "image_l", right=folder / "image_r", fps=10)))
    assert frames[0].image is not None
    size = frames[0].image.size
    times, centers = _truth(folder / "groundtruth.txt")
    yield Run("KITTI turn", "one camera", TrackedCamera.pinhole(K, size), _alone(frames), times, centers)
    yield Run("KITTI turn", "stereo", TrackedCamera.pinhole(K, size, baseline), frames, times, centers)
    yield from _rendered("rendered plaza, half a circle", 150, torch.pi)
    yield from _rendered("rendered plaza, a circle and more", 300, 2.1 * torch.pi)


def _alone(frames: list[SequenceFrame]) -> list[SequenceFrame]:
    return [SequenceFrame(frame.name, frame.timestamp, frame.image) for frame in frames]


def _truth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    rows = np.loadtxt(path, comments="#")
    return rows[:, 0], rows[:, 1:4]


def _rendered(name: str, num: int, angle: float) -> Iterator[Run]:
    """A walk around a plaza, 640 × 480. angle: rad."""
    size = (640, 480)
    world = build_world(torch.Generator().manual_seed(3))
    angles = torch.linspace(0, angle, 17)
    eyes = torch.stack((6 * angles.cos(), 6 * angles.sin(), 1.7 + 0.2 * (5 * angles).sin()), 1)
    poses = camera_path(eyes, torch.tensor([[0.0, 0.0, 0.8]]).expand(17, 3), num)
    K = pinhole(65.0, size)
    beside = poses.clone()
    beside[:, 0, 3] -= BASELINE
    frames, rights = [], []
    for start in range(0, num, 8):
        some = slice(start, min(start + 8, num))
        Ks = K.expand(some.stop - some.start, 3, 3).contiguous()
        seen, right = render(world, Ks, poses[some], size), render(world, Ks, beside[some], size)
        for rgb, depth, other in zip(seen.rgb, seen.depth, right.rgb, strict=True):
            place = len(frames)
            frames.append(SequenceFrame(str(place), place / 30, Image(rgb.numpy()), depth=depth.numpy()))
            rights.append(SequenceFrame(str(place), place / 30, Image(rgb.numpy()), right=Image(other.numpy())))
    times = np.arange(num) / 30
    centers = -(poses[:, :, :3].mT @ poses[:, :, 3:])[..., 0].double().numpy()
    for kind, given, baseline in (
        ("one camera", _alone(frames), None),
        ("depths", frames, VIRTUAL_BASELINE),
        ("stereo", rights, BASELINE),
    ):
        yield Run(name, kind, TrackedCamera.pinhole(K.numpy(), size, baseline), given, times, centers)


def measure(run: Run, background: bool) -> dict[str, Any]:
    """Frame after frame: as fast as they can be tracked, or at their own pace with the map made in the background."""
    begun = time.perf_counter()
    with Tracker(run.camera, TrackerConfig(background=background)) as tracker:
        found: list[TrackedFrame] = []
        for frame, moment in zip(run.frames, run.times - run.times[0], strict=True):
            if background:
                time.sleep(max(0.0, moment - (time.perf_counter() - begun)))
            assert frame.image is not None
            found.append(tracker.step(frame.image, float(moment), depth=frame.depth, right=frame.right))
    tracked = [number for number, frame in enumerate(found) if frame.status == "tracking"]
    milliseconds = 1000 * np.array([frame.seconds for frame in found])
    walked = float(np.linalg.norm(np.diff(run.centers, axis=0), axis=1).sum())
    numbers = {frame.timestamp: number for number, frame in enumerate(found)}
    trajectory = [(numbers[when], center_of(pose)) for when, pose in tracker.trajectory()]
    return {
        "num_frames": len(found),
        "loops": len(tracker.loops),
        "tracked": len(tracked) / len(found),
        "first": tracked[0],
        "lost": sum(frame.status in ("coasting", "lost") for frame in found),
        "keyframes": len(tracker.map.keyframes),
        "milliseconds": [float(np.median(milliseconds)), float(np.percentile(milliseconds, 95))],
        "frames_per_second": len(found) / float(milliseconds.sum() / 1000),
        "walked_m": walked,
        **_errors(run, [number for number, _ in trajectory], np.array([center for _, center in trajectory])),
        "live_ate_m": _errors(run, tracked, np.array([found[number].center for number in tracked]))["ate_m"],
    }


def _errors(run: Run, tracked: list[int], centers: np.ndarray) -> dict[str, float]:
    """ate_m: root mean square after the similarity that fits best, for metres the rigid motion. scale: of the first."""
    ours, true = torch.from_numpy(centers), torch.from_numpy(run.centers[tracked])
    fit = align_points(ours, true)
    scale = float(fit.scale)
    if run.kind != "one camera":
        middle = true.mean(0) - fit.rotation @ ours.mean(0)
        fit = Similarity(scale=torch.ones(()).double(), rotation=fit.rotation, translation=middle)
    off = (fit.apply(ours) - true).norm(dim=1)
    return {"ate_m": float(off.square().mean().sqrt()), "scale": scale}


def page(text: str, results: dict[str, Any]) -> str:
    """docs/track.md from track.json."""
    machine = results["machine"]
    head = (
        "| sequence | camera | frames | tracked, % | keyframes | loops | path, m | error, cm, live / at the end |"
        " scale | ms a frame, median / 95% | frames/s |"
    )
    lines = [head, "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for mode, title in (("one_after_other", ""), ("background", ", background")):
        for one in results[mode]:
            median, high = one["milliseconds"]
            scale = "own" if one["kind"] == "one camera" else f"{one['scale']:.3f}"
            lines.append(
                f"| {one['name']} | {one['kind']}{title} | {one['num_frames']} | {100 * one['tracked']:.0f} |"
                f" {one['keyframes']} | {one['loops']} | {one['walked_m']:.1f} |"
                f" {100 * one['live_ate_m']:.1f} / {100 * one['ate_m']:.1f} | {scale} |"
                f" {median:.0f} / {high:.0f} | {one['frames_per_second']:.0f} |"
            )
    said = (
        f"{machine['cpu']}, {results['threads']} threads of {machine['num_cpus']} cores, {machine['instructions']};"
        f" PyTorch {machine['torch']}, pycolmap {machine['pycolmap']}; commit {machine['commit']}."
    )
    return fill_table(text, "sequences", [*lines, "", said])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the evaluation sets")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    keep_freed_memory()
    use_threads(arguments.threads)
    results: dict[str, Any] = {"machine": describe_machine(), "threads": arguments.threads}
    results["one_after_other"], results["background"] = [], []
    for run in runs(arguments.data):
        for mode, background in (("one_after_other", False), ("background", True)):
            one = {"name": run.name, "kind": run.kind, **measure(run, background)}
            results[mode].append(one)
            print(mode, one, flush=True)
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    from pages import write_page

    write_page("track")


if __name__ == "__main__":
    main()
