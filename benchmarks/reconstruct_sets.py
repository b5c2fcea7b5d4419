"""Reconstruct real photo sets by LightGlue and by the ratio test: photos registered, tracks, poses, time, memory.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/reconstruct_sets.py
Writes benchmarks/results/reconstruct_sets.json and docs/reconstruction.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import describe_machine
from torch import Tensor

from lightmatch.evaluation.datasets import read_pairs
from lightmatch.evaluation.metrics import area_under_curve
from lightmatch.evaluation.pairs import EvaluationPair, PoseTruth
from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.geometry.epipolar import pose_error
from lightmatch.reconstruction import model_arrays, read_model

HERE = Path(__file__).parent
SETS = {  # name: folder of photos below eval/, and the folder with their true poses
    "sfm_sceaux_castle": ("sfm_sceaux_castle", None),
    "sfm_opensfm_lund": ("sfm_opensfm_lund", None),
    "strecha/fountain-P11": ("strecha/fountain-P11", "strecha/fountain-P11"),
    "lund_door": ("lund_door/images", "lund_door"),
    "imc_reichstag": ("imc_reichstag/images", "imc_reichstag"),
    "middlebury_templeRing47": ("middlebury_templeRing47", "middlebury_templeRing47"),
}
# The ratio test of 0.8 with as many keypoints as it is used with, and with those that LightGlue has.
RUNS = (("lightglue", 2048), ("nearest", 2048), ("nearest", 8192))


def run_set(photos: Path, output: Path, matcher: str, max_keypoints: int, seed: int) -> dict[str, Any]:
    """Reconstruct in a process of its own, so that its peak memory is its own. Only "error" where nothing was found."""
    options = ["--matcher", matcher, "--max-keypoints", str(max_keypoints), "--seed", str(seed), "--device", "cpu"]
    command = [sys.executable, "-m", "lightmatch", "reconstruct", str(photos), "-o", str(output), *options]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            messages.seek(0)
            said = messages.read().strip().splitlines()[-1]
            if "nothing could be registered" not in said:
                raise SystemExit(f"failed: {' '.join(command)}: {said}")
            return {"error": said}
    summary = json.loads((output / "summary.json").read_text())
    seconds = time.perf_counter() - start
    unit = 1024 if sys.platform == "linux" else 1024**2  # kilobytes, or bytes on macOS
    return {
        **summary,
        "wall_seconds": round(seconds, 2),
        "cores_busy": round((usage.ru_utime + usage.ru_stime) / seconds, 2),
        "peak_memory_mib": round(usage.ru_maxrss / unit),
    }


def pose_scores(model: Path, pairs: list[EvaluationPair]) -> dict[str, float]:
    """How near the cameras of a model are to the truth; photos are known by their names without ending.

    Of the photos registered: position_percent, the median distance after aligning the centres (Umeyama 1991), in % of
    the diagonal of the box around all true ones; rotation_deg, the median error of the rotation between two photos.
    auc5: of the larger of rotation and direction error over all true pairs, those with a photo left out counted as not
    found. Models of less than three photos have only the last.
    """
    found = model_arrays(read_model(model))
    rotations, centers = torch.from_numpy(found.rotations), torch.from_numpy(found.centers)
    poses = {
        Path(name).stem: torch.cat((R, -R @ c[:, None]), 1)
        for name, R, c in zip(found.names, rotations, centers, strict=True)
    }
    errors, rotation_errors = [], []
    for pair in pairs:
        assert isinstance(pair.truth, PoseTruth)
        ends = [Path(str(image)).stem for image in (pair.image0, pair.image1)]
        if not all(end in poses for end in ends):
            errors.append(float("inf"))
            continue
        cam1_from_cam0 = compose_rigid(poses[ends[1]], invert_rigid(poses[ends[0]]))
        rotation_deg, direction_deg = pose_error(cam1_from_cam0, pair.truth.cam1_from_cam0)
        rotation_errors.append(float(rotation_deg))
        errors.append(max(float(rotation_deg), float(direction_deg)))
    auc5 = 100 * float(area_under_curve(torch.tensor(errors).numpy(), [5.0])[0])
    truth = true_poses(pairs)
    kept = [number for number, name in enumerate(found.names) if Path(name).stem in truth]
    if len(kept) < 3:
        return {"auc5": auc5}
    true = torch.stack([truth[Path(found.names[number]).stem] for number in kept])
    true_centers = invert_rigid(true)[:, :, 3]
    _, position = aligned_pose_errors(rotations[kept], centers[kept], true[:, :, :3], true_centers)
    every = invert_rigid(torch.stack([*truth.values()]))[:, :, 3]
    extent = float((every.amax(0) - every.amin(0)).norm())
    return {
        "position_percent": 100 * float(position.median()) / extent,
        "rotation_deg": statistics.median(rotation_errors),
        "auc5": auc5,
    }


def true_poses(pairs: list[EvaluationPair]) -> dict[str, Tensor]:
    """Camera from world (3, 4) of every photo that pairs lead to from the first; the first camera is the world."""
    relative: dict[str, dict[str, Tensor]] = {}
    for pair in pairs:
        assert isinstance(pair.truth, PoseTruth)
        name0, name1 = (Path(str(image)).stem for image in (pair.image0, pair.image1))
        relative.setdefault(name0, {})[name1] = pair.truth.cam1_from_cam0
        relative.setdefault(name1, {})[name0] = invert_rigid(pair.truth.cam1_from_cam0)
    first = next(iter(relative))
    poses, waiting = {first: torch.eye(3, 4, dtype=torch.float64)}, [first]
    for name in waiting:  # grows meanwhile
        for other, pose in relative[name].items():
            if other not in poses:
                poses[other] = compose_rigid(pose, poses[name])
                waiting.append(other)
    return poses


def write_page(path: Path, results: dict[str, Any], command: str) -> None:
    """The results as a page of documentation."""
    lines = [
        "# Reconstruction of real photos",
        "",
        f"Made by `{command}`; the numbers with machine and versions are in"
        " `benchmarks/results/reconstruct_sets.json`. Every run is `lightmatch reconstruct`, SIFT, intrinsics estimated"
        " (SIMPLE_RADIAL), with the matcher and number of keypoints of its row; `nearest` is the ratio test of 0.8 both"
        " ways.",
        "",
        "Position: median distance of the camera centres from the truth after a similarity (Umeyama 1991), in % of the"
        " extent of all true cameras. Rotation: median error of the rotation between two photos. Both are of the photos"
        " registered. AUC@5°: relative poses of all true pairs; a pair with a photo left out counts as not found."
        " SIMPLE_RADIAL keeps the principal point in the middle of the picture; where the truth has it elsewhere"
        " (fountain: 0.46°) the direction between two cameras is off by as much for every matcher.",
    ]
    for name, runs in results["sets"].items():
        posed = any("auc5" in run for run in runs)
        lines += [
            "",
            f"## {name}",
            "",
            "| matcher | keypoints | registered | points | track length | reprojection"
            + (" | position | rotation | AUC@5°" if posed else "")
            + " | seconds | cores busy | peak memory |",
            "|---" * (12 if posed else 9) + "|",
        ]
        for run in runs:
            head = f"| {run['matcher']} | {run['max_keypoints']} | "
            if "error" in run:
                lines.append(head + "nothing" + " | –" * (9 if posed else 6) + " |")
                continue
            near = (("position_percent", " %"), ("rotation_deg", "°"))
            parts = [f"{run[key]:.3f}{unit}" if key in run else "–" for key, unit in near]
            poses = " | ".join(("", *parts, f"{run['auc5']:.1f}")) if posed else ""
            lines.append(
                f"{head}{run['num_registered']} of {run['num_images']} | {run['num_points']}"
                f" | {run['mean_track_length']:.2f} | {run['mean_reprojection_error_px']:.2f} px"
                f"{poses} | {run['wall_seconds']:.0f} | {run['cores_busy']:.2f} | {run['peak_memory_mib']} MiB |"
            )
    lines += ["", f"Machine: {results['machine']['cpu']}, {results['machine']['num_cpus']} cores."]
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Reconstruct, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if "LIGHTMATCH_DATA" not in os.environ:
        raise SystemExit("set LIGHTMATCH_DATA to the folder that holds eval/")
    data = Path(os.environ["LIGHTMATCH_DATA"]) / "eval"
    results: dict[str, Any] = {"machine": describe_machine(), "seed": arguments.seed, "sets": {}}
    for name, (folder, truth) in SETS.items():
        pairs = read_pairs(data / truth) if truth else []
        results["sets"][name] = []
        for matcher, max_keypoints in RUNS:
            with tempfile.TemporaryDirectory() as scratch:
                output = Path(scratch) / "out"
                run = run_set(data / folder, output, matcher, max_keypoints, arguments.seed)
                run |= {"matcher": matcher, "max_keypoints": max_keypoints}
                if pairs and "error" not in run:
                    run |= pose_scores(output / "sparse" / "0", pairs)
            results["sets"][name].append(run)
            print(f"{name}, {matcher} {max_keypoints}: {run.get('num_registered', run.get('error'))}", flush=True)
        text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
        (HERE / "results" / "reconstruct_sets.json").write_text(text)
    write_page(HERE.parent / "docs" / "reconstruction.md", results, "python benchmarks/reconstruct_sets.py")


if __name__ == "__main__":
    main()
