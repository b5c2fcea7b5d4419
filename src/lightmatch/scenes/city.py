"""A city of any size, and a walk through its streets that comes back to where it was."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.cameras import look_at, pinhole
from lightmatch.scenes.render import render
from lightmatch.scenes.surfaces import Surface, box, column, relief
from lightmatch.scenes.textures import fractal_noise, procedural_textures
from lightmatch.scenes.world import TextureCutter, World, rotation_z

BLOCK = 24.0  # m from the middle of a street to the middle of the next
STREET = 8.0  # m between the houses on either side

_STEP = 0.8  # m between two pictures
_EYE = 1.6  # m above the street
_CORNER = 4.0  # m from a crossing, where a turn begins
_VISITS = 2  # times that a street is walked, about
_LIKING = (1.0, 2.0, 0.2)  # of a way that was not walked yet, once, and more often: weights of the choice
_TEXEL = 0.02  # m
_TEXTURE_SIZE = 1024  # px
_USED = 0.4  # of a texture that pieces fill, at least
_BUMPS = 9  # points along a side of a house front
_FIELD_OF_VIEW_DEG = 75.0
_PICTURES_AT_ONCE = 8

Crossing = tuple[int, int]  # column, row


@dataclass(frozen=True, eq=False)
class City:
    """A world of streets, and cameras along a walk through them."""

    world: World
    cam_from_world: Tensor  # (n, 3, 4) float32, in the order of the walk

    def pictures(self, size: tuple[int, int], views: range | None = None) -> Iterator[Tensor]:
        """(h, w, 3) uint8 RGB of each camera in turn, or of some, rendered when asked for.

        size: (width, height) px.
        """
        cameras = self.cam_from_world if views is None else self.cam_from_world[views.start : views.stop : views.step]
        K = city_camera(size)
        for poses in cameras.split(_PICTURES_AT_ONCE):
            yield from render(self._ahead_of(poses), K.expand(len(poses), 3, 3).contiguous(), poses, size).rgb

    def _ahead_of(self, poses: Tensor) -> World:
        """The world without what lies behind all of these cameras: about half of it, which costs as much to render."""
        depths = torch.einsum("bi,fci->bfc", poses[:, 2, :3], self.world.corners) + poses[:, 2, 3, None, None]
        seen = (depths > 0).any(2).any(0)
        world = self.world
        return replace(
            world,
            corners=world.corners[seen],
            normals=world.normals[seen],
            uvs=world.uvs[seen],
            texture_index=world.texture_index[seen],
        )


def city_camera(size: tuple[int, int]) -> Tensor:
    """The intrinsics (3, 3) of all pictures of `size` (width, height) px."""
    return pinhole(_FIELD_OF_VIEW_DEG, size)


def build_city(num_pictures: int, seed: int = 0) -> City:
    """A city large enough for a walk of `num_pictures` that comes through each street about twice.

    The streets are a square grid; every house front, piece of street and object has a texture of its own. The walk
    takes a way at random at each crossing, rather one that it took once before, never the one it came. The camera is
    0.8 m further in each picture, looks ahead and a little to either side. The same arguments give the same bits.
    Raises InvalidValueError for num_pictures < 2.
    """
    if num_pictures < 2:
        raise InvalidValueError(f"build_city.num_pictures: expected at least 2, got {num_pictures}")
    generator = torch.Generator().manual_seed(seed)
    streets = num_pictures * _STEP / BLOCK / _VISITS
    blocks = max(1, round(math.sqrt(streets / 2)))  # along a side: they have 2 · blocks · (blocks + 1) streets
    cameras = _walk(generator, blocks, num_pictures)
    surfaces = [*_pavement(generator, blocks), *_houses(generator, blocks), *_objects(generator, blocks)]
    texels = sum(math.prod(surface.sides()) for surface in surfaces) / _TEXEL**2
    textures = procedural_textures(generator, math.ceil(texels / _USED / _TEXTURE_SIZE**2), _TEXTURE_SIZE)
    cutter = TextureCutter(len(textures), _TEXTURE_SIZE)
    world = World.from_surfaces([cutter.texture(surface, _TEXEL) for surface in surfaces], textures)
    return City(world, cameras)


def _pavement(generator: torch.Generator, blocks: int) -> Iterator[Surface]:
    """Crossings, and the streets between them."""
    half, long = STREET / 2, BLOCK - STREET
    for column_ in range(blocks + 1):
        for row in range(blocks + 1):
            x, y = column_ * BLOCK, row * BLOCK
            yield _slab(generator, x - half, y - half, STREET, STREET)
            if column_ < blocks:
                yield _slab(generator, x + half, y - half, long, STREET)
            if row < blocks:
                yield _slab(generator, x - half, y + half, STREET, long)


def _slab(generator: torch.Generator, x: float, y: float, width: float, depth: float) -> Surface:
    return relief((x, y, 0.0), (width, 0, 0), (0, depth, 0), _bumps(generator, 0.04))


def _bumps(generator: torch.Generator, height: float) -> Tensor:
    """(k, k) heights in metres, 0 along the border, so that neighbours leave no gaps."""
    bumps = height * fractal_noise(generator, _BUMPS, 4, 2)[0]
    bumps[0] = bumps[-1] = bumps[:, 0] = bumps[:, -1] = 0
    return bumps


def _houses(generator: torch.Generator, blocks: int) -> Iterator[Surface]:
    """Two house fronts on each side of each block, and of the blocks around the city."""
    inside = BLOCK - STREET
    for column_ in range(-1, blocks + 1):
        for row in range(-1, blocks + 1):
            middle = torch.tensor([(column_ + 0.5) * BLOCK, (row + 0.5) * BLOCK, 0.0])
            for side, (dx, dy) in enumerate(((0, -1), (1, 0), (0, 1), (-1, 0))):
                street = (column_ + max(dx, 0), row + max(dy, 0))  # where it begins
                length = (int(dx == 0), int(dy == 0))
                if not all(0 <= street[axis] <= blocks - length[axis] for axis in (0, 1)):
                    continue
                for part in range(2):
                    height = 5.0 + 4.0 * float(torch.rand((), generator=generator))
                    corner = ((part - 1) * inside / 2, -inside / 2, 0)
                    front = relief(corner, (inside / 2, 0, 0), (0, 0, height), _bumps(generator, 0.3))
                    yield front.moved(rotation_z(side * math.pi / 2), middle)


def _objects(generator: torch.Generator, blocks: int) -> Iterator[Surface]:
    """Boxes and columns along the houses, so that streets have depth."""
    for column_ in range(blocks + 1):
        for row in range(blocks + 1):
            for along in range(2):
                if (column_, row)[along] == blocks:
                    continue
                for _ in range(6):
                    where, side, size, turn = torch.rand(4, generator=generator).tolist()
                    place = STREET / 2 + (BLOCK - STREET) * where
                    beside = math.copysign(STREET / 2 - 0.8, side - 0.5)
                    x, y = (place, beside) if along == 0 else (beside, place)
                    thing = column(0.2, 2.5 + size, 12) if side % 0.5 < 0.15 else box(0.7, 0.9, 0.6 + size)
                    shift = torch.tensor([column_ * BLOCK + x, row * BLOCK + y, 0.0])
                    yield from (part.moved(rotation_z(math.tau * turn), shift) for part in thing)


def _walk(generator: torch.Generator, blocks: int, num_pictures: int) -> Tensor:
    """(n, 3, 4) cam_from_world along a path of straight streets and round corners."""
    path = _path(generator, blocks, num_pictures * _STEP)
    length = _lengths(path)
    along = torch.arange(num_pictures) * _STEP
    after = torch.searchsorted(length, along, right=True).clamp(1, len(path) - 1)
    part = ((along - length[after - 1]) / (length[after] - length[after - 1]))[:, None]
    place = torch.lerp(path[after - 1], path[after], part)
    ahead = torch.nn.functional.normalize(_smoothed(path[after] - path[after - 1]), dim=1)
    left = torch.stack((-ahead[:, 1], ahead[:, 0]), 1)
    phases = torch.rand(4, generator=generator) * math.tau
    wave = [(along / metres + phase).sin() for metres, phase in zip((9.0, 5.0, 3.0, 2.0), phases, strict=True)]
    place = place + 0.8 * wave[0][:, None] * left
    yaw = (0.35 * wave[1])[:, None]
    view = ahead * yaw.cos() + left * yaw.sin()
    eye = torch.cat((place, (_EYE + 0.08 * wave[2])[:, None]), 1)
    return look_at(eye, eye + torch.cat((view, (0.12 + 0.06 * wave[3])[:, None]), 1))


def _smoothed(directions: Tensor) -> Tensor:
    """Means of seven in a row, so that the camera does not turn in jerks."""
    padded = torch.cat((directions[:1].expand(3, -1), directions, directions[-1:].expand(3, -1)))
    return padded.unfold(0, 7, 1).mean(2)


def _lengths(path: Tensor) -> Tensor:
    """(k,): metres from the first of the points (k, 2) to each, along them."""
    return torch.cat((torch.zeros(1), (path[1:] - path[:-1]).norm(dim=1).cumsum(0)))


def _path(generator: torch.Generator, blocks: int, metres: float) -> Tensor:
    """(k, 2): the middle of the street, from crossing to crossing, in short straight pieces where it turns.

    It is at least `metres` long: turns cut corners, so it may need more crossings than streets of that length.
    """
    here: Crossing = (0, 0)
    before: Crossing | None = None
    crossings: list[Crossing] = [here]
    walked: Counter[tuple[Crossing, Crossing]] = Counter()
    path = torch.zeros(1, 2)
    while len(crossings) * BLOCK < metres + 3 * BLOCK or _lengths(path)[-1] < metres:
        x, y = here
        near = ((x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1))
        ways = [way for way in near if way != before and 0 <= way[0] <= blocks and 0 <= way[1] <= blocks]
        liking = torch.tensor([_LIKING[min(walked[here, way], 2)] for way in ways])
        before, here = here, ways[int(liking.multinomial(1, generator=generator))]
        walked[before, here] += 1
        crossings.append(here)
        if len(crossings) > 2:
            path = torch.cat((path, _across(*crossings[-3:])))
    return path


def _across(last: Crossing, middle: Crossing, following: Crossing) -> Tensor:
    """(9, 2): the way over the crossing `middle`, a parabola; straight on where the street goes on."""
    before, here, after = (
        BLOCK * torch.tensor(crossing, dtype=torch.float32) for crossing in (last, middle, following)
    )
    into, out = (here - before) / BLOCK, (after - here) / BLOCK
    start, end = here - _CORNER * into, here + _CORNER * out
    parts = torch.linspace(0, 1, 9).tolist()
    return torch.stack([(1 - part) ** 2 * start + 2 * part * (1 - part) * here + part**2 * end for part in parts])
