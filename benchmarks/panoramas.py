"""360° panoramas of the procedural world, reconstructed as panoramas and, before that could be done, as photos.

Usage: python benchmarks/panoramas.py --keep OUT
Panoramas and models that an earlier run has left in OUT are used again. Writes benchmarks/results/panoramas.json and
the table of docs/panoramas.md: of each way, how many panoramas have a pose, their errors against the exact truth after
a similarity, and seconds.

"walk" looks where it goes, "turned" anywhere; both tilt by about 3°. "tripod" is the walk with something that the
camera carries along painted over the lowest 30°; "mixed" is every second panorama of the walk and photos of 60° at the
places between.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import describe_machine, fill_table
from pages import write_page
from PIL import Image

from lightmatch.errors import ReconstructionError
from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.geometry.coordinates import invert_rigid
from lightmatch.geometry.panoramas import VIEWS, directions_of_panorama, elevations_deg, join_views, view_intrinsics
from lightmatch.pipelines.reconstruct import ReconstructConfig, read_summary, reconstruct
from lightmatch.reconstruction import read_model
from lightmatch.scenes import World, WorldConfig, build_world, procedural_textures, render

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "panoramas.json"
NUM, WIDTH = 12, 2048
TANGENT = math.tan(math.radians(50))  # of half the field of view of the pictures that are put together


def places(turned: bool) -> torch.Tensor:
    """(n, 3, 4) camera from world, float64, along four fifths of a circle of 3 m, 1.6 m above the ground."""
    random = np.random.default_rng(0)
    poses = []
    for number in range(NUM):
        angle = 0.8 * 2 * math.pi * number / NUM
        center = np.array([3.2 * math.cos(angle), 3.0 * math.sin(angle), 1.6 + 0.15 * math.sin(2 * angle)])
        yaw = random.uniform(0, 2 * math.pi) if turned else angle + math.pi / 2
        forward, down = np.array([math.cos(yaw), math.sin(yaw), 0]), np.array([0, 0, -1.0])
        tilt, _ = cv2.Rodrigues(random.normal(0, 0.05, 3))
        rotation = tilt @ np.stack([np.cross(down, forward), down, forward])
        poses.append(np.column_stack([rotation, -rotation @ center]))
    return torch.tensor(np.array(poses))


def render_panorama(world: World, pose: torch.Tensor) -> np.ndarray:
    """What all directions around one place look like, put together from six pictures of 100°."""
    side = math.ceil(1.2 * TANGENT * WIDTH / math.pi)
    focal, center = view_intrinsics(side, TANGENT)
    K = torch.tensor([[focal, 0, center], [0, focal, center], [0, 0, 1.0]])
    poses = torch.tensor(np.stack(list(VIEWS.values()))) @ pose
    pictures = render(world, K.expand(len(poses), 3, 3), poses, (side, side)).rgb.numpy()
    return join_views(dict(zip(VIEWS, pictures, strict=True)), WIDTH, TANGENT)


def carried(panorama: np.ndarray) -> np.ndarray:
    """The panorama with a piece of texture over all that is more than 60° below the horizon."""
    height, width = panorama.shape[:2]
    painted = procedural_textures(torch.Generator().manual_seed(9), 1, 512)[0].numpy()
    directions = directions_of_panorama((width, height))
    x, z = (300 * directions[..., axis] / np.maximum(directions[..., 1], 0.1) + 256 for axis in (0, 2))
    floor = cv2.remap(painted, x.astype(np.float32), z.astype(np.float32), cv2.INTER_LINEAR)
    return np.where((elevations_deg(directions) < -60)[..., None], floor, panorama)


def write(world: World, poses: torch.Tensor, folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Panoramas 000.jpg and so on."""
    folder.mkdir(parents=True)
    for number, pose in enumerate(poses):
        panorama = change(render_panorama(world, pose))
        Image.fromarray(panorama).save(folder / f"{number:03d}.jpg", quality=92)


def write_mixed(world: World, poses: torch.Tensor, folder: Path) -> None:
    """Every second place a panorama, the others photos of 60°."""
    folder.mkdir(parents=True)
    K = torch.tensor([[[832.0, 0, 479.5], [0, 832.0, 359.5], [0, 0, 1]]])
    for number, pose in enumerate(poses):
        pixels = render(world, K, pose[None], (960, 720)).rgb[0].numpy() if number % 2 else None
        pixels = render_panorama(world, pose) if pixels is None else pixels
        Image.fromarray(pixels).save(folder / f"{number:03d}.jpg", quality=92)


