"""The depth of every pixel of a view, by comparing patches along the epipolar lines of its neighbours.

Coarse to fine. The coarsest size is a plane sweep (Collins 1996): each neighbour is warped to the view by planes of
constant depth, and patches are compared by zero-mean normalised cross-correlation (NCC); semi-global matching
(Hirschmüller 2008, section 2.3) selects the plane. At each finer size the surface is shifted in depth by a few steps,
so that patches follow its slope, and every pixel keeps the depth of the best NCC, interpolated between steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from lightmatch.reconstruction.stereo.views import StereoImage, StereoView, rays, scaled

_SWEEP_PX = 200  # long side of the coarsest size
_STEP_PX = 0.8  # of the widest baseline, between two planes
_PLANES = (32, 256)  # least and most
_WINDOW_PX = 7
_PENALTY_STEP, _PENALTY_JUMP = 0.04, 0.25  # of the semi-global minimum, in units of correlation
_LEAST_DEVIATION = 2.0  # grey levels of 255: patches with less texture are not matched
_OCCLUDED = -0.2  # NCC assigned to a neighbour that does not see the point
_PASSES = (
    (1.0, (-2, -1, 0, 1, 2), True),
    (0.5, (-1, 0, 1), False),
)  # at each size: step factor, shifts in steps, whether to propagate at edges


class DepthMap(NamedTuple):
    """The depth map of one view."""

    inverse_depth: np.ndarray  # (h, w) float32; 0 where unknown
    score: np.ndarray  # (h, w) float32, mean NCC of the best neighbours


@dataclass(frozen=True, eq=False)
class _Level:
    """One size of a view and its neighbours."""

    grey: np.ndarray  # (h, w) float32
    known: np.ndarray  # (h, w) bool
    mean: np.ndarray
    deviation: np.ndarray
    others: list[_Other]


class _Other(NamedTuple):
    """A neighbour: the pixel of inverse depth w is seen at (far + w · near), homogeneous."""

    grey: np.ndarray  # (h', w') float32
    known: np.ndarray | None  # (h', w') float32, 1 where pixels are valid
    far: np.ndarray  # (3, h, w) float32
    near: np.ndarray  # (3,)


def depth_map(view: StereoView, picture: StereoImage, others: list[tuple[StereoView, StereoImage]]) -> DepthMap:
    """The depth map of `view`.

    picture: its image. others: at least one neighbour with its image.
    """
    sizes = _sizes(view.size)
    level = _level(view, picture, others, sizes[0])
    w = _sweep(level, *_planes(level, view.inverse_depths))
    score = np.zeros_like(w)
    low, high = view.inverse_depths
    for size in sizes:
        if w.shape != size[::-1]:
            level = _level(view, picture, others, size)
            w = cv2.resize(w, size, interpolation=cv2.INTER_LINEAR)
        step = _step(level, low, high)
        for part, moves, edges in _PASSES:
            w = cv2.medianBlur(np.clip(w, low, high).astype(np.float32), 5)
            w, score = _moved(level, w, part * step, moves)
            if edges:
                w, score = _with_edges(level, w, score)
    good = level.known & (level.deviation > _LEAST_DEVIATION) & (w >= low) & (w <= high)
    return DepthMap(np.where(good, w, 0).astype(np.float32), np.where(good, score, 0).astype(np.float32))


def _sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Image sizes (width, height) px, each half of the next, the coarsest first."""
    sizes = [size]
    while max(sizes[0]) > 1.5 * _SWEEP_PX:
        sizes.insert(0, tuple(max(1, round(side / 2)) for side in sizes[0]))  # type: ignore[arg-type]
    return sizes


def _level(
    view: StereoView, picture: StereoImage, others: list[tuple[StereoView, StereoImage]], size: tuple[int, int]
) -> _Level:
    factor = size[0] / view.size[0]
    grey, known = _shrunk(picture, size)
    directions = rays(scaled(view.K, view.size, size), size).reshape(3, -1)
    neighbors = []
    for other, pixels in others:
        other_size = tuple(max(1, round(side * factor)) for side in other.size)
        K = scaled(other.K, other.size, other_size)  # type: ignore[arg-type]
        rotation = other.rotation @ view.rotation.T
        far = (K @ rotation @ directions).astype(np.float32).reshape(3, *grey.shape)
        near = K @ other.rotation @ (view.center - other.center)
        there, there_known = _shrunk(pixels, other_size)  # type: ignore[arg-type]
        masked = None if pixels.mask is None else there_known.astype(np.float32)
        neighbors.append(_Other(there, masked, far, near))
    mean = _box(grey)
    deviation = np.sqrt(np.maximum(_box(grey * grey) - mean * mean, 0))
    return _Level(grey, known, mean, deviation, neighbors)


