"""Renders images and exact depth of a world from pinhole cameras, in batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.raster import TILE, TileTriangles, nearest, tile_grid, triangles_by_tile
from lightmatch.scenes.world import World


@dataclass(frozen=True, eq=False)
class Rendering:
    """Images and depth of b cameras."""

    rgb: Tensor  # (b, h, w, 3) uint8
    depth: Tensor  # (b, h, w) float32, z in the camera at the centre of the pixel; 0 in the sky
    valid: Tensor  # (b, h, w) bool, whether a surface is visible at the centre of the pixel


def render(
    world: World,
    K: Tensor,
    cam_from_world: Tensor,
    size: tuple[int, int],
    *,
    supersampling: int = 2,
    exposure: Tensor | None = None,
    chunk: int | None = None,
) -> Rendering:
    """Render `world` as b cameras see it, on the world's device.

    K: (b, 3, 3) without skew. cam_from_world: (b, 3, 4). size: (width, height) px; the centre of the first pixel is
    (0, 0). supersampling: colour samples along each side of a pixel; depth is always that of its centre.
    exposure: (b,) factors on the brightness. chunk: samples processed at a time, which bounds the memory
    (less than a kilobyte each). The image of a camera does not depend on the others in the batch.
    Raises InvalidValueError on other shapes, supersampling < 1, or an empty size.
    """
    _check(K, cam_from_world, size, supersampling, exposure)
    device = world.device
    K, cam_from_world = K.to(device).float(), cam_from_world.to(device).float()
    gain = torch.ones(len(K), device=device) if exposure is None else exposure.to(device).float()
    columns, rows = tile_grid(size)
    samples = (supersampling * TILE) ** 2
    budget = chunk or (2**18 if device.type == "cpu" else 2**23)
    tiles_at_once = max(1, budget // samples)
    views_at_once = max(1, min(tiles_at_once // (rows * columns), budget // len(world.corners)))
    parts = []
    for first in range(0, len(K), views_at_once):
        views = slice(first, first + views_at_once)
        pairs = triangles_by_tile(world.corners, K[views], cam_from_world[views], size)
        scene = _Views(world, pairs, _attributes(world, pairs), K[views], cam_from_world[views], gain[views], size)
        tiles = torch.arange(len(pairs.count), device=device).split(tiles_at_once)
        colours, depths = zip(*(scene.draw(part, supersampling) for part in tiles), strict=True)
        parts.append((_untile(torch.cat(colours), size), _untile(torch.cat(depths), size)))
    if not parts:
        empty = torch.zeros((0, size[1], size[0]), device=device)
        return Rendering(empty[..., None].expand(-1, -1, -1, 3).to(torch.uint8), empty, empty.bool())
    rgb, depth = (torch.cat(column) for column in zip(*parts, strict=True))
    return Rendering(rgb, depth, depth > 0)


def _check(K: Tensor, pose: Tensor, size: tuple[int, int], supersampling: int, exposure: Tensor | None) -> None:
    if K.ndim != 3 or K.shape[1:] != (3, 3) or pose.shape != (len(K), 3, 4):
        raise InvalidValueError(
            "render: expected K of shape (b, 3, 3) and cam_from_world of shape (b, 3, 4),"
            f" got {tuple(K.shape)} and {tuple(pose.shape)}; add a batch dimension with [None]"
        )
    if supersampling < 1 or min(size) < 1:
        raise InvalidValueError(
            f"render: expected supersampling ≥ 1 and a positive size, got {supersampling} and {size}"
        )
    if exposure is not None and exposure.shape != (len(K),):
        raise InvalidValueError(f"render: expected exposure of shape ({len(K)},), got {tuple(exposure.shape)}")


def _attributes(world: World, pairs: TileTriangles) -> Tensor:
    """(p, 12): u/z, v/z, light/z and 1/z of each pair as value at the tile's centre, change along x, along y."""
    sunlight = (world.normals * world.sun).sum(-1, keepdim=True).clamp_min(0)
    # Faces that point up get more light from the sky, so that the faces of a box look different.
    sky = 0.85 + 0.15 * world.normals[..., 2:]
    light = world.ambient * sky + (1 - world.ambient) * sunlight
    at_corners = torch.cat([world.uvs, light], -1)
    weights = torch.stack([at_corners[:, 1] - at_corners[:, 0], at_corners[:, 2] - at_corners[:, 0], at_corners[:, 0]])
    weights = weights[:, pairs.triangle].permute(1, 2, 0)  # (p, attribute, a b 1)
    planes = (weights[..., None] * pairs.planes[:, None]).sum(2)
    return torch.cat([planes, pairs.planes[:, 2:]], 1).flatten(1)


