"""The visible triangle of each sample of an image: homogeneous rasterisation in tiles.

A triangle's point is v0 + a·(v1 − v0) + b·(v2 − v0). On the ray z·(x, y, 1) through a pixel, a/z, b/z and 1/z are
affine in the pixel (Olano and Greer 1997, "Triangle scan conversion using 2D homogeneous coordinates"): no
clipping, no division, exact depth. The tiles of all cameras are processed together, to use a GPU well;
in a tile only triangles that touch it are tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 16  # px
NEAR = 0.02  # world units; nearer surfaces are not visible
_EDGE = 1e-5  # part of a triangle by which its edges are widened, so that neighbours leave no holes


@dataclass(frozen=True, eq=False)
class TileTriangles:
    """All p pairs of a tile and a triangle that may touch it, by tile: tile t has count[t] pairs from start[t] on."""

    triangle: Tensor  # (p,) int64
    planes: Tensor  # (p, 3, 3) float32: a/z, b/z, 1/z as value at the tile's centre, change along x, along y
    start: Tensor  # (tiles,) int64
    count: Tensor  # (tiles,) int64


def tile_grid(size: tuple[int, int]) -> tuple[int, int]:
    """Tiles along x and y that cover (width, height) px."""
    return -(-size[0] // TILE), -(-size[1] // TILE)


def triangles_by_tile(corners: Tensor, K: Tensor, cam_from_world: Tensor, size: tuple[int, int]) -> TileTriangles:
    """The triangles in each tile of each camera.

    corners: (f, 3, 3). K: (b, 3, 3). cam_from_world: (b, 3, 4). Tiles are numbered camera by camera, row by row.
    """
    # MPS has no float64; everywhere else the set-up is exact to well under a thousandth of a pixel.
    dtype = torch.float32 if corners.device.type == "mps" else torch.float64
    K, pose, points = K.to(dtype), cam_from_world.to(dtype)[:, None, None], corners.to(dtype)
    in_camera = (pose[..., :3] * points[None, ..., None, :]).sum(-1) + pose[..., 3]
    planes = _image_planes(in_camera, K)
    low, high = _tile_ranges(in_camera, K, size)
    spans = (high - low + 1).clamp_min(0)
    flat = spans.prod(-1).flatten() * planes.isfinite().all(-1).all(-1).flatten()
    owner = torch.repeat_interleave(torch.arange(len(flat), device=flat.device), flat)
    within = torch.arange(len(owner), device=flat.device) - (flat.cumsum(0) - flat)[owner]
    camera, triangle = owner // len(corners), owner % len(corners)
    width = spans.reshape(-1, 2)[owner, 0]
    column = low.reshape(-1, 2)[owner, 0] + within % width
    row = low.reshape(-1, 2)[owner, 1] + within // width
    here = planes.reshape(-1, 3, 3)[owner]
    middle = (TILE - 1) / 2
    centre = (
        here[..., 2] + here[..., 0] * (column * TILE + middle)[:, None] + here[..., 1] * (row * TILE + middle)[:, None]
    )
    here = torch.stack([centre, here[..., 0], here[..., 1]], -1)
    # The outermost sample is half a tile away: if an edge function is negative in every corner, none is inside.
    edges = _edge_functions(here)
    touched = (edges[..., 0] + edges[..., 1:].abs().sum(-1) * (TILE / 2) >= 0).all(-1)
    columns, rows = tile_grid(size)
    tile = ((camera * rows + row) * columns + column)[touched]
    order = torch.argsort(tile, stable=True)
    count = torch.bincount(tile, minlength=len(K) * rows * columns)
    return TileTriangles(triangle[touched][order], here[touched][order].float(), count.cumsum(0) - count, count)


def _image_planes(in_camera: Tensor, K: Tensor) -> Tensor:
    """(b, f, 3, 3): a/z, b/z, 1/z as coefficients of (x px, y px, 1); not finite where seen edge-on."""
    v0 = in_camera[:, :, 0]
    e1, e2 = in_camera[:, :, 1] - v0, in_camera[:, :, 2] - v0
    normal = torch.linalg.cross(e1, e2)
    volume = (normal * v0).sum(-1, keepdim=True)
    rows = torch.stack([torch.linalg.cross(e2, v0), torch.linalg.cross(v0, e1), normal], -2) / volume[..., None]
    return (rows[..., None] * torch.linalg.inv(K)[:, None, None]).sum(-2)


def _tile_ranges(in_camera: Tensor, K: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """First and last tile (b, f, 2) along x and y that the part of each triangle beyond NEAR can touch."""
    start, end = in_camera, in_camera.roll(-1, dims=2)
    gap = end[..., 2] - start[..., 2]
    crossing = (start[..., 2] > NEAR) != (end[..., 2] > NEAR)
    part = (NEAR - start[..., 2]) / torch.where(crossing, gap, torch.ones_like(gap))
    outline = torch.cat([start, start + part[..., None] * (end - start)], 2)
    counts = torch.cat([start[..., 2] > NEAR, crossing], 2)[..., None]
    pixels = (K[:, None, None, :2] * outline[..., None, :]).sum(-1) / outline[..., 2:].clamp_min(NEAR)
    last = torch.tensor(tile_grid(size), device=K.device) - 1
    bound = 1e6 * counts.new_ones((), dtype=pixels.dtype)
    low = torch.where(counts, pixels, bound).amin(2).clamp(-bound, bound)
    high = torch.where(counts, pixels, -bound).amax(2).clamp(-bound, bound)
    low_tile, high_tile = (((edge + 0.5) / TILE).floor().long() for edge in (low - 0.01, high + 0.01))
    return low_tile.clamp_min(0), torch.minimum(high_tile, last)


def _edge_functions(planes: Tensor) -> Tensor:
    """(p, 3, 3): affine functions that are ≥ 0 inside the slightly widened triangle."""
    a, b, inverse = planes.unbind(-2)
    return torch.stack([a + _EDGE * inverse, b + _EDGE * inverse, (1 + _EDGE) * inverse - a - b], -2)


def nearest(pairs: TileTriangles, tiles: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """The visible pair and 1/z (len(tiles), s, s) of the samples at `offsets` (s,) px from the tiles' centres.

    tiles: (n,) indices. Without a visible triangle 1/z is 0 and the pair is 0.
    """
    count, order = pairs.count[tiles].sort(descending=True, stable=True)
    start = pairs.start[tiles][order]
    shape = (len(tiles), len(offsets), len(offsets))
    best = torch.zeros(shape, device=offsets.device)
    winner = torch.zeros(shape, dtype=torch.int32, device=offsets.device)
    for step, active in _active_prefixes(count):
        pair = start[:active] + step
        planes = pairs.planes[pair]
        functions = torch.cat([_edge_functions(planes), planes[:, 2:]], 1)[..., None]
        rows = functions[:, :, 0] + functions[:, :, 2] * offsets
        columns = functions[:, :, 1] * offsets
        e0, e1, e2, inverse = (rows[:, i, :, None] + columns[:, i, None, :] for i in range(4))
        seen = torch.minimum(torch.minimum(e0, e1), e2) >= 0
        seen &= (inverse > best[:active]) & (inverse < 1 / NEAR)
        best[:active] = torch.where(seen, inverse, best[:active])
        winner[:active] = torch.where(seen, pair.int()[:, None, None], winner[:active])
    back = torch.argsort(order)
    return winner[back].long(), best[back]


def _active_prefixes(count: Tensor) -> Iterator[tuple[int, int]]:
    """For each step, how many of the tiles (most pairs first) still have that many pairs."""
    longest = int(count[0])
    active = (count[None] > torch.arange(longest, device=count.device)[:, None]).sum(1) if longest else count[:0]
    yield from enumerate(active.tolist())
