"""Pairs of views warped from one photo, with the teachers' labels carried along: what LightPoint learns from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import scale_intrinsics
from lightmatch.geometry.homography import transfer
from lightmatch.training.batches import scheduled
from lightmatch.training.lightpoint.teachers import LabelStore, TeacherLabels
from lightmatch.training.photometric import augment


@dataclass(frozen=True)
class StudentViewsConfig:
    """How the views of a photo differ."""

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

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] or any(side % 16 for size in self.sizes for side in size):
            raise InvalidValueError(
                f"StudentViewsConfig: expected rising scales above 0 and sizes in multiples of 16 px, got {self}"
            )


@dataclass(frozen=True, eq=False)
class StudentBatch:
    """b pairs of views: rows 2i and 2i + 1 of the images show one photo."""

    images: Tensor  # (2b, 1, h, w) float32 grey in 0…1
    inside: Tensor  # (2b, h, w) bool: where the photo is
    targets: Tensor  # (2b, h, w) float32: scores to learn, a bell around each of the teacher's keypoints
    points: Tensor  # (2b, n, 2) float32 px: the same places of the photo in both views of a pair
    valid: Tensor  # (2b, n) bool: whether the place is seen in this view
    descriptors: Mapping[str, Tensor]  # (b, n, d) by teacher
    homographies: Tensor  # (b, 3, 3) float32: from the first view to the second
    names: tuple[str, ...]  # of the photos

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

    def __getitem__(self, step: int) -> StudentBatch:
        number = step * self.world_size + self.rank
        rng = np.random.default_rng((self.seed, number))
        size = self.config.sizes[int(np.random.default_rng((self.seed, step, 1)).integers(len(self.config.sizes)))]
        first = number * self.config.pairs_per_step
        photos = [scheduled(first + place, len(self.store), self.seed) for place in range(self.config.pairs_per_step)]
        return _collate([self.pair(photo, size, rng) for photo in photos], [self.store.photos[p].stem for p in photos])

    def pair(self, photo: int, size: tuple[int, int], rng: np.random.Generator) -> _Pair:
        """Two views of a photo, of `size` (width, height) px."""
        config = self.config
        images = dict(enumerate(image.pixels for image in self.store.images(photo)))
        labels = {halvings: self.store.labels(photo, halvings) for halvings in (0, 1)}
        photo_size = images[0].shape[1], images[0].shape[0]
        fitting = max(size[0] / photo_size[0], size[1] / photo_size[1])
        low, high = (math.log(limit) for limit in config.scale)
        first_scale = math.exp(rng.uniform(max(low, math.log(0.8 * fitting)), high))
        second_scale = first_scale * math.exp(config.scale_jitter * rng.standard_normal())
        second_scale = float(np.clip(second_scale, max(config.scale[0], 0.7 * fitting), 1.25 * config.scale[1]))
        reach = np.array(size) / first_scale / 2
        centre = _place(reach, np.array(photo_size), rng)
        offset = config.shift * rng.standard_normal(2) * np.array(size) / second_scale
        views = [
            self._view(centre, first_scale, size, images, rng),
            self._view(centre + offset, second_scale, size, images, rng),
        ]
        base = labels[views[0].halvings]
        places = _in_photo(base, views[0].halvings, images)
        points = torch.stack([transfer(view.from_photo, places).float() for view in views])
        seen = torch.stack([views[side].sees(points[side], config.border_px) for side in (0, 1)])
        keep = _choose(seen, config.points, rng)
        targets = [
            _bells(
                transfer(view.from_photo, _in_photo(labels[view.halvings], view.halvings, images)),
                labels[view.halvings].scores,
                size,
            )
            for view in views
        ]
        return _Pair(
            torch.stack([view.grey for view in views]),
            torch.stack([view.inside for view in views]),
            torch.stack(targets),
            points[:, keep],
            seen[:, keep],
            {name: tensor[keep] for name, tensor in base.descriptors.items()},
            (views[1].from_photo @ torch.linalg.inv(views[0].from_photo)).float(),
        )

    def _view(
        self,
        centre: np.ndarray,
        scale: float,
        size: tuple[int, int],
        images: Mapping[int, np.ndarray],
        rng: np.random.Generator,
    ) -> _View:
        config = self.config
        free = rng.random() < config.any_rotation_share
        angle = rng.uniform(-math.pi, math.pi) if free else math.radians(config.rotation_deg) * rng.standard_normal()
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (np.array(size) / 2)
        corners = corners * (1 + config.perspective * rng.uniform(-1, 1, (4, 2))) / scale
        quad = centre + corners @ rotation.T
        edge = np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]]) - 0.5
        from_photo = cv2.getPerspectiveTransform(quad.astype(np.float32), edge.astype(np.float32))
        if from_photo[2] @ [*centre, 1] < 0:
            from_photo = -from_photo
        halvings = int(scale < _HALF_BELOW)
        from_image = from_photo @ _to_full(images, halvings)
        pixels = np.asarray(cv2.warpPerspective(images[halvings], from_image, size, flags=cv2.INTER_LINEAR))
        ones = np.full(images[halvings].shape[:2], 255, np.uint8)
        inside = torch.from_numpy(np.asarray(cv2.warpPerspective(ones, from_image, size)) == 255)
        grey = cv2.cvtColor(augment(pixels, rng), cv2.COLOR_RGB2GRAY)
        return _View(
            torch.from_numpy(grey).float()[None] / 255, inside, torch.from_numpy(from_photo).double(), halvings
        )


_HALF_BELOW = 0.7  # views of a smaller scale are cut from the photo at half its size, with the labels found there
_SIGMA_PX = 1.0  # of the bell around a keypoint
_BELL_PX = 3  # radius in which it is drawn


@dataclass(frozen=True, eq=False)
class _View:
    grey: Tensor  # (1, h, w)
    inside: Tensor  # (h, w) bool
    from_photo: Tensor  # (3, 3) float64
    halvings: int

    def sees(self, points: Tensor, border_px: int) -> Tensor:
        """Which points (n, 2) px lie on the photo and not at the edge of the view."""
        height, width = self.inside.shape
        limit = torch.tensor([width, height]) - 1 - border_px
        within = ((points >= border_px) & (points <= limit)).all(-1)
        x, y = torch.where(within[:, None], points, 0).round().long().unbind(-1)
        return within & self.inside[y, x]


@dataclass(frozen=True, eq=False)
class _Pair:
    images: Tensor
    inside: Tensor
    targets: Tensor
    points: Tensor  # (2, k, 2)
    valid: Tensor  # (2, k)
    descriptors: Mapping[str, Tensor]  # (k, d)
    homography: Tensor


def _place(reach: np.ndarray, photo_size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A centre in the photo such that most of the view lies on it."""
    margin = np.minimum(reach, photo_size / 2)
    return margin + rng.random(2) * (photo_size - 2 * margin)