@dataclass(frozen=True, eq=False)
class _Views:
    """A few cameras with the data to shade their samples."""

    world: World
    pairs: TileTriangles
    attributes: Tensor  # (p, 12)
    K: Tensor
    cam_from_world: Tensor
    gain: Tensor
    size: tuple[int, int]

    def draw(self, tiles: Tensor, supersampling: int) -> tuple[Tensor, Tensor]:
        """Colour (n, TILE, TILE, 3) uint8 and depth (n, TILE, TILE) of the tiles (n,)."""
        offsets = self._offsets(supersampling)
        winner, inverse = nearest(self.pairs, tiles, offsets)
        centre = inverse if supersampling == 1 else nearest(self.pairs, tiles, self._offsets(1))[1]
        depth = torch.where(centre > 0, 1 / centre, torch.zeros_like(centre))
        colour = self._sky(tiles, offsets)
        tile, row, column = torch.nonzero(inverse > 0, as_tuple=True)
        if len(tile):
            camera = tiles[tile] // (len(self.pairs.count) // len(self.K))
            lit = self._shade(winner[tile, row, column], offsets[column], offsets[row], 1 / supersampling)
            colour[tile, row, column] = lit * self.gain[camera, None]
        colour = colour.unflatten(1, (TILE, supersampling)).unflatten(3, (TILE, supersampling)).mean((2, 4))
        return colour.clamp(0, 255).round().to(torch.uint8), depth

    def _offsets(self, supersampling: int) -> Tensor:
        place = torch.arange(TILE * supersampling, device=self.K.device) + 0.5
        return place / supersampling - TILE / 2

    def _shade(self, pair: Tensor, dx: Tensor, dy: Tensor, spacing: float) -> Tensor:
        """(n, 3) colours of samples dx, dy px from the centre of their tile, `spacing` px apart."""
        rows = self.attributes.index_select(0, pair)
        value = [rows[:, i] + rows[:, i + 1] * dx + rows[:, i + 2] * dy for i in (0, 3, 6, 9)]
        z = 1 / value[3]
        u, v, light = (value[i] * z for i in range(3))
        # d(u)/dx of u = (u/z) / (1/z), by the quotient rule.
        ux, uy, vx, vy = (
            (rows[:, 3 * i + axis] - attribute * rows[:, 9 + axis]) * z
            for i, attribute in enumerate((u, v))
            for axis in (1, 2)
        )
        along_x, along_y = ux * ux + vx * vx, uy * uy + vy * vy
        area = (ux * vy - uy * vx).abs()
        long = torch.maximum(along_x, along_y).sqrt()
        # On slanted surfaces a sample covers a long thin piece of texture. Its length would blur the picture, its
        # width would alias: the geometric mean of both, but at least half the length.
        footprint = spacing * torch.maximum(area.sqrt(), 0.5 * long)
        texels = self.world.textures.sample(self.world.texture_index[self.pairs.triangle[pair]], u, v, footprint)
        return texels * light[:, None]

    def _sky(self, tiles: Tensor, offsets: Tensor) -> Tensor:
        """(n, s, s, 3): a gradient without features, from the horizon to the zenith."""
        columns, rows = tile_grid(self.size)
        camera, place = tiles // (rows * columns), tiles % (rows * columns)
        middle = (TILE - 1) / 2
        x = (place % columns * TILE + middle)[:, None] + offsets
        y = (place // columns * TILE + middle)[:, None] + offsets
        K, up = self.K[camera], self.cam_from_world[camera, :, 2]
        x = (x - K[:, 0, 2:]) / K[:, 0, :1]
        y = (y - K[:, 1, 2:]) / K[:, 1, 1:2]
        height = (up[:, 0, None] * x)[:, None] + (up[:, 1, None] * y)[:, :, None] + up[:, 2, None, None]
        length = ((x * x)[:, None] + (y * y)[:, :, None] + 1).sqrt()
        part = (height / length).clamp(0, 1)[..., None]
        colours = [torch.tensor(colour, device=x.device) for colour in self.world.sky]
        return torch.lerp(colours[0], colours[1], part) * self.gain[camera, None, None, None]


def _untile(tiles: Tensor, size: tuple[int, int]) -> Tensor:
    """(b · rows · columns, TILE, TILE, …) → (b, h, w, …)."""
    columns, rows = tile_grid(size)
    images = tiles.unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return images[:, : size[1], : size[0]].contiguous()
