"""Photos held out of a model and localised in it: how far off they are, and whether they know.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/localize.py [--keep FOLDER] [--page]
Every set is split: some photos are held out, `lightmatch reconstruct` makes a model of the others, first with nothing
known and then with their true cameras held (`--known`), and each photo held out is localised in both, as it is and
stripped of its EXIF. Photos of another set must be refused. --keep: where the models go, to go on with later; --page:
write the page from the results that are there. Writes benchmarks/results/localize.json and docs/localization.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from common import describe_machine, fill_table
from pages import write_page
from PIL import Image
from reconstruct_sets import true_poses
from torch import Tensor

from lightmatch.errors import ReconstructionError
from lightmatch.evaluation.datasets import read_pairs
from lightmatch.evaluation.pairs import Camera, PoseTruth
from lightmatch.geometry.alignment import Similarity
from lightmatch.geometry.coordinates import colmap_from_pixels, invert_rigid, rotation_angle_deg
from lightmatch.inputs import read_facts
from lightmatch.pipelines.localize import localize
from lightmatch.reconstruction import model_arrays, read_model
from lightmatch.runtime.threads import use_threads
from lightmatch.scenes import demo_scene
from lightmatch.sfm.placement import PlacedPhoto

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "localize.json"
SETS = {  # name: folder below eval/, and the photos held out, numbered by name
    "lund_door": ("lund_door", (1, 5, 9)),
    "fountain-P11": ("strecha/fountain-P11", (1, 4, 8)),
    "reichstag": ("imc_reichstag", (1, 5, 8)),
    "procedural": (None, (2, 7, 12, 17)),
}
NUM_FOREIGN = 3
WORLDS = {"free": "estimated", "known": "true, held"}


class Posed(NamedTuple):
    """Photos and their true cameras, in the order of their names."""

    paths: list[Path]
    cameras: list[Camera]
    cam_from_world: Tensor  # (n, 3, 4)

    @property
    def centers(self) -> Tensor:
        """(n, 3) in the true world."""
        return invert_rigid(self.cam_from_world)[:, :, 3]

    @property
    def extent(self) -> float:
        """Diagonal of the box round all centres."""
        return float((self.centers.amax(0) - self.centers.amin(0)).norm())


def read_posed(folder: Path) -> Posed:
    """A set with true poses, of which pairs lead to every photo."""
    pairs = read_pairs(folder)
    cameras, paths = {}, {}
    for pair in pairs:
        assert isinstance(pair.truth, PoseTruth) and isinstance(pair.image0, Path) and isinstance(pair.image1, Path)
        for path, camera in ((pair.image0, pair.truth.camera0), (pair.image1, pair.truth.camera1)):
            paths[path.stem], cameras[path.stem] = path, camera
    poses = true_poses(pairs)
    names = sorted(poses)
    return Posed([paths[n] for n in names], [cameras[n] for n in names], torch.stack([poses[n] for n in names]))


def render_posed(folder: Path) -> Posed:
    """The procedural world from a ring, as PNG files."""
    scene = demo_scene(seed=0, num_views=20)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"view_{number:02d}.png" for number in range(len(scene.rgb))]
    for path, pixels in zip(paths, scene.rgb, strict=True):
        cv2.imwrite(str(path), pixels.numpy()[..., ::-1])
    return Posed(paths, [Camera(K.double()) for K in scene.K], scene.cam_from_world.double())


def write_known(path: Path, posed: Posed, kept: list[int]) -> None:
    """True cameras as transforms.json, which counts pixels as COLMAP does and looks along −z."""
    frames = []
    for number in kept:
        camera = posed.cameras[number]
        world_from_cam = torch.eye(4, dtype=torch.float64)
        world_from_cam[:3] = invert_rigid(posed.cam_from_world[number])
        cx, cy = colmap_from_pixels(camera.K[:2, 2]).tolist()
        with Image.open(posed.paths[number]) as photo:
            width, height = photo.size
        bends = dict(zip(("k1", "k2", "p1", "p2"), camera.distortion[:4], strict=False))
        frames.append(
            {
                "file_path": posed.paths[number].name,
                "transform_matrix": (world_from_cam @ torch.diag(torch.tensor([1.0, -1, -1, 1]).double())).tolist(),
                **{"fl_x": float(camera.K[0, 0]), "fl_y": float(camera.K[1, 1]), "cx": cx, "cy": cy},
                **{"w": width, "h": height, **bends},
            }
        )
    path.write_text(json.dumps({"frames": frames}))


def reconstruct(photos: Path, output: Path, *options: str) -> None:
    """By the command line, in a process of its own."""
    command = [sys.executable, "-m", "lightmatch", "--threads", "1", "reconstruct", str(photos), "-o", str(output)]
    command += ["--no-splat", "--seed", "0", "--device", "cpu", "--quiet", "--overwrite", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}: {done.stderr.strip()[-500:]}")


def alignment(output: Path, posed: Posed) -> tuple[Similarity, dict[str, float]]:
    """From the model's world to the true one by the cameras of the model, and how far off these are themselves.

    The rotation is the mean over the cameras (nearest to the sum, as in Hartley et al. 2013), for centres nearly on a
    line leave it open; scale and offset fit the centres.
    """
    found = model_arrays(read_model(output / "sparse" / "0"))
    number = {path.stem: n for n, path in enumerate(posed.paths)}
    true = posed.cam_from_world[[number[Path(name).stem] for name in found.names]]
    rotations, centers = torch.from_numpy(found.rotations), torch.from_numpy(found.centers)
    u, _, vh = torch.linalg.svd((true[:, :, :3].mT @ rotations).sum(0))
    rotation = u @ torch.diag(torch.tensor([1.0, 1.0, float(torch.det(u @ vh))]).double()) @ vh
    true_centers = invert_rigid(true)[:, :, 3]
    ours, theirs = (centers - centers.mean(0)) @ rotation.mT, true_centers - true_centers.mean(0)
    scale = (ours * theirs).sum() / ours.square().sum()
    similarity = Similarity(scale, rotation, true_centers.mean(0) - scale * rotation @ centers.mean(0))
    off = (similarity.apply(centers) - true_centers).norm(dim=1)
    turned = rotation_angle_deg(rotations @ rotation.mT, true[:, :, :3])
    own = {
        "position_percent": round(100 * float(off.median()) / posed.extent, 4),
        "rotation_deg": round(float(turned.median()), 4),
    }
    return similarity, own


def errors(placed: PlacedPhoto, true: Tensor, to_truth: Similarity) -> np.ndarray:
    """(6,) turn about the camera's axes in rad and offset of the centre in the model's world, as the covariance is."""
    rotation = true[:, :3] @ to_truth.rotation  # camera from the model's world
    turn = cv2.Rodrigues(placed.cam_from_world[:, :3] @ rotation.mT.numpy())[0].ravel()
    center = -(true[:, :3].mT @ true[:, 3])
    back = to_truth.rotation.mT @ (center - to_truth.translation) / to_truth.scale
    return np.concatenate((turn, placed.center - back.numpy()))


def score(output: Path, photo: Path, true: Tensor, to_truth: Similarity, extent: float) -> dict[str, Any]:
    """One photo against one model."""
    try:
        found = localize(output, photo)
    except ReconstructionError as error:
        return {"refused": str(error).partition(": ")[2]}
    placed, error = found.placed, errors(found.placed, true, to_truth)
    percent = 100 * float(to_truth.scale) / extent
    return {
        "camera": found.camera_from,
        "inliers": placed.num_inliers,
        "correspondences": placed.num_correspondences,
        "error_px": round(placed.error_px, 3),
        "position_percent": round(percent * float(np.linalg.norm(error[3:])), 4),
        "position_std_percent": round(percent * placed.position_std, 4),
        "rotation_deg": round(math.degrees(float(np.linalg.norm(error[:3]))), 4),
        "rotation_std_deg": round(placed.rotation_std_deg, 4),
        "normalised": round(math.sqrt(float(error @ np.linalg.solve(placed.covariance, error)) / 6), 3),
    }


def run_set(posed: Posed, held_out: tuple[int, ...], foreign: list[Path], folder: Path) -> dict[str, Any]:
    """Both models of the other photos, and every photo held out in them; stripped of EXIF, and foreign ones, in one."""
    kept = [number for number in range(len(posed.paths)) if number not in held_out]
    photos, output = folder / "kept", folder / "out"
    photos.mkdir(parents=True, exist_ok=True)
    for number in kept:
        shutil.copy(posed.paths[number], photos)
    write_known(folder / "known.json", posed, kept)
    result: dict[str, Any] = {"photos": [], "own": {}, "foreign": len(foreign), "foreign_accepted": []}
    for world, options in (("free", ()), ("known", ("--known", str(folder / "known.json")))):
        if not (folder / world / "summary.json").exists():
            reconstruct(photos, output, *options)  # the second takes features and matches of the first
            shutil.copytree(output, folder / world)
        to_truth, result["own"][world] = alignment(folder / world, posed)
        if world == "known":
            to_truth = Similarity(torch.ones(()).double(), torch.eye(3).double(), torch.zeros(3).double())
        for number in held_out:
            tried = [posed.paths[number]]
            if world == "free" and read_facts(tried[0]).camera is not None:
                tried.append(folder / f"{tried[0].stem}.png")
                Image.open(tried[0]).convert("RGB").save(tried[1], compress_level=1)
            for photo in tried:
                found = score(folder / world, photo, posed.cam_from_world[number], to_truth, posed.extent)
                found = {"photo": photo.stem, "stripped": photo is not tried[0], "model": world, **found}
                print(found, flush=True)
                result["photos"].append(found)
    for photo in foreign:
        with contextlib.suppress(ReconstructionError):
            localize(folder / "free", photo)
            result["foreign_accepted"].append(photo.name)
    return result


def summarise(photos: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and extremes of the photos that were placed."""
    placed = [photo for photo in photos if "refused" not in photo]
    summary: dict[str, Any] = {"photos": len(photos), "placed": len(placed)}
    if not placed:
        return summary
    for key in ("position_percent", "position_std_percent", "rotation_deg", "rotation_std_deg", "inliers"):
        summary[key] = statistics.median(photo[key] for photo in placed)
    summary["position_worst"] = max(photo["position_percent"] for photo in placed)
    summary["rotation_worst"] = max(photo["rotation_deg"] for photo in placed)
    summary["normalised"] = statistics.median(photo["normalised"] for photo in placed)
    summary["normalised_worst"] = max(photo["normalised"] for photo in placed)
    return summary


