"""OpenCV's SIFT against COLMAP's, and OpenCV's settings against each other, on photos with known geometry.

    LIGHTMATCH_DATA=/path/to/data python benchmarks/sift_backends.py

Planes: Oxford affine (eval/oxford_affine), homographies from image 1 to images 2…6 of each scene.
Depth: Strecha's fountain-P11 (eval/strecha/fountain-P11), pairs 1, 2 and 4 photos apart.
Writes benchmarks/results/sift_backends.json and the table of docs/sift.md, which explains the columns.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import torch
from common import describe_machine, fill_table
from pages import write_page
from torch import Tensor

from lightmatch.evaluation.datasets import read_strecha_camera
from lightmatch.extractors import Extractor, ExtractorConfig
from lightmatch.extractors.sift import SIFT, Sift, SiftConfig
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid, pairwise_distances, pixels_from_colmap
from lightmatch.geometry.epipolar import (
    epipolar_distance_px,
    essential_from_pose,
    fundamental_from_essential,
    pose_error,
)
from lightmatch.geometry.homography import transfer, transfer_error
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_relative_pose
from lightmatch.images import load_image
from lightmatch.matchers.nearest import NearestNeighbor
from lightmatch.types import Features, Image

RESULTS = Path(__file__).parent / "results" / "sift_backends.json"
MATCHER = NearestNeighbor(ratio=0.8, mutual=True)
THRESHOLD_PX = 3.0


class PlainOpenCv(Sift):
    """OpenCV's keypoints where OpenCV says they are, with or without its own cure of the ¼ px."""

    def __init__(self, precise: bool) -> None:
        super().__init__()
        self.precise = precise

    def _opencv(self, limit: int) -> cv2.SIFT:
        config = self.config
        return cv2.SIFT.create(
            limit,
            config.num_octave_layers,
            config.contrast_threshold,
            config.edge_threshold,
            enable_precise_upscale=self.precise,
        )

    def _extract(self, image: Image, mask: np.ndarray | None) -> Features:
        features = super()._extract(image, mask)
        return replace(features, keypoints=features.keypoints + 0.25)


class Colmap(Extractor):
    """COLMAP's SIFT on the CPU, in our conventions.

    It gives no strength of its keypoints and prefers the largest itself, so scales are the scores here.
    """

    kind = SIFT

    def __init__(self, **sift_options: float | bool) -> None:
        super().__init__(ExtractorConfig())
        self.options = pycolmap.FeatureExtractionOptions(num_threads=1, use_gpu=False)
        self.options.sift.mergedict({"max_num_features": self.config.max_keypoints, **sift_options})

    def _extract(self, image: Image, mask: np.ndarray | None) -> Features:
        extractor = pycolmap.FeatureExtractor.create(self.options, pycolmap.Device.cpu)
        grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
        keypoints, descriptors = extractor.extract_from_uint8_array(grey)
        x, y, sigma, orientation = torch.from_numpy(pycolmap.keypoints_to_matrix(keypoints)).reshape(-1, 4).unbind(1)
        return Features(
            keypoints=pixels_from_colmap(torch.stack((x, y), 1)),
            scores=sigma.clone(),
            descriptors=torch.nn.functional.normalize(torch.tensor(descriptors.data).float(), dim=1),
            image_size=image.size,
            kind=SIFT,
            scales=2 * sigma,
            orientations=orientation.clone(),
        )


def _ours(**options: Any) -> Callable[[], Extractor]:
    return lambda: Sift(SiftConfig(**options))