def _to_full(images: Mapping[int, np.ndarray], halvings: int) -> np.ndarray:
    """(3, 3): pixels of the photo at a smaller size to those of the whole, edges upon edges."""
    small, whole = ((image.shape[1], image.shape[0]) for image in (images[halvings], images[0]))
    return scale_intrinsics(torch.eye(3, dtype=torch.float64), small, whole).numpy()


def _in_photo(labels: TeacherLabels, halvings: int, images: Mapping[int, np.ndarray]) -> Tensor:
    return transfer(torch.from_numpy(_to_full(images, halvings)), labels.keypoints.double())


def _choose(seen: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """At most `count` of the points (2, n), those first that both views see; the strongest of each come first."""
    rank = seen.sum(0)
    order = torch.from_numpy(rng.permutation(seen.shape[1]))
    order = order[torch.argsort(rank[order], descending=True, stable=True)]
    return order[rank[order] > 0][:count]


def _bells(points: Tensor, scores: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w) float32: at each pixel the highest of score · exp(−distance² / 2σ²) of all points (n, 2) px.

    The logarithm of a bell is a parabola, so that three of its pixels tell where its top lies.
    """
    steps = torch.arange(-_BELL_PX, _BELL_PX + 1)
    around = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2)
    near = ((points > -_BELL_PX) & (points < torch.tensor(size) + _BELL_PX)).all(-1)
    points, scores = points[near].float(), scores[near]
    pixels = points.round().long()[:, None] + around
    distance2 = ((pixels - points[:, None]) ** 2).sum(-1)
    values = scores[:, None] * torch.exp(-distance2 / (2 * _SIGMA_PX**2))
    x, y = pixels.unbind(-1)
    within = (x >= 0) & (y >= 0) & (x < size[0]) & (y < size[1])
    flat = torch.zeros(size[0] * size[1])
    flat.scatter_reduce_(0, (y * size[0] + x)[within], values[within], "amax")
    return flat.view(size[1], size[0])


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
        {name: padded([pair.descriptors[name] for pair in pairs], 0) for name in pairs[0].descriptors},
        torch.stack([pair.homography for pair in pairs]),
        tuple(names),
    )
