"""A camera that passes a painted wall sideways: frames that need no rendering, and where it truly is."""

import cv2
import numpy as np

from lightmatch.tracking import TrackedCamera
from lightmatch.types import Image

SIZE = (320, 240)
FOCAL_PX, DEPTH_M, STEP_PX = 300.0, 3.0, 12
STEP_M = STEP_PX * DEPTH_M / FOCAL_PX  # to the right, a frame
K = np.array([[FOCAL_PX, 0, 159.5], [0, FOCAL_PX, 119.5], [0, 0, 1]])
DEPTH = np.full(SIZE[::-1], DEPTH_M, np.float32)


def wall_camera(baseline: float | None = None) -> TrackedCamera:
    return TrackedCamera.pinhole(K, SIZE, baseline)


def wall_frames(num: int) -> list[Image]:
    """num frames, each STEP_M further right."""
    width, height = SIZE
    coarse = np.random.default_rng(0).integers(0, 256, (height // 6, (width + num * STEP_PX) // 6, 3), np.uint8)
    wall = cv2.resize(coarse, (width + num * STEP_PX, height), interpolation=cv2.INTER_CUBIC)
    return [Image(np.ascontiguousarray(wall[:, n * STEP_PX : n * STEP_PX + width])) for n in range(num)]
