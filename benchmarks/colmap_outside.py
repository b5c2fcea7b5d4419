"""COLMAP's own mapper on the database that `lightmatch match-all` writes, beside `lightmatch reconstruct`.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/colmap_outside.py [--seeds 3]
On fountain-P11, both with the same seeds. The first model of `reconstruct` is the one before camera models are selected
and photos are matched again along epipolar lines. Writes benchmarks/results/colmap_outside.json and the table in
docs/interchange.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pycolmap
from common import describe_machine, fill_table
from pages import write_page
from reconstruct_sets import pose_scores

from lightmatch.colmap.models import write_models
from lightmatch.evaluation.datasets import read_pairs
from lightmatch.reconstruction.mapping.model_selection import MappingOptions, map_with_selection

HERE = Path(__file__).parent
PHOTOS = "strecha/fountain-P11"
OUTSIDE, FIRST, OURS = "match-all, then pycolmap.incremental_mapping", "reconstruct, first model", "reconstruct"


def map_outside(photos: Path, output: Path, seed: int) -> Path:
    """Match by the command line, map by pycolmap at its defaults; the folder of the model."""
    output.mkdir()
    database = output / "database.db"
    command = [sys.executable, "-m", "lightmatch", "match-all", str(photos), "-o", str(database)]
    subprocess.run([*command, "--work", str(output.parent / "work"), "--seed", str(seed), "--quiet"], check=True)
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    models = pycolmap.incremental_mapping(database, photos, output, options=options)
    write_models([max(models.values(), key=lambda model: model.num_reg_images())], output)
    return output / "sparse" / "0"


def map_first(photos: Path, output: Path, seed: int) -> Path:
    """The first model of `reconstruct`: mapped as it does, from the pairs that it verified; the folder of it."""
    ours = reconstruct(photos, output, seed, "--guided-keypoints", "0", "--no-splat")
    options = MappingOptions(select_camera_models=False, uncertainty=False)
    result = map_with_selection(ours / "database.db", ours / "images", seed=seed, options=options)
    write_models(result.models[:1], output)
    return output / "sparse" / "0"


def map_ours(photos: Path, output: Path, seed: int) -> Path:
    """The model of `reconstruct` as it comes; the folder of it."""
    return reconstruct(photos, output, seed, "--no-splat") / "sparse" / "0"


def reconstruct(photos: Path, output: Path, seed: int, *options: str) -> Path:
    """Run the command; runs share their folder, so that features and matches are found once."""
    ours = output.parent / "ours"
    command = [sys.executable, "-m", "lightmatch", "reconstruct", str(photos), "-o", str(ours), "--seed", str(seed)]
    subprocess.run([*command, *options, "--overwrite", "--quiet"], check=True)
    return ours


def page(text: str, results: dict[str, Any]) -> str:
    """docs/interchange.md with its table from colmap_outside.json."""
    rows = [
        "| fountain-P11 | registered | position error, % of the extent, by seed | rotation error, by seed | points |",
        "|---|---|---|---|---|",
    ]
    for name, found in results["runs"].items():
        position = ", ".join(f"{run['position_percent']:.4f}" for run in found)
        rotation = ", ".join(f"{run['rotation_deg']:.3f}°" for run in found)
        points = sum(run["num_points"] for run in found) / len(found)
        rows.append(f"| {name} | {found[0]['num_registered']} of 11 | {position} | {rotation} | {points:.0f} |")
    return fill_table(text, "table: benchmarks/colmap_outside.py", rows)


def main() -> None:
    """Match, map, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if "LIGHTMATCH_DATA" not in os.environ:
        raise SystemExit("set LIGHTMATCH_DATA to the folder that holds eval/")
    photos = Path(os.environ["LIGHTMATCH_DATA"]) / "eval" / PHOTOS
    pairs = read_pairs(photos)
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, make in ((OUTSIDE, map_outside), (FIRST, map_first), (OURS, map_ours)):
            for seed in range(arguments.seeds):
                folder = make(photos, Path(scratch, f"{make.__name__}-{seed}"), seed)
                model = pycolmap.Reconstruction(folder)
                run = {
                    "seed": seed,
                    "num_registered": model.num_reg_images(),
                    "num_points": model.num_points3D(),
                    "mean_reprojection_error_px": model.compute_mean_reprojection_error(),
                    **pose_scores(folder, pairs),
                }
                runs.setdefault(name, []).append(run)
                print(f"{name}: {run}", flush=True)
    results = {"machine": describe_machine(), "set": PHOTOS, "runs": runs}
    (HERE / "results" / "colmap_outside.json").write_text(json.dumps(results, indent=1) + "\n")
    write_page("colmap_outside")


if __name__ == "__main__":
    main()
