"""How dense and how true the cloud for splat trainers is, and what guided matching finds, against the procedural truth.

Usage: python benchmarks/densify.py --demo DEMO [--set NAME=FOLDER …]
DEMO: what `lightmatch demo -o DEMO` wrote (20 views). FOLDER: what `lightmatch reconstruct` wrote of other photos, of
which the points and the time are given. Writes benchmarks/results/densify.json and the tables of docs/splats.md. Needs
scipy (the extra "dev").
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import describe_machine, fill_table
from pages import write_page
from scipy.spatial import KDTree
from torch import Tensor

from lightmatch.extractors import create_extractor
from lightmatch.geometry.alignment import align_points
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid, transform_points
from lightmatch.geometry.depth import project, sample_depth, unproject, warp_with_depth
from lightmatch.matchers import NearestNeighbor, create_matcher
from lightmatch.matchers.guided import GuidedOptions, match_guided
from lightmatch.matchers.guided_pairs import PosedViews
from lightmatch.reconstruction import model_arrays, read_model
from lightmatch.reconstruction.outputs.clouds import DensePoints, sparse_points
from lightmatch.reconstruction.stereo.densify import DensifyOptions, densify
from lightmatch.runtime.threads import use_threads
from lightmatch.scenes import RenderedScene, demo_scene
from lightmatch.types import Features, Image, Matches

HERE = Path(__file__).parent
NUM_VIEWS = 20
LONG_SIDES = (400, 800)
PAIRS = [(view, (view + gap) % NUM_VIEWS) for gap in (1, 2, 3) for view in range(0, NUM_VIEWS, 4)]


def to_truth(folder: Path, scene: RenderedScene, points: np.ndarray) -> Tensor:
    """Points of the model in `folder` in the true world, by its camera centres."""
    found = model_arrays(read_model(folder))
    numbers = [int(Path(name).stem.rpartition("_")[2]) for name in found.names]
    true = invert_rigid(scene.cam_from_world.double())[numbers, :, 3]
    return align_points(torch.from_numpy(found.centers), true).apply(torch.from_numpy(points).double())


def surface_errors(points: Tensor, scene: RenderedScene) -> tuple[Tensor, Tensor]:
    """How far each point is from the true surface, in metres and in pixels of the pictures at its distance; (n,) each.

    The least over all views of the distance along the view's ray: never less than the distance to the surface. inf for
    points that no view has a surface behind or before.
    """
    least = torch.full((len(points),), torch.inf, dtype=torch.float64)
    pixels = least.clone()
    for K, pose, depth in zip(scene.K.double(), scene.cam_from_world.double(), scene.depth.double(), strict=True):
        places, z = project(transform_points(pose, points), K)
        surface, seen = sample_depth(depth, torch.where(places.isfinite(), places, -9.0))
        error = torch.where(seen & (z > 0), (z - surface).abs(), torch.inf)
        nearer = error < least
        least, pixels = torch.where(nearer, error, least), torch.where(nearer, error * K[0, 0] / z, pixels)
    return least, pixels


def true_surface(scene: RenderedScene, every: int = 6) -> Tensor:
    """Points (n, 3) of the true surface: every few pixels of every view that at least two other views see."""
    height, width = scene.depth.shape[1:]
    y, x = torch.meshgrid(torch.arange(0, height, every), torch.arange(0, width, every), indexing="ij")
    grid = torch.stack((x, y), -1).reshape(-1, 2).double()
    K, poses, depths = scene.K.double(), scene.cam_from_world.double(), scene.depth.double()
    found = []
    for view in range(len(poses)):
        depth, known = sample_depth(depths[view], grid)
        count = torch.zeros(len(grid), dtype=torch.int64)
        for other in range(len(poses)):
            if other != view:
                pose = compose_rigid(poses[other], invert_rigid(poses[view]))
                count += warp_with_depth(grid, depths[view], K[view], depths[other], K[other], pose)[1]
        points = unproject(grid, depth, K[view])
        found.append(transform_points(invert_rigid(poses[view]), points)[known & (count >= 2)])
    return torch.cat(found)


def score(points: Tensor, scene: RenderedScene, surface: Tensor, extent: float) -> dict[str, float]:
    """Accuracy and completeness of a cloud in the true world."""
    error, error_px = surface_errors(points, scene)
    near, _ = KDTree(points.numpy()).query(surface.numpy())
    return {
        "error_median_percent": round(100 * float(error.quantile(0.5)) / extent, 4),
        "error_95_percent": round(100 * float(error.quantile(0.95)) / extent, 4),
        "error_median_px": round(float(error_px.quantile(0.5)), 3),
        "error_95_px": round(float(error_px.quantile(0.95)), 3),
        "within_1_percent": round(100 * float((error < 0.01 * extent).double().mean()), 2),
        "complete_02_percent": round(100 * float((near < 0.002 * extent).mean()), 1),
        "complete_05_percent": round(100 * float((near < 0.005 * extent).mean()), 1),
    }


def timed(folder: Path, long_side: int) -> tuple[DensePoints, dict[str, Any]]:
    """The dense cloud of a result of ours, and what it cost."""
    model = read_model(folder / "sparse" / "0")
    start, cpu = time.perf_counter(), time.process_time()
    masks = folder / "masks" if (folder / "masks").is_dir() else None
    cloud = densify(model, folder / "images", masks, DensifyOptions(long_side=long_side))
    photos = model.num_reg_images()
    return cloud, {
        "long_side": long_side,
        "photos": photos,
        "sparse_points": model.num_points3D(),
        "points": len(cloud),
        "times_denser": round(len(cloud) / model.num_points3D(), 1),
        "seconds_a_photo": round((time.perf_counter() - start) / photos, 2),
        "cpu_seconds_a_photo": round((time.process_time() - cpu) / photos, 2),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        // (1024 if sys.platform == "linux" else 1 << 20),
    }


def measure_demo(demo: Path, scene: RenderedScene) -> list[dict[str, Any]]:
    """The sparse cloud and dense ones against the truth."""
    folder = demo / "model"
    surface = true_surface(scene)
    centers = invert_rigid(scene.cam_from_world.double())[:, :, 3]
    extent = float((surface.amax(0) - surface.amin(0)).norm())
    cameras = float((centers.amax(0) - centers.amin(0)).norm())
    sparse = sparse_points(read_model(folder / "sparse" / "0"))
    rows = [{"cloud": "sparse", "points": len(sparse), "extent_m": extent, "camera_extent_m": cameras}]
    rows[0] |= score(to_truth(folder / "sparse" / "0", scene, sparse.points), scene, surface, extent)
    for long_side in LONG_SIDES:
        cloud, cost = timed(folder, long_side)
        rows.append(
            {
                "cloud": "dense",
                **cost,
                **score(to_truth(folder / "sparse" / "0", scene, cloud.points), scene, surface, extent),
            }
        )
        print(rows[-1], flush=True)
    return rows


def right(matches: Matches, features: list[Features], pair: tuple[int, int], scene: RenderedScene) -> tuple[int, int]:
    """How many matches the true depth confirms to 3 px, and how many it covers."""
    i, j = pair
    points0, points1 = matches.points(features[i], features[j])
    pose = compose_rigid(scene.cam_from_world[j], invert_rigid(scene.cam_from_world[i]))
    there, visible = warp_with_depth(points0, scene.depth[i], scene.K[i], scene.depth[j], scene.K[j], pose)
    return int((visible & ((there - points1).norm(dim=1) < 3)).sum()), len(matches)


def measure_matching(scene: RenderedScene) -> list[dict[str, Any]]:
    """Guided matching with known poses against LightGlue and mutual nearest neighbours, by gap between the views."""
    rows = []
    for keypoints, contrast in ((2048, 0.02), (8192, 0.005)):
        extractor = create_extractor("sift", max_keypoints=keypoints, contrast_threshold=contrast)
        features = [extractor(Image(pixels.numpy())) for pixels in scene.rgb]
        lightglue = create_matcher("lightglue", features[0].kind)

        def posed(i: int, j: int, **depths: Any) -> PosedViews:
            pose = compose_rigid(scene.cam_from_world[j], invert_rigid(scene.cam_from_world[i])).double()
            return PosedViews(pose, scene.K[i], scene.K[j], **depths)

        def guide(i: int, j: int, features: list[Features] = features, **options: Any) -> Matches:
            return match_guided(features[i], features[j], posed(i, j), GuidedOptions(**options))

        methods = {
            "mutual nearest, ratio 0.8": lambda i, j, f=features: NearestNeighbor(0.8)(f[i], f[j]),
            "LightGlue": lambda i, j, f=features, m=lightglue: m(f[i], f[j]),
            "guided": guide,
            "guided, 1.5 px": lambda i, j, g=guide: g(i, j, max_error_px=1.5),
            "guided, orientation 30°": lambda i, j, g=guide: g(i, j, max_turn_deg=30),
            "guided, scale 1.7": lambda i, j, g=guide: g(i, j, max_scale_ratio=1.7),
            "guided, ratio 0.9": lambda i, j, g=guide: g(i, j, ratio=0.9),
            "guided, depth 1 m to 30 m": lambda i, j, f=features: match_guided(
                f[i], f[j], posed(i, j, depths0=(1.0, 30.0), depths1=(1.0, 30.0))
            ),
        }
        if keypoints > 2048:
            del methods["LightGlue"]  # is made for 2048, and takes a minute for these
        for name, method in methods.items():
            row: dict[str, Any] = {"keypoints": keypoints, "matcher": name}
            for gap in (1, 2, 3):
                pairs = [pair for pair in PAIRS if (pair[1] - pair[0]) % NUM_VIEWS == gap]
                start = time.process_time()
                found = [method(*pair) for pair in pairs]
                seconds = (time.process_time() - start) / len(pairs)
                counted = [right(matches, features, pair, scene) for matches, pair in zip(found, pairs, strict=True)]
                good, total = (sum(numbers) for numbers in zip(*counted, strict=True))
                row[f"gap {gap}"] = {
                    "right": round(good / len(pairs), 1),
                    "precision_percent": round(100 * good / max(total, 1), 1),
                    "cpu_seconds": round(seconds, 3),
                }
            rows.append(row)
            print(row, flush=True)
    return rows


def page(text: str, results: dict[str, Any]) -> str:
    """docs/splats.md with its tables from densify.json."""
    sparse, *dense = results["demo"]
    lines = [
        "| cloud | points | times the sparse | error: median | 95 % | within 1 % | complete | seconds a photo"
        " | peak memory |",
        "|---|" + "---:|" * 8,
        f"| sparse | {sparse['points']:,} | 1 | {_errors(sparse, 3, 2, 1, 0)} | – | – |",
    ]
    for row in dense:
        lines.append(
            f"| dense, `long_side` {row['long_side']} | {row['points']:,} | {row['points'] / sparse['points']:.0f}"
            f" | {_errors(row, 3, 2, 2, 1)} | {row['seconds_a_photo']:.1f} | {row['peak_memory_mib']:,} MiB |"
        )
    text = fill_table(text, "procedural world: benchmarks/densify.py", lines)
    lines = ["| photos | sparse points | dense points | times the sparse | seconds a photo |", "|---|" + "---:|" * 4]
    for name, row in results["sets"].items():
        lines.append(
            f"| {name}, {row['photos']} | {row['sparse_points']:,} | {row['points']:,}"
            f" | {row['points'] / row['sparse_points']:.0f} | {row['seconds_a_photo']:.1f} |"
        )
    return fill_table(text, "photos: benchmarks/densify.py", lines)


def _errors(row: dict[str, Any], *decimals: int) -> str:
    """Cells of the errors of a cloud: median, 95 %, within 1 %, complete."""
    percent, px, far_percent, far_px = decimals
    return (
        f"{row['error_median_percent']:.{percent}f} %, {row['error_median_px']:.{px}f} px"
        f" | {row['error_95_percent']:.{far_percent}f} %, {row['error_95_px']:.{far_px}f} px"
        f" | {row['within_1_percent']:.1f} % | {row['complete_02_percent']:.1f} %"
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    scene = demo_scene(0, NUM_VIEWS)
    results: dict[str, Any] = {"machine": describe_machine(), "threads": arguments.threads}
    results["matching"] = measure_matching(scene)
    results["demo"] = measure_demo(arguments.demo, scene)
    results["sets"] = {}
    for named in arguments.set:
        name, _, folder = named.partition("=")
        _, results["sets"][name] = timed(Path(folder), 800)
        print(name, results["sets"][name], flush=True)
    text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    (HERE / "results" / "densify.json").write_text(text)
    write_page("densify")


if __name__ == "__main__":
    main()
