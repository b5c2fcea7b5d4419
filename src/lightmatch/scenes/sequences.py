"""Sequences of a moving camera, rendered with exact depth and pose: walks, and what is hard to track.

A sequence is a function of its arguments alone: the same world, numbers and seed give the same bits. Lengths are in
metres, angles in radians unless the name says degrees; a frame is one step of the camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.cameras import look_at, pinhole
from lightmatch.scenes.doppelgangers import doppelganger_scene
from lightmatch.scenes.render import render
from lightmatch.scenes.surfaces import Surface, box, rectangle
from lightmatch.scenes.textures import procedural_textures
from lightmatch.scenes.world import TextureCutter, World, rotation_z

FOV_DEG = 65.0
RADIUS = 6.0  # m, of walks around the middle of a plaza: outside of its objects, inside of its facades

_EYE = 1.7  # m above the ground
_LOOKED_AT = 0.8  # m above the ground, in the middle of the plaza
_AT_ONCE = 8  # frames
_NOISE = 2.0  # grey levels, of a sensor


@dataclass(frozen=True, eq=False)
class Film:
    """How to render: the size (width, height) px, and colour samples along each side of a pixel."""

    size: tuple[int, int] = (640, 480)
    supersampling: int = 2

    @property
    def K(self) -> Tensor:  # noqa: N802
        """(3, 3) float32."""
        return pinhole(FOV_DEG, self.size)


@dataclass(frozen=True, eq=False)
class RenderedSequence:
    """n frames of one camera."""

    K: Tensor  # (3, 3) float32
    cam_from_world: Tensor  # (n, 3, 4) float32
    rgb: Tensor  # (n, h, w, 3) uint8
    depth: Tensor  # (n, h, w) float32 m, 0 in the sky

    def __len__(self) -> int:
        """Frames."""
        return len(self.rgb)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""
        return self.rgb.shape[2], self.rgb.shape[1]

    @property
    def centers(self) -> Tensor:
        """(n, 3) of the cameras in the world."""
        rotation, translation = self.cam_from_world.split((3, 1), dim=2)
        return -(rotation.mT @ translation)[..., 0]

    def take(self, frames: Sequence[int]) -> RenderedSequence:
        """Some frames, in another order or more than once."""
        chosen = torch.tensor(list(frames))
        return RenderedSequence(self.K, self.cam_from_world[chosen], self.rgb[chosen], self.depth[chosen])


def film(world: World | Callable[[int], World], cam_from_world: Tensor, how: Film | None = None) -> RenderedSequence:
    """What cameras (n, 3, 4) see of a world, or of the world as it is at each frame."""
    how = how or Film()
    at_once = _AT_ONCE if isinstance(world, World) else 1
    rgb, depth = [], []
    for first in range(0, len(cam_from_world), at_once):
        poses = cam_from_world[first : first + at_once]
        now = world if isinstance(world, World) else world(first)
        K = how.K.expand(len(poses), 3, 3).contiguous()
        seen = render(now, K, poses, how.size, supersampling=how.supersampling)
        rgb.append(seen.rgb)
        depth.append(seen.depth)
    return RenderedSequence(how.K, cam_from_world, torch.cat(rgb), torch.cat(depth))


def arc(num: int, step: float, *, first: float = 0.0, radius: float = RADIUS) -> Tensor:
    """(num, 3, 4) cam_from_world on a circle about the middle of a plaza, looking there, up and down a little.

    step: angle between two frames. first: angle of the first.
    """
    angle = first + step * torch.arange(num)
    eyes = torch.stack((radius * angle.cos(), radius * angle.sin(), _EYE + 0.15 * (5 * angle).sin()), 1)
    return look_at(eyes, torch.tensor([0.0, 0.0, _LOOKED_AT]))


def circle(world: World, num: int, how: Film | None = None, *, radius: float = RADIUS) -> RenderedSequence:
    """Once around the plaza, and a ninth of it again: the path closes once."""
    return film(world, arc(num, math.tau / 0.9 / num, radius=radius), how)


def rotation(world: World, num: int, how: Film | None = None, *, step_deg: float = 1.0) -> RenderedSequence:
    """A camera that turns on the spot, and does not move."""
    yaw = torch.deg2rad(step_deg * (torch.arange(num) - (num - 1) / 2)) + math.pi
    eye = torch.tensor([RADIUS, 0.0, _EYE])
    ahead = torch.stack((yaw.cos(), yaw.sin(), -0.15 + 0.03 * (4 * yaw).sin()), 1)
    return film(world, look_at(eye.expand(num, 3), eye + ahead), how)


def standing(
    world: World, num: int, how: Film | None = None, *, num_before: int = 0, step: float = 0.01, seed: int = 0
) -> RenderedSequence:
    """A camera that walks for `num_before` frames and then stands for `num`, each with the noise of a sensor."""
    walked = film(world, arc(num_before + 1, step), how)
    sequence = walked.take([*range(num_before), *[num_before] * num])
    generator = torch.Generator().manual_seed(seed)
    noisy = [
        (image + _NOISE * torch.randn(image.shape, generator=generator)).round().clamp(0, 255).to(torch.uint8)
        for image in sequence.rgb
    ]
    return replace(sequence, rgb=torch.stack(noisy))


def plane_wall(num: int, how: Film | None = None, *, step: float = 0.07, seed: int = 0) -> RenderedSequence:
    """A walk along a wall without any depth, 3 m away; it fills the image."""
    generator = torch.Generator().manual_seed(seed)
    textures = procedural_textures(generator, 4, 512)
    cutter = TextureCutter(len(textures), 512)
    length, distance, width = num * step + 6.0, 3.0, 2.0
    panels = math.ceil(length / width)
    wall = [
        cutter.texture(rectangle((number * width - length / 2, 0, row * width), (width, 0, 0), (0, 0, width)), 0.008)
        for number in range(panels)
        for row in range(2)
    ]
    x = step * (torch.arange(num) - (num - 1) / 2)
    eyes = torch.stack((x, -distance + 0.2 * (2 * x).sin(), 2.0 + 0.1 * (3 * x).cos()), 1)
    ahead = torch.stack((0.15 * (1.5 * x).sin(), torch.ones(num), torch.zeros(num)), 1)
    return film(World.from_surfaces(wall, textures), look_at(eyes, eyes + ahead), how)


def repeated_objects(
    num: int,
    size: tuple[int, int] = (640, 480),
    *,
    kind: Literal["colonnade", "street"] = "colonnade",
    num_landmarks: int = 4,
    seed: int = 0,
) -> RenderedSequence:
    """A walk of 12 m past five identical pillars, or three identical houses; it comes back to nothing.

    num_landmarks: objects between them, that are all different.
    """
    scene = doppelganger_scene(kind, seed, num, size, num_landmarks=num_landmarks)
    return RenderedSequence(scene.K[0], scene.cam_from_world, scene.rgb, scene.depth)


def passing_box(world: World, num: int, how: Film | None = None, *, step: float = 0.01) -> RenderedSequence:
    """A walk around the plaza while a textured box passes across the view; it covers about a quarter of the image."""
    distance, reach = 3.2, 2.9  # m from the camera; to either side of the middle of the view
    poses = arc(num, step, radius=6.5)

    def now(frame: int) -> World:
        angle = step * frame
        aside = reach * (2 * frame / max(num - 1, 1) - 1)
        across = 6.5 - distance
        x = across * math.cos(angle) - aside * math.sin(angle)
        y = across * math.sin(angle) + aside * math.cos(angle)
        place = torch.tensor([x, y, -0.1])
        return _with(world, [side.moved(rotation_z(angle), place) for side in _mirrored(box(1.2, 1.2, 1.8))])

    return film(now, poses, how)


def blackout(sequence: RenderedSequence, first: int, count: int) -> RenderedSequence:
    """The same with `count` black frames from `first` on, without depth; the camera goes on moving meanwhile."""
    if not 0 <= first <= first + count <= len(sequence):
        raise InvalidValueError(
            f"blackout: expected black frames within 0…{len(sequence)}, got {first}…{first + count}; name others"
        )
    rgb, depth = sequence.rgb.clone(), sequence.depth.clone()
    rgb[first : first + count] = 0
    depth[first : first + count] = 0
    return replace(sequence, rgb=rgb, depth=depth)


def kidnapped(
    world: World, num: int, num_after: int, how: Film | None = None, *, step: float = 0.01
) -> RenderedSequence:
    """A walk of `num` frames; the next `num_after` go on near the beginning of it, 0.3 m nearer to the objects."""
    after = arc(num_after, step, first=0.1 * num * step, radius=RADIUS - 0.3)
    return film(world, torch.cat((arc(num, step), after)), how)


def _mirrored(sides: Sequence[Surface]) -> list[Surface]:
    """With pieces of the world's textures the wrong way round, so that they look like nothing else in it."""
    return [replace(side, crop=(0.2 * n + 0.2, 0.0, 0.2 * n, 0.3)) for n, side in enumerate(sides)]


def _with(world: World, surfaces: Sequence[Surface]) -> World:
    """The world and these surfaces."""
    parts = [surface.triangles() for surface in surfaces]
    corners, normals, uvs = (torch.cat(column) for column in zip(*parts, strict=True))
    index = torch.cat([torch.full((len(p[0]),), s.texture) for s, p in zip(surfaces, parts, strict=True)])
    return replace(
        world,
        corners=torch.cat((world.corners, corners)),
        normals=torch.cat((world.normals, normals)),
        uvs=torch.cat((world.uvs, uvs)),
        texture_index=torch.cat((world.texture_index, index)),
    )
