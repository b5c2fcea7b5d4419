"""Selects views for training pairs by their overlap."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.geometry.depth import warp_with_depth


def depth_overlap(depth: Tensor, K: Tensor, cam_from_world: Tensor, *, relative_tolerance: float = 0.1) -> Tensor:
    """(n, n), entry [i, j]: the part of view i that view j sees too.

    depth: (n, h, w); small maps suffice. K: (n, 3, 3). cam_from_world: (n, 3, 4).
    """
    height, width = depth.shape[1:]
    y, x = torch.meshgrid(torch.arange(0, height, 8.0), torch.arange(0, width, 8.0), indexing="ij")
    grid = torch.stack((x, y), -1).reshape(-1, 2)
    rows = []
    for i in range(len(depth)):
        others_from_i = compose_rigid(cam_from_world, invert_rigid(cam_from_world[i]))
        seen = warp_with_depth(grid, depth[i], K[i], depth, K, others_from_i, relative_tolerance=relative_tolerance)[1]
        rows.append(seen.float().mean(-1))
    return torch.stack(rows)


def fitting_pairs(overlap: np.ndarray, low: float, high: float) -> np.ndarray:
    """(n, n) bool, symmetric: the pairs whose lesser overlap of the two ways lies in low…high. overlap: (n, n)."""
    lesser = np.minimum(overlap, overlap.T)
    return (lesser >= low) & (lesser <= high) & ~np.eye(len(lesser), dtype=bool)


def choose_views(fits: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Indices of `count` views: a random one, then each time one that fits most of those chosen; ties are random.

    fits: (n, n) bool, symmetric, n ≥ count.
    """
    links = fits.sum(1)
    chosen = [int(rng.choice(np.flatnonzero(links >= min(count - 1, links.max()))))]
    while len(chosen) < count:
        links = fits[:, chosen].sum(1)
        links[chosen] = -1
        chosen.append(int(rng.choice(np.flatnonzero(links == links.max()))))
    return chosen
