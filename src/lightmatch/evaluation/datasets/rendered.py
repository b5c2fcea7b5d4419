"""Rendered pairs of procedural scenes with exact poses and depth maps, in any number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.pairs import DepthTruth, EvaluationPair, viewing_angle_deg
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.scenes import World, WorldConfig, build_world, look_at, pinhole, render
from lightmatch.types import Image

Level = Literal["easy", "medium", "hard", "repeated"]

PAIRS_PER_WORLD = 8
"""Number of pairs that share a scene: building a scene takes longer than rendering a pair."""

_FIELD_OF_VIEW_DEG = 60.0


@dataclass(frozen=True)
class _Difficulty:
    angle_deg: tuple[float, float]  # between the optical axes
    exposure: float = 1.0  # gain of image 1: up to this factor or its inverse
    config: WorldConfig | None = None


_DIFFICULTIES: dict[Level, _Difficulty] = {
    "easy": _Difficulty((0, 15)),
    "medium": _Difficulty((15, 35)),
    "hard": _Difficulty((35, 60), exposure=1.6),
    "repeated": _Difficulty((15, 35), config=WorldConfig(num_objects=6, repeated_objects=10)),
}


def worlds(level: Level, num_pairs: int, seed: int = 0, *, size: tuple[int, int] = (640, 480)) -> list[EvaluationPair]:
    """`num_pairs` rendered pairs of images of `size` (width, height) px, with DepthTruth.

    "easy": viewing angles of 0–15°; "medium": 15–35°; "hard": 35–60° with another exposure; "repeated": as medium,
    with identical objects (doppelgängers) that only their surroundings distinguish. The same arguments give the same
    bits, and a smaller num_pairs gives the first pairs of a larger one.
    Raises InvalidValueError for another level or a negative number.
    """
    if level not in _DIFFICULTIES or num_pairs < 0:
        raise InvalidValueError(
            f"worlds: expected a level out of {', '.join(get_args(Level))} and num_pairs ≥ 0,"
            f" got {level!r} and {num_pairs}"
        )
    seeds = torch.Generator().manual_seed(seed)
    pairs: list[EvaluationPair] = []
    while len(pairs) < num_pairs:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=seeds)))
        world = build_world(generator, _DIFFICULTIES[level].config)
        for _ in range(min(PAIRS_PER_WORLD, num_pairs - len(pairs))):
            pairs.append(_render_pair(world, level, generator, str(len(pairs)), size))
    return pairs


def _render_pair(
    world: World, level: Level, generator: torch.Generator, name: str, size: tuple[int, int]
) -> EvaluationPair:
    difficulty = _DIFFICULTIES[level]
    K = pinhole(_FIELD_OF_VIEW_DEG, size)
    cam_from_world = _two_cameras(generator, difficulty.angle_deg)
    gain = difficulty.exposure ** _uniform(generator, -1, 1)
    seen = render(world, K.expand(2, 3, 3), cam_from_world, size, exposure=torch.tensor([1.0, gain]))
    image0, image1 = (Image(rgb.numpy()) for rgb in seen.rgb)
    pose = _relative(cam_from_world.double())
    truth = DepthTruth(K.double(), K.double(), pose, seen.depth[0], seen.depth[1])
    return EvaluationPair(name, f"world-{level}", image0, image1, truth)


def _two_cameras(generator: torch.Generator, angle_deg: tuple[float, float]) -> Tensor:
    """(2, 3, 4) cam_from_world of two cameras that look at almost the same point, with a viewing angle in `angle_deg`.

    They are placed where `build_world` leaves room: between the objects in the middle and the facades.
    """
    low, high = angle_deg
    while True:
        azimuth = _uniform(generator, 0, 2 * math.pi)
        apart = math.radians(_uniform(generator, low, 1.3 * high))
        eyes, targets = [], []
        for angle in (azimuth, azimuth + apart):
            radius = _uniform(generator, 5.6, 7.0)
            height = _uniform(generator, 1.6, 3.4)
            eyes.append([radius * math.cos(angle), radius * math.sin(angle), height])
            targets.append([_uniform(generator, -0.6, 0.6) for _ in range(3)])
        cameras = look_at(torch.tensor(eyes), torch.tensor(targets))
        if low <= float(viewing_angle_deg(_relative(cameras.double()))) <= high:
            return cameras if _uniform(generator, 0, 1) < 0.5 else cameras.flip(0)


def _relative(cam_from_world: Tensor) -> Tensor:
    return compose_rigid(cam_from_world[1], invert_rigid(cam_from_world[0]))


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
