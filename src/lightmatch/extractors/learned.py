"""What extractors with a network have in common: weights, a device, pixels as a tensor, the mask."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightmatch.extractors.base import Extractor, ExtractorConfig
from lightmatch.runtime.devices import pick_device
from lightmatch.types import Features, Image
from lightmatch.weights import local_weights, obtain_weights, read_tensors, tensors_digest, weights_record

_IMAGES_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class LearnedExtractorConfig(ExtractorConfig):
    """Settings of every extractor with a network."""

    weights: str | Path | None = None  # a file; without it the published one
    device: str = "cpu"  # where the network runs, as for `pick_device`; features come back on the CPU


class Detections(NamedTuple):
    """What a network finds in one image, in any order, at least the `max_keypoints` strongest."""

    keypoints: Tensor  # (n, 2) px, the centre of the first pixel is (0, 0)
    scores: Tensor  # (n,)
    descriptors: Tensor  # (n, d) of unit length


class LearnedExtractor(Extractor):
    """An extractor whose network is made from a file of weights."""

    most_side_by_side = 1  # a network takes gigabytes for a photo, and keeps all threads busy by itself
    record_name: str  # of the published weights
    part: str | None = None  # of the published file, where it holds more than the extractor

    def __init__(self, config: LearnedExtractorConfig) -> None:
        """Reads the file of weights; `create_extractor` fetches it before.

        Raises WeightsError where it is not on this machine, or of another network.
        """
        super().__init__(config)
        self.device = torch.device(pick_device(config.device))
        self.network: Any = self._load(config.weights).to(self.device).eval()

    @classmethod
    def fetch_weights(cls, config: ExtractorConfig) -> None:
        """As in the base class."""
        assert isinstance(config, LearnedExtractorConfig)
        if config.weights is None:
            obtain_weights(weights_record(cls.record_name))

    def _load(self, weights: str | Path | None) -> nn.Module:
        """The network with the weights of a file, the published ones where None."""
        return self._build(*read_weights(self.record_name, weights, self.part))

    def _build(self, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
        """The network with the weights; `path` is for the sentence where they do not fit. Not used where `_load` is."""
        raise NotImplementedError

    @abstractmethod
    def _maps(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """What the network makes of whole images, each tensor (b, …); `_detect` and `_sample` read it for one image.

        pixels: (b, 3, h, w) RGB in 0…1, on the network's device.
        """

    @abstractmethod
    def _detect(self, maps: tuple[Tensor, ...], allowed: Tensor) -> Detections:
        """maps: those of one image, (1, …). allowed: (h, w) bool, where keypoints may lie."""

    @abstractmethod
    def _sample(self, maps: tuple[Tensor, ...], keypoints: Tensor, size: Sequence[int]) -> Tensor:
        """Descriptors (n, d) of unit length at keypoints (n, 2) px of an image of `size`, (height, width)."""

    def weights_digest(self) -> str:
        """As in the base class."""
        return tensors_digest(self.network.state_dict())

    def extract_batch(
        self, images: Sequence[Image], masks: Sequence[np.ndarray | None] | None = None
    ) -> list[Features]:
        """As in the base class; images that are worked on in one size go through the network together."""
        pairs = self._with_masks(images, masks)
        found: dict[int, Features] = {}
        alike: dict[tuple[int, int], list[tuple[int, Image, np.ndarray | None]]] = defaultdict(list)
        for number, (image, mask) in enumerate(pairs):
            small, small_mask = self._shrink(image, mask)
            if len(self._tiles(small.size)) > 1:
                found[number] = self._finish(self._extract_tiles(small, small_mask), image.size)
            else:
                alike[small.size].append((number, small, small_mask))
        at_once = 1 if self.device.type == "cpu" else _IMAGES_AT_ONCE  # a CPU gains nothing, and needs their memory
        for group in alike.values():
            for start in range(0, len(group), at_once):
                chunk = group[start : start + at_once]
                with torch.inference_mode():
                    maps = self._maps(torch.cat([self._pixels(small) for _, small, _ in chunk]))
                    features = [
                        self._found(tuple(part[row : row + 1] for part in maps), small, mask)
                        for row, (_, small, mask) in enumerate(chunk)
                    ]
                for (number, _, _), one in zip(chunk, features, strict=True):
                    found[number] = self._finish(one, images[number].size)
        return [found[number] for number in range(len(pairs))]

    @torch.inference_mode()
    def _extract(self, image: Image, mask: np.ndarray | None) -> Features:
        return self._found(self._maps(self._pixels(image)), image, mask)

    @torch.inference_mode()
    def _describe(self, image: Image, features: Features) -> Tensor:
        places = features.keypoints.to(self.device)
        return self._sample(self._maps(self._pixels(image)), places, image.size[::-1]).float().cpu()

    def _pixels(self, image: Image) -> Tensor:
        return torch.from_numpy(image.pixels).to(self.device).permute(2, 0, 1)[None].float().div_(255)

    def _found(self, maps: tuple[Tensor, ...], image: Image, mask: np.ndarray | None) -> Features:
        allowed = torch.ones(image.size[::-1], dtype=torch.bool, device=self.device)
        if mask is not None:
            allowed &= torch.from_numpy(mask).to(self.device)
        keypoints, scores, descriptors = (part.float().cpu() for part in self._detect(maps, allowed))
        return Features(keypoints, scores, descriptors, image.size, self.kind)


def read_weights(
    record_name: str, given: str | Path | None, part: str | None = None
) -> tuple[Mapping[str, Tensor], Path]:
    """The tensors in the file `given`, else in the published one that is on this machine; its path.

    Raises WeightsError where there is no such file.
    """
    path = Path(given) if given else local_weights(weights_record(record_name))
    return read_tensors(path, part=part)[0], path


def lower_right(size: Sequence[int], stride: int, least: int) -> tuple[int, int, int, int]:
    """What to `pad` (height, width) with at the lower right: up to multiples of `stride`, and `least`."""
    down, right = (max(least, -(-length // stride) * stride) - length for length in size)
    return 0, right, 0, down


def strongest_pixels(scores: Tensor, chosen: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """At most `count` of the chosen pixels, highest score first: (n, 2) int64 x and y, and (n,) scores.

    scores: (h, w). chosen: (h, w) bool.
    """
    y, x = chosen.nonzero(as_tuple=True)
    found = scores[y, x]
    order = found.argsort(descending=True, stable=True)[:count]
    return torch.stack((x, y), 1)[order], found[order]
