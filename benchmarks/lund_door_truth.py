"""Can the truth of lund_door rank two models? Ask keypoints that no model, and the truth neither, was made from.

The truth is itself a model that COLMAP made from its SIFT keypoints. So this asks two things: how many of the truth's
keypoints each model has as well, with their errors; and how well the truth, COLMAP's model and ours predict tracks of
ALIKED keypoints (each observation from the others of its track, see `lightmatch.reconstruction.mapping.held_out`). The
truth has its principal point in the middle of the photos; so SIFT's, LightPoint's and ALIKED's keypoints are used too
where it lies.

Usage: LIGHTMATCH_DATA=/path/to/data LIGHTMATCH_WEIGHTS=/path/to/aliked python benchmarks/lund_door_truth.py --keep OUT
Models that an earlier run has left in OUT are used again. Writes benchmarks/results/lund_door_truth.json, which
`reconstruct_sets.py --sets` puts on its page.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from common import describe_machine
from reconstruct_sets import run_set
from scipy.spatial import KDTree

from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.reconstruction import read_model
from lightmatch.reconstruction.mapping.held_out import HeldOutScorer, compare
from lightmatch.reconstruction.refinement.steps import FINAL
from lightmatch.runtime import codec
from lightmatch.sfm.bundle_adjustment import AdjustOptions, FreeIntrinsics, adjust
from lightmatch.sfm.tracks import MIN_LENGTH, read_tracks

HERE = Path(__file__).parent
SAME_PX = (0.05, 0.1, 0.25)


def shared_keypoints(truth: Any, model: Any) -> dict[str, float]:
    """Of the truth's keypoints that see a point, the part that the model has within so many px."""
    own = {image.name: image for image in model.images.values()}
    distances = []
    for image in truth.images.values():
        tree = KDTree([point.xy for point in own[image.name].points2D if point.has_point3D()])
        wanted = [point.xy for point in image.points2D if point.has_point3D()]
        distances.append(tree.query(wanted)[0])
    every = np.concatenate(distances)
    return {f"within_{limit}px": round(float((every <= limit).mean()), 4) for limit in SAME_PX}


def principal_point_px(model: Any) -> list[float]:
    """Where a model's keypoints put the principal point of its one camera, (right, down) of the middle of the photo."""
    free = FreeIntrinsics(principal_point=True)
    adjust(model, AdjustOptions(free=free, tolerance=FINAL))
    (camera,) = model.cameras.values()
    return [
        round(camera.principal_point_x - camera.width / 2, 1),
        round(camera.principal_point_y - camera.height / 2, 1),
    ]


def main() -> None:
    """Reconstruct four times, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="folder for the models")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "lund_door_truth.json")
    arguments = parser.parse_args()
    data = Path(os.environ["LIGHTMATCH_DATA"]) / "eval" / "lund_door"
    for pipeline in ("lightmatch", "lightmatch, LightPoint", "colmap"):
        if not (arguments.keep / pipeline / "summary.json").is_file():
            run_set(pipeline, data / "images", arguments.keep / pipeline, seed=0)
    if not (arguments.keep / "aliked" / "summary.json").is_file():
        config = ReconstructConfig("aliked", "nearest", 4096, 4096, splat=False, seed=0)
        reconstruct(data / "images", arguments.keep / "aliked", config)
    truth = read_model(data / "colmap_ground_truth")
    models = {name: read_model(arguments.keep / name / "sparse" / "0") for name in ("lightmatch", "colmap")}

    tracks = read_tracks(arguments.keep / "aliked" / "database.db")
    scorer = HeldOutScorer(tracks, tracks.lengths >= MIN_LENGTH)
    scores = {name: scorer.measure(model) for name, model in {"truth": truth, **models}.items()}
    results: dict[str, Any] = {
        "shared_keypoints": {name: shared_keypoints(truth, model) for name, model in models.items()},
        "scores": {name: codec.to_json(score.summary()) for name, score in scores.items()},
        "lightmatch_less_colmap": codec.to_json(compare(scores["lightmatch"], scores["colmap"])),
        "truth_less_colmap": codec.to_json(compare(scores["truth"], scores["colmap"])),
        "truth_less_lightmatch": codec.to_json(compare(scores["truth"], scores["lightmatch"])),
        "principal_points_px": {
            kind: principal_point_px(read_model(arguments.keep / folder / "sparse" / "0"))
            for kind, folder in {
                "SIFT": "lightmatch",
                "LightPoint": "lightmatch, LightPoint",
                "ALIKED": "aliked",
            }.items()
        },
        "machine": describe_machine(),
    }
    arguments.results.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(results, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
