"""Photos without pictures: what cameras see of points, with noise, as features, matches and a verified database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from lightmatch.reconstruction import MatchDatabase
from lightmatch.types import FeatureKind, Features, Matches

KIND = FeatureKind("seen", 1)


class Seen(NamedTuple):
    """Keypoints by photo and matches by pair."""

    features: dict[str, Features]
    matches: dict[tuple[str, str], Matches]


def see(
    names: Sequence[str],
    poses: Tensor,
    K: Tensor,
    size: tuple[int, int],
    points: Tensor,
    *,
    noise_px: float = 0.3,
    share: float = 0.7,
    seed: int = 0,
) -> Seen:
    """What each camera sees of `points` (p, 3): a `share` of those inside its picture, at random.

    poses: (n, 3, 4) camera from world. K: (3, 3). size: (width, height) px.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, np.ndarray] = {}
    features = {}
    for name, pose in zip(names, poses, strict=True):
        in_camera = points @ pose[:, :3].mT + pose[:, 3]
        pixels = (in_camera @ K.mT)[:, :2] / in_camera[:, 2:]
        inside = (in_camera[:, 2] > 0.1) & (pixels > 0).all(1) & (pixels < torch.tensor(size) - 1).all(1)
        rows[name] = np.flatnonzero(inside.numpy() & (rng.random(len(points)) < share))
        noisy = pixels[rows[name]] + noise_px * torch.from_numpy(rng.normal(size=(len(rows[name]), 2)))
        count = len(noisy)
        features[name] = Features(noisy.float(), torch.ones(count), torch.zeros(count, 1), size, KIND)
    matches = {}
    for first, name0 in enumerate(names):
        for name1 in names[first + 1 :]:
            _, i, j = np.intersect1d(rows[name0], rows[name1], return_indices=True)
            if len(i) >= 15:
                matches[name0, name1] = Matches(torch.from_numpy(np.stack([i, j], 1)), torch.ones(len(i)))
    return Seen(features, matches)


def write_database(folder: Path, seen: Seen, cameras: Sequence[list[str]], *, model: str = "SIMPLE_PINHOLE") -> Path:
    """folder/images with grey pictures and folder/d.db with what was seen of them, not verified yet."""
    for name, features in seen.features.items():
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = features.image_size
        cv2.imwrite(str(path), np.full((height, width, 3), 128, np.uint8))
    database = MatchDatabase(folder / "d.db", folder / "images", cameras, model)
    database.write(seen.features, seen.matches.items())
    return database.path


def verify(path: Path) -> None:
    """Verify all pairs, one thread, one seed."""
    import pycolmap

    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = 0
    verifier = pycolmap.GeometricVerifierOptions()
    verifier.num_threads = 1
    pycolmap.logging.minloglevel = 2
    pycolmap.geometric_verification(path, verifier_options=verifier, two_view_geometry_options=options)
