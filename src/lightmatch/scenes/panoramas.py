"""Equirectangular panoramas of a world, with exact pose."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from lightmatch.geometry.panoramas import VIEWS, PanoramaArea, directions_of_panorama
from lightmatch.scenes.render import render
from lightmatch.scenes.world import World

_FIELD_DEG = 100.0  # of the pictures that a panorama is put together from: a little more than a cube's face
_FINER = 1.2  # they have so many pixels for one of the panorama


def render_panorama(world: World, cam_from_world: Tensor, width: int) -> np.ndarray:
    """What all directions around one place look like: (width / 2, width, 3) uint8 RGB.

    cam_from_world: (3, 4), of a camera that looks at the panorama's middle; see `lightmatch.geometry.panoramas`.
    """
    area = PanoramaArea((width, width // 2))
    directions = directions_of_panorama(area.full_size)
    rotations = torch.tensor(np.stack(list(VIEWS.values())))
    poses = rotations @ cam_from_world.double()
    tangent = math.tan(math.radians(_FIELD_DEG / 2))
    side = math.ceil(_FINER * tangent * area.view_side)
    focal, center = side / 2 / tangent, (side - 1) / 2
    K = torch.tensor([[focal, 0, center], [0, focal, center], [0, 0, 1.0]])
    pictures = render(world, K.expand(len(poses), 3, 3), poses, (side, side)).rgb.cpu().numpy()

    panorama = np.zeros((*directions.shape[:2], 3), np.uint8)
    in_views = np.stack([directions @ rotation.T for rotation in VIEWS.values()])
    nearest = in_views[..., 2].argmax(0)
    for number, (rays, picture) in enumerate(zip(in_views, pictures, strict=True)):
        depth = np.maximum(rays[..., 2], 0.1)
        x, y = (focal * rays[..., axis] / depth + center for axis in (0, 1))
        seen = cv2.remap(picture, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
        panorama[nearest == number] = seen[nearest == number]
    return panorama
