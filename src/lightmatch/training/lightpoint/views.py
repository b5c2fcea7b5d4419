"""Pairs of views of one photo, or of two photos of one scene, with the teachers' labels, to train LightPoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.homography import transfer
from lightmatch.training.batches import scheduled
from lightmatch.training.lightpoint.cut import LabelledPhoto, View, ViewWarp, cut_view
from lightmatch.training.lightpoint.scenes import ScenePairs
from lightmatch.training.lightpoint.teachers import LabelStore


@dataclass(frozen=True)
class StudentViewsConfig:
    """How the views of a pair differ."""

    pairs_per_step: int = 8
    sizes: tuple[tuple[int, int], ...] = ((320, 240),)  # px of the views; one is drawn for each step
    points: int = 256  # of a pair at most whose descriptors are compared with the teachers'
    scale: tuple[float, float] = (0.4, 1.6)  # px of a view for a px of the photo
    scale_jitter: float = 0.35  # octaves · ln 2: standard deviation of the second view's scale against the first's
    rotation_deg: float = 20.0  # standard deviation of each view's rotation in the plane
    any_rotation_share: float = 0.25  # part of the views that are rotated by any angle
    perspective: float = 0.15  # how far corners move at most, as a part of half the side
    shift: float = 0.15  # standard deviation of the second view's centre, as a part of its side
    border_px: int = 4  # labels nearer to the edge of a view are left out
    plain_share: float = (
        0.0  # part of the first views that show the photo as the teachers saw it, up to photometric augmentation
    )
    scenes_share: float = 0.0  # part of the pairs that are two photos of one scene

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] or any(side % 16 for size in self.sizes for side in size):
            raise InvalidValueError(
                f"StudentViewsConfig: expected ascending scales above 0 and sizes in multiples of 16 px, got {self}"
            )


@dataclass(frozen=True, eq=False)
class StudentBatch:
    """b pairs of views: rows 2i and 2i + 1 of the images show one photo, or two of one scene."""

    images: Tensor  # (2b, 1, h, w) float32 grey in 0…1
    inside: Tensor  # (2b, h, w) bool: where the photo is
    targets: Tensor  # (2b, h, w) float32: scores to learn, a Gaussian around each of the teacher's keypoints
    points: Tensor  # (2b, n, 2) float32 px: the same points in both views of a pair
    valid: Tensor  # (2b, n) bool: whether the point is visible in this view
    plain: Tensor  # (2b,) bool: whether the view shows the photo as the teachers saw it
    descriptors: Mapping[str, Tensor]  # (2b, n, d) by teacher
    homographies: Tensor  # (b, 3, 3) float32: from the first view to the second
    warped: Tensor  # (b,) bool: whether the homography holds; between two photos of a scene none does
    names: tuple[str, ...]  # of the first views' photos

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        moved = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("names", "descriptors")}
        descriptors = {name: tensor.to(device) for name, tensor in self.descriptors.items()}
        return replace(self, descriptors=descriptors, **{name: value.to(device) for name, value in moved.items()})


@dataclass(frozen=True)
class StudentViews(Dataset[StudentBatch]):
    """The batch of every step, which depends on seed and step alone."""

    store: LabelStore
    config: StudentViewsConfig
    seed: int
    rank: int = 0
    world_size: int = 1
    scenes: ScenePairs | None = None  # of the photos of `store`

    def __getitem__(self, index: int) -> StudentBatch:
        number = index * self.world_size + self.rank
        rng = np.random.default_rng((self.seed, number))
        size = self.config.sizes[int(np.random.default_rng((self.seed, index, 1)).integers(len(self.config.sizes)))]
        of_scenes = round(self.config.scenes_share * self.config.pairs_per_step) if self.scenes else 0
        of_photos = self.config.pairs_per_step - of_scenes
        pairs, names = [], []
        for place in range(of_photos):
            photo = scheduled(number * of_photos + place, len(self.store), self.seed)
            pairs.append(self.pair(photo, size, rng))
            names.append(self.store.photos[photo].stem)
        for place in range(of_scenes):
            assert self.scenes is not None
            chosen = scheduled(number * of_scenes + place, len(self.scenes), self.seed)
            pairs.append(self.scene_pair(self.scenes, chosen, size, rng))
            names.append(self.store.photos[self.scenes.pairs[chosen][0]].stem)
        return _collate(pairs, names)

    def pair(self, photo: int, size: tuple[int, int], rng: np.random.Generator) -> _Pair:
        """Two views of a photo, of `size` (width, height) px."""
        shown = LabelledPhoto.load(self.store, photo)
        frames = self._frames(shown, shown, size, rng)
        reach = np.array(size) / frames[0].scale / 2
        centre = _place(reach, np.array(shown.size), rng)
        offset = self.config.shift * rng.standard_normal(2) * np.array(size) / frames[1].scale
        views = [
            cut_view(centre, frames[0], size, shown.images, rng),
            cut_view(centre + offset, frames[1], size, shown.images, rng),
        ]
        halvings = views[0].halvings
        return self._joined(
            views, (shown, shown), (shown.places(halvings),) * 2, (shown.labels[halvings].descriptors,) * 2, rng
        )

    def scene_pair(self, scenes: ScenePairs, number: int, size: tuple[int, int], rng: np.random.Generator) -> _Pair:
        """A view of each photo of pair `number` of the scenes, near one true match. size: (width, height) px."""
        shown = [LabelledPhoto.load(self.store, photo) for photo in scenes.pairs[number]]
        matches = scenes.matches(number)
        frames = self._frames(shown[0], shown[1], size, rng)
        places = [one.places(0)[matches[:, side]] for side, one in enumerate(shown)]
        anchor = int(rng.integers(len(matches))) if len(matches) else None
        views = []
        for one, own, frame in zip(shown, places, frames, strict=True):
            middle = np.array(one.size) / 2 if anchor is None else own[anchor].numpy()
            offset = self.config.shift * rng.standard_normal(2) * np.array(size) / frame.scale
            view = cut_view(middle + offset, frame, size, one.images, rng)
            views.append(replace(view, plain=view.plain and view.halvings == 0))  # labels are those of the full size
        described = [
            {name: tensor[matches[:, side]] for name, tensor in one.labels[0].descriptors.items()}
            for side, one in enumerate(shown)
        ]
        return replace(self._joined(views, shown, places, described, rng), homography=torch.eye(3), warped=False)

    def _joined(
        self,
        views: Sequence[View],
        shown: Sequence[LabelledPhoto],
        places: Sequence[Tensor],
        described: Sequence[Mapping[str, Tensor]],
        rng: np.random.Generator,
    ) -> _Pair:
        """Both views with their labels. places: (n, 2) px of each photo, the same for both views, with descriptors."""
        points = torch.stack([transfer(view.from_photo, own).float() for view, own in zip(views, places, strict=True)])
        seen = torch.stack([view.sees(own, self.config.border_px) for view, own in zip(views, points, strict=True)])
        keep = _choose(seen, self.config.points, rng)
        return _Pair(
            torch.stack([view.grey for view in views]),
            torch.stack([view.inside for view in views]),
            torch.stack([one.target(view) for view, one in zip(views, shown, strict=True)]),
            points[:, keep],
            seen[:, keep],
            torch.tensor([view.plain for view in views]),
            {name: torch.stack([side[name][keep] for side in described]) for name in described[0]},
            (views[1].from_photo @ torch.linalg.inv(views[0].from_photo)).float(),
        )

    def _frames(
        self, first: LabelledPhoto, second: LabelledPhoto, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[ViewWarp, ViewWarp]:
        """How two views of `size` (width, height) px are cut from their photos."""
        config = self.config
        fitting0, fitting1 = (max(size[0] / one.size[0], size[1] / one.size[1]) for one in (first, second))
        low, high = (math.log(limit) for limit in config.scale)
        if rng.random() < config.plain_share:
            halved = 0.5 if rng.random() < _HALF_SHARE else 1.0
            frame0 = ViewWarp(
                halved * math.exp(_PLAIN_SCALE * rng.standard_normal()), _PLAIN_RAD * rng.standard_normal(), 0.0, True
            )
        else:
            scale = math.exp(rng.uniform(min(max(low, math.log(0.8 * fitting0)), high), high))  # a photo may be small
            frame0 = ViewWarp(scale, self._angle(rng), config.perspective, False)
        scale = frame0.scale * math.exp(config.scale_jitter * rng.standard_normal())
        scale = float(np.clip(scale, max(config.scale[0], 0.7 * fitting1), 1.25 * config.scale[1]))
        return frame0, ViewWarp(scale, self._angle(rng), config.perspective, False)

    def _angle(self, rng: np.random.Generator) -> float:
        if rng.random() < self.config.any_rotation_share:
            return rng.uniform(-math.pi, math.pi)
        return math.radians(self.config.rotation_deg) * rng.standard_normal()


_HALF_SHARE = 0.4  # of the views that show a photo as the teachers saw it, those that show the half of its size
_PLAIN_SCALE, _PLAIN_RAD = 0.08, 0.05  # standard deviations of their scale, ln, and rotation


@dataclass(frozen=True, eq=False)
class _Pair:
    images: Tensor
    inside: Tensor
    targets: Tensor
    points: Tensor  # (2, k, 2)
    valid: Tensor  # (2, k)
    plain: Tensor  # (2,)
    descriptors: Mapping[str, Tensor]  # (2, k, d)
    homography: Tensor
    warped: bool = True


def _place(reach: np.ndarray, photo_size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A centre in the photo such that most of the view lies on it."""
    margin = np.minimum(reach, photo_size / 2)
    return margin + rng.random(2) * (photo_size - 2 * margin)


