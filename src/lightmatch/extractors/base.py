"""What all extractors share: sizes, masks, and which keypoints to keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.extractors.tiles import SMALLEST_PX, WIDEST_SCALE_PX, Box, cut, joined, moved, tiles
from lightmatch.images import keypoints_to_size, resize_to_fit
from lightmatch.runtime.threads import MOST_WORKERS
from lightmatch.types import FeatureKind, Features, Image

_LEAST_SCALE_PX = 4.0  # diameter: OpenCV's smallest but for its doubled image, 3.2 · 2^⅓


@dataclass(frozen=True, kw_only=True)
class ExtractorConfig:
    """Settings of every extractor; each extends them with its own fields."""

    max_keypoints: int = 2048  # the strongest are kept
    max_image_size: int = 1600  # px of the long side that is worked on: larger photos are shrunk to it first
    tile_size: int | None = None  # px: what is larger then is worked on in tiles of this size, to bound the memory

    def __post_init__(self) -> None:
        self.check("max_keypoints", self.max_keypoints >= 1, "at least 1")
        self.check("max_image_size", self.max_image_size >= 1, "at least 1 px")
        self.check("tile_size", self.tile_size is None or self.tile_size >= SMALLEST_PX, f"at least {SMALLEST_PX} px")

    def check(self, name: str, good: bool, expected: str) -> None:
        """Raise InvalidValueError about the field `name` unless `good`."""
        if not good:
            raise InvalidValueError(f"{type(self).__name__}.{name}: expected {expected}, got {getattr(self, name)!r}")


class Extractor(ABC):
    """A photo in, its local features out, in pixels of that photo.

    A subclass finds features in an image that is already small enough (`_extract`), and describes given places in
    one (`_describe`); the way there and back is done here, so that all extractors treat sizes, masks, regions, tiles
    and limits alike.
    """

    kind: FeatureKind
    graph: ClassVar[str | None] = None  # "module:class" of what `lightmatch export` writes; None: it is not exported
    most_side_by_side = MOST_WORKERS  # photos worked on at once by a program that shares its threads out

    def __init__(self, config: ExtractorConfig) -> None:
        self.config = config

    def __call__(
        self, image: Image, mask: np.ndarray | None = None, region: tuple[int, int, int, int] | None = None
    ) -> Features:
        """The features of `image`, strongest first, at most `config.max_keypoints`.

        mask: (height, width) bool or uint8 of the image's size; no keypoint lies where it is 0.
        region: (left, top, right, bottom) px, the last two not included: the photo is cut to it first, so that it is
            worked on in up to `config.max_image_size`; keypoints are still those of the whole photo.
        Raises InvalidValueError for a mask of another shape or dtype, or a region that is empty or leaves the photo.
        """
        if region is not None:
            return self._extract_region(image, mask, check_region(region, image.size))
        small, small_mask = self._shrink(image, mask)
        return self._finish(self._extract_tiles(small, small_mask), image.size)

    def extract_batch(
        self, images: Sequence[Image], masks: Sequence[np.ndarray | None] | None = None
    ) -> list[Features]:
        """The features of several images, each as by a call of its own.

        Networks take images that are worked on in one size together, which helps a GPU; their numbers may then differ
        by rounding. masks: one for each image, or None.
        """
        return [self(image, mask) for image, mask in self._with_masks(images, masks)]

    def describe(
        self,
        image: Image,
        keypoints: Tensor,
        *,
        scores: Tensor | None = None,
        scales: Tensor | None = None,
        orientations: Tensor | None = None,
    ) -> Features:
        """Features at keypoints of your own, all of them, in the order given.

        keypoints: (n, 2) float, px of `image`. scores: (n,), 1 where left out. scales (n,) px, a diameter, and
        orientations (n,) rad are for kinds that have them: where left out, 4 px at the resolution that is worked on,
        and 0. Raises InvalidValueError where a keypoint lies outside the image, or a scale is not above 0.
        """
        keypoints = keypoints.float().cpu()
        _check_keypoints(keypoints, image.size)
        count, small = len(keypoints), resize_to_fit(image, self.config.max_image_size)
        given = {"scores": keypoints.new_ones(count)}
        if self.kind.has_scale_orientation:
            least_px = _LEAST_SCALE_PX * max(image.size) / max(small.size)
            given |= {"scales": keypoints.new_full((count,), least_px), "orientations": keypoints.new_zeros(count)}
        passed = {"scores": scores, "scales": scales, "orientations": orientations}
        given |= {name: value.float().cpu() for name, value in passed.items() if value is not None}
        if scales is not None and not bool((given["scales"] > 0).all()):
            raise InvalidValueError(f"scales: expected diameters above 0 px, got {float(given['scales'].min())}")
        descriptors = keypoints.new_zeros((count, self.kind.descriptor_dim))
        features = Features(keypoints, descriptors=descriptors, image_size=image.size, kind=self.kind, **given)
        return replace(features, descriptors=self._describe_tiles(small, features_to_size(features, small.size)))

    @classmethod  # noqa: B027  # most have nothing to fetch
    def fetch_weights(cls, config: ExtractorConfig) -> None:
        """Bring published weights that the constructor will read to this machine; here there are none.

        Constructors do not touch the network; `create_extractor` calls this before. Raises WeightsError where the
        weights cannot be had.
        """

    def weights_digest(self) -> str:
        """Changes with the numbers of the extractor's network: a file of one name may hold better ones tomorrow."""
        return ""

    @abstractmethod
    def _extract(self, image: Image, mask: np.ndarray | None) -> Features:
        """The features of `image` in its own pixels; at least the `max_keypoints` strongest, in any order.

        mask: (height, width) bool, False where no keypoint may lie.
        """

    def _describe(self, image: Image, features: Features) -> Tensor:
        """(n, d) descriptors at the keypoints of `features`, in pixels of `image`; its descriptors mean nothing."""
        raise InvalidValueError(
            f"describe: expected an extractor that describes given keypoints, got {self.kind.name!r}; take another"
        )

    def _shrink(self, image: Image, mask: np.ndarray | None) -> tuple[Image, np.ndarray | None]:
        """The image, and its mask, as they are worked on."""
        small = resize_to_fit(image, self.config.max_image_size)
        return small, None if mask is None else _fit_mask(check_mask(mask, image.size), small.size)

    def _finish(self, found: Features, image_size: tuple[int, int]) -> Features:
        """The strongest, in pixels of the photo."""
        return features_to_size(select_strongest(found, self.config.max_keypoints), image_size)

    def _extract_region(self, image: Image, mask: np.ndarray | None, region: Box) -> Features:
        if mask is not None:
            mask = check_mask(mask, image.size)[region.slices]
        return moved(self(cut(image, region), mask), (region.left, region.top), image.size)

    def _extract_tiles(self, image: Image, mask: np.ndarray | None) -> Features:
        parts = self._tiles(image.size)
        if len(parts) == 1:
            return self._extract(image, mask)
        found: Features | None = None
        for tile, own in parts:
            allowed = np.zeros(tile.size[::-1], bool)
            inside = own.within(tile).slices
            allowed[inside] = True if mask is None else mask[own.slices]
            part = moved(self._extract(cut(image, tile), allowed), (tile.left, tile.top), image.size)
            found = select_strongest(part if found is None else joined(found, part), self.config.max_keypoints)
        assert found is not None  # an image has at least one tile
        return found

    def _describe_tiles(self, image: Image, features: Features) -> Tensor:
        descriptors, parts = torch.zeros_like(features.descriptors), self._tiles(image.size)
        wide = torch.zeros_like(features.scores, dtype=torch.bool)
        if features.scales is not None and len(parts) > 1:
            wide = features.scales > WIDEST_SCALE_PX
        if wide.any():
            # What reaches beyond the margin of a tile stays inside at half the size, which loses nothing it looks at.
            half = resize_to_fit(image, -(-max(image.size) // 2))
            descriptors[wide] = self._describe_tiles(half, features_to_size(features.select(wide), half.size))
        last = features.keypoints.new_tensor(image.size) - 1
        pixel = (features.keypoints + 0.5).floor().clamp_min(0).minimum(last)
        for tile, own in parts:
            corner = pixel.new_tensor(own[:2])
            chosen = ((pixel >= corner) & (pixel < pixel.new_tensor(own[2:]))).all(1) & ~wide
            if chosen.any():
                part = moved(features.select(chosen), (-tile.left, -tile.top), tile.size)
                descriptors[chosen] = self._describe(cut(image, tile), part)
        return descriptors

    def _tiles(self, size: tuple[int, int]) -> list[tuple[Box, Box]]:
        """Each tile, and the part of it that is its own; one that is all where no tiles are needed."""
        whole, tile_size = Box(0, 0, *size), self.config.tile_size
        return [(whole, whole)] if tile_size is None or max(size) <= tile_size else list(tiles(size, tile_size))

    @staticmethod
    def _with_masks(
        images: Sequence[Image], masks: Sequence[np.ndarray | None] | None
    ) -> list[tuple[Image, np.ndarray | None]]:
        if masks is not None and len(masks) != len(images):
            raise InvalidValueError(
                f"masks: expected one for each of {len(images)} images, got {len(masks)}; give None where there is none"
            )
        return list(zip(images, masks if masks is not None else [None] * len(images), strict=True))


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


def check_region(region: Sequence[int], image_size: tuple[int, int]) -> Box:
    """`region`, (left, top, right, bottom) px, as a box. Raises InvalidValueError where it is not inside the image."""
    width, height = image_size
    box = Box(*(int(edge) for edge in region)) if len(region) == 4 else Box(0, 0, 0, 0)
    if not (0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height):
        raise InvalidValueError(
            f"region: expected (left, top, right, bottom) px inside the image of {width} x {height},"
            f" got {tuple(region)}"
        )
    return box


def _check_keypoints(keypoints: Tensor, image_size: tuple[int, int]) -> None:
    if keypoints.ndim != 2 or keypoints.shape[1] != 2:
        raise InvalidValueError(f"keypoints: expected a tensor of shape (n, 2), got {tuple(keypoints.shape)}")
    inside = (keypoints >= -0.5) & (keypoints <= keypoints.new_tensor(image_size) - 0.5)  # NaN is not
    if not bool(inside.all()):
        first = int((~inside.all(1)).nonzero()[0])
        raise InvalidValueError(
            f"keypoints: expected places inside the image of {image_size[0]} x {image_size[1]} px,"
            f" got {keypoints[first].tolist()} (number {first}); leave those outside out"
        )


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
    extractor_type: type[Any]  # its constructor takes a config of that type


_REGISTERED: dict[str, Registration] = {}

_E = TypeVar("_E", bound=type[Extractor])


def register(name: str, config_type: type[ExtractorConfig]) -> Callable[[_E], _E]:
    """Class decorator: make the extractor available as `name`, a string literal; its constructor takes a `config_type`.

    Raises InvalidValueError where another class has taken the name.
    """

    def add(extractor_type: _E) -> _E:
        taken = _REGISTERED.get(name)
        if taken is not None:
            raise InvalidValueError(
                f"register: expected a new extractor name, got {name!r}, which is {taken.extractor_type}"
            )
        _REGISTERED[name] = Registration(config_type, extractor_type)
        return extractor_type

    return add


def registrations() -> dict[str, Registration]:
    """What the modules imported so far have registered, by name."""
    return dict(_REGISTERED)
