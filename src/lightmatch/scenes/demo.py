"""The bundled scene of the demo and the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.cameras import camera_ring, pinhole
from lightmatch.scenes.render import render
from lightmatch.scenes.world import World, build_world


@dataclass(frozen=True, eq=False)
class RenderedScene:
    """A world and b rendered views of it, with exact cameras and depth."""

    world: World
    K: Tensor  # (b, 3, 3) float32
    cam_from_world: Tensor  # (b, 3, 4) float32
    rgb: Tensor  # (b, h, w, 3) uint8
    depth: Tensor  # (b, h, w) float32 metres, 0 in the sky


def demo_scene(
    seed: int = 0, num_views: int = 20, size: tuple[int, int] = (800, 600), *, views: Sequence[int] | None = None
) -> RenderedScene:
    """A plaza seen from a ring of `num_views` cameras around the objects in its middle.

    size: (width, height) px. views: which of the cameras to render, all by default.
    Raises InvalidValueError where an index in `views` is out of range.
    """
    chosen = list(range(num_views)) if views is None else list(views)
    if any(not 0 <= view < num_views for view in chosen):
        raise InvalidValueError(f"demo_scene: expected views within 0…{num_views - 1}, got {chosen}")
    generator = torch.Generator().manual_seed(seed)
    world = build_world(generator)
    ring = camera_ring((0.0, 0.0, 0.5), radius=6.4, height=2.8, num=num_views, jitter=0.03, generator=generator)
    poses = ring[chosen]
    K = pinhole(65.0, size).expand(len(poses), 3, 3).contiguous()
    seen = render(world, K, poses, size)
    return RenderedScene(world, K, poses, seen.rgb, seen.depth)
