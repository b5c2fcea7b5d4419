"""Twins: a house whose back equals its front, seen from all round; and ordinary houses, of which nothing is dropped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from seen_points import KIND, Seen, verify, write_database

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.alignment import align_points
from lightmatch.interchange.colmap_database import read_colmap_verified
from lightmatch.reconstruction import drop_pairs, find_twins, map_incrementally, model_arrays
from lightmatch.reconstruction.twins import TwinReport
from lightmatch.scenes import camera_ring, pinhole
from lightmatch.types import Features, Matches

NUM_VIEWS, SIZE = 14, (640, 480)
K = pinhole(65.0, SIZE).double().numpy()
NAMES = [f"{number:02d}.png" for number in range(NUM_VIEWS)]
HALF = np.array([1.5, 1.1])  # of the house, m
WIDEST_DEG = 55.0  # over which a point of a landmark is matched
NOISE_PX = 0.3

Pair = tuple[str, str]


class Points(NamedTuple):
    """Points of the scene; two that look alike have one look."""

    xyz: np.ndarray  # (p, 3)
    normal: np.ndarray  # (p, 3) of the side it is on, (0, 0, 0) where it is seen from all round
    look: np.ndarray  # (p,)


class Setting(NamedTuple):
    database: Path
    true: set[Pair]  # verified pairs that show one place
    false: set[Pair]
    centers: torch.Tensor  # (n, 3)


def house(copies: bool, num_landmarks: int) -> Points:
    """Four walls, the back as the front and the left as the right where there are copies; landmarks around."""
    rng = np.random.default_rng(0)
    xyz, normal, look = [], [], []
    for side, (axis, half) in enumerate(((0, 1), (1, 0), (0, 1), (1, 0))):
        wall = np.random.default_rng(10 + (side % 2 if copies else side)).uniform(-1, 1, (160, 2))
        sign = 1 if side < 2 else -1
        points = np.zeros((160, 3))
        points[:, axis] = sign * wall[:, 0] * HALF[axis]
        points[:, half] = -sign * HALF[half]
        points[:, 2] = 1.1 + 1.1 * wall[:, 1]
        points[:, half] += sign * 0.25 * np.sin(7 * wall[:, 0]) * np.cos(5 * wall[:, 1])  # no plane
        xyz.append(points)
        normal.append(np.tile(np.eye(3)[half] * -sign, (160, 1)))
        look.append(np.arange(160) + 1000 * (side % 2 if copies else side))
    for number in range(num_landmarks):
        angle = math.tau * (number + rng.uniform(-0.3, 0.3)) / num_landmarks
        radius = rng.uniform(2.2, 3.0)
        foot = np.array([radius * math.cos(angle), radius * math.sin(angle), 0.5])
        xyz.append(foot + rng.uniform(-0.4, 0.4, (60, 3)))
        normal.append(np.zeros((60, 3)))
        look.append(10_000 + 100 * number + np.arange(60))
    return Points(np.concatenate(xyz), np.concatenate(normal), np.concatenate(look))


def visible(points: Points, pose: np.ndarray) -> np.ndarray:
    """(p,) bool: in the picture, on a side that is turned to the camera, not behind the house."""
    center = -pose[:, :3].T @ pose[:, 3]
    local = points.xyz @ pose[:, :3].T + pose[:, 3]
    pixels = (local @ K.T)[:, :2] / local[:, 2:]
    inside = (local[:, 2] > 0.1) & (pixels > 0).all(1) & (pixels < np.array(SIZE) - 1).all(1)
    towards = center - points.xyz
    faces = (points.normal * towards).sum(1) > 0.3 * np.linalg.norm(towards, axis=1)
    landmark = (points.normal == 0).all(1)
    steps = np.linspace(0.02, 0.98, 40)[:, None, None]
    way = points.xyz + steps * towards
    hidden = ((np.abs(way[..., :2]) < HALF - 0.3).all(2) & (way[..., 2] < 2.2)).any(0)
    return inside & np.where(landmark, ~hidden, faces)


def build(folder: Path, *, copies: bool, num_landmarks: int = 8) -> Setting:
    """What cameras all round the house see of it, matched by looks, verified."""
    rng = np.random.default_rng(1)
    points = house(copies, num_landmarks)
    poses = camera_ring(
        (0, 0, 0.9), 5.6, 1.0, NUM_VIEWS, 0.02, torch.Generator().manual_seed(0), arc_deg=360 * (1 - 1 / NUM_VIEWS)
    )
    features, rows = {}, {}
    for name, pose in zip(NAMES, poses.double().numpy(), strict=True):
        seen = np.flatnonzero(visible(points, pose) & (rng.random(len(points.xyz)) < 0.85))
        local = points.xyz[seen] @ pose[:, :3].T + pose[:, 3]
        pixels = (local @ K.T)[:, :2] / local[:, 2:] + NOISE_PX * rng.normal(size=(len(seen), 2))
        count, rows[name] = len(seen), seen
        features[name] = Features(
            torch.from_numpy(pixels).float(), torch.ones(count), torch.zeros(count, 1), SIZE, KIND
        )
    centers = -(poses[:, :, :3].mT @ poses[:, :, 3:])[:, :, 0].double()
    matches, shares = {}, {}
    for first, name0 in enumerate(NAMES):
        for second in range(first + 1, NUM_VIEWS):
            name1 = NAMES[second]
            _, i, j = np.intersect1d(points.look[rows[name0]], points.look[rows[name1]], return_indices=True)
            i, j = i[np.argsort(i)], j[np.argsort(i)]
            here = points.xyz[rows[name0][i]]
            rays = [centers[view].numpy() - here for view in (first, second)]
            cosine = (rays[0] * rays[1]).sum(1) / (np.linalg.norm(rays[0], axis=1) * np.linalg.norm(rays[1], axis=1))
            same = rows[name0][i] == rows[name1][j]
            kept = ~same | (cosine > math.cos(math.radians(WIDEST_DEG)))
            if kept.sum() >= 15:
                matches[name0, name1] = Matches(torch.from_numpy(np.stack([i, j], 1)[kept]), torch.ones(len(i[kept])))
                shares[name0, name1] = {(a, b): s for a, b, s in zip(i[kept], j[kept], same[kept], strict=True)}
    path = write_database(folder, Seen(features, matches), [NAMES], model="SIMPLE_RADIAL")
    verify(path)
    true, false = set(), set()
    for pair, found in read_colmap_verified(path).items():
        same = [shares[pair][a, b] for a, b in found.matches.indices.tolist()]
        if same:
            (true if np.mean(same) >= 0.5 else false).add(pair)
    return Setting(path, true, false, centers)
