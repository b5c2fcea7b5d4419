"""Choose frames of a video whose true cameras are known, reconstruct it from them, and compare.

The camera goes about the plaza of the procedural world at an uneven pace, rests twice, turns on the spot once and sways
in the hand; a fifth of the frames is blurred by shakes, and the brightness goes up and down. Told are the frames
chosen, what neighbours share by the true depth, and how far the reconstructed cameras are from the true ones; the same
for every N-th frame, as many. Sequences of real pictures are made videos and go the same way.

Usage: python benchmarks/video_frames.py [--frames 300] [--seeds 0] [--sequences NAME …] [--data DATA]
Writes benchmarks/results/video_frames.json and the tables of docs/video.md. What it made is kept in the folder for
temporary files, and a second run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import describe_machine, fill_table
from pages import write_page
from torch import Tensor

from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.geometry.depth import warp_with_depth
from lightmatch.images import load_image
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.reconstruction import model_arrays, read_model
from lightmatch.runtime.files import replacing
from lightmatch.runtime.threads import use_threads
from lightmatch.scenes import World, build_world, camera_path, pinhole, render
from lightmatch.video import ChosenFrame, FrameChoice, choose_frames, write_frames

HERE = Path(__file__).parent
CACHE = Path(tempfile.gettempdir()) / "lightmatch-benchmark-video"
FOV_DEG = 65.0
RATE = 30  # frames per second
SEQUENCES = ["tum_fr3_office_17frames", "slambook_loop_ch11", "middlebury_templeRing47"]


@dataclass(frozen=True, eq=False)
class VideoTruth:
    """What is true of each frame of a rendered video."""

    seed: int
    size: tuple[int, int]  # (width, height) px
    K: Tensor  # (3, 3) float32, the same for all
    cam_from_world: Tensor  # (n, 3, 4) float32, at the middle of the exposure
    exposed: Tensor  # (n, 2, 3, 4) float32, at a quarter and at three quarters of it
    shake_deg: Tensor  # (n,) float32: by how much a shake turned the camera during the exposure
    gain: Tensor  # (n,) float32: brightness

    def world(self) -> World:
        """What was filmed."""
        return build_world(torch.Generator().manual_seed(self.seed))


def make_video(path: Path, *, num_frames: int, size: tuple[int, int], seed: int) -> VideoTruth:
    """Render a video of the plaza to `path` (H.264 in MP4) and tell the truth of its frames.

    What lies at `path` already, of the same truth, is taken as it is: a second of work per frame on one core.
    """
    truth = make_truth(num_frames, size, seed)
    stamp = path.with_suffix(".npz")
    facts = {name: getattr(truth, name).numpy() for name in ("K", "exposed", "shake_deg", "gain")}
    if path.is_file() and stamp.is_file():
        stored = np.load(stamp)
        if all(name in stored and np.array_equal(stored[name], value) for name, value in facts.items()):
            return truth
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        encode(_rendered(truth), partial)
    with replacing(stamp) as partial, partial.open("wb") as file:
        np.savez(file, **facts)
    return truth


def make_truth(num_frames: int, size: tuple[int, int], seed: int) -> VideoTruth:
    """The cameras of the video: a walk with rests, a turn on the spot, sway and shakes, by the seed."""
    generator = torch.Generator().manual_seed(seed + 1)
    sway = torch.rand((2, 2, 3), generator=generator)  # rate and phase of three waves about x and about y
    shaken = torch.rand(num_frames, generator=generator) < 0.2
    shake = torch.where(shaken, 0.5 + 1.2 * torch.rand(num_frames, generator=generator), torch.zeros(()))
    frames = torch.arange(num_frames).float()
    poses, early, late = (_cameras(frames + offset, num_frames, sway) for offset in (0.0, -0.125, 0.125))
    gain = 1 + 0.4 * torch.sin(3 * math.pi * frames / num_frames)
    return VideoTruth(seed, size, pinhole(FOV_DEG, size), poses, torch.stack([early, late], 1), shake, gain)


def _cameras(frames: Tensor, num_frames: int, sway: Tensor) -> Tensor:
    """(n, 3, 4) cameras at `frames` (n,), which may lie between two."""
    part = (frames / (num_frames - 1)).clamp(0, 1)
    angle = torch.linspace(0, 0.5 * math.pi, 7)
    radius = 6.2 + 0.5 * torch.sin(3 * angle)
    eyes = torch.stack([radius * angle.cos(), radius * angle.sin(), 2.0 + 0.8 * torch.cos(2 * angle)], -1)
    targets = torch.stack([0.8 * angle.sin(), -0.6 * angle.cos(), torch.full_like(angle, 0.5)], -1)
    poses = camera_path(eyes, targets, 100_001)[(_way(part) * 100_000).round().long()]
    aside_deg = 30 * torch.sin(math.pi * ((part - 0.63) / 0.20).clamp(0, 1)) ** 2  # out and back in the second rest
    waves = torch.sin(2 * math.pi * ((0.7 + 2 * sway[:, 0, :, None]) * frames / RATE + sway[:, 1, :, None]))
    about_x, about_y = 0.15 * waves.sum(1)
    turns = zip(poses, about_x.tolist(), (about_y + aside_deg).tolist(), strict=True)
    return torch.stack([_rotate(pose, x, y) for pose, x, y in turns])


def _way(part: Tensor) -> Tensor:
    """The part of the way behind at `part` of the time: two rests, three times as fast at the end as at first."""
    u = torch.linspace(0, 1, 10_001)
    speed = 0.5 + u
    speed[(u > 0.25) & (u < 0.38)] = 0
    speed[(u > 0.60) & (u < 0.85)] = 0
    way = torch.cumsum(speed.double(), 0)
    way = (way - way[0]) / (way[-1] - way[0])
    return way[(part * 10_000).round().long()]


def _rotate(pose: Tensor, about_x_deg: float, about_y_deg: float) -> Tensor:
    """`pose` (3, 4) with the camera turned about its own x and y axes."""
    x, y = math.radians(about_x_deg), math.radians(about_y_deg)
    about_x = torch.tensor([[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]])
    about_y = torch.tensor([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    return about_x @ about_y @ pose


def _rendered(truth: VideoTruth) -> Iterator[np.ndarray]:
    """The frames, (h, w, 3) uint8: each the mean of views during its exposure, of half a frame's time."""
    world = truth.world()
    for exposed, shake, gain in zip(truth.exposed, truth.shake_deg.tolist(), truth.gain, strict=True):
        turns = [0.0] if not shake else np.linspace(-shake / 2, shake / 2, 2 * math.ceil(1.5 * shake)).tolist()
        # Half a pixel of turn between the two ends softens the edges of a camera at rest.
        ends = exposed[0], _rotate(exposed[1], 0.03, 0.03)
        views = torch.stack(
            [_rotate(end, 0.4 * turn, turn) for place, end in enumerate(ends) for turn in (turns[place::2] or turns)]
        )
        K, gains = truth.K.expand(len(views), 3, 3), gain.expand(len(views))
        seen = render(world, K, views, truth.size, supersampling=1, exposure=gains).rgb
        yield seen.float().mean(0).round().to(torch.uint8).numpy()


