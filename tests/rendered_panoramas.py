"""Panoramas of the procedural world."""

import math

import numpy as np
import torch

from lightmatch.geometry.panoramas import VIEWS, join_views, view_intrinsics
from lightmatch.scenes import World, render

TANGENT = math.tan(math.radians(50))  # of half the field of view of the pictures that are put together


def render_panorama(world: World, cam_from_world: torch.Tensor, width: int) -> np.ndarray:
    """What all directions around one place look like: (width / 2, width, 3) uint8 RGB.

    cam_from_world: (3, 4), of a camera that looks at the panorama's middle.
    """
    poses = torch.tensor(np.stack(list(VIEWS.values()))) @ cam_from_world.double()
    side = math.ceil(1.2 * TANGENT * width / math.pi)
    focal, center = view_intrinsics(side, TANGENT)
    K = torch.tensor([[focal, 0, center], [0, focal, center], [0, 0, 1.0]])
    pictures = render(world, K.expand(len(poses), 3, 3), poses, (side, side)).rgb.numpy()
    return join_views(dict(zip(VIEWS, pictures, strict=True)), width, TANGENT)