def errors(output: Path, truth: torch.Tensor) -> dict[str, float | int | str]:
    """Of the best model against the truth; positions in % of the extent of the true places."""
    model = read_model(output / "sparse" / "0")
    sources = read_summary(output).photos.sources
    poses: dict[str, np.ndarray] = {}
    for image_id in model.reg_image_ids():
        image = model.image(image_id)
        poses[sources[image.name].removesuffix(", front")] = image.cam_from_world().matrix()
    names = [f"{number:03d}.jpg" for number in range(len(truth))]
    found = torch.tensor(np.array([poses[name] for name in names if name in poses]))
    true = truth[[number for number, name in enumerate(names) if name in poses]]
    centers, true_centers = invert_rigid(found)[:, :, 3], invert_rigid(true)[:, :, 3]
    rotation, position = aligned_pose_errors(found[:, :, :3], centers, true[:, :, :3], true_centers)
    extent = float((true_centers.amax(0) - true_centers.amin(0)).norm())
    return {
        "placed": len(found),
        "position_percent": round(100 * float(position.median()) / extent, 4),
        "worst_position_percent": round(100 * float(position.max()) / extent, 4),
        "rotation_deg": round(float(rotation.median()), 4),
        "points": model.num_points3D(),
    }


TITLES = {
    "walk": "the camera looks where it goes",
    "turned": "every heading is random",
    "tripod": "the lowest 30° hidden by the tripod",
    "mixed": "every second place a photo of 60°, 960 × 720 px, instead",
}


def page(text: str, record: dict[str, Any]) -> str:
    """docs/panoramas.md with its table from panoramas.json."""
    lines = [
        "| set | registered | position | rotation | as ordinary photos (`--panorama no`) |",
        "|---|---|---:|---:|---|",
    ]
    rows = {(row["set"], row["panorama"]): row for row in record["rows"]}
    for name, title in TITLES.items():
        views, plain = rows[name, "auto"], rows[name, "no"]
        lines.append(
            f"| {title} | {views['placed']} of {record['panoramas']} | {views['position_percent']:.2g} %"
            f" | {views['rotation_deg']:.2g}° | {plain['placed']} of {record['panoramas']},"
            f" {plain['position_percent']:.2g} %, {plain['rotation_deg']:.0f}° |"
        )
    return fill_table(text, "table: benchmarks/panoramas.py", lines)


def main() -> None:
    """Render, reconstruct, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="folder for the panoramas and the models")
    parser.add_argument("--features", default=ReconstructConfig().features)
    parser.add_argument("--only", nargs="*", help="sets to run; all by default")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    world = build_world(torch.Generator().manual_seed(1), WorldConfig(texel_size=0.012))
    walk, turned = places(turned=False), places(turned=True)
    sets = {
        "walk": (walk, lambda folder: write(world, walk, folder, lambda panorama: panorama)),
        "turned": (turned, lambda folder: write(world, turned, folder, lambda panorama: panorama)),
        "tripod": (walk, lambda folder: write(world, walk, folder, carried)),
        "mixed": (walk, lambda folder: write_mixed(world, walk, folder)),
    }
    rows = []
    for name, (truth, make) in sets.items():
        if arguments.only and name not in arguments.only:
            continue
        photos = arguments.keep / name / "photos"
        if not photos.is_dir():
            make(photos)
        for panorama in ("auto", "no"):
            output = arguments.keep / name / f"{arguments.features}-{panorama}"
            config = ReconstructConfig(arguments.features, panorama=panorama, splat=False, seed=0)
            begun = time.perf_counter()
            try:
                reconstruct(photos, output, config, overwrite=True)
                found: dict[str, float | int | str] = errors(output, truth)
            except ReconstructionError as error:
                found = {"placed": 0, "error": str(error)}
            row = {"set": name, "panorama": panorama, **found, "seconds": round(time.perf_counter() - begun, 1)}
            print(row, flush=True)
            rows.append(row)
    record = {
        "machine": describe_machine(),
        "features": arguments.features,
        "panoramas": NUM,
        "px": WIDTH,
        "rows": rows,
    }
    arguments.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if arguments.results == RESULTS:
        write_page("panoramas")


if __name__ == "__main__":
    main()
