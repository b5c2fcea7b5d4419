"""The world: textured triangles, and `build_world`, which generates a plaza with objects from a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.pyramid import TexturePyramid
from lightmatch.scenes.surfaces import Surface, boulder, box, column, rectangle, relief, stairs
from lightmatch.scenes.textures import fractal_noise, procedural_textures

Colour = tuple[float, float, float]  # RGB in 0…255


@dataclass(frozen=True, eq=False)
class World:
    """A scene of f textured triangles, visible from both sides, in metres, z up."""

    corners: Tensor  # (f, 3, 3) float32, triangle, corner, xyz
    normals: Tensor  # (f, 3, 3) float32, unit, at the corners
    uvs: Tensor  # (f, 3, 2) float32, texture position of the corners in 0…1, right and down
    texture_index: Tensor  # (f,) int64
    textures: TexturePyramid
    sun: Tensor  # (3,) float32, unit, towards the light
    ambient: float = 0.5  # share of ambient light; the sun has the rest
    sky: tuple[Colour, Colour] = ((212.0, 222.0, 232.0), (112.0, 152.0, 204.0))  # at the horizon and overhead

    @property
    def device(self) -> torch.device:
        """Device of the tensors, on which the world is rendered."""
        return self.corners.device

    def to(self, device: torch.device | str) -> World:
        """The same world on `device`."""
        names = ("corners", "normals", "uvs", "texture_index", "textures", "sun")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @classmethod
    def from_surfaces(
        cls, surfaces: Sequence[Surface], textures: Tensor, *, sun: Sequence[float] = (0.35, -0.5, 0.8)
    ) -> World:
        """A world of `surfaces` with `textures` (t, size, size, 3) uint8, lit from the direction `sun`.

        Raises InvalidValueError where there is no surface or one names a texture that is not given.
        """
        pyramid = TexturePyramid.from_textures(textures)
        worst = max((surface.texture for surface in surfaces), default=-1)
        if not 0 <= worst < pyramid.count:
            raise InvalidValueError(
                f"World: expected surfaces with textures 0…{pyramid.count - 1}, got {len(surfaces)} surfaces and"
                f" texture {worst}; give more textures or surfaces"
            )
        parts = [surface.triangles() for surface in surfaces]
        corners, normals, uvs = (torch.cat(column) for column in zip(*parts, strict=True))
        index = torch.cat([torch.full((len(part[0]),), s.texture) for s, part in zip(surfaces, parts, strict=True)])
        light = torch.nn.functional.normalize(torch.tensor(sun, dtype=torch.float32), dim=0)
        return cls(corners, normals, uvs, index, pyramid, light)


@dataclass(frozen=True)
class WorldConfig:
    """What `build_world` generates."""

    extent: float = 16.0  # m, side of the square plaza
    wall_height: float = 4.0  # m, of the facades around it; 0 leaves the plaza open
    num_objects: int = 16  # boxes, stairs, columns and boulders, each unlike the others
    repeated_objects: int = 0  # more copies of the first object with the same texture: doppelgängers
    repeated_facades: bool = False  # the parts of a side have the same texture, like windows in a row
    num_backdrops: int = 0  # distant textured planes around the plaza, such as mountains; 3 or more close the circle
    relief: float = 0.12  # m, height of the bumps in the ground and in the facades
    texel_size: float = 0.008  # m, of the ground and the objects; facades have 1.6 times that
    num_textures: int = 12  # procedural ones where none are given; reused where they are too few for the whole area
    texture_size: int = 1024  # px

    def __post_init__(self) -> None:
        counts = min(
            self.num_objects, self.repeated_objects, self.num_backdrops, self.num_textures - 1, self.texture_size - 16
        )
        if self.extent <= 2 or self.texel_size <= 0 or min(counts, self.wall_height, self.relief) < 0:
            raise InvalidValueError(
                "WorldConfig: expected extent > 2 m, texel_size > 0, num_textures ≥ 1, texture_size ≥ 16"
                f" and nothing negative, got {self}"
            )
        if self.repeated_objects and not self.num_objects:
            raise InvalidValueError("WorldConfig: expected num_objects ≥ 1 where objects are repeated, got 0")


def build_world(generator: torch.Generator, config: WorldConfig | None = None, textures: Tensor | None = None) -> World:
    """A plaza with uneven ground, facades around it and objects standing about its middle.

    textures: (t, size, size, 3) uint8 RGB, such as photos; procedural ones by default. Every surface gets its
    own piece of a texture, so nothing repeats until all pieces are used.
    The objects are within 0.3 · extent of the centre, so there is room for a ring of cameras inside the facades.
    Returns a world on the CPU; the same generator state gives the same bits.
    """
    config = config or WorldConfig()
    if textures is None:
        textures = procedural_textures(generator, config.num_textures, config.texture_size)
    textures = textures.cpu()
    TexturePyramid.from_textures(textures[:1])  # raises for a wrong shape before anything is built
    cutter = TextureCutter(len(textures), textures.shape[1])
    surfaces = _ground(generator, config, cutter) + _facades(generator, config, cutter)
    places: list[Tensor] = []
    first: list[Surface] = []
    for number in range(config.num_objects + config.repeated_objects):
        if number < config.num_objects:
            thing = [cutter.texture(part, config.texel_size) for part in _object(generator, number)]
            first = first or thing
        else:
            thing = first
        surfaces += _placed(generator, config, places, thing)
    surfaces += _backdrops(generator, config, len(textures))
    sun = (_uniform(generator, -0.8, 0.8), _uniform(generator, -0.8, 0.8), 1.0)
    return World.from_surfaces(surfaces, textures, sun=sun)


class TextureCutter:
    """Assigns each surface its own piece of a texture, row by row from all textures in turn."""

    def __init__(self, count: int, size: int) -> None:
        self.size = size
        self.free = [(0, 0, 0)] * count  # left, top and bottom of the row being filled
        self.current = 0

    def texture(self, surface: Surface, texel_size: float) -> Surface:
        """`surface` with the next free piece of texture. texel_size: width of a texel, about, in metres."""
        width, height = (min(max(round(side / texel_size), 2), self.size) for side in surface.sides())
        for _ in range(len(self.free)):
            self.current = (self.current + 1) % len(self.free)
            left, top, bottom = self.free[self.current]
            if left + width > self.size:
                left, top = 0, bottom
            if top + height <= self.size:
                break
        else:
            left, top, bottom = 0, 0, 0  # all used: start over
        self.free[self.current] = (left + width, top, max(bottom, top + height))
        crop = (left / self.size, top / self.size, (left + width) / self.size, (top + height) / self.size)
        return replace(surface, texture=self.current, crop=crop)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _ground(generator: torch.Generator, config: WorldConfig, cutter: TextureCutter) -> list[Surface]:
    """Uneven slabs without gaps: pieces of one height map."""
    slabs, cells = 4, 12
    heights = config.relief * fractal_noise(generator, slabs * cells + 1, 5, 3)[0]
    step = config.extent / slabs
    surfaces = []
    for row in range(slabs):
        for column_number in range(slabs):
            origin = (column_number * step - config.extent / 2, row * step - config.extent / 2, 0.0)
            part = heights[row * cells :, column_number * cells :][: cells + 1, : cells + 1]
            surfaces.append(cutter.texture(relief(origin, (step, 0, 0), (0, step, 0), part), config.texel_size))
    return surfaces


def _facades(generator: torch.Generator, config: WorldConfig, cutter: TextureCutter) -> list[Surface]:
    surfaces: list[Surface] = []
    if config.wall_height == 0:
        return surfaces
    parts = 3
    half, width = config.extent / 2, config.extent / parts
    overlap = config.relief  # bumps of neighbours differ: without it one would see through between them
    for side in range(4):
        rotation = rotation_z(side * math.pi / 2)
        first: Surface | None = None
        for part in range(parts):
            height = config.wall_height * _uniform(generator, 0.8, 1.25)
            bumps = config.relief * fractal_noise(generator, 17, 4, 2)[0]
            wall = relief(
                (part * width - half - overlap, half - config.relief, -config.relief),
                (width + 2 * overlap, 0, 0),
                (0, 0, height),
                bumps,
            )
            # Visible from inside: left and right are exchanged.
            inside = replace(wall, points=wall.points.flip(1).contiguous())
            if first is None or not config.repeated_facades:
                first = cutter.texture(inside, 1.6 * config.texel_size)
            textured = replace(inside, texture=first.texture, crop=first.crop)
            surfaces.append(textured.moved(rotation, torch.zeros(3)))
    return surfaces


def _backdrops(generator: torch.Generator, config: WorldConfig, num_textures: int) -> list[Surface]:
    """A ring of square pictures four times as wide as the plaza, from a little below the horizon upwards."""
    count = config.num_backdrops
    if count == 0:
        return []
    radius = 2 * config.extent
    side = 2 * radius * math.tan(math.pi / max(count, 3))
    picture = rectangle((side / 2, -radius, -0.2 * side), (-side, 0, 0), (0, 0, side))
    chosen = torch.randint(num_textures, (count,), generator=generator).tolist()
    return [
        replace(picture, texture=texture).moved(rotation_z(2 * math.pi * place / count), torch.zeros(3))
        for place, texture in enumerate(chosen)
    ]


def _object(generator: torch.Generator, number: int) -> list[Surface]:
    width, depth = (_uniform(generator, 0.6, 1.3) for _ in range(2))
    height = _uniform(generator, 0.5, 1.9)
    kind = number % 6
    if kind == 3:
        return stairs(width, 1.3 * depth, 0.6 * height, 3)
    if kind == 4:
        return column(0.4 * width, 1.2 * height, 20)
    if kind == 5:
        n = 25
        axis = torch.linspace(-1, 1, n)
        rim = ((1 - axis**2)[:, None] * (1 - axis**2)[None]).sqrt()  # 0 on the border, 1 in the middle
        bumps = 1 + 0.35 * fractal_noise(generator, n, 3, 2)[0]
        return [boulder(0.8 * width, 0.7 * height * rim * bumps - 0.1)]
    if kind == 2:  # a smaller box on a larger one, rotated
        top = box(0.6 * width, 0.6 * depth, 0.5 * height)
        rotation = rotation_z(_uniform(generator, 0.2, 1.3))
        lift = torch.tensor([0.0, 0.0, 0.6 * height])
        return box(width, depth, 0.6 * height) + [side.moved(rotation, lift) for side in top]
    return box(width, depth, height)


def rotation_z(angle: float) -> Tensor:
    """The rotation (3, 3) by `angle` radians about the z axis, anticlockwise as seen from above."""
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _placed(
    generator: torch.Generator, config: WorldConfig, places: list[Tensor], thing: list[Surface]
) -> list[Surface]:
    """`thing` rotated and placed on the ground, as far from the others as a few tries find."""
    best, best_gap = torch.zeros(3), -1.0
    for _ in range(16):
        angle, part = _uniform(generator, 0, 2 * math.pi), math.sqrt(_uniform(generator, 0, 1))
        distance = 0.3 * config.extent * part
        place = torch.tensor([distance * math.cos(angle), distance * math.sin(angle), -config.relief])
        gap = min((float((place - other).norm()) for other in places), default=math.inf)
        if gap > best_gap:
            best, best_gap = place, gap
    places.append(best)
    rotation = rotation_z(_uniform(generator, 0, 2 * math.pi))
    return [part.moved(rotation, best) for part in thing]