def _shrunk(picture: StereoImage, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    grey = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    known = np.ones(grey.shape, bool) if picture.mask is None else picture.mask
    if grey.shape != size[::-1]:
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        known = cv2.resize((~known).astype(np.float32), size, interpolation=cv2.INTER_AREA) == 0
    return grey, known


def _box(values: np.ndarray) -> np.ndarray:
    return cv2.boxFilter(values, -1, (_WINDOW_PX, _WINDOW_PX), borderType=cv2.BORDER_REFLECT)


def _correlation(level: _Level, other: _Other, w: np.ndarray) -> np.ndarray:
    """(h, w): NCC, −1…1, of the patches around each pixel and its projection in `other` at inverse depth `w` (h, w)."""
    depth = other.far[2] + w * np.float32(other.near[2])
    inverse = 1 / np.where(depth > 1e-6, depth, 1)
    x = (other.far[0] + w * np.float32(other.near[0])) * inverse
    y = (other.far[1] + w * np.float32(other.near[1])) * inverse
    height, width = other.grey.shape
    seen = (depth > 1e-6) & (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    warped = cv2.remap(other.grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if other.known is not None:
        seen &= cv2.remap(other.known, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) > 0.999
    mean = _box(warped)
    deviation = np.sqrt(np.maximum(_box(warped * warped) - mean * mean, 0))
    covariance = _box(level.grey * warped) - level.mean * mean
    # The lower bound on the deviations gives patches without texture an NCC near 0.
    score = covariance / (np.maximum(level.deviation, _LEAST_DEVIATION) * np.maximum(deviation, _LEAST_DEVIATION))
    return np.where(seen, np.clip(score, -1, 1), np.float32(_OCCLUDED))


def _agreement(level: _Level, w: np.ndarray) -> np.ndarray:
    """(h, w): mean NCC without the worst two neighbours (of five), which may be occluded. w: (h, w)."""
    spared = (len(level.others) - 1) // 2
    total = np.zeros_like(w)
    worst = [np.full_like(w, np.inf) for _ in range(spared)]
    for other in level.others:
        score = _correlation(level, other, w)
        total += score
        for place, held in enumerate(worst):  # the least values so far, sorted for each pixel
            worst[place], score = np.minimum(held, score), np.maximum(held, score)
    for held in worst:
        total -= held
    return total / np.float32(len(level.others) - spared)


def _step(level: _Level, low: float, high: float) -> float:
    """The change of inverse depth that moves a pixel by `_STEP_PX` in the neighbour where it moves most."""
    height, width = level.grey.shape
    most = 1e-12
    for other in level.others:
        far, ends = other.far[:, height // 2, width // 2], []
        for w in (low, high):
            x, y, z = far + w * other.near
            ends.append((x / z, y / z) if z > 1e-6 else None)
        if ends[0] is not None and ends[1] is not None:
            most = max(most, float(np.hypot(ends[0][0] - ends[1][0], ends[0][1] - ends[1][1])))
    return (high - low) * _STEP_PX / most


def _planes(level: _Level, limits: tuple[float, float]) -> tuple[float, float, int]:
    low, high = limits
    count = int(np.clip(np.ceil((high - low) / _step(level, low, high)), *_PLANES))
    return low, high, count


def _sweep(level: _Level, low: float, high: float, count: int) -> np.ndarray:
    """The inverse depth (h, w) by semi-global matching over `count` planes between `low` and `high`."""
    planes = np.linspace(low, high, count)
    cost = np.empty((*level.grey.shape, count), np.float32)
    for number, w in enumerate(planes):
        cost[..., number] = 1 - _agreement(level, np.full(level.grey.shape, w, np.float32))
    total = _semi_global(cost)
    best = total.argmin(2)
    inner = np.clip(best, 1, count - 2)
    before, at, after = (np.take_along_axis(total, inner[..., None] + k, 2)[..., 0] for k in (-1, 0, 1))
    place = np.where(best == inner, inner + _vertex(-before, -at, -after), best)
    return (low + place * (high - low) / (count - 1)).astype(np.float32)


def _vertex(before: np.ndarray, at: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Position, −½…½, of the maximum of the parabola through three values; 0 where it has none."""
    curvature = 2 * at - before - after
    return np.where(curvature > 1e-9, np.clip((after - before) / (2 * np.maximum(curvature, 1e-9)), -0.5, 0.5), 0)


def _semi_global(cost: np.ndarray) -> np.ndarray:
    """Sum over four directions of the cost of the best path to each pixel and plane. cost: (h, w, planes)."""
    total = np.zeros_like(cost)
    down = (cost, total), (cost[::-1], total[::-1])
    right = [
        (sheet.swapaxes(0, 1), goal.swapaxes(0, 1)) for sheet, goal in ((cost, total), (cost[:, ::-1], total[:, ::-1]))
    ]
    for rotated, goal in (*down, *right):
        path = np.empty_like(rotated)
        path[0] = rotated[0]
        for row in range(1, len(rotated)):
            last = path[row - 1]
            least = last.min(1, keepdims=True)
            reached = np.minimum(last, least + _PENALTY_JUMP)
            np.minimum(reached[:, 1:], last[:, :-1] + _PENALTY_STEP, out=reached[:, 1:])
            np.minimum(reached[:, :-1], last[:, 1:] + _PENALTY_STEP, out=reached[:, :-1])
            path[row] = rotated[row] + reached - least
        goal += path
    return total


def _moved(level: _Level, w: np.ndarray, step: float, moves: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The inverse depth `w` (h, w) shifted at each pixel to the best NCC, and that NCC (h, w).

    moves: candidate shifts in units of `step`, consecutive integers around 0, at least three.
    """
    stack = np.stack([_agreement(level, w + np.float32(move * step)) for move in moves])
    place = stack.argmax(0)
    inner = np.clip(place, 1, len(stack) - 2)
    before, at, after = (np.take_along_axis(stack, inner[None] + k, 0)[0] for k in (-1, 0, 1))
    offset = np.where(place == inner, inner + _vertex(before, at, after), place) + moves[0]
    return w + (offset * step).astype(np.float32), stack.max(0)


def _with_edges(level: _Level, w: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse depth and NCC with the nearer or farther side propagated across depth edges where its NCC is better."""
    around = np.ones((5, 5), np.uint8)
    for side in (cv2.dilate(w, around), cv2.erode(w, around)):
        there = _agreement(level, side)
        better = there > score
        w, score = np.where(better, side, w), np.where(better, there, score)
    return w, score
