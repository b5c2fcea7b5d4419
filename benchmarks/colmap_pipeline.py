"""COLMAP's own pipeline on a folder of photos, through pycolmap: its SIFT, its matching, its incremental mapper.

Usage: python benchmarks/colmap_pipeline.py PHOTOS OUT [--seed 0]
Features and matches that an earlier run has left in OUT are used again; verification and mapping, which the seed
changes, are not. Everything at COLMAP's defaults, with the mapper's options that `lightmatch reconstruct` starts with.
Writes OUT/sparse/0 and OUT/summary.json, in which photos are counted as there, and seconds are by stage.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import pycolmap

from lightmatch.colmap.models import write_models
from lightmatch.images import list_images
from lightmatch.reconstruction.mapping.mappers import map_incrementally


def main() -> None:
    """Extract, match, map, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    photos, output, seed = arguments.photos, arguments.output, arguments.seed
    output.mkdir(parents=True, exist_ok=True)
    database = output / "database.db"
    names = [path.relative_to(photos).as_posix() for path in list_images(photos)]
    shutil.rmtree(output / "sparse", ignore_errors=True)
    if database.is_file():
        with pycolmap.Database.open(database) as opened:
            opened.clear_two_view_geometries()
    pycolmap.logging.minloglevel = 2
    pycolmap.set_random_seed(seed)
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        seconds[stage] = round(time.perf_counter() - clock, 2)
        clock = time.perf_counter()

    extraction = pycolmap.FeatureExtractionOptions()
    extraction.use_gpu = False
    pycolmap.extract_features(database, photos, image_names=names, extraction_options=extraction)
    lap("extract")
    matching = pycolmap.FeatureMatchingOptions()
    matching.use_gpu = False
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    pycolmap.match_exhaustive(database, matching_options=matching, verification_options=verification)
    lap("match")
    models = map_incrementally(database, photos, seed=seed)
    lap("map")
    summary = {"num_images": len(names), "num_registered": 0, "num_models": len(models), "seconds": seconds}
    if models:
        write_models(models, output)
        best = models[0]
        summary |= {
            "num_registered": best.num_reg_images(),
            "num_points": best.num_points3D(),
            "mean_track_length": best.compute_mean_track_length(),
            "mean_reprojection_error_px": best.compute_mean_reprojection_error(),
        }
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
