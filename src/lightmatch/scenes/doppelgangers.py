"""Scenes with look-alikes: places that are equal to the last texel and yet not the same, seen as people photograph.

Around them stand landmarks, small boxes each unlike the others: they alone tell the copies apart. The ground is nearly
bare, so the fewer landmarks, the harder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.cameras import camera_path, camera_ring, pinhole
from lightmatch.scenes.demo import RenderedScene
from lightmatch.scenes.render import render
from lightmatch.scenes.surfaces import FULL_TEXTURE, Surface, box, column, rectangle
from lightmatch.scenes.textures import fractal_noise, procedural_textures
from lightmatch.scenes.world import TextureCutter, World, WorldConfig, build_world, rotation_z

TwinKind = Literal["pavilion", "tower", "islands", "colonnade", "street", "plaza", "facades"]
TWIN_KINDS: tuple[TwinKind, ...] = get_args(TwinKind)

_TEXEL = 0.01  # m
_NUM_TEXTURES, _TEXTURE_SIZE = 8, 512
_Layout = tuple[World, Tensor]  # and cameras, (b, 3, 4)


def twin_scene(
    kind: TwinKind,
    seed: int = 0,
    num_views: int = 20,
    size: tuple[int, int] = (480, 360),
    *,
    num_landmarks: int = 8,
    views: Sequence[int] | None = None,
) -> RenderedScene:
    """A scene of which some places exist twice or more often.

    kind: "pavilion", a house whose back equals its front and whose left side equals its right one, from a ring;
        "tower", one with four equal sides; "islands", two copies of a thing, each photographed from around, and both
        from one side; "colonnade", a row of equal pillars passed by; "street", a row of equal house fronts passed by;
        "plaza", `build_world` with copies of one object, from a ring; "facades", `build_world` with repeated facades,
        seen from the middle.
    num_landmarks: things of which there is only one, beside the copies; "plaza" and "facades" have a textured ground
        besides. size: (width, height) px. views: which of the cameras to render, all by default.
    Raises InvalidValueError on another kind, fewer than two views or one that is not there.
    """
    if kind not in TWIN_KINDS or num_views < 2 or num_landmarks < 0:
        raise InvalidValueError(
            f"twin_scene: expected one of {', '.join(TWIN_KINDS)}, at least 2 views and no negative number of"
            f" landmarks, got {kind!r}, {num_views} and {num_landmarks}"
        )
    chosen = list(range(num_views)) if views is None else list(views)
    if any(not 0 <= view < num_views for view in chosen):
        raise InvalidValueError(f"twin_scene: expected views within 0…{num_views - 1}, got {chosen}")
    generator = torch.Generator().manual_seed(seed)
    world, cameras = _LAYOUTS[kind](generator, num_views, num_landmarks)
    poses = cameras[chosen]
    K = pinhole(65.0, size).expand(len(poses), 3, 3).contiguous()
    seen = render(world, K, poses, size)
    return RenderedScene(world, K, poses, seen.rgb, seen.depth)


class _Yard:
    """Bare ground to put things on, each dressed with a texture of its own."""

    def __init__(self, generator: torch.Generator, extent: float) -> None:
        self.generator = generator
        bare = 0.5 + 0.04 * fractal_noise(generator, _TEXTURE_SIZE, 4, 3)[0]
        painted = procedural_textures(generator, _NUM_TEXTURES, _TEXTURE_SIZE)
        self.textures = torch.cat([painted, (255 * bare).to(torch.uint8)[None, ..., None].expand(-1, -1, -1, 3)])
        self.cutter = TextureCutter(_NUM_TEXTURES, _TEXTURE_SIZE)
        half = extent / 2
        self.surfaces = [self.bare(rectangle((-half, -half, 0), (extent, 0, 0), (0, extent, 0)))]

    def bare(self, surface: Surface) -> Surface:
        return replace(surface, texture=_NUM_TEXTURES, crop=FULL_TEXTURE)

    def dress(self, surface: Surface) -> Surface:
        return self.cutter.dress(surface, _TEXEL)

    def put(self, thing: Sequence[Surface], x: float, y: float, turn: float = 0.0) -> None:
        self.surfaces += [side.moved(rotation_z(turn), torch.tensor([x, y, 0.0])) for side in thing]

    def landmarks(self, places: Iterator[tuple[float, float]]) -> None:
        for x, y in places:
            width, depth, height = (self.uniform(0.5, 1.0) for _ in range(3))
            self.put([self.dress(side) for side in box(width, depth, height)], x, y, math.tau * self.uniform())

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def around(
        self, count: int, low: float, high: float, x: float = 0.0, y: float = 0.0
    ) -> Iterator[tuple[float, float]]:
        """Places on a ring, evenly with chance."""
        for number in range(count):
            angle = math.tau * (number + self.uniform(-0.3, 0.3)) / count
            radius = self.uniform(low, high)
            yield x + radius * math.cos(angle), y + radius * math.sin(angle)

    def world(self) -> World:
        return World.from_surfaces(self.surfaces, self.textures)


def _house(yard: _Yard, width: float, depth: float, height: float, different_sides: int) -> list[Surface]:
    """A box whose sides wear `different_sides` pieces of texture in turn."""
    walls = box(width, depth, height)
    worn = [yard.dress(wall) for wall in walls[:different_sides]]
    sides = [
        replace(wall, texture=worn[n % len(worn)].texture, crop=worn[n % len(worn)].crop)
        for n, wall in enumerate(walls[:4])
    ]
    return [*sides, yard.bare(walls[4])]


def _pavilion(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    yard = _Yard(generator, 18.0)
    yard.put(_house(yard, 3.0, 2.2, 2.2, 2), 0, 0)
    yard.landmarks(yard.around(num_landmarks, 2.2, 3.0))
    return yard.world(), camera_ring((0.0, 0.0, 0.9), 5.6, 1.0, num_views, 0.02, generator)


def _tower(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    yard = _Yard(generator, 18.0)
    yard.put(_house(yard, 2.4, 2.4, 2.6, 1), 0, 0)
    yard.landmarks(yard.around(num_landmarks, 2.2, 3.0))
    return yard.world(), camera_ring((0.0, 0.0, 0.9), 5.6, 1.0, num_views, 0.02, generator)


def _islands(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    yard = _Yard(generator, 26.0)
    thing = _house(yard, 1.5, 1.2, 1.6, 4)
    right = num_landmarks // 2
    for x, turn, count in ((-4.0, 0.3, num_landmarks - right), (4.0, yard.uniform(0.9, 2.2), right)):
        yard.put(thing, x, 0, turn)
        yard.landmarks(yard.around(count, 1.5, 2.1, x))
    both = max(2, num_views // 5)
    first = (num_views - both) // 2
    rings = [
        camera_ring((x, 0.0, 0.6), 4.0, 1.0, count, 0.02, generator, arc_deg=200.0)
        for x, count in ((-4.0, first), (4.0, num_views - both - first))
    ]
    eyes = torch.tensor([[-4.0, -5.5, 1.8], [0.0, -8.0, 1.8], [4.0, -5.5, 1.8]])
    targets = torch.tensor([[-3.0, 0.0, 0.5], [0.0, 0.0, 0.5], [3.0, 0.0, 0.5]])
    return yard.world(), torch.cat([*rings, camera_path(eyes, targets, both)])


def _passing_by(length: float, distance: float, num_views: int) -> Tensor:
    eyes = torch.tensor([[-length / 2, -distance, 1.5], [0.0, -1.1 * distance, 1.7], [length / 2, -distance, 1.5]])
    return camera_path(eyes, eyes * torch.tensor([1.0, 0.0, 0.6]), num_views)


def _along(yard: _Yard, length: float, count: int) -> list[float]:
    """Places along x, evenly with chance."""
    return [length * ((n + yard.uniform(0.2, 0.8)) / count - 0.5) for n in range(count)]


def _colonnade(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    yard = _Yard(generator, 26.0)
    pillar = [yard.dress(part) for part in column(0.5, 2.4, 24)]
    for number in range(5):
        yard.put(pillar, 3.0 * (number - 2), 0, 0)
    places = _along(yard, 13.0, num_landmarks)
    yard.landmarks((x, yard.uniform(-1.2, 0.9)) for x in places)
    return yard.world(), _passing_by(12.0, 3.6, num_views)


def _street(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    yard = _Yard(generator, 26.0)
    house = _house(yard, 2.8, 2.0, 2.4, 1)
    for number in range(3):
        yard.put(house, 4.6 * (number - 1), 1.0)
    places = _along(yard, 14.0, num_landmarks)
    yard.landmarks((x, yard.uniform(-1.3, -0.6)) for x in places)
    return yard.world(), _passing_by(11.0, 4.0, num_views)


def _plaza(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    config = WorldConfig(
        extent=14.0, wall_height=0, num_objects=max(num_landmarks, 1), repeated_objects=3, num_textures=6
    )
    return build_world(generator, config), camera_ring((0.0, 0.0, 0.5), 6.0, 1.8, num_views, 0.03, generator)


def _facades(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    config = WorldConfig(extent=12.0, num_objects=num_landmarks, repeated_facades=True, num_textures=6)
    angle = torch.arange(num_views) * (math.tau / num_views)
    across = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], -1)
    eyes = -2.0 * across + torch.tensor([0.0, 0.0, 2.2]) + 0.1 * torch.randn((num_views, 3), generator=generator)
    from lightmatch.scenes.cameras import look_at

    return build_world(generator, config), look_at(eyes, 6.0 * across + torch.tensor([0.0, 0.0, 1.8]))


_LAYOUTS: dict[TwinKind, Callable[[torch.Generator, int, int], _Layout]] = {
    "pavilion": _pavilion,
    "tower": _tower,
    "islands": _islands,
    "colonnade": _colonnade,
    "street": _street,
    "plaza": _plaza,
    "facades": _facades,
}
