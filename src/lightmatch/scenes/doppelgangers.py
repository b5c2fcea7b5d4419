"""Scenes with doppelgängers: different places with identical geometry and texture, and realistic camera paths.

Landmarks, small boxes that are all different, distinguish the copies. The ground has almost no texture, so fewer
landmarks make a scene harder.
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

DoppelgangerKind = Literal["pavilion", "tower", "islands", "colonnade", "street", "plaza", "facades"]
DOPPELGANGER_KINDS: tuple[DoppelgangerKind, ...] = get_args(DoppelgangerKind)

_TEXEL = 0.01  # m
_NUM_TEXTURES, _TEXTURE_SIZE = 8, 512
_Layout = tuple[World, Tensor]  # with cam_from_world (b, 3, 4)


def doppelganger_scene(
    kind: DoppelgangerKind,
    seed: int = 0,
    num_views: int = 20,
    size: tuple[int, int] = (480, 360),
    *,
    num_landmarks: int = 8,
    views: Sequence[int] | None = None,
) -> RenderedScene:
    """A rendered scene with two or more identical places.

    kind: "pavilion", a house with identical front and back and identical left and right side, cameras on a ring;
        "tower", a house with four identical sides; "islands", two copies of an object, cameras around each and in
        front of both; "colonnade", a row of identical pillars, cameras along it; "street", a row of identical houses,
        cameras along it; "plaza", `build_world` with copies of one object, cameras on a ring; "facades",
        `build_world` with repeated facades, cameras in the middle.
    num_landmarks: number of unique objects beside the copies; "plaza" and "facades" also have a textured ground.
    size: (width, height) px. views: which of the cameras to render, all by default.
    Raises InvalidValueError on another kind, fewer than two views, or an index in `views` out of range.
    """
    if kind not in DOPPELGANGER_KINDS or num_views < 2 or num_landmarks < 0:
        raise InvalidValueError(
            f"doppelganger_scene: expected one of {', '.join(DOPPELGANGER_KINDS)}, at least 2 views and no"
            f" negative number of landmarks, got {kind!r}, {num_views} and {num_landmarks}"
        )
    chosen = list(range(num_views)) if views is None else list(views)
    if any(not 0 <= view < num_views for view in chosen):
        raise InvalidValueError(f"doppelganger_scene: expected views within 0…{num_views - 1}, got {chosen}")
    generator = torch.Generator().manual_seed(seed)
    world, cameras = _LAYOUTS[kind](generator, num_views, num_landmarks)
    poses = cameras[chosen]
    K = pinhole(65.0, size).expand(len(poses), 3, 3).contiguous()
    seen = render(world, K, poses, size)
    return RenderedScene(world, K, poses, seen.rgb, seen.depth)


class _SceneBuilder:
    """Collects surfaces on a ground without texture, each with a texture of its own."""

    def __init__(self, generator: torch.Generator, extent: float) -> None:
        self.generator = generator
        plain = 0.5 + 0.04 * fractal_noise(generator, _TEXTURE_SIZE, 4, 3)[0]
        painted = procedural_textures(generator, _NUM_TEXTURES, _TEXTURE_SIZE)
        self.textures = torch.cat([painted, (255 * plain).to(torch.uint8)[None, ..., None].expand(-1, -1, -1, 3)])
        self.cutter = TextureCutter(_NUM_TEXTURES, _TEXTURE_SIZE)
        half = extent / 2
        self.surfaces = [self.untextured(rectangle((-half, -half, 0), (extent, 0, 0), (0, extent, 0)))]

    def untextured(self, surface: Surface) -> Surface:
        return replace(surface, texture=_NUM_TEXTURES, crop=FULL_TEXTURE)

    def textured(self, surface: Surface) -> Surface:
        return self.cutter.texture(surface, _TEXEL)

    def put(self, thing: Sequence[Surface], x: float, y: float, turn: float = 0.0) -> None:
        self.surfaces += [side.moved(rotation_z(turn), torch.tensor([x, y, 0.0])) for side in thing]

    def landmarks(self, places: Iterator[tuple[float, float]]) -> None:
        for x, y in places:
            width, depth, height = (self.uniform(0.5, 1.0) for _ in range(3))
            self.put([self.textured(side) for side in box(width, depth, height)], x, y, math.tau * self.uniform())

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def around(
        self, count: int, low: float, high: float, x: float = 0.0, y: float = 0.0
    ) -> Iterator[tuple[float, float]]:
        """Positions on a ring at even angles with jitter."""
        for number in range(count):
            angle = math.tau * (number + self.uniform(-0.3, 0.3)) / count
            radius = self.uniform(low, high)
            yield x + radius * math.cos(angle), y + radius * math.sin(angle)

    def world(self) -> World:
        return World.from_surfaces(self.surfaces, self.textures)


def _house(builder: _SceneBuilder, width: float, depth: float, height: float, different_sides: int) -> list[Surface]:
    """A box whose sides have `different_sides` different pieces of texture, in turn."""
    walls = box(width, depth, height)
    textures = [builder.textured(wall) for wall in walls[:different_sides]]
    sides = [
        replace(wall, texture=textures[n % len(textures)].texture, crop=textures[n % len(textures)].crop)
        for n, wall in enumerate(walls[:4])
    ]
    return [*sides, builder.untextured(walls[4])]


def _pavilion(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    builder = _SceneBuilder(generator, 18.0)
    builder.put(_house(builder, 3.0, 2.2, 2.2, 2), 0, 0)
    builder.landmarks(builder.around(num_landmarks, 2.2, 3.0))
    return builder.world(), camera_ring((0.0, 0.0, 0.9), 5.6, 1.0, num_views, 0.02, generator)


def _tower(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    builder = _SceneBuilder(generator, 18.0)
    builder.put(_house(builder, 2.4, 2.4, 2.6, 1), 0, 0)
    builder.landmarks(builder.around(num_landmarks, 2.2, 3.0))
    return builder.world(), camera_ring((0.0, 0.0, 0.9), 5.6, 1.0, num_views, 0.02, generator)


def _islands(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    builder = _SceneBuilder(generator, 26.0)
    thing = _house(builder, 1.5, 1.2, 1.6, 4)
    right = num_landmarks // 2
    for x, turn, count in ((-4.0, 0.3, num_landmarks - right), (4.0, builder.uniform(0.9, 2.2), right)):
        builder.put(thing, x, 0, turn)
        builder.landmarks(builder.around(count, 1.5, 2.1, x))
    both = max(2, num_views // 5)
    first = (num_views - both) // 2
    rings = [
        camera_ring((x, 0.0, 0.6), 4.0, 1.0, count, 0.02, generator, arc_deg=200.0)
        for x, count in ((-4.0, first), (4.0, num_views - both - first))
        if count
    ]
    eyes = torch.tensor([[-4.0, -5.5, 1.8], [0.0, -8.0, 1.8], [4.0, -5.5, 1.8]])
    targets = torch.tensor([[-3.0, 0.0, 0.5], [0.0, 0.0, 0.5], [3.0, 0.0, 0.5]])
    return builder.world(), torch.cat([*rings, camera_path(eyes, targets, both)])


def _cameras_along(length: float, distance: float, num_views: int) -> Tensor:
    eyes = torch.tensor([[-length / 2, -distance, 1.5], [0.0, -1.1 * distance, 1.7], [length / 2, -distance, 1.5]])
    return camera_path(eyes, eyes * torch.tensor([1.0, 0.0, 0.6]), num_views)


def _along(builder: _SceneBuilder, length: float, count: int) -> list[float]:
    """Positions along x, even with jitter."""
    return [length * ((n + builder.uniform(0.2, 0.8)) / count - 0.5) for n in range(count)]


def _colonnade(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    builder = _SceneBuilder(generator, 26.0)
    pillar = [builder.textured(part) for part in column(0.5, 2.4, 24)]
    for number in range(5):
        builder.put(pillar, 3.0 * (number - 2), 0, 0)
    places = _along(builder, 13.0, num_landmarks)
    builder.landmarks((x, builder.uniform(-1.2, 0.9)) for x in places)
    return builder.world(), _cameras_along(12.0, 3.6, num_views)


def _street(generator: torch.Generator, num_views: int, num_landmarks: int) -> _Layout:
    builder = _SceneBuilder(generator, 26.0)
    house = _house(builder, 2.8, 2.0, 2.4, 1)
    for number in range(3):
        builder.put(house, 4.6 * (number - 1), 1.0)
    places = _along(builder, 14.0, num_landmarks)
    builder.landmarks((x, builder.uniform(-1.3, -0.6)) for x in places)
    return builder.world(), _cameras_along(11.0, 4.0, num_views)


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


_LAYOUTS: dict[DoppelgangerKind, Callable[[torch.Generator, int, int], _Layout]] = {
    "pavilion": _pavilion,
    "tower": _tower,
    "islands": _islands,
    "colonnade": _colonnade,
    "street": _street,
    "plaza": _plaza,
    "facades": _facades,
}
