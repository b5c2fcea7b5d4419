"""Pinhole cameras: intrinsics, and poses on rings and paths.

Camera axes: x right, y down, z forward; x_cam = R x_world + t. The world is z up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError


def pinhole(fov_deg: float, size: tuple[int, int]) -> Tensor:
    """Intrinsics (3, 3) float32 of a camera with the horizontal field of view `fov_deg`.

    size: (width, height) px. The principal point is the middle of the image, ((width − 1) / 2, (height − 1) / 2),
    since the centre of the first pixel is (0, 0). Raises InvalidValueError where fov_deg is not inside 0…180.
    """
    width, height = size
    if not 0 < fov_deg < 180 or width < 1 or height < 1:
        raise InvalidValueError(
            f"pinhole: expected a field of view inside 0…180 degrees and a positive size, got {fov_deg} and {size}"
        )
    focal = width / 2 / math.tan(math.radians(fov_deg) / 2)
    return torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def look_at(eye: Tensor, target: Tensor, up: Tensor | Sequence[float] = (0.0, 0.0, 1.0)) -> Tensor:
    """Camera at `eye` (…, 3) that looks at `target` (…, 3), its y axis as far down as possible.

    Returns cam_from_world (…, 3, 4); device and dtype follow `eye`.
    Raises InvalidValueError where eye and target coincide or `up` is parallel to the view.
    """
    eye, target, upwards = torch.broadcast_tensors(eye, target, torch.as_tensor(up, dtype=eye.dtype, device=eye.device))
    forward = target - eye
    right = torch.linalg.cross(forward, upwards)
    if bool((right.norm(dim=-1) <= 1e-6 * forward.norm(dim=-1) * upwards.norm(dim=-1)).any()):
        raise InvalidValueError(
            "look_at: expected a target away from the eye and an up vector not parallel to the view,"
            " got one that leaves the camera's roll open; move the target or choose another up"
        )
    forward = torch.nn.functional.normalize(forward, dim=-1)
    right = torch.nn.functional.normalize(right, dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-2)
    return torch.cat([rotation, -(rotation * eye[..., None, :]).sum(-1, keepdim=True)], dim=-1)


def camera_ring(
    centre: Tensor | Sequence[float],
    radius: float,
    height: float,
    num: int,
    jitter: float,
    generator: torch.Generator,
    *,
    arc_deg: float = 360.0,
) -> Tensor:
    """`num` cameras on a ring about `centre` (3,), evenly spread over `arc_deg`, that look inwards.

    height: metres (or whatever the unit) above `centre`. jitter: standard deviation of eye and target as a part
    of the radius; 0 gives an even ring. Returns cam_from_world (num, 3, 4) float32 on the CPU.
    Raises InvalidValueError where num < 1, radius ≤ 0 or jitter < 0.
    """
    if num < 1 or radius <= 0 or jitter < 0:
        raise InvalidValueError(
            f"camera_ring: expected num ≥ 1, radius > 0 and jitter ≥ 0, got {num}, {radius} and {jitter}"
        )
    middle = torch.as_tensor(centre, dtype=torch.float32)
    gaps = num if arc_deg == 360 else max(num - 1, 1)
    angle = torch.arange(num) * (math.radians(arc_deg) / gaps)
    eye = torch.stack([radius * angle.cos(), radius * angle.sin(), torch.full_like(angle, height)], -1)
    noise = jitter * radius * torch.randn((2, num, 3), generator=generator)
    noise[..., 2] *= 0.5  # heights vary less, so that no camera is below the ground
    return look_at(middle + eye + noise[0], middle + noise[1])


def camera_path(eyes: Tensor, targets: Tensor, num: int) -> Tensor:
    """`num` cameras along a smooth path through `eyes` (k, 3), looking at the path through `targets` (k, 3).

    The paths are Catmull–Rom splines (1974) that pass through every point, k ≥ 2.
    Returns cam_from_world (num, 3, 4). Raises InvalidValueError on other shapes or num < 2.
    """
    if eyes.ndim != 2 or eyes.shape != targets.shape or eyes.shape[1] != 3 or len(eyes) < 2 or num < 2:
        raise InvalidValueError(
            "camera_path: expected eyes and targets of one shape (k ≥ 2, 3) and num ≥ 2,"
            f" got {tuple(eyes.shape)}, {tuple(targets.shape)} and {num}"
        )
    return look_at(_spline(eyes, num), _spline(targets, num))


def _spline(knots: Tensor, num: int) -> Tensor:
    padded = torch.cat([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    position = torch.linspace(0, len(knots) - 1, num, dtype=knots.dtype, device=knots.device)
    piece = position.long().clamp_max(len(knots) - 2)
    t = (position - piece)[:, None]
    p0, p1, p2, p3 = (padded[piece + i] for i in range(4))
    return p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
