"""Single poses as NumPy arrays: (3, 4) [R | t]; `coordinates` has batches of them as tensors."""

from __future__ import annotations

import cv2
import numpy as np


def relative(cam_from_world: np.ndarray, other_from_world: np.ndarray) -> np.ndarray:
    """(3, 4) cam_from_other."""
    rotation = cam_from_world[:, :3] @ other_from_world[:, :3].T
    return np.column_stack((rotation, cam_from_world[:, 3] - rotation @ other_from_world[:, 3]))


def composed(c_from_b: np.ndarray, b_from_a: np.ndarray) -> np.ndarray:
    """(3, 4) c_from_a."""
    rotation = c_from_b[:, :3] @ b_from_a[:, :3]
    return np.column_stack((rotation, c_from_b[:, :3] @ b_from_a[:, 3] + c_from_b[:, 3]))


def angle_deg(rotation: np.ndarray) -> float:
    """How far a rotation (3, 3) turns."""
    return float(np.degrees(np.linalg.norm(cv2.Rodrigues(rotation)[0])))


def center_of(cam_from_world: np.ndarray) -> np.ndarray:
    """(3,) of the camera in the world."""
    return -cam_from_world[:, :3].T @ cam_from_world[:, 3]