def encode(frames: Iterable[np.ndarray], path: Path) -> None:
    """Write frames, (h, w, 3) uint8, as H.264 in MP4 at RATE per second."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for index, pixels in enumerate(frames):
            if stream is None:
                stream = container.add_stream("libx264", rate=RATE, options={"crf": "18", "threads": "1"})
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, RATE)
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


def trajectory(photos: Path, output: Path, cam_from_world: Tensor | None) -> dict[str, float | int]:
    """How near the cameras of a reconstruction of frames are to the true ones, after a similarity (Umeyama 1991).

    photos: a video, or a folder of its frames under their names. cam_from_world: (n, 3, 4) of every frame of the video,
    None where it is not known. ATE: root of the mean squared distance of centres (Sturm et al., IROS 2012), in units of
    the truth and in % of the length of the true path.
    """
    summary = reconstruct(photos, output, ReconstructConfig(seed=0, splat=False), overwrite=True)
    measured: dict[str, float | int] = {
        "frames": summary.num_images,
        "registered": summary.num_registered,
        "points": summary.model.num_points,
        "reprojection_px": round(summary.model.mean_reprojection_error_px, 3),
    }
    if cam_from_world is None:
        return measured
    found = model_arrays(read_model(output / "sparse" / "0"))
    indices = [int(Path(name).stem) for name in found.names]
    centers = invert_rigid(cam_from_world.double())[:, :, 3]
    rotation_deg, position = aligned_pose_errors(
        torch.from_numpy(found.rotations),
        torch.from_numpy(found.centers),
        cam_from_world[indices, :, :3].double(),
        centers[indices],
    )
    path = float((centers[1:] - centers[:-1]).norm(dim=1).sum())
    ate = float(position.square().mean().sqrt())
    return measured | {
        "path": round(path, 4),
        "ate": round(ate, 6),
        "ate_percent_of_path": round(100 * ate / path, 4),
        "rotation_median_deg": round(float(rotation_deg.median()), 4),
        "rotation_max_deg": round(float(rotation_deg.max()), 4),
    }


def measure_rendered(seed: int, num_frames: int, size: tuple[int, int]) -> dict[str, Any]:
    """All that is measured of one rendered video."""
    path = CACHE / f"plaza_{num_frames}_{size[0]}x{size[1]}_{seed}.mp4"
    truth = make_video(path, num_frames=num_frames, size=size, seed=seed)
    choice, measured = _choose(path)
    chosen = [frame.index for frame in choice.frames]
    every = np.linspace(0, choice.num_read - 1, len(chosen)).round().astype(int).tolist()
    photos = path.with_name(f"{path.stem}_one_in_n")
    write_frames(path, photos, [ChosenFrame(index, 0.0, 0.0, 0.0, "change") for index in every])
    found = trajectory(path, path.with_name(f"{path.stem}_out"), truth.cam_from_world)
    compared = trajectory(photos, path.with_name(f"{path.stem}_one_in_n_out"), truth.cam_from_world)
    return {
        "seed": seed,
        "size": truth.size,
        "shaken": int((truth.shake_deg > 0).sum()),
        **measured,
        "chosen": score(truth, chosen) | found,
        "one_in_n": score(truth, every) | compared,
    }


def measure_sequence(name: str, data: Path) -> dict[str, Any]:
    """All that is measured of a sequence of real pictures, made a video."""
    folder = data / "eval" / name
    truth = None
    if name.startswith("middlebury"):
        pictures = [folder / line for line in (folder / "ordered_filenames.txt").read_text().split()[1:]]
        poses = _middlebury_poses(folder / "templeR_par.txt")
        truth = torch.stack([poses[picture.name] for picture in pictures])
    else:
        pictures = sorted(folder.rglob("*.png"), key=lambda picture: float(picture.stem))
    path = CACHE / f"{name}.mp4"
    CACHE.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        encode((load_image(picture).pixels for picture in pictures), partial)
    _, measured = _choose(path)
    return {"name": name, **measured, "chosen": trajectory(path, CACHE / f"{name}_out", truth)}


def _middlebury_poses(path: Path) -> dict[str, Tensor]:
    """(3, 4) cam_from_world by picture: lines of name, K, R, t."""
    lines = [line.split() for line in path.read_text().splitlines()[1:]]
    values = {name: torch.tensor([float(value) for value in rest]) for name, *rest in lines}
    return {name: torch.cat([row[9:18].view(3, 3), row[18:, None]], 1) for name, row in values.items()}


def _choose(path: Path) -> tuple[FrameChoice, dict[str, Any]]:
    start = time.perf_counter()
    choice = choose_frames(path)
    seconds = time.perf_counter() - start
    reasons = Counter(frame.why for frame in choice.frames)
    return choice, {
        "video_frames": choice.num_read,
        "choosing_seconds": round(seconds, 2),
        "reasons": dict(sorted(reasons.items())),
        "indices": [frame.index for frame in choice.frames],
    }


def page(text: str, result: dict[str, Any]) -> str:
    """docs/video.md with its tables from video_frames.json."""
    lines = [
        "| video | frames | which | shaken | least overlap | registered | ATE | of the path | rotation |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for video in result["videos"]:
        for which, label in (("chosen", "chosen"), ("one_in_n", "one in N")):
            of = video[which]
            lines.append(
                f"| {video['seed']} | {of['frames']} of {video['video_frames']} | {label} | {of['shaken_frames']}"
                f" | {100 * of['overlap_min']:.0f} % | {of['registered']} | {1000 * of['ate']:.1f} mm"
                f" | {of['ate_percent_of_path']:.3f} %"
                f" | {of['rotation_median_deg']:.3f}° / {of['rotation_max_deg']:.3f}° |"
            )
    lines += [
        "",
        "| sequence | frames chosen | registered | reprojection | ATE, of the path | rotation |",
        "|---|---|---|---|---|---|",
    ]
    for sequence in result["sequences"]:
        of = sequence["chosen"]
        errors = "no truth | –"
        if "ate" in of:
            errors = (
                f"{of['ate_percent_of_path']:.3f} % | {of['rotation_median_deg']:.3f}° / {of['rotation_max_deg']:.3f}°"
            )
        lines.append(
            f"| {sequence['name']} | {of['frames']} of {sequence['video_frames']} | {of['registered']}"
            f" | {of['reprojection_px']:.2f} px | {errors} |"
        )
    return fill_table(text, "tables: benchmarks/video_frames.py", lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--sequences", nargs="*", default=SEQUENCES)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 360), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds eval/")
    options = parser.parse_args()
    if options.sequences and options.data is None:
        parser.error("expected --data or LIGHTMATCH_DATA, got neither; name one, or no --sequences")
    use_threads(1)
    result: dict[str, Any] = {"machine": describe_machine(), "videos": [], "sequences": []}
    for seed in options.seeds:
        result["videos"].append(measure_rendered(seed, options.frames, (options.size[0], options.size[1])))
        print(json.dumps(result["videos"][-1]), flush=True)
    for name in options.sequences:
        result["sequences"].append(measure_sequence(name, options.data))
        print(json.dumps(result["sequences"][-1]), flush=True)
    (HERE / "results" / "video_frames.json").write_text(json.dumps(result, indent=1) + "\n")
    write_page("video_frames")


if __name__ == "__main__":
    main()
