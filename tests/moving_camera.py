"""A camera that moves through the procedural world: its frames, depths, right images and true poses."""

from dataclasses import dataclass

import numpy as np
import torch

from lightmatch.extractors import create_extractor
from lightmatch.scenes.cameras import camera_path, pinhole
from lightmatch.scenes.render import render
from lightmatch.scenes.world import build_world
from lightmatch.tracking import TrackedCamera
from lightmatch.types import Features

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


def moving_camera(
    num: int = 30, seed: int = 0, step: float = 0.008, *, stereo: bool = True, supersampling: int = 1
) -> MovingCamera:
    """A walk along an arc around the objects of a plaza.

    step: rad a frame; 5 cm by default. stereo: whether the right images are rendered. supersampling: as of `render`.
    """
    world = build_world(torch.Generator().manual_seed(seed))
    knots = 5 + int(5 * step * num)
    angles = torch.linspace(0, step * num, knots)
    eyes = torch.stack((6 * angles.cos(), 6 * angles.sin(), 1.7 + 0.1 * (20 * angles).sin()), 1)
    poses = camera_path(eyes, torch.tensor([[0.0, 0.0, 0.8]]).expand(knots, 3), num)
    K = pinhole(65.0, SIZE)
    beside = poses.clone()
    beside[:, 0, 3] -= BASELINE
    seen = [
        render(world, K.expand(len(some), 3, 3).contiguous(), some, SIZE, supersampling=supersampling)
        for some in poses.split(8)
    ]
    right = [
        render(world, K.expand(len(some), 3, 3).contiguous(), some, SIZE, supersampling=supersampling).rgb
        for some in (beside if stereo else beside[:1]).split(8)
    ]
    return MovingCamera(
        K.numpy().astype(np.float64),
        poses.numpy().astype(np.float64),
        torch.cat([some.rgb for some in seen]).numpy(),
        torch.cat([some.depth for some in seen]).numpy(),
        torch.cat(right).numpy(),
    )


def no_features(count: int) -> Features:
    """Keypoints that show nothing, for maps whose observations are made up."""
    kind = create_extractor("lightpoint", max_keypoints=8).kind
    return Features(
        torch.zeros(count, 2), torch.zeros(count), torch.zeros(count, kind.descriptor_dim), (640, 480), kind
    )