def _choose(seen: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """At most `count` of the points (2, n), those first that both views see; the strongest of each come first."""
    rank = seen.sum(0)
    order = torch.from_numpy(rng.permutation(seen.shape[1]))
    order = order[torch.argsort(rank[order], descending=True, stable=True)]
    return order[rank[order] > 0][:count]


def _collate(pairs: Sequence[_Pair], names: Sequence[str]) -> StudentBatch:
    longest = max(pair.points.shape[1] for pair in pairs)

    def padded(values: Sequence[Tensor], dim: int) -> Tensor:
        """Stacked, with zeros behind the shorter ones."""
        shape = [*values[0].shape]
        shape[dim] = longest
        whole = values[0].new_zeros((len(values), *shape))
        for row, value in zip(whole, values, strict=True):
            row.narrow(dim, 0, value.shape[dim]).copy_(value)
        return whole

    return StudentBatch(
        torch.cat([pair.images for pair in pairs]),
        torch.cat([pair.inside for pair in pairs]),
        torch.cat([pair.targets for pair in pairs]),
        padded([pair.points for pair in pairs], 1).flatten(0, 1),
        padded([pair.valid for pair in pairs], 1).flatten(0, 1),
        torch.cat([pair.plain for pair in pairs]),
        {name: padded([pair.descriptors[name] for pair in pairs], 1).flatten(0, 1) for name in pairs[0].descriptors},
        torch.stack([pair.homography for pair in pairs]),
        torch.tensor([pair.warped for pair in pairs]),
        tuple(names),
    )
