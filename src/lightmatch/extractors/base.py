"""What all extractors share: sizes, masks, and which keypoints to keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.images import keypoints_to_size, resize_to_fit
from lightmatch.types import FeatureKind, Features, Image


@dataclass(frozen=True, kw_only=True)
class ExtractorConfig:
    """What every extractor can be told; each extends it with its own fields."""

    max_keypoints: int = 2048  # the strongest are kept
    max_image_size: int = 1600  # px of the long side that is worked on: larger photos are shrunk to it first

    def __post_init__(self) -> None:
        self.check("max_keypoints", self.max_keypoints >= 1, "at least 1")
        self.check("max_image_size", self.max_image_size >= 1, "at least 1 px")

    def check(self, name: str, good: bool, expected: str) -> None:
        """Raise InvalidValueError about the field `name` unless `good`."""
        if not good:
            raise InvalidValueError(f"{type(self).__name__}.{name}: expected {expected}, got {getattr(self, name)!r}")


class Extractor(ABC):
    """A photo in, its local features out, in pixels of that photo.

    A subclass finds features in an image that is already small enough (`_extract`); the way there and
    back is done here, so that all extractors treat sizes, masks and limits alike.
    """

    kind: FeatureKind

    def __init__(self, config: ExtractorConfig) -> None:
        self.config = config

    def __call__(self, image: Image, mask: np.ndarray | None = None) -> Features:
        """The features of `image`, strongest first, at most `config.max_keypoints`.

        mask: (height, width) bool or uint8 of the image's size; no keypoint lies where it is 0.
        Raises InvalidValueError for a mask of another shape or dtype.
        """
        small = resize_to_fit(image, self.config.max_image_size)
        small_mask = None if mask is None else _fit_mask(check_mask(mask, image.size), small.size)
        features = select_strongest(self._extract(small, small_mask), self.config.max_keypoints)
        return features_to_size(features, image.size)

    @abstractmethod
    def _extract(self, image: Image, mask: np.ndarray | None) -> Features:
        """The features of `image` in its own pixels; at least the `max_keypoints` strongest, in any order.

        mask: (height, width) bool, False where no keypoint may lie.
        """


def check_mask(mask: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """`mask` as (height, width) bool, True where keypoints may lie.

    mask: (height, width) bool or uint8, 0 where they may not. image_size: (width, height) px.
    Raises InvalidValueError for another shape or dtype.
    """
    width, height = image_size
    if not isinstance(mask, np.ndarray) or mask.shape != (height, width) or mask.dtype not in (np.bool_, np.uint8):
        got = f"{mask.shape} and {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InvalidValueError(
            f"mask: expected a bool or uint8 array of the image's (height, width) = ({height}, {width}), got {got};"
            " resize it with nearest-neighbour interpolation, and keep one channel"
        )
    return mask != 0


def select_strongest(features: Features, max_keypoints: int) -> Features:
    """The `max_keypoints` features of highest score, highest first.

    Equal scores are ordered by y, x, scale and orientation, so the choice does not depend on the
    order in which a detector happens to list its keypoints.
    """
    x, y = features.keypoints.unbind(-1)
    ties = [key for key in (y, x, features.scales, features.orientations) if key is not None]
    return features.select(strongest_first(features.scores, *ties)[:max_keypoints])


def strongest_first(scores: Tensor, *ties: Tensor) -> Tensor:
    """The order of falling `scores`; equal ones by rising ties[0], then ties[1], …, then as given.

    scores, ties: (n,) each. Returns (n,) int64 indices.
    """
    order = torch.arange(len(scores), device=scores.device)
    # Stable sorts, the least important key first, leave the keys in order of importance.
    for key, falling in [(scores, True), *((tie, False) for tie in ties)][::-1]:
        order = order[torch.sort(key[order], stable=True, descending=falling).indices]
    return order


def features_to_size(features: Features, image_size: tuple[int, int]) -> Features:
    """The same features in pixels of the photo at another resolution, (width, height).

    Keypoints as `keypoints_to_size`; scales by the geometric mean of both ratios, which differ only by
    the rounding of the sizes to whole pixels.
    """
    ratio = (image_size[0] * image_size[1] / (features.image_size[0] * features.image_size[1])) ** 0.5
    return replace(
        features,
        keypoints=keypoints_to_size(features.keypoints, features.image_size, image_size),
        scales=None if features.scales is None else features.scales * ratio,
        image_size=image_size,
    )


def _fit_mask(allowed: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask at `size`, (width, height): a pixel counts only where every original pixel under it does.

    So no keypoint lands on a masked pixel when it is taken back to the original size.
    """
    if size == allowed.shape[::-1]:
        return allowed
    return cv2.resize((~allowed).astype(np.float32), size, interpolation=cv2.INTER_AREA) == 0


class Registration(NamedTuple):
    """How to make an extractor of one name."""

    config_type: type[ExtractorConfig]
    create: Callable[[Any], Extractor]  # takes a config of that type


_REGISTERED: dict[str, Registration] = {}

_E = TypeVar("_E", bound=type[Extractor])


def register(name: str, config_type: type[ExtractorConfig]) -> Callable[[_E], _E]:
    """Class decorator: make the extractor available as `name`; its constructor takes a `config_type`.

    Raises InvalidValueError where another class has taken the name.
    """

    def add(extractor_type: _E) -> _E:
        taken = _REGISTERED.get(name)
        if taken is not None:
            raise InvalidValueError(f"register: expected a new extractor name, got {name!r}, which is {taken.create}")
        _REGISTERED[name] = Registration(config_type, extractor_type)
        return extractor_type

    return add


def registrations() -> dict[str, Registration]:
    """What the modules imported so far have registered, by name."""
    return dict(_REGISTERED)
