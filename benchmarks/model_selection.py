"""Plain incremental mapping against model selection by held-out observations, on the databases of earlier runs.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/model_selection.py RESULTS [SET ...]
RESULTS/<set> is what `lightmatch reconstruct PHOTOS -o RESULTS/<set> --seed 0` wrote. Writes
benchmarks/results/model_selection.json: photos registered, held-out score, pose errors where the truth is known,
distance from GPS where photos have it, seconds of processor time (of this process and those it started), on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pycolmap
import torch
from common import describe_machine
from reconstruct_sets import pose_scores

from lightmatch.colmap.database import copy_database
from lightmatch.colmap.models import model_arrays
from lightmatch.evaluation.datasets import read_pairs
from lightmatch.geometry.alignment import align_points
from lightmatch.reconstruction.mapping.held_out import HeldOutScorer
from lightmatch.reconstruction.mapping.mappers import map_incrementally
from lightmatch.reconstruction.mapping.model_selection import map_with_selection
from lightmatch.runtime import codec
from lightmatch.sfm.bundle_adjustment import AdjustOptions
from lightmatch.sfm.tracks import read_tracks

HERE = Path(__file__).parent
TRUTHS = {  # set: folder of its true poses below eval/
    "fountain": "strecha/fountain-P11",
    "lund_door": "lund_door",
    "reichstag": "imc_reichstag",
    "temple": "middlebury_templeRing47",
}
_METRES_PER_DEGREE = 111_320.0
_Result = TypeVar("_Result")


def processor_seconds(work: Callable[[], _Result]) -> tuple[_Result, float]:
    """What `work` returns and the processor time it took, in processes it started as well."""

    def used() -> float:
        return sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    before = used()
    return work(), used() - before


def gps_errors(model: pycolmap.Reconstruction, database: Path) -> dict[str, float]:
    """Distances in metres from GPS, height aside, after the best similarity; empty without GPS."""
    with pycolmap.Database.open(database) as opened:
        names = {image.image_id: image.name for image in opened.read_all_images()}
        given = {names[prior.corr_data_id.id]: prior.position for prior in opened.read_all_pose_priors()}
    found = model_arrays(model)
    kept = [number for number, name in enumerate(found.names) if name in given]
    if len(kept) < 4:
        return {}
    latitude, longitude, _ = np.array([given[found.names[number]] for number in kept]).T
    north = (latitude - latitude.mean()) * _METRES_PER_DEGREE
    east = (longitude - longitude.mean()) * _METRES_PER_DEGREE * np.cos(np.radians(latitude.mean()))
    target = torch.from_numpy(np.column_stack((east, north, np.zeros(len(kept)))))
    source = torch.from_numpy(found.centers[kept])
    away = (align_points(source, target).apply(source) - target).norm(dim=1)
    return {"gps_median_m": round(float(away.median()), 2), "gps_max_m": round(float(away.max()), 2)}


def measure(
    model: pycolmap.Reconstruction, scorer: HeldOutScorer, options: AdjustOptions, database: Path, truth: Any
) -> dict[str, Any]:
    """The numbers of one model."""
    answer: dict[str, Any] = {
        "num_registered": model.num_reg_images(),
        "num_points": model.num_points3D(),
        "held_out": codec.to_json(scorer.score(model, options).summary()),
        "cameras": sorted({camera.model_name for camera in model.cameras.values()}),
        **gps_errors(model, database),
    }
    if truth:
        with tempfile.TemporaryDirectory() as folder:
            model.write_binary(folder)
            answer |= {key: round(value, 4) for key, value in pose_scores(Path(folder), truth).items()}
    return answer


def run_set(folder: Path, truth: Any) -> dict[str, Any]:
    """Map one database both ways."""
    with tempfile.TemporaryDirectory() as scratch:
        database, images = Path(scratch, "database.db"), folder / "images"
        copy_database(folder / "database.db", database)
        scorer, options = HeldOutScorer(read_tracks(database)), AdjustOptions(threads=1)
        models, seconds = processor_seconds(lambda: map_incrementally(database, images, seed=0))
        plain = measure(models[0], scorer, options, database, truth) if models else {"num_registered": 0}
        result, selected_seconds = processor_seconds(lambda: map_with_selection(database, images, seed=0))
        selected: dict[str, Any] = {"num_registered": 0}
        if result.models:
            selected = measure(result.models[0], scorer, result.adjust_options, database, truth)
        return {
            "plain": {**plain, "processor_seconds": round(seconds, 1)},
            "selected": {**selected, "processor_seconds": round(selected_seconds, 1)},
            "history": codec.to_json(replace(result.history, photo_scores={})),
        }


def main() -> None:
    """Map, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("sets", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ["LIGHTMATCH_DATA"]) / "eval" if "LIGHTMATCH_DATA" in os.environ else None
    found = sorted(path.parent.name for path in arguments.results.glob("*/database.db"))
    target = HERE / "results" / "model_selection.json"
    sets: dict[str, Any] = json.loads(target.read_text())["sets"] if target.exists() else {}
    for name in arguments.sets or found:
        truth = read_pairs(data / TRUTHS[name]) if data and name in TRUTHS else None
        sets[name] = run_set(arguments.results / name, truth)
        for way in ("plain", "selected"):
            print(name, way, json.dumps(sets[name][way]), flush=True)
        results = {"machine": describe_machine(), "sets": dict(sorted(sets.items()))}
        target.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
