"""Reconstruct real photo sets: photos registered, time, peak memory, and pose errors where the truth is known.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/reconstruct_sets.py
Writes benchmarks/results/reconstruct_sets.json and docs/reconstruction.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import describe_machine

from lightmatch.evaluation.datasets import read_strecha_camera
from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.geometry.coordinates import invert_rigid, rotation_angle_deg
from lightmatch.reconstruction import model_arrays, read_model

HERE = Path(__file__).parent
SETS = {  # name: folder of photos below eval/, and whether .camera files with the true poses lie beside them
    "sfm_sceaux_castle": ("sfm_sceaux_castle", False),
    "strecha/fountain-P11": ("strecha/fountain-P11", True),
}


def run_set(photos: Path, output: Path, seed: int) -> dict:
    """Reconstruct in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, "-m", "lightmatch", "reconstruct", str(photos), "-o", str(output), "--seed", str(seed)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    summary = json.loads((output / "summary.json").read_text())
    unit = 1024 if sys.platform == "linux" else 1024**2  # kilobytes, or bytes on macOS
    return {
        **summary,
        "wall_seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mib": round(usage.ru_maxrss / unit),
    }


def pose_errors(model: Path, photos: Path) -> list[dict]:
    """Rotation (degrees) and position error (units of the truth, and % of the extent) of each camera."""
    found = model_arrays(read_model(model))
    truth = [read_strecha_camera(next(photos.rglob(f"{Path(name).name}.camera"))) for name in found.names]
    true_poses = torch.stack([cam_from_world for _, cam_from_world in truth])
    true_centers = invert_rigid(true_poses)[:, :, 3]
    rotation_deg, position = aligned_pose_errors(
        torch.from_numpy(found.rotations), torch.from_numpy(found.centers), true_poses[:, :, :3], true_centers
    )
    # What the camera model leaves out turns every camera alike: seen between cameras, it falls away.
    turned = torch.from_numpy(found.rotations)
    between_deg = rotation_angle_deg(turned[1:] @ turned[:-1].mT, true_poses[1:, :, :3] @ true_poses[:-1, :, :3].mT)
    extent = float((true_centers.amax(0) - true_centers.amin(0)).norm())
    return [
        {"photo": name, "rotation_deg": r, "between_deg": b, "position": p, "position_percent": 100 * p / extent}
        for name, r, b, p in zip(
            found.names, rotation_deg.tolist(), [None, *between_deg.tolist()], position.tolist(), strict=True
        )
    ]


def principal_point_deg(photos: Path) -> float:
    """Angle between the optical axis of the true camera and the middle of its picture."""
    path = next(photos.rglob("*.camera"))
    K, _ = read_strecha_camera(path)
    width, height = (float(number) for number in path.read_text().split()[-2:])
    offset_px = math.hypot(float(K[0, 2]) - (width - 1) / 2, float(K[1, 2]) - (height - 1) / 2)
    return math.degrees(math.atan(offset_px / float(K[0, 0])))


def write_page(path: Path, results: dict, command: str) -> None:
    """The results as a page of documentation."""
    lines = [
        "# Reconstruction of real photos",
        "",
        f"Made by `{command}`; the numbers with machine and versions are in"
        " `benchmarks/results/reconstruct_sets.json`.",
        "",
        "| set | photos registered | points | track length | reprojection error | seconds | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in results["sets"].items():
        lines.append(
            f"| {name} | {result['num_registered']} of {result['num_images']} | {result['num_points']}"
            f" | {result['mean_track_length']:.2f} | {result['mean_reprojection_error_px']:.2f} px"
            f" | {result['wall_seconds']:.0f} | {result['peak_memory_mib']} MiB |"
        )
    lines += ["", f"Machine: {results['machine']['cpu']}, {results['machine']['num_cpus']} cores."]
    for name, result in results["sets"].items():
        if "pose_errors" not in result:
            continue
        errors = result["pose_errors"]
        lines += [
            "",
            f"## Pose errors of {name} against its ground truth",
            "",
            "After aligning the camera centres by a similarity (Umeyama 1991). Intrinsics were estimated, not given;"
            " a percentage is of the diagonal of the box around the true cameras.",
            "",
            f"SIMPLE_RADIAL keeps the principal point in the middle of the picture; the truth has it elsewhere, which"
            f" turns every camera by about {result['principal_point_deg']:.2f}° alike. The third column is the error of"
            " the rotation from the photo before, free of it.",
            "",
            "| photo | rotation (°) | from the one before (°) | position (m) | position (%) |",
            "|---|---|---|---|---|",
        ]
        for e in errors:
            between = "–" if e["between_deg"] is None else f"{e['between_deg']:.4f}"
            lines.append(
                f"| {e['photo']} | {e['rotation_deg']:.4f} | {between} | {e['position']:.4f}"
                f" | {e['position_percent']:.3f} |"
            )
        keys = ("rotation_deg", "between_deg", "position", "position_percent")
        medians = [statistics.median(e[key] for e in errors if e[key] is not None) for key in keys]
        lines.append("| **median** | {:.4f} | {:.4f} | {:.4f} | {:.3f} |".format(*medians))
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if "LIGHTMATCH_DATA" not in os.environ:
        raise SystemExit("set LIGHTMATCH_DATA to the folder that holds eval/")
    data = Path(os.environ["LIGHTMATCH_DATA"]) / "eval"
    results: dict = {"machine": describe_machine(), "seed": arguments.seed, "sets": {}}
    for name, (folder, has_truth) in SETS.items():
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "out"
            result = run_set(data / folder, output, arguments.seed)
            if has_truth:
                result["pose_errors"] = pose_errors(output / "sparse" / "0", data / folder)
                result["principal_point_deg"] = principal_point_deg(data / folder)
        results["sets"][name] = result
        print(f"{name}: {result['num_registered']} of {result['num_images']}, {result['wall_seconds']} s")
    (HERE / "results" / "reconstruct_sets.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_page(HERE.parent / "docs" / "reconstruction.md", results, "python benchmarks/reconstruct_sets.py")


if __name__ == "__main__":
    main()
