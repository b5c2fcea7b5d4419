"""Choose frames of a video of the procedural world, whose true cameras are known.

The camera goes round the plaza at an uneven pace, rests twice, turns on the spot once, and some frames are blurred by a
shake of the hand. Told are the frames chosen, how sharp they are among their neighbours, and how much neighbours share
by the true depth; the same for every N-th frame, as many, to compare with.

Usage: python benchmarks/video_frames.py [--frames 150] [--seed 0] [--json results.json]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import describe_machine
from torch import Tensor

from lightmatch.files import replacing
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.geometry.depth import warp_with_depth
from lightmatch.scenes import World, build_world, camera_path, pinhole, render
from lightmatch.threads import use_threads
from lightmatch.video import FrameChoice, FrameChoiceConfig, choose_frames

CACHE = Path(tempfile.gettempdir()) / "lightmatch-benchmark-video"
FOV_DEG = 65.0


@dataclass(frozen=True, eq=False)
class VideoTruth:
    """What is true of each frame of a rendered video."""

    seed: int
    size: tuple[int, int]  # (width, height) px
    K: Tensor  # (3, 3) float32, the same for all
    cam_from_world: Tensor  # (n, 3, 4) float32, at the middle of the exposure
    times_s: Tensor  # (n,) float64
    shake_deg: Tensor  # (n,) float32: by how much the camera turned during the exposure

    def world(self) -> World:
        """What was filmed."""
        return build_world(torch.Generator().manual_seed(self.seed))


def make_video(
    path: Path, *, num_frames: int = 150, size: tuple[int, int] = (480, 360), seed: int = 0, rate: int = 30
) -> VideoTruth:
    """Render a video of the plaza to `path` (H.264 in MP4) and tell the truth of its frames.

    What lies at `path` already, of the same truth, is taken as it is: half a second of work per frame on one core.
    """
    truth_path = path.with_suffix(".npz")
    truth = make_truth(num_frames, size, seed, rate)
    facts: dict[str, Any] = {
        "cam_from_world": truth.cam_from_world.numpy(),
        "times_s": truth.times_s.numpy(),
        "shake_deg": truth.shake_deg.numpy(),
        "size": np.array(size),
        "seed": np.array(seed),
    }
    if path.is_file() and truth_path.is_file():
        stored = np.load(truth_path)
        if all(name in stored and np.array_equal(stored[name], value) for name, value in facts.items()):
            return truth
    frames = _rendered(truth)
    with replacing(path) as partial:
        _encode(frames, partial, size, rate)
    with replacing(truth_path) as partial, partial.open("wb") as file:
        np.savez(file, **facts)
    return truth


def make_truth(num_frames: int, size: tuple[int, int], seed: int, rate: int) -> VideoTruth:
    """The cameras of the video: a walk with rests, a turn on the spot and shakes, by the seed."""
    generator = torch.Generator().manual_seed(seed + 1)
    place = _pace(num_frames)
    angle = torch.linspace(0, 0.75 * math.pi, 7)
    radius = 6.2 + 0.5 * torch.sin(3 * angle)
    eyes = torch.stack([radius * angle.cos(), radius * angle.sin(), 2.0 + 0.8 * torch.cos(2 * angle)], -1)
    targets = torch.stack([0.8 * angle.sin(), -0.6 * angle.cos(), torch.full_like(angle, 0.5)], -1)
    fine = camera_path(eyes, targets, 2001)
    poses = fine[(place * 2000).round().long()]
    poses = _turned(poses, _turn_on_the_spot(num_frames))
    hand = 0.06 * torch.randn((num_frames, 2), generator=generator)
    poses = torch.stack([_rotate(pose, *shift.tolist()) for pose, shift in zip(poses, hand, strict=True)])
    shaken = torch.rand(num_frames, generator=generator) < 0.2
    shake = torch.where(shaken, 0.5 + 1.2 * torch.rand(num_frames, generator=generator), torch.zeros(()))
    times = torch.arange(num_frames, dtype=torch.float64) / rate
    return VideoTruth(seed, size, pinhole(FOV_DEG, size), poses, times, shake)


def _pace(num_frames: int) -> Tensor:
    """(n,) the part of the way behind: two rests, and three times as fast at the end as at the beginning."""
    u = torch.linspace(0, 1, num_frames)
    speed = 0.5 + u
    speed[(u > 0.25) & (u < 0.38)] = 0
    speed[(u > 0.60) & (u < 0.85)] = 0  # the second rest holds the turn on the spot
    way = torch.cumsum(speed, 0)
    return (way - way[0]) / (way[-1] - way[0])


def _turn_on_the_spot(num_frames: int) -> Tensor:
    """(n,) degrees about the vertical: out by 30 and back again during the second rest."""
    u = torch.linspace(0, 1, num_frames)
    return 30 * torch.sin(math.pi * ((u - 0.63) / 0.20).clamp(0, 1)) ** 2


def _rotate(pose: Tensor, about_x_deg: float, about_y_deg: float) -> Tensor:
    """`pose` (3, 4) with the camera turned about its own x and y axes."""
    x, y = math.radians(about_x_deg), math.radians(about_y_deg)
    about_x = torch.tensor([[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]])
    about_y = torch.tensor([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    return about_x @ about_y @ pose


def _turned(poses: Tensor, degrees: Tensor) -> Tensor:
    return torch.stack([_rotate(pose, 0.0, angle) for pose, angle in zip(poses, degrees.tolist(), strict=True)])


def _rendered(truth: VideoTruth) -> Iterator[np.ndarray]:
    """The frames, (h, w, 3) uint8 one by one; a shaken one is the mean of views along the shake."""
    world, K = truth.world(), truth.K[None]
    for pose, shake in zip(truth.cam_from_world, truth.shake_deg.tolist(), strict=True):
        parts = 1 + 2 * math.ceil(2 * shake)
        around = [_rotate(pose, 0.4 * turn, turn) for turn in np.linspace(-shake / 2, shake / 2, parts).tolist()]
        seen = [
            render(world, K, view[None], truth.size, supersampling=2 if parts == 1 else 1).rgb[0] for view in around
        ]
        yield torch.stack(seen).float().mean(0).round().to(torch.uint8).numpy()


def _encode(frames: Iterable[np.ndarray], path: Path, size: tuple[int, int], rate: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": "18", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def true_overlaps(truth: VideoTruth, indices: Sequence[int]) -> list[float]:
    """The part of the view that each frame shares with the next one of `indices`, 0…1, the lesser of both ways."""
    world, width, height = truth.world(), *truth.size
    rows, columns = torch.meshgrid(torch.arange(4, height, 8), torch.arange(4, width, 8), indexing="ij")
    points = torch.stack([columns, rows], -1).reshape(-1, 2).float()
    poses = truth.cam_from_world[list(indices)]
    depths = [render(world, truth.K[None], pose[None], truth.size, supersampling=1).depth[0] for pose in poses]
    overlaps = []
    for (pose0, depth0), (pose1, depth1) in pairwise(zip(poses, depths, strict=True)):
        cam1_from_cam0 = compose_rigid(pose1, invert_rigid(pose0))
        shares = []
        for first, second, motion in ((depth0, depth1, cam1_from_cam0), (depth1, depth0, invert_rigid(cam1_from_cam0))):
            _, visible = warp_with_depth(points, first, truth.K, second, truth.K, motion)
            known = first[rows.flatten(), columns.flatten()] > 0
            shares.append(float(visible.sum() / known.sum().clamp_min(1)))
        overlaps.append(min(shares))
    return overlaps


def blur_rank(truth: VideoTruth, index: int, around: int = 5) -> float:
    """Which part of the frames up to `around` before and after were shaken less than this one: 0 is the sharpest."""
    near = truth.shake_deg[max(0, index - around) : index + around + 1]
    return float((near < truth.shake_deg[index]).float().mean())


def score(truth: VideoTruth, indices: Sequence[int]) -> dict[str, float | int]:
    """How good a choice of frames is, by the truth."""
    overlaps = true_overlaps(truth, indices)
    centers = invert_rigid(truth.cam_from_world[list(indices)])[:, :, 3]
    return {
        "frames": len(indices),
        "shaken_frames": int((truth.shake_deg[list(indices)] > 0).sum()),
        "mean_blur_rank": round(statistics.mean(blur_rank(truth, index) for index in indices), 3),
        "overlap_min": round(min(overlaps), 3),
        "overlap_median": round(statistics.median(overlaps), 3),
        "overlap_max": round(max(overlaps), 3),
        "largest_step_m": round(float((centers[1:] - centers[:-1]).norm(dim=1).max()), 3),
    }


def describe_choice(choice: FrameChoice) -> dict[str, int]:
    """How many frames were chosen for which reason."""
    reasons = [frame.why for frame in choice.frames]
    return {why: reasons.count(why) for why in sorted(set(reasons))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 360), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--max-frames", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    use_threads(1)
    size = (options.size[0], options.size[1])
    path = CACHE / f"plaza_{options.frames}_{size[0]}x{size[1]}_{options.seed}.mp4"
    truth = make_video(path, num_frames=options.frames, size=size, seed=options.seed)
    start = time.perf_counter()
    choice = choose_frames(path, FrameChoiceConfig(max_frames=options.max_frames))
    seconds = time.perf_counter() - start
    chosen = [frame.index for frame in choice.frames]
    every = np.linspace(0, choice.num_read - 1, len(chosen)).round().astype(int).tolist()
    result = {
        "video": {"frames": choice.num_read, "size": truth.size, "shaken": int((truth.shake_deg > 0).sum())},
        "choosing_seconds": round(seconds, 2),
        "reasons": describe_choice(choice),
        "indices": chosen,
        "chosen": score(truth, chosen),
        "one_in_n": score(truth, every),
        "machine": describe_machine(),
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
