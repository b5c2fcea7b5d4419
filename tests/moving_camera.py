"""A camera that moves through the procedural world: its frames, depths, right images and true poses."""

from dataclasses import dataclass

import numpy as np
import torch

from lightmatch.scenes.cameras import camera_path, pinhole
from lightmatch.scenes.render import render
from lightmatch.scenes.world import build_world
from lightmatch.tracking import TrackedCamera

SIZE = (320, 240)
BASELINE = 0.2  # m


@dataclass(frozen=True, eq=False)
class MovingCamera:
    """n frames of one camera, a tenth of a second apart."""

    K: np.ndarray  # (3, 3)
    cam_from_world: np.ndarray  # (n, 3, 4)
    rgb: np.ndarray  # (n, h, w, 3) uint8
    depth: np.ndarray  # (n, h, w) m, 0 in the sky
    right: np.ndarray  # (n, h, w, 3) uint8

    def camera(self, baseline: float | None = None) -> TrackedCamera:
        return TrackedCamera.pinhole(self.K, SIZE, baseline)

    @property
    def centers(self) -> np.ndarray:
        return np.stack([-pose[:, :3].T @ pose[:, 3] for pose in self.cam_from_world])


def moving_camera(num: int = 30, seed: int = 0) -> MovingCamera:
    """A walk along an arc around the objects of a plaza: 5 cm a frame."""
    world = build_world(torch.Generator().manual_seed(seed))
    angles = torch.linspace(0, 0.008 * num, 5)
    eyes = torch.stack((6 * angles.cos(), 6 * angles.sin(), 1.7 + 0.1 * (20 * angles).sin()), 1)
    poses = camera_path(eyes, torch.tensor([[0.0, 0.0, 0.8]]).expand(5, 3), num)
    K = pinhole(65.0, SIZE).expand(num, 3, 3).contiguous()
    seen = render(world, K, poses, SIZE)
    beside = poses.clone()
    beside[:, 0, 3] -= BASELINE
    right = render(world, K, beside, SIZE)
    return MovingCamera(
        K[0].numpy().astype(np.float64),
        poses.numpy().astype(np.float64),
        seen.rgb.numpy(),
        seen.depth.numpy(),
        right.rgb.numpy(),
    )