SETTINGS: dict[str, Callable[[], Extractor]] = {
    "sift (defaults)": _ours(),
    "contrast 0.04": _ours(contrast_threshold=0.04),
    "contrast 0.01": _ours(contrast_threshold=0.01),
    "edge 20": _ours(edge_threshold=20.0),
    "4 layers": _ours(num_octave_layers=4, contrast_threshold=0.02 * 4 / 3),
    "upright": _ours(upright=True),
    "size 1024": _ours(max_image_size=1024),
    "size 2048": _ours(max_image_size=2048),
    "size 3072": _ours(max_image_size=3072),
    "OpenCV as it comes": lambda: PlainOpenCv(precise=False),
    "OpenCV precise upscale": lambda: PlainOpenCv(precise=True),
    "COLMAP": Colmap,
    "COLMAP peak 0.0133": lambda: Colmap(peak_threshold=0.04 / 3),
    "COLMAP affine": lambda: Colmap(estimate_affine_shape=True),
    "COLMAP DSP": lambda: Colmap(domain_size_pooling=True),
    "COLMAP affine DSP": lambda: Colmap(estimate_affine_shape=True, domain_size_pooling=True),
}


def extract_timed(extractor: Extractor, path: Path) -> tuple[Features, float]:
    """The features, and the CPU time they took in s: on a shared machine steadier than the clock."""
    image = load_image(path)
    start = time.process_time()
    features = extractor(image)
    return features, time.process_time() - start


def repeatability(features0: Features, features1: Features, H: Tensor) -> float:
    """Share of places visible in both images that are found in both: mutual nearest and within 3 px."""
    # Several orientations at one place are one place.
    points0, points1 = (torch.unique(f.keypoints, dim=0).double() for f in (features0, features1))
    in1, in0 = transfer(H, points0), transfer(torch.linalg.inv(H), points1)
    in1, points1 = in1[_inside(in1, features1.image_size)], points1[_inside(in0, features0.image_size)]
    if min(len(in1), len(points1)) == 0:
        return 0.0
    distances = pairwise_distances(in1, points1)
    nearest, index = distances.min(1)
    mutual = distances.argmin(0)[index] == torch.arange(len(in1))
    return float((mutual & (nearest <= THRESHOLD_PX)).sum()) / min(len(in1), len(points1))


def _inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    return ((points >= -0.5) & (points < torch.tensor(size) - 0.5)).all(-1)


def score(errors: list[Tensor]) -> dict[str, float]:
    """Means over the pairs of what their matches' errors (px) tell."""
    correct = [error[error <= THRESHOLD_PX] for error in errors]
    return {
        "matches": float(np.mean([len(error) for error in errors])),
        "correct": float(np.mean([len(error) for error in correct])),
        "precision": float(np.mean([len(c) / max(1, len(e)) for c, e in zip(correct, errors, strict=True)])),
        "median_error_px": float(np.mean([float(error.median()) for error in correct if len(error)])),
    }


def evaluate_planes(extractor: Extractor, root: Path) -> dict[str, float]:
    """Oxford affine."""
    errors, repeated, times = [], [], []
    for scene in sorted(path for path in root.iterdir() if path.is_dir()):
        features, seconds = zip(*(extract_timed(extractor, scene / f"img{k}.png") for k in range(1, 7)), strict=True)
        times += seconds
        for k in range(2, 7):
            H = torch.from_numpy(np.loadtxt(scene / f"H1to{k}p"))
            points0, points1 = MATCHER(features[0], features[k - 1]).points(features[0], features[k - 1])
            errors.append(transfer_error(H, points0.double(), points1.double()))
            repeated.append(repeatability(features[0], features[k - 1], H))
    return {"repeatability": float(np.mean(repeated)), **score(errors), "cpu_s": float(np.median(times))}


