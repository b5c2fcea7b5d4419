"""Pairs of photos of one scene, and which of the teachers' keypoints in them are the same places: real parallax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lightmatch.matchers import Matcher
from lightmatch.training.lightpoint.teachers import LabelStore, cache_name
from lightmatch.training.matched import explained
from lightmatch.types import Features
from lightmatch.weights import read_tensors, write_tensors


@dataclass(frozen=True)
class ScenePairsConfig:
    """Which photos form pairs, and which of the teacher's matches are accepted."""

    space: str = "aliked"  # the teacher whose descriptors are matched, by the LightGlue for it
    strides: tuple[int, ...] = (1, 2, 4)  # photos of a folder that are this many apart by name form a pair
    match_score: float = 0.2  # least score
    inlier_px: float = 2.0  # from the epipolar line
    min_inliers: int = 16  # with fewer, a pair has no matches
    validation: tuple[str, ...] = ()  # folders held out, by name


@dataclass(frozen=True)
class ScenePairs:
    """The matches of pairs of photos, computed on first use and cached in `folder`."""

    store: LabelStore
    pairs: Sequence[tuple[int, int]]  # of the store's photos, by number
    matcher: Matcher
    folder: Path
    config: ScenePairsConfig = ScenePairsConfig()

    def __len__(self) -> int:
        return len(self.pairs)

    def matches(self, number: int) -> Tensor:
        """(k, 2) int64: the keypoints, of both photos of a pair at their size, that are the same point."""
        first, second = (cache_name(self.store.photos[photo]) for photo in self.pairs[number])
        path = self.folder / f"{first}-{second}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {"matches": self._match(number)}, {}, shared=True)
        return read_tensors(path)[0]["matches"]

    def _match(self, number: int) -> Tensor:
        described = [self._described(photo) for photo in self.pairs[number]]
        matches = self.matcher(*described)
        likely = matches.indices[matches.scores >= self.config.match_score]
        points = [side.keypoints[likely[:, number]] for number, side in enumerate(described)]
        return likely[explained(points[0], points[1], self.config.inlier_px, self.config.min_inliers)]

    def _described(self, photo: int) -> Features:
        labels = self.store.labels(photo, 0)
        kind = self.store.describers[self.config.space].kind
        size = self.store.image(photo, 0).size
        return Features(labels.keypoints, labels.scores, labels.descriptors[kind.name], size, kind)


def neighbouring_pairs(photos: Sequence[Path], numbers: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Those of the photos `numbers` that lie in one folder, one of `strides` apart by name."""
    folders: dict[Path, list[int]] = {}
    for number in sorted(numbers, key=lambda number: photos[number]):
        folders.setdefault(photos[number].parent, []).append(number)
    return [pair for own in folders.values() for stride in strides for pair in zip(own, own[stride:], strict=False)]