def table(results: dict[str, Any]) -> list[str]:
    """Lines of Markdown."""
    lines = [
        "| set | photo's camera | model's cameras | placed | position: median, worst | says | rotation: median, worst"
        " | says | error ÷ deviation: median, worst | inliers | the model's own photos |",
        "|" + "---|" * 3 + "---:|" * 8,
    ]
    for name, run in results["sets"].items():
        kinds = sorted({(photo["stripped"], photo["model"]) for photo in run["photos"]})
        for stripped, world in kinds:
            chosen = [photo for photo in run["photos"] if (photo["stripped"], photo["model"]) == (stripped, world)]
            found = summarise(chosen)
            origin = {photo["camera"] for photo in chosen if "camera" in photo}
            own = run["own"][world]
            head = (
                f"| {name} | {' or '.join(sorted(origin))} | {WORLDS[world]} | {found['placed']} of {found['photos']}"
            )
            if not found["placed"]:
                lines.append(head + " | –" * 7 + " |")
                continue
            lines.append(
                f"{head} | {found['position_percent']:.3f}, {found['position_worst']:.3f} %"
                f" | ± {found['position_std_percent']:.3f} %"
                f" | {found['rotation_deg']:.3f}, {found['rotation_worst']:.3f}°"
                f" | ± {found['rotation_std_deg']:.3f}° | {found['normalised']:.1f}, {found['normalised_worst']:.1f}"
                f" | {found['inliers']:.0f} | {own['position_percent']:.3f} %, {own['rotation_deg']:.3f}° |"
            )
    return lines


def page(text: str, results: dict[str, Any]) -> str:
    """docs/localization.md with its table from localize.json."""
    return fill_table(text, "table: benchmarks/localize.py", table(results))


def main() -> None:
    """Reconstruct, localise, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    if "LIGHTMATCH_DATA" not in os.environ:
        raise SystemExit("set LIGHTMATCH_DATA to the folder that holds eval/")
    use_threads(1)
    data = Path(os.environ["LIGHTMATCH_DATA"]) / "eval"
    results: dict[str, Any] = {"machine": describe_machine(), "sets": {}}
    with tempfile.TemporaryDirectory() as scratch:
        base = arguments.keep or Path(scratch)
        sets = {
            name: render_posed(base / name / "photos") if folder is None else read_posed(data / folder)
            for name, (folder, _) in SETS.items()
        }
        names = list(SETS)
        for name, (_, held_out) in SETS.items():
            elsewhere = sets[names[(names.index(name) + 1) % len(names)]].paths[:NUM_FOREIGN]
            results["sets"][name] = run_set(sets[name], held_out, elsewhere, base / name)
            RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_page("localize")


if __name__ == "__main__":
    main()
