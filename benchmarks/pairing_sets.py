"""Photo collections in which it is known which photos overlap, as features: what `pairing.py` measures on.

Features are extracted once and kept in a folder of the caller's choice.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightmatch.evaluation.datasets import read_imc, read_pairs
from lightmatch.evaluation.pairs import PoseTruth, viewing_angle_deg
from lightmatch.extractors import create_extractor
from lightmatch.geometry.coordinates import scale_intrinsics
from lightmatch.images import list_images, load_image
from lightmatch.scenes import WorldConfig, build_world, look_at, pinhole, render
from lightmatch.training.overlap import depth_overlap
from lightmatch.types import Features, Image

OVERLAP, APART, UNKNOWN = 1, 0, -1
MAX_KEYPOINTS = 2048

LEAST_OVERLAP = 0.1  # of the view that shows more besides: a true pair
LARGEST_ANGLE_DEG = 40.0  # between optical axes: photos of one thing in the middle overlap well below it,
LEAST_APART_DEG = 110.0  # and show different sides of it above
TWINS = WorldConfig(num_objects=6, repeated_objects=10)
FACADES = WorldConfig(num_objects=10, repeated_objects=4, repeated_facades=True)


@dataclass(frozen=True, eq=False)
class PhotoSet:
    """Photos of one place, and which of them overlap."""

    name: str
    features: list[Features]
    truth: np.ndarray  # (n, n) int8, symmetric: OVERLAP, APART or UNKNOWN


def world_set(name: str, seed: int, num_views: int, config: WorldConfig | None) -> Callable[[], PhotoSet]:
    """Views from all over a procedural plaza, half of them inwards, half of them along and outwards."""

    def make() -> PhotoSet:
        generator = torch.Generator().manual_seed(seed)
        world = build_world(generator, config)
        size = (640, 480)
        K = pinhole(65.0, size).expand(num_views, 3, 3).contiguous()
        poses = _walk(num_views, generator)
        seen = render(world, K, poses, size, supersampling=1)
        extractor = create_extractor("sift", max_keypoints=MAX_KEYPOINTS)
        features = [extractor(Image(pixels.numpy())) for pixels in seen.rgb]
        small_K = scale_intrinsics(K.double(), size, (160, 120))
        overlap = depth_overlap(seen.depth[:, 1::4, 1::4], small_K, poses.double()).numpy()
        axes = poses[:, 2].double()
        angle_deg = torch.rad2deg(torch.arccos((axes @ axes.T).clamp(-1, 1))).numpy()
        truth = np.full(overlap.shape, UNKNOWN, np.int8)
        truth[(np.minimum(overlap, overlap.T) >= LEAST_OVERLAP) & (angle_deg <= LARGEST_ANGLE_DEG)] = OVERLAP
        truth[np.maximum(overlap, overlap.T) == 0] = APART
        return PhotoSet(name, features, truth)

    return make


def _walk(num_views: int, generator: torch.Generator) -> Tensor:
    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    eyes, targets = [], []
    for view in range(num_views):
        angle, radius = uniform(0, 2 * math.pi), uniform(4.8, 7.0)
        eyes.append([radius * math.cos(angle), radius * math.sin(angle), uniform(1.5, 3.0)])
        if view % 2:
            targets.append([uniform(-1.5, 1.5), uniform(-1.5, 1.5), uniform(0, 1)])
        else:
            ahead = angle + uniform(0.35, 1.0) * (1 if uniform(0, 1) < 0.5 else -1)
            targets.append([8 * math.cos(ahead), 8 * math.sin(ahead), uniform(0.5, 2)])
    return look_at(torch.tensor(eyes), torch.tensor(targets))


def photo_set(
    name: str, paths: Iterable[Path], truth: Callable[[list[Path]], np.ndarray] | None = None
) -> Callable[[], PhotoSet]:
    """Photos in files; without `truth` nothing is known of pairs among them."""

    def make() -> PhotoSet:
        extractor = create_extractor("sift", max_keypoints=MAX_KEYPOINTS)
        files = list(paths)
        features = [extractor(load_image(path)) for path in files]
        known = np.full((len(files), len(files)), UNKNOWN, np.int8) if truth is None else truth(files)
        return PhotoSet(name, features, known)

    return make


def all_overlap(files: list[Path]) -> np.ndarray:
    """Photos that all show one thing from the front."""
    return np.full((len(files), len(files)), OVERLAP, np.int8)


def by_stem(pattern: str) -> Callable[[list[Path]], np.ndarray]:
    """Photos whose names agree in the first group of `pattern` overlap, others do not."""

    def truth(files: list[Path]) -> np.ndarray:
        keys = np.array([re.match(pattern, file.as_posix().rpartition("eval/")[2])[1] for file in files])  # type: ignore[index]
        return (keys[:, None] == keys[None]).astype(np.int8)

    return truth


def by_angle(folder: Path, *, apart: bool) -> Callable[[list[Path]], np.ndarray]:
    """By the angle between optical axes; `apart`: photos from opposite sides show nothing in common."""

    def truth(files: list[Path]) -> np.ndarray:
        place = {file: i for i, file in enumerate(files)}
        known = np.full((len(files), len(files)), UNKNOWN, np.int8)
        for pair in read_pairs(folder):
            assert isinstance(pair.truth, PoseTruth) and isinstance(pair.image0, Path) and isinstance(pair.image1, Path)
            i, j = place[pair.image0], place[pair.image1]
            angle = float(viewing_angle_deg(pair.truth.cam1_from_cam0))
            if angle <= LARGEST_ANGLE_DEG:
                known[i, j] = known[j, i] = OVERLAP
            elif apart and angle >= LEAST_APART_DEG:
                known[i, j] = known[j, i] = APART
        return known

    return truth


def by_covisibility(folder: Path) -> Callable[[list[Path]], np.ndarray]:
    """By the covisible points of the Image Matching Challenge."""

    def truth(files: list[Path]) -> np.ndarray:
        place = {file: i for i, file in enumerate(files)}
        known = np.full((len(files), len(files)), UNKNOWN, np.int8)
        for pair in read_imc(folder, min_covisibility=0.1):
            assert isinstance(pair.image0, Path) and isinstance(pair.image1, Path)
            i, j = place[pair.image0], place[pair.image1]
            known[i, j] = known[j, i] = OVERLAP
        return known

    return truth


# The seeds of training and test worlds differ, and so do all places.
TRAINING_WORLDS = {f"train-world-{seed}": (seed, 14, (None, TWINS, FACADES)[seed % 3]) for seed in range(100, 109)}
TEST_WORLDS = {f"test-world-{seed}": (seed, 30, (None, TWINS, FACADES)[seed % 3]) for seed in range(6)}
TRAINING_SCENES = (  # below train3/: photos of one place each
    *("axe", "banana", "boof_chair", "boof_dots", "boof_dronepark", "boof_log", "boof_rpi", "boof_woodtable"),
    *("conch", "flowerpot", "gopro_cliff", "minsk", "ochota_a", "rtab_corridor"),
)
TWIN_WORLDS = {name for name, options in (TRAINING_WORLDS | TEST_WORLDS).items() if options[2] is not None}


def training_sets(data: Path) -> dict[str, Callable[[], PhotoSet]]:
    """Sets that the overlap classifier is trained on."""
    sets = {name: world_set(name, *options) for name, options in TRAINING_WORLDS.items()}
    images = data / "train2" / "images"
    for prefix, most in {
        "borus": 42,
        "calit": 40,
        "garf": 28,
        "brigh": 27,
        "lewis": 9,
        "akc": 12,
        "panc": 5,
        "oid": 8,
        "mate": 5,
    }.items():
        paths = sorted(images.glob(f"{prefix}_*.jpg"), key=lambda path: ("_c" in path.stem, path.name))
        sets[prefix] = photo_set(prefix, paths[:most])
    for scene in TRAINING_SCENES:
        sets[scene] = photo_set(scene, list_images(data / "train3" / scene)[:20])
    return sets


def test_sets(data: Path) -> dict[str, Callable[[], PhotoSet]]:
    """What everything is scored on."""
    root = data / "eval"
    fountain, temple, reichstag = (
        root / "strecha/fountain-P11",
        root / "middlebury_templeRing47",
        root / "imc_reichstag",
    )

    def files(folder: str) -> list[Path]:
        return list_images(root / folder)

    sets = {name: world_set(name, *options) for name, options in TEST_WORLDS.items()}
    return sets | {
        "fountain": photo_set("fountain", files("strecha/fountain-P11/images"), by_angle(fountain, apart=False)),
        "temple": photo_set("temple", files("middlebury_templeRing47"), by_angle(temple, apart=True)),
        "reichstag": photo_set("reichstag", files("imc_reichstag/images"), by_covisibility(reichstag)),
        "lund_door": photo_set("lund_door", files("lund_door/images"), all_overlap),
        "oxford": photo_set("oxford", files("oxford_affine"), by_stem(r"oxford_affine/(\w+)/")),
        "homogr": photo_set("homogr", files("homogr"), by_stem(r"homogr/(\w+)[AB]\.")),
        "fundamental": photo_set("fundamental", files("fundamental"), by_stem(r"fundamental/(\w+)[AB]\.")),
        "assets": photo_set("assets", files("lightglue_assets"), by_stem(r"lightglue_assets/(DSC|sacre)")),
        "castle": photo_set("castle", files("sfm_sceaux_castle/images")),
        "lund": photo_set("lund", files("sfm_opensfm_lund/images")),
        "tum": photo_set("tum", files("tum_fr3_office_17frames")),
        "slambook": photo_set("slambook", files("slambook_loop_ch11")),
    }


def load(makers: dict[str, Callable[[], PhotoSet]], cache: Path) -> list[PhotoSet]:
    """The sets, each made once and kept in `cache`."""
    sets = []
    for name, make in makers.items():
        path = cache / f"{name}.pt"
        if not path.exists():
            start = time.perf_counter()
            made = make()
            torch.save({"features": [f.numpy() for f in made.features], "truth": made.truth}, f"{path}.new")
            Path(f"{path}.new").replace(path)
            print(f"{name}: {len(made.features)} photos in {time.perf_counter() - start:.0f} s", flush=True)
        kept = torch.load(path, weights_only=False)
        features = [_features(fields) for fields in kept["features"]]
        sets.append(PhotoSet(name, features, kept["truth"]))
    return sets


def _features(fields: dict[str, Any]) -> Features:
    """SIFT features as `load` keeps them."""
    tensors = {name: torch.from_numpy(value) for name, value in fields.items() if isinstance(value, np.ndarray)}
    return Features(image_size=fields["image_size"], kind=create_extractor("sift").kind, **tensors)


def joined_truth(sets: list[PhotoSet]) -> np.ndarray:
    """(n, n) of all photos as one collection: photos of different sets do not overlap."""
    total = sum(len(s.features) for s in sets)
    truth = np.full((total, total), APART, np.int8)
    start = 0
    for s in sets:
        truth[start : start + len(s.features), start : start + len(s.features)] = s.truth
        start += len(s.features)
    return truth
