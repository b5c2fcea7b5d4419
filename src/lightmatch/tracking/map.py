"""The map: keyframes, points, and which keypoint of which keyframe shows which point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightmatch.tracking.flow import FlowImage
from lightmatch.types import Features

if TYPE_CHECKING:
    from pycolmap import Camera

NO_POINT = -1

_STRONGEST = 128  # keypoints that say how much two frames look alike


def signature(features: Features) -> torch.Tensor:
    """(m, d): the descriptors of the strongest keypoints, of length 1."""
    return torch.nn.functional.normalize(features.strongest(_STRONGEST).descriptors.float(), dim=1)


def alikeness(one: torch.Tensor, other: torch.Tensor) -> float:
    """How much a frame looks like another, by their signatures: the mean of its best similarities."""
    return float((one @ other.T).amax(1).mean()) if len(one) and len(other) else -1.0


@dataclass(eq=False)
class Keyframe:
    """A frame that the map is made of."""

    timestamp: float
    cam_from_world: np.ndarray  # (3, 4)
    features: Features
    places: np.ndarray  # (n, 2) px of the ideal camera: of the keypoints
    right_x: np.ndarray  # (n,) px: where the second camera sees them; NaN where it does not
    image: FlowImage | None = None  # of the latest keyframe alone
    camera: Camera | None = None  # that took it, where it is not the one that is tracked
    points: np.ndarray = field(init=False)  # (n,) the point that each keypoint shows, or NO_POINT

    def __post_init__(self) -> None:
        self.points = np.full(len(self.features), NO_POINT)

    @cached_property
    def signature(self) -> torch.Tensor:
        """As `signature` of its features."""
        return signature(self.features)

    @property
    def seen(self) -> np.ndarray:
        """(m,) the keypoints that show a point."""
        return np.flatnonzero(self.points != NO_POINT)


class Map:
    """Keyframes and points, by number. The number of one that is dropped is not given again."""

    def __init__(self) -> None:
        self.keyframes: dict[int, Keyframe] = {}  # by number, in the order in which they were made
        self._next = 0
        self._xyz = np.zeros((1024, 3))
        self._count = 0
        self._observers: dict[int, dict[int, int]] = {}  # of each point: keypoint by keyframe

    @property
    def xyz(self) -> np.ndarray:
        """(n, 3) of all points, those that were dropped too: to be indexed with numbers of points."""
        return self._xyz[: self._count]

    def __len__(self) -> int:
        """Points."""
        return len(self._observers)

    def __contains__(self, point: int) -> bool:
        return point in self._observers

    @property
    def points(self) -> list[int]:
        """Their numbers, sorted."""
        return sorted(self._observers)

    def observers(self, point: int) -> dict[int, int]:
        """Keypoint by keyframe."""
        return self._observers[point]

    def add_keyframe(self, keyframe: Keyframe) -> int:
        """Its number."""
        if self.keyframes:
            self.keyframes[self.latest].image = None
        number, self._next = self._next, self._next + 1
        self.keyframes[number] = keyframe
        return number

    def replace_with(self, other: Map) -> None:
        """Drop all, and take the keyframes and points of another map, which is not to be used any more.

        They get new numbers.
        """
        self.keyframes.clear()
        self._observers.clear()
        numbers = {}
        for number, keyframe in other.keyframes.items():
            keyframe.points[:] = NO_POINT
            numbers[number] = self.add_keyframe(keyframe)
        for point in other.points:
            self.add_point(other.xyz[point], [(numbers[k], keypoint) for k, keypoint in other.observers(point).items()])

    @property
    def latest(self) -> int:
        """The number of the keyframe that was added last."""
        return next(reversed(self.keyframes))

    def drop_keyframe(self, number: int) -> None:
        """Drop a keyframe with its observations, and the points that too few others see."""
        points = self.points_of(number)
        for point in points:
            self.forget(point, number)
        del self.keyframes[number]
        self.drop_unsupported(points)

    def drop_unsupported(self, points: Iterable[int]) -> None:
        """Drop those of these points that are held by neither two views nor a measured depth."""
        for point in points:
            observers = self._observers[point]
            if len(observers) < 2 and not any(np.isfinite(self.keyframes[k].right_x[p]) for k, p in observers.items()):
                self.drop(point)

    def add_point(self, xyz: np.ndarray, observations: Iterable[tuple[int, int]]) -> int:
        """Its number. observations: (keyframe, keypoint) each."""
        if self._count == len(self._xyz):
            self._xyz = np.concatenate((self._xyz, np.zeros_like(self._xyz)))
        number, self._count = self._count, self._count + 1
        self._xyz[number] = xyz
        self._observers[number] = {}
        for keyframe, keypoint in observations:
            self.observe(number, keyframe, keypoint)
        return number

    def observe(self, point: int, keyframe: int, keypoint: int) -> None:
        """Note that a keypoint without a point shows this one, which no other of the keyframe does."""
        assert keyframe not in self._observers[point]
        assert self.keyframes[keyframe].points[keypoint] == NO_POINT
        self._observers[point][keyframe] = keypoint
        self.keyframes[keyframe].points[keypoint] = point

    def observe_where_free(self, point: int, keyframe: int, keypoint: int) -> None:
        """As `observe`; nothing where the keypoint shows another point, or another keypoint this one."""
        if self.keyframes[keyframe].points[keypoint] == NO_POINT and keyframe not in self._observers[point]:
            self.observe(point, keyframe, keypoint)

    def forget(self, point: int, keyframe: int) -> None:
        """Drop one observation of a point."""
        self.keyframes[keyframe].points[self._observers[point].pop(keyframe)] = NO_POINT

    def merge(self, kept: int, gone: int) -> None:
        """Two points are one: `kept` is seen where either was."""
        for keyframe, keypoint in list(self._observers[gone].items()):
            self.forget(gone, keyframe)
            if keyframe not in self._observers[kept]:
                self.observe(kept, keyframe, keypoint)
        del self._observers[gone]

    def drop(self, point: int) -> None:
        """Drop a point with its observations."""
        for keyframe in list(self._observers[point]):
            self.forget(point, keyframe)
        del self._observers[point]

    def seen_by(self, points: Iterable[int]) -> Counter[int]:
        """How many of these points each keyframe sees; keyframes that see none are absent."""
        return Counter(keyframe for point in points for keyframe in self._observers[point])

    def shared(self, keyframe: int) -> Counter[int]:
        """How many points of a keyframe each other one sees; those that see none are absent."""
        seen = self.seen_by(self.points_of(keyframe))
        del seen[keyframe]
        return seen

    def covisible(self, keyframe: int) -> list[int]:
        """Other keyframes that see points of this one, those that see most first."""
        return [other for other, _ in sorted(self.shared(keyframe).items(), key=lambda pair: (-pair[1], -pair[0]))]

    def points_of(self, keyframe: int) -> list[int]:
        """The points that a keyframe sees."""
        points = self.keyframes[keyframe].points
        return points[points != NO_POINT].tolist()
