"""Reconstruct real photo sets by lightmatch and by COLMAP's own pipeline: photos, points, poses, time, memory.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/reconstruct_sets.py [--sets NAME …] [--seeds 3]
Writes benchmarks/results/reconstruct_sets.json, where sets that are not named keep what they have, and
docs/reconstruction.md.
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
from pages import write_page
from torch import Tensor

from lightmatch.evaluation.datasets import read_pairs
from lightmatch.evaluation.metrics import area_under_curve
from lightmatch.evaluation.pairs import EvaluationPair, PoseTruth
from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.geometry.epipolar import pose_error
from lightmatch.pipelines.reconstruct import read_summary
from lightmatch.reconstruction import model_arrays, read_model

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "reconstruct_sets.json"
SETS = {  # name: folder of photos below eval/, and the folder with their true poses
    "imc_reichstag": ("imc_reichstag/images", "imc_reichstag"),
    "strecha/fountain-P11": ("strecha/fountain-P11", "strecha/fountain-P11"),
    "lund_door": ("lund_door/images", "lund_door"),
    "sfm_sceaux_castle": ("sfm_sceaux_castle", None),
    "sfm_opensfm_lund": ("sfm_opensfm_lund", None),
    "tum_fr3_office_17frames": ("tum_fr3_office_17frames", None),
    "slambook_loop_ch11": ("slambook_loop_ch11", None),
    "middlebury_templeRing47": ("middlebury_templeRing47", "middlebury_templeRing47"),
}
# Of lightmatch: the options behind the command.
PIPELINES = {
    "lightmatch": (),
    "lightmatch, SIFT": ("--features", "sift"),  # where the default tries LightPoint too
    "lightmatch, LightPoint": ("--features", "lightpoint"),
    "colmap": (),
}


def _numbers(output: Path) -> dict[str, Any]:
    """Of a run of lightmatch, as benchmarks/colmap_pipeline.py has them."""
    found = read_summary(output)
    return {
        "num_images": found.num_images,
        "num_registered": found.num_registered,
        "num_models": found.num_models,
        "features_tried": {trial.features: trial.num_registered for trial in found.features_tried},
        "seconds": dict(found.seconds),
        "num_points": found.model.num_points,
        "mean_track_length": found.model.mean_track_length,
        "mean_reprojection_error_px": found.model.mean_reprojection_error_px,
        "left_out": {photo.name: photo.reason for photo in found.not_registered},
    }


def run_set(pipeline: str, photos: Path, output: Path, seed: int) -> dict[str, Any]:
    """Reconstruct in a process of its own, so that its peak memory is its own. Only "error" where nothing was found.

    Of lightmatch, seconds and memory are those without the splat folder, which COLMAP's pipeline does not make. What an
    earlier seed has left in the folder gives its features and matches to both, for they depend on no seed.
    """
    if pipeline == "colmap":
        command = [sys.executable, str(HERE / "colmap_pipeline.py"), str(photos), str(output), "--seed", str(seed)]
    else:
        options = [*PIPELINES[pipeline], "--seed", str(seed), "--device", "cpu", "--no-splat", "--overwrite", "--quiet"]
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
            return {"seed": seed, "error": said}
    summary = _numbers(output) if pipeline != "colmap" else json.loads((output / "summary.json").read_text())
    seconds = time.perf_counter() - start
    unit = 1024 if sys.platform == "linux" else 1024**2  # kilobytes, or bytes on macOS
    kept = ("num_images", "num_registered", "num_models", "num_points", "mean_track_length", "seconds")
    return {
        "seed": seed,
        **{key: summary[key] for key in (*kept, "mean_reprojection_error_px") if key in summary},
        **({"features_tried": tried} if (tried := summary.get("features_tried")) else {}),
        "left_out": summary.get("left_out", {}),
        "wall_seconds": round(seconds, 2),
        "core_seconds": round(usage.ru_utime + usage.ru_stime, 2),
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


def page(_: str, results: dict[str, Any], lund_door: dict[str, Any]) -> str:
    """docs/reconstruction.md from reconstruct_sets.json and lund_door_truth.json."""
    seeds = max(len(runs) for of in results["sets"].values() for runs in of.values())
    lines = [
        "# Reconstruction against COLMAP",
        "",
        "Made by `python benchmarks/reconstruct_sets.py`; the numbers of every run with machine and versions are in"
        " `benchmarks/results/reconstruct_sets.json`. `lightmatch` is `lightmatch reconstruct` with default options,"
        " and with `--features` where SIFT or LightPoint is named (SIFT is there where it is not what the default"
        " options give); `colmap` is"
        " COLMAP's own pipeline through pycolmap: its SIFT, exhaustive matching, and incremental mapper with the same"
        " options as lightmatch's first attempt. Both estimate the intrinsics.",
        "",
        f"Numbers are means of {seeds} seeds, ± half of the range. Position: median distance of the camera centres from"
        " the truth after a similarity (Umeyama 1991), in % of the extent of all true cameras. Rotation: median error"
        " of the rotation between two photos. Both are over the registered photos. AUC@5°: relative poses of all true"
        " pairs; a pair with an unregistered photo counts as not found. Core seconds (CPU time of all cores) and memory"
        " are of the first seed's run, from photos to the model (of lightmatch with its report, without the splat"
        " folder).",
    ]
    for name, of in results["sets"].items():
        posed = any("auc5" in run for runs in of.values() for run in runs)
        lines += [
            "",
            f"## {name}",
            "",
            "| pipeline | registered | points | track length | reprojection"
            + (" | position | rotation | AUC@5°" if posed else "")
            + " | core seconds | peak memory |",
            "|---" * (10 if posed else 7) + "|",
        ]
        for pipeline, runs in of.items():
            found = [run for run in runs if run.get("num_registered")]
            if not found:
                lines.append(f"| {pipeline} | nothing" + " | –" * (8 if posed else 5) + " |")
                continue
            counts = sorted({run["num_registered"] for run in runs if "num_registered" in run})
            cells = [
                f"{'–'.join(map(str, counts))} of {found[0]['num_images']}",
                spread(found, "num_points", 0),
                spread(found, "mean_track_length", 2),
                spread(found, "mean_reprojection_error_px", 2, " px"),
            ]
            if posed:
                cells += [
                    spread(found, "position_percent", 4, " %"),
                    spread(found, "rotation_deg", 3, "°"),
                    spread(found, "auc5", 1),
                ]
            first = found[0]
            cells += [
                f"{first['core_seconds']:.0f}",
                f"{first['peak_memory_mib']} MiB",
            ]
            lines.append(f"| {pipeline} | " + " | ".join(cells) + " |")
        if name == "lund_door":
            lines += ["", _about_lund_door(lund_door)]
    lines += ["", f"Machine: {results['machine']['cpu']}, {results['machine']['num_cpus']} cores."]
    return "\n".join(lines) + "\n"


def _about_lund_door(found: dict[str, Any]) -> str:
    """What lund_door_truth.py found."""
    shared = {name: f"{100 * of['within_0.1px']:.0f} %" for name, of in found["shared_keypoints"].items()}
    median = {name: f"{score['median_px']:.4f} px" for name, score in found["scores"].items()}

    def between(key: str) -> str:
        change = found[key]
        return f"{1e3 * change['difference']:+.2f} ({1e3 * change['low']:+.2f} to {1e3 * change['high']:+.2f})"

    return (
        "The ground truth of this set is itself a COLMAP model from COLMAP's SIFT keypoints. COLMAP's pipeline finds"
        f" {shared['colmap']} of these keypoints again to 0.1 px, lightmatch (OpenCV's SIFT) {shared['lightmatch']}, so"
        " COLMAP's model shares the errors of the ground truth. Therefore all three models were compared on independent"
        f" observations, {found['scores']['truth']['num_observations']} keypoints of ALIKED, each predicted from the"
        f" others of its track. Median errors: lightmatch {median['lightmatch']}, COLMAP {median['colmap']}, the ground"
        f" truth {median['truth']}. Differences in the area under the recall curve up to 1, 2 and 4 px, in thousandths,"
        f" with 95 % intervals: lightmatch minus COLMAP {between('lightmatch_less_colmap')}, the ground truth minus"
        f" lightmatch {between('truth_less_lightmatch')}, the ground truth minus COLMAP {between('truth_less_colmap')}."
        " lightmatch predicts the independent observations best. The ground truth and COLMAP's model have their"
        " principal point in the middle of the photos; the keypoints of"
        f" {_principal_points(found['principal_points_px'])} px (right, down) of it, and lightmatch estimates it."
        " So for this set the position and rotation errors in the table show which keypoints and which camera model"
        " were used, not how good a model is."
        " Made by `python benchmarks/lund_door_truth.py`."
    )


def _principal_points(found: dict[str, list[float]]) -> str:
    said = [f"{kind} put it ({x:+.1f}, {y:+.1f})" for kind, (x, y) in found.items()]
    return ", those of ".join(said)


def spread(runs: list[dict[str, Any]], key: str, decimals: int, unit: str = "") -> str:
    """Mean and half of the range over seeds."""
    values = [run[key] for run in runs if key in run]
    if not values:
        return "–"
    half = round((max(values) - min(values)) / 2, decimals)
    return f"{statistics.mean(values):.{decimals}f}" + (f" ± {half:.{decimals}f}" if half else "") + unit


def main() -> None:
    """Reconstruct, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--pipelines", nargs="*", choices=[*PIPELINES], default=[*PIPELINES])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--keep", type=Path, help="folder for the models; a temporary one by default")
    arguments = parser.parse_args()
    if "LIGHTMATCH_DATA" not in os.environ:
        raise SystemExit("set LIGHTMATCH_DATA to the folder that holds eval/")
    data = Path(os.environ["LIGHTMATCH_DATA"]) / "eval"
    results = json.loads(arguments.results.read_text()) if arguments.results.is_file() else {"sets": {}}
    results["machine"] = describe_machine()
    for name in arguments.sets:
        folder, truth = SETS[name]
        pairs = read_pairs(data / truth) if truth else []
        for pipeline in arguments.pipelines:
            runs = []
            default = results["sets"].get(name, {}).get("lightmatch", [])
            if pipeline == "lightmatch, SIFT" and not any(run.get("features_tried") for run in default):
                continue
            with tempfile.TemporaryDirectory() as scratch:
                for seed in range(arguments.seeds):
                    output = Path(arguments.keep or scratch) / name.replace("/", "-") / pipeline
                    run = run_set(pipeline, data / folder, output, seed)
                    if pairs and run.get("num_registered"):
                        run |= pose_scores(output / "sparse" / "0", pairs)
                    runs.append(run)
                    shown = {key: value for key, value in run.items() if key not in ("left_out", "num_images")}
                    print(f"{name}, {pipeline}: {shown}", flush=True)
            of = results["sets"].get(name, {}) | {pipeline: runs}
            results["sets"][name] = {key: of[key] for key in PIPELINES if key in of}
            results["sets"] = {key: results["sets"][key] for key in SETS if key in results["sets"]}
            arguments.results.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    if arguments.results == RESULTS:
        write_page("reconstruct_sets")


if __name__ == "__main__":
    main()
