"""The sequences that track.py measures: real ones and rendered walks, each as one or more kinds of camera see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
import torch
from track_errors import centers_of

from lightmatch.scenes.cameras import camera_path
from lightmatch.scenes.sequences import RenderedSequence, film
from lightmatch.scenes.world import build_world
from lightmatch.tracking import VIRTUAL_BASELINE, TrackedCamera
from lightmatch.tracking.sequences import FrameSequence, SequenceConfig, SequenceFrame
from lightmatch.types import Image

BASELINE = 0.2  # m, of the rendered stereo camera
RATE = 30  # rendered frames a second
ONE, DEPTHS, STEREO = "one camera", "depths", "stereo"


@dataclass(frozen=True)
class Run:
    """One sequence, as one kind of camera sees it."""

    name: str
    kind: str  # ONE, DEPTHS or STEREO
    camera: TrackedCamera
    frames: list[SequenceFrame]
    times: np.ndarray  # (n,) s
    poses: np.ndarray  # (n, 3, 4) true cam_from_world, m

    @property
    def is_metric(self) -> bool:
        """Whether the camera measures metres."""
        return self.kind != ONE

    @property
    def walked_m(self) -> float:
        """Length of the true path."""
        return float(np.linalg.norm(np.diff(centers_of(self.poses), axis=0), axis=1).sum())


def real_runs(data: Path) -> Iterator[Run]:
    """Of the evaluation sets in a folder."""
    folder = data / "track_redkitchen"
    times, poses = read_truth(folder / "groundtruth.txt")
    K, size = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]]), (640, 480)
    frames = list(FrameSequence(SequenceConfig(folder / "rgb", depth=folder / "depth", times=folder / "times.txt")))
    yield Run("7-Scenes red kitchen", ONE, TrackedCamera.pinhole(K, size), _alone(frames), times, poses)
    camera = TrackedCamera.pinhole(K, size, VIRTUAL_BASELINE)
    yield Run("7-Scenes red kitchen", DEPTHS, camera, frames, times, poses)
    folder = data / "tum_fr3_office_17frames"
    K = np.array([[535.4, 0, 320.1], [0, 539.2, 247.6], [0, 0, 1]])
    rgb = next(path.parent for path in sorted(folder.rglob("*.png")) if "." in path.stem)
    frames = list(FrameSequence(SequenceConfig(rgb)))
    times, poses = read_truth(folder / "groundtruth.txt")
    nearest = [int(np.abs(times - frame.timestamp).argmin()) for frame in frames]
    yield Run("TUM fr3 office", ONE, TrackedCamera.pinhole(K, size), frames, times[nearest], poses[nearest])
    folder = data / "track_kitti_turn"
    projections = [
        np.array(line.split(), float).reshape(3, 4) for line in (folder / "calib.txt").read_text().splitlines()
    ]
    K, baseline = projections[0][:, :3], -projections[1][0, 3] / projections[1][0, 0]
    frames = list(FrameSequence(SequenceConfig(folder / "image_l", right=folder / "image_r", fps=10)))
    assert frames[0].image is not None
    size = frames[0].image.size
    times, poses = read_truth(folder / "groundtruth.txt")
    yield Run("KITTI turn", ONE, TrackedCamera.pinhole(K, size), _alone(frames), times, poses)
    yield Run("KITTI turn", STEREO, TrackedCamera.pinhole(K, size, baseline), frames, times, poses)


def plaza_runs() -> Iterator[Run]:
    """Of two walks around a rendered plaza."""
    yield from _plaza("rendered plaza, half a circle", 150, torch.pi)
    yield from _plaza("rendered plaza, a circle and more", 300, 2.1 * torch.pi)


def read_truth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times (n,) and cam_from_world (n, 3, 4) of a file in TUM's format."""
    rows = np.loadtxt(path, comments="#")
    poses = [pycolmap.Rigid3d(pycolmap.Rotation3d(row[4:8]), row[1:4]).inverse().matrix() for row in rows]
    return rows[:, 0], np.stack(poses)


def rendered_run(name: str, kind: str, sequence: RenderedSequence, right: torch.Tensor | None = None) -> Run:
    """A rendered sequence as one kind of camera sees it. right: (n, h, w, 3), of a stereo camera."""
    frames, baseline = [], {ONE: None, DEPTHS: VIRTUAL_BASELINE, STEREO: BASELINE}[kind]
    for number, (rgb, depth) in enumerate(zip(sequence.rgb, sequence.depth, strict=True)):
        frames.append(
            SequenceFrame(
                str(number),
                number / RATE,
                Image(rgb.numpy()),
                depth=depth.numpy() if kind == DEPTHS else None,
                right=None if right is None else Image(right[number].numpy()),
            )
        )
    camera = TrackedCamera.pinhole(sequence.K.numpy(), sequence.size, baseline)
    times = np.arange(len(sequence)) / RATE
    return Run(name, kind, camera, frames, times, sequence.cam_from_world.double().numpy())


def _alone(frames: list[SequenceFrame]) -> list[SequenceFrame]:
    return [SequenceFrame(frame.name, frame.timestamp, frame.image) for frame in frames]


def _plaza(name: str, num: int, angle: float) -> Iterator[Run]:
    """A walk around a plaza, 640 × 480. angle: rad."""
    world = build_world(torch.Generator().manual_seed(3))
    angles = torch.linspace(0, angle, 17)
    eyes = torch.stack((6 * angles.cos(), 6 * angles.sin(), 1.7 + 0.2 * (5 * angles).sin()), 1)
    poses = camera_path(eyes, torch.tensor([[0.0, 0.0, 0.8]]).expand(17, 3), num)
    beside = poses.clone()
    beside[:, 0, 3] -= BASELINE
    sequence, right = film(world, poses), film(world, beside).rgb
    yield rendered_run(name, ONE, sequence)
    yield rendered_run(name, DEPTHS, sequence)
    yield rendered_run(name, STEREO, sequence, right)
