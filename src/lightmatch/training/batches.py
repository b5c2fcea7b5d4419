"""Batches of labelled pairs: sampling of pairs and keypoints, and augmentation.

A batch depends on the seed and the step alone, so a resumed run uses the same pairs as one without a stop, on any
number of worker processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightmatch.errors import TrainingError
from lightmatch.extractors import Extractor
from lightmatch.extractors.sift import SIFT, mirror_sift, negate_sift
from lightmatch.geometry.correspondence import Correspondence, Visibility
from lightmatch.training.views import ViewGroup
from lightmatch.types import FeatureBatch, Features


class ViewSource(Protocol):
    """Makes groups of views; the group of an index is always the same."""

    def group(self, index: int, extractor: Extractor) -> ViewGroup:
        """Group number `index`, 0 and up."""
        ...


@dataclass(frozen=True)
class GroupStore:
    """The groups of several sources, one source after the other, computed on first use and cached on disk."""

    folder: Path
    sources: Sequence[tuple[str, ViewSource, int]]  # name of the files, source, number of groups
    extractor: Extractor

    def __len__(self) -> int:
        return sum(count for _, _, count in self.sources)

    def path(self, number: int) -> Path:
        """File of group `number`."""
        return self._locate(number)[2]

    def __getitem__(self, number: int) -> ViewGroup:
        source, index, path = self._locate(number)
        if path.exists():
            return ViewGroup.load(path)
        group = source.group(index, self.extractor)
        path.parent.mkdir(parents=True, exist_ok=True)
        group.save(path)
        # Read back: stored descriptors are rounded, and the first use must give the same bits as the next.
        return ViewGroup.load(path)

    def _locate(self, number: int) -> tuple[ViewSource, int, Path]:
        index = number
        for name, source, count in self.sources:
            if index < count:
                return source, index, self.folder / name / f"{index:06d}.safetensors"
            index -= count
        raise IndexError(number)


@dataclass(frozen=True)
class PairSampling:
    """How pairs are drawn from groups."""

    points_per_step: int = 8192  # keypoints of one image, over the whole batch: bounds memory and time
    num_points: tuple[int, ...] = (256, 512, 1024)  # of a view; each in turn, in random order, one for each step
    early_points: tuple[int, ...] = (256,)  # the same for the first steps, where many small pairs train faster
    early_steps: int = 0
    pairs_per_group: int = 4
    min_matches: int = 16  # pairs with fewer true matches are skipped
    unmatched_share: float = 0.05  # part of those pairs that is kept as negative pairs
    match_px: float = 3.0
    unmatchable_px: float = 5.0
    cropped_share: float = 0.5  # pairs cut to windows around a point that both views show
    mirrored_share: float = 0.5  # pairs of mirrored images (SIFT: a permutation of the descriptor)
    negative_share: float = 0.25  # pairs of inverted images (SIFT: another permutation)
    turned_share: float = 0.5  # pairs with one image rotated by any angle (needs orientations)
    scale_jitter: float = 1.0  # octaves by which the image size that the network gets varies

    def num_pairs(self, points: int) -> int:
        """Pairs of a batch of views with so many keypoints."""
        return max(1, self.points_per_step // points)

    def num_visits(self, points: int) -> int:
        """Groups that such a batch takes its pairs from, where each gives as many as it should."""
        return -(-self.num_pairs(points) // self.pairs_per_group)

    def without_augmentation(self) -> PairSampling:
        """The same without augmentation and without negative pairs, for validation."""
        shares = (
            "unmatched_share",
            "cropped_share",
            "mirrored_share",
            "negative_share",
            "turned_share",
            "scale_jitter",
        )
        return replace(self, **dict.fromkeys(shares, 0.0))


@dataclass(frozen=True, eq=False)
class PairBatch:
    """b labelled pairs, padded to the longest; padding is neither matched nor unmatchable."""

    features0: FeatureBatch
    features1: FeatureBatch
    matches: Tensor  # (k, 3) int64: pair, keypoint of image 0, keypoint of image 1
    unmatchable0: Tensor  # (b, m) bool
    unmatchable1: Tensor  # (b, n) bool
    names: tuple[str, ...]  # where each pair comes from

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        moved = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "names"}
        return replace(self, **{name: value.to(device) for name, value in moved.items()})

    @classmethod
    def collate(cls, pairs: Sequence[tuple[Features, Features, Correspondence]], names: Sequence[str]) -> Self:
        """Pad pairs of one kind to the longest on each side."""
        features0 = FeatureBatch.from_features([pair[0] for pair in pairs])
        features1 = FeatureBatch.from_features([pair[1] for pair in pairs])
        matches = [
            torch.cat((torch.full_like(truth.matches[:, :1], row), truth.matches), 1)
            for row, (_, _, truth) in enumerate(pairs)
        ]
        unmatchable0, unmatchable1 = (torch.zeros_like(f.valid) for f in (features0, features1))
        for row, (_, _, truth) in enumerate(pairs):
            unmatchable0[row, : len(truth.unmatchable0)] = truth.unmatchable0
            unmatchable1[row, : len(truth.unmatchable1)] = truth.unmatchable1
        return cls(features0, features1, torch.cat(matches), unmatchable0, unmatchable1, tuple(names))


@dataclass(frozen=True)
class PairBatches(Dataset[PairBatch]):
    """The batch of every step. One process of several takes the steps rank, rank + world_size, …"""

    groups: GroupStore
    sampling: PairSampling
    seed: int
    rank: int = 0
    world_size: int = 1

    def __getitem__(self, index: int) -> PairBatch:
        number = index * self.world_size + self.rank
        rng = np.random.default_rng((self.seed, number))
        sampling = self.sampling
        # The same on all ranks, so that none waits for a longer batch of another.
        points, visits_before = self._plan(index)
        size, visits_per_batch = sampling.num_pairs(points), sampling.num_visits(points)
        visit = visits_before * self.world_size + visits_per_batch * self.rank
        last_visit = visit + _PATIENCE * visits_per_batch
        pairs, names = [], []
        while len(pairs) < size:
            group_number = scheduled(visit, len(self.groups), self.seed)
            group = self.groups[group_number]
            wanted = min(sampling.pairs_per_group, size - len(pairs))
            drawn = self.draw(group, wanted, points, rng, anything=visit >= last_visit)
            pairs += drawn
            names += [f"{self.groups.path(group_number).parent.name}/{group_number}"] * len(drawn)
            visit += 1
            if visit > last_visit + len(self.groups):
                raise TrainingError(
                    f"expected groups of views with keypoints, got {len(pairs)} pairs of {size} from all"
                    f" {len(self.groups)}; add photos that are not blank"
                )
        return PairBatch.collate(pairs, names)

    def _plan(self, step: int) -> tuple[int, int]:
        """Keypoints of a view in this step, and visits to groups that each process makes in all steps before it."""
        early, sampling = self.sampling.early_steps, self.sampling
        if step < early:
            return self._in_turn(step, sampling.early_points)
        before = self._in_turn(early, sampling.early_points)[1] if early else 0
        points, visits = self._in_turn(step - early, sampling.num_points)
        return points, before + visits

    def _in_turn(self, step: int, choices: Sequence[int]) -> tuple[int, int]:
        """`_plan` where every len(choices) steps take each of the choices once, in random order.

        So the visits before a step are known without a look at all of these steps.
        """
        cycle, place = divmod(step, len(choices))
        order = np.random.default_rng((self.seed, cycle, 1)).permutation(len(choices))
        visits = [self.sampling.num_visits(choices[choice]) for choice in order]
        return choices[order[place]], cycle * sum(visits) + sum(visits[:place])

    def draw(
        self, group: ViewGroup, count: int, points: int, rng: np.random.Generator, *, anything: bool = False
    ) -> list[tuple[Features, Features, Correspondence]]:
        """Up to `count` pairs of views of the group, of at most `points` keypoints a view and, mostly, with matches.

        Views of less than a quarter of them are left out, unless anything will do.
        """
        sampling = self.sampling
        least = 1 if anything else -(-points // 4)
        rich = [view for view, features in enumerate(group.features) if len(features) >= least]
        pairs = []
        for _ in range(3 * count if len(rich) > 1 else 0):
            view0, view1 = (int(view) for view in rng.choice(rich, 2, replace=False))
            window0, window1 = self._windows(group, view0, view1, points, rng)
            features0, features1, truth = group.pair(view0, view1, window0.keep, window1.keep)
            labels = truth.label(features0, features1, sampling.match_px, sampling.unmatchable_px)
            if anything or len(labels.matches) >= sampling.min_matches or rng.random() < sampling.unmatched_share:
                features0, features1 = window0.crop(features0), window1.crop(features1)
                pairs.append((*self._augment(features0, features1, rng), labels))
            if len(pairs) == count:
                break
        return pairs

    def _windows(
        self, group: ViewGroup, view0: int, view1: int, points: int, rng: np.random.Generator
    ) -> tuple[Window, Window]:
        """The strongest `points` keypoints of each view, or of windows around a point that both views show."""
        views = group.features[view0], group.features[view1]
        if rng.random() < self.sampling.cropped_share:
            seen = group.projection(view0, view1)
            common = (seen.visibility == Visibility.VISIBLE).nonzero()[:, 0]
            if len(common):
                anchor = common[int(rng.integers(len(common)))]
                centres = views[0].keypoints[anchor], seen.points[anchor]
                return tuple(Window.around(f, c, points, rng) for f, c in zip(views, centres, strict=True))  # type: ignore[return-value]
        return tuple(Window.whole(f, points) for f in views)  # type: ignore[return-value]

    def _augment(self, features0: Features, features1: Features, rng: np.random.Generator) -> tuple[Features, Features]:
        """Augment the pair by mirroring, inversion, rotation and scale; matches are unchanged."""
        sampling = self.sampling
        if features0.kind == SIFT:
            if rng.random() < sampling.mirrored_share:
                features0, features1 = mirror_sift(features0), mirror_sift(features1)
            if rng.random() < sampling.negative_share:
                features0, features1 = negate_sift(features0), negate_sift(features1)
        if not features0.kind.has_scale_orientation:
            return features0, features1
        if rng.random() < sampling.turned_share:
            features0 = rotate_inside(features0, float(rng.uniform(0, 2 * np.pi)))
        octaves = rng.uniform(-1, 1) + 0.3 * rng.uniform(-1, 1, 2)
        features0, features1 = (
            resize_features(f, 2.0 ** (sampling.scale_jitter * octave), rng)
            for f, octave in zip((features0, features1), octaves, strict=True)
        )
        return features0, features1


def scheduled(visit: int, count: int, seed: int) -> int:
    """Index of the item, 0…count − 1, of a visit: all in a random order, then all again in another."""
    epoch, place = divmod(visit, count)
    return int(np.random.default_rng((seed, epoch, 2)).permutation(count)[place])


# A batch not filled within this many times the usual visits accepts any views.
_PATIENCE = 4


@dataclass(frozen=True, eq=False)
class Window:
    """A part of an image, and the keypoints kept in it."""

    keep: Tensor  # (k,) int64, strongest first
    corner: Tensor  # (2,) px
    size: tuple[int, int]

    @classmethod
    def whole(cls, features: Features, count: int) -> Self:
        """The whole image, with its `count` strongest keypoints."""
        keep = torch.arange(min(count, len(features)))  # extractors give the strongest first
        return cls(keep, torch.zeros(2), features.image_size)

    @classmethod
    def around(cls, features: Features, centre: Tensor, count: int, rng: np.random.Generator) -> Self:
        """A window of random size around `centre` (2,) px, with its strongest keypoints; `count` if there are so many.

        It has between `count` and all keypoints, and the aspect ratio of the image.
        """
        if len(features) <= count:
            return cls.whole(features, count)
        form = torch.tensor(features.image_size, dtype=torch.float32) / max(features.image_size)
        distance = ((features.keypoints - centre) / form).abs().amax(1)
        held = int(count * (len(features) / count) ** rng.random())
        radius = distance.kthvalue(held).values
        corner = (centre - radius * form).floor().clamp_min(0)
        end = torch.minimum((centre + radius * form).ceil() + 1, torch.tensor(features.image_size))
        width, height = (int(length) for length in end - corner)
        return cls((distance <= radius).nonzero()[:count, 0], corner, (width, height))

    def crop(self, features: Features) -> Features:
        """The kept features, in the coordinates of the window."""
        return replace(features, keypoints=features.keypoints - self.corner, image_size=self.size)


def rotate_inside(features: Features, angle_rad: float) -> Features:
    """The features of the image rotated clockwise about its centre; for descriptors that are rotation invariant.

    Positions and orientations rotate; the image size is unchanged, so keypoints in the corners may leave it.
    """
    assert features.orientations is not None
    middle = (torch.tensor(features.image_size) - 1) / 2
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    rotation = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float32)
    return replace(
        features,
        keypoints=(features.keypoints - middle) @ rotation.mT + middle,
        orientations=(features.orientations + angle_rad) % (2 * torch.pi),
    )


def resize_features(features: Features, factor: float, rng: np.random.Generator) -> Features:
    """The features as if the image were a random part of one `factor` times as large.

    factor: below 1 the image is an enlargement: only its scales change, since its surroundings are unknown.
    """
    width, height = features.image_size
    grown = (max(1, round(width * factor)), max(1, round(height * factor)))
    if factor < 1:
        assert features.scales is not None
        return replace(features, scales=features.scales / factor)
    offset = rng.uniform(0, 1, 2) * (np.array(grown) - (width, height))
    return replace(features, keypoints=features.keypoints + torch.from_numpy(offset).float(), image_size=grown)
