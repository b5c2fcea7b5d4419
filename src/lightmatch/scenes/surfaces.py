"""Surfaces as grids of points: rectangles, reliefs, boxes, columns and boulders.

A surface is an (r, c) grid of 3D points with a piece of texture stretched over it. Columns run to the
right and rows upwards as seen from outside, so that the cross product of the two faces outwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError

FULL_TEXTURE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Surface:
    """A grid of points with a piece of one texture."""

    points: Tensor  # (r, c, 3) float32, r, c ≥ 2
    texture: int = 0
    crop: tuple[float, float, float, float] = FULL_TEXTURE  # left, top, right, bottom of the piece, in 0…1

    def __post_init__(self) -> None:
        points = self.points
        if points.ndim != 3 or points.shape[2] != 3 or min(points.shape[:2]) < 2:
            raise InvalidValueError(
                f"Surface.points: expected a grid of shape (rows ≥ 2, columns ≥ 2, 3), got {tuple(points.shape)}"
            )

    def moved(self, rotation: Tensor, translation: Tensor) -> Surface:
        """The surface after x → R x + t. rotation: (3, 3). translation: (3,)."""
        return replace(self, points=self.points @ rotation.T + translation)

    def sides(self) -> tuple[float, float]:
        """Mean length along the columns and along the rows, in world units."""
        right = (self.points[:, 1:] - self.points[:, :-1]).norm(dim=-1).sum(1).mean()
        up = (self.points[1:] - self.points[:-1]).norm(dim=-1).sum(0).mean()
        return float(right), float(up)

    def normals(self) -> Tensor:
        """(r, c, 3) unit normals, facing outwards and smooth over the grid."""
        right = torch.gradient(self.points, dim=1)[0]
        up = torch.gradient(self.points, dim=0)[0]
        return torch.nn.functional.normalize(torch.linalg.cross(right, up), dim=-1)

    def triangles(self) -> tuple[Tensor, Tensor, Tensor]:
        """(f, 3, 3) corners, (f, 3, 3) normals and (f, 3, 2) texture positions of two triangles a grid cell."""
        rows, columns = self.points.shape[:2]
        left, top, right, bottom = self.crop
        u = torch.linspace(left, right, columns).expand(rows, columns)
        v = torch.linspace(bottom, top, rows)[:, None].expand(rows, columns)
        every = torch.cat([self.points, self.normals(), u[..., None], v[..., None]], -1)
        a, b, c, d = every[:-1, :-1], every[:-1, 1:], every[1:, 1:], every[1:, :-1]
        corners = torch.stack([torch.stack([a, b, c], 2), torch.stack([a, c, d], 2)], 2).reshape(-1, 3, 8)
        return corners[..., :3], corners[..., 3:6], corners[..., 6:]


def rectangle(origin: Sequence[float], edge_right: Sequence[float], edge_up: Sequence[float]) -> Surface:
    """A flat rectangle from its lower left corner and two edge vectors, as seen from outside."""
    return relief(origin, edge_right, edge_up, torch.zeros(2, 2))


def relief(origin: Sequence[float], edge_right: Sequence[float], edge_up: Sequence[float], heights: Tensor) -> Surface:
    """A rectangle displaced along its normal by `heights` (r, c), straight between the grid points.

    The first row lies along `edge_right`, rows follow each other along `edge_up`; units of the world.
    """
    start, right, up = (torch.as_tensor(v, dtype=torch.float32) for v in (origin, edge_right, edge_up))
    rows, columns = heights.shape
    normal = torch.nn.functional.normalize(torch.linalg.cross(right, up), dim=0)
    along = torch.linspace(0, 1, columns)[None, :, None] * right
    across = torch.linspace(0, 1, rows)[:, None, None] * up
    return Surface(start + along + across + heights[..., None] * normal)


def box(width: float, depth: float, height: float) -> list[Surface]:
    """Four walls and the top of a box, its floor centred at the origin; sizes along x, y and z."""
    x, y, z = width / 2, depth / 2, height
    return [
        rectangle((-x, -y, 0), (width, 0, 0), (0, 0, z)),
        rectangle((x, -y, 0), (0, depth, 0), (0, 0, z)),
        rectangle((x, y, 0), (-width, 0, 0), (0, 0, z)),
        rectangle((-x, y, 0), (0, -depth, 0), (0, 0, z)),
        rectangle((-x, -y, z), (width, 0, 0), (0, depth, 0)),
    ]


def stairs(width: float, depth: float, height: float, steps: int) -> list[Surface]:
    """Blocks on one another, each as wide but less deep than the one below."""
    zero = torch.eye(3)
    parts: list[Surface] = []
    for step in range(steps):
        shrink = depth * (1 - step / steps)
        offset = torch.tensor([0.0, (depth - shrink) / 2, step * height / steps])
        parts += [side.moved(zero, offset) for side in box(width, shrink, height / steps)]
    return parts


def column(radius: float, height: float, segments: int) -> list[Surface]:
    """A round column standing on the origin: its side and its flat top."""
    angle = torch.linspace(0, 2 * math.pi, segments + 1)
    rim = torch.stack([radius * angle.cos(), radius * angle.sin(), torch.zeros_like(angle)], -1)
    side = Surface(torch.stack([rim, rim + torch.tensor([0.0, 0.0, height])]))
    return [side, boulder(radius, torch.full((7, 7), height))]


def boulder(radius: float, heights: Tensor) -> Surface:
    """A round patch about the origin, displaced upwards by `heights` (n, n)."""
    axis = torch.linspace(-1, 1, len(heights))
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    # The square is bent into a disc without folds or points where all lines meet.
    disc_x, disc_y = x * (1 - y * y / 2).sqrt(), y * (1 - x * x / 2).sqrt()
    return Surface(torch.stack([radius * disc_x, radius * disc_y, heights], -1))