def evaluate_depth(extractor: Extractor, root: Path) -> dict[str, float]:
    """Strecha's fountain: matches by their mean distance from the true epipolar lines, and the pose they give."""
    paths = sorted((root / "images").glob("*.jpg"))
    features, times = zip(*(extract_timed(extractor, path) for path in paths), strict=True)
    cameras = [read_strecha_camera(root / "gt_dense_cameras" / f"{path.name}.camera") for path in paths]
    errors, pose_errors_deg = [], []
    for i, j in [(i, i + step) for step in (1, 2, 4) for i in range(len(paths) - step)]:
        (camera0, cam0_from_world), (camera1, cam1_from_world) = cameras[i], cameras[j]
        K0, K1 = camera0.K, camera1.K
        cam1_from_cam0 = compose_rigid(cam1_from_world, invert_rigid(cam0_from_world))
        F = fundamental_from_essential(essential_from_pose(cam1_from_cam0), K0, K1)
        points0, points1 = MATCHER(features[i], features[j]).points(features[i], features[j])
        errors.append(epipolar_distance_px(F, points0.double(), points1.double()))
        pose = estimate_relative_pose(
            points0, points1, K0, K1, SearchOptions(threshold_px=THRESHOLD_PX, seed=0)
        ).cam1_from_cam0
        pose_errors_deg.append(180.0 if pose is None else float(torch.stack(pose_error(pose, cam1_from_cam0)).max()))
    return {
        **score(errors),
        "median_pose_error_deg": float(np.median(pose_errors_deg)),
        "pose_auc_1deg": float(np.mean([max(0.0, 1 - error) for error in pose_errors_deg])),
        "cpu_s": float(np.median(times)),
    }


TITLES = {  # of settings that the page calls otherwise
    "sift (defaults)": "**`sift`, defaults**",
    "4 layers": "4 layers per octave",
    "size 1024": "1024 px",
    "size 2048": "2048 px",
    "size 3072": "3072 px",
    "OpenCV precise upscale": "OpenCV, precise upscale",
    "COLMAP": "COLMAP, defaults (peak 0.0067)",
    "COLMAP peak 0.0133": "COLMAP, peak 0.0133",
    "COLMAP affine": "COLMAP, affine shape",
    "COLMAP DSP": "COLMAP, domain size pooling",
    "COLMAP affine DSP": "COLMAP, both",
}


def page(text: str, record: dict[str, Any]) -> str:
    """docs/sift.md with its table from sift_backends.json."""
    columns = ("correct / all", "precision", "error")
    lines = [
        f"| | {' | '.join(('rep', *columns, 'CPU', *columns, 'pose', 'AUC 1°', 'CPU'))} |",
        "|---" * 12 + "|",
        "| | **planes** | | | | | **depth** | | | | | |",
    ]
    for name, of in record["results"].items():
        planes, depth = of["planes"], of["depth"]
        lines.append(
            f"| {TITLES.get(name, name)} | {planes['repeatability']:.2f} | {_cells(planes)} | {planes['cpu_s']:.2f}"
            f" | {_cells(depth)} | {depth['median_pose_error_deg']:.3f} | {depth['pose_auc_1deg']:.3f}"
            f" | {depth['cpu_s']:.2f} |"
        )
    return fill_table(text, "table: benchmarks/sift_backends.py", lines)


def _cells(of: dict[str, float]) -> str:
    return f"{of['correct']:.0f} / {of['matches']:.0f} | {of['precision']:.3f} | {of['median_error_px']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="default: $LIGHTMATCH_DATA"
    )
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), metavar="NAME")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("expected the folder of the data sets, got none; set LIGHTMATCH_DATA or give --data")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pycolmap.logging.minloglevel = pycolmap.logging.Level.WARNING.value
    results = {}
    for name in arguments.settings:
        extractor = SETTINGS[name]()
        extractor(Image(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)))  # warm-up
        results[name] = {
            "planes": evaluate_planes(extractor, arguments.data / "eval/oxford_affine"),
            "depth": evaluate_depth(extractor, arguments.data / "eval/strecha/fountain-P11"),
        }
        print(f"{name:24s}", *(f"{key} {value:.3f}" for part in results[name].values() for key, value in part.items()))
    record = {"machine": describe_machine(), "max_keypoints": 2048, "threshold_px": THRESHOLD_PX, "results": results}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    if arguments.output == RESULTS:
        write_page("sift_backends")


if __name__ == "__main__":
    main()
