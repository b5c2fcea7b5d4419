"""Similarity alignment (Umeyama) of two sets of camera poses in different world frames."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import rotation_angle_deg


class Similarity(NamedTuple):
    """x → scale · rotation · x + translation."""

    scale: Tensor  # ()
    rotation: Tensor  # (3, 3)
    translation: Tensor  # (3,)

    def apply(self, points: Tensor) -> Tensor:
        """Points (…, 3) transformed."""
        return self.scale * points @ self.rotation.mT + self.translation


def align_points(source: Tensor, target: Tensor) -> Similarity:
    """The similarity that brings source onto target with least squared error.

    source, target: (n, 3), n ≥ 3 and not on one line, else the rotation about that line is arbitrary.
    Source: Umeyama 1991, equations 40 to 42.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or len(source) < 3:
        raise InvalidValueError(
            f"align_points: expected two (n, 3) tensors with n ≥ 3, got {tuple(source.shape)} and {tuple(target.shape)}"
        )
    if bool((source == source[0]).all()):
        raise InvalidValueError("align_points: expected source points that differ, got one place; give others")
    mean_source, mean_target = source.mean(0), target.mean(0)
    centred_source, centred_target = source - mean_source, target - mean_target
    u, singular, vh = torch.linalg.svd(centred_target.mT @ centred_source / len(source))
    sign = torch.ones_like(singular)
    if torch.linalg.det(u @ vh) < 0:
        sign[2] = -1  # a mirror image is no rotation
    rotation = u @ sign.diag() @ vh
    scale = (singular * sign).sum() / centred_source.square().sum(1).mean()
    return Similarity(scale, rotation, mean_target - scale * rotation @ mean_source)


def aligned_pose_errors(
    rotations: Tensor, centers: Tensor, true_rotations: Tensor, true_centers: Tensor
) -> tuple[Tensor, Tensor]:
    """Errors of camera poses after aligning their centres with the true ones.

    rotations: (n, 3, 3) camera from world. centers: (n, 3) in the world.
    Returns rotation errors (n,) in degrees and position errors (n,) in units of the true world.
    """
    similarity = align_points(centers, true_centers)
    errors_deg = rotation_angle_deg(rotations @ similarity.rotation.mT, true_rotations)
    return errors_deg, (similarity.apply(centers) - true_centers).norm(dim=1)
