"""What extractors with a network have in common: weights, a device, pixels as a tensor, the mask."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightmatch.devices import pick_device
from lightmatch.extractors.base import Extractor, ExtractorConfig
from lightmatch.types import Features, Image
from lightmatch.weights import obtain_weights, read_tensors, weights_record


@dataclass(frozen=True, kw_only=True)
class LearnedExtractorConfig(ExtractorConfig):
    """What every extractor with a network can be told."""

    weights: str | Path | None = None  # a file; without it the published one is looked for, and fetched once
    device: str = "cpu"  # where the network runs, as for `pick_device`; features come back on the CPU


class Detections(NamedTuple):
    """What a network finds in one image, in any order, at least the `max_keypoints` strongest."""

    keypoints: Tensor  # (n, 2) px, the centre of the first pixel is (0, 0)
    scores: Tensor  # (n,)
    descriptors: Tensor  # (n, d) of unit length


class LearnedExtractor(Extractor):
    """An extractor whose network is made from a file of weights."""

    record_name: str  # of the published weights
    part: str | None = None  # of the published file, where it holds more than the extractor

    def __init__(self, config: LearnedExtractorConfig) -> None:
        """Raises WeightsError where the weights cannot be had or are of another network."""
        super().__init__(config)
        self.device = torch.device(pick_device(config.device))
        tensors, path = obtain_tensors(self.record_name, config.weights, self.part)
        self.network: Any = self._build(tensors, path).to(self.device).eval()

    @abstractmethod
    def _build(self, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
        """The network with the weights; `path` is for the sentence where they do not fit."""

    @abstractmethod
    def _detect(self, pixels: Tensor, allowed: Tensor) -> Detections:
        """pixels: (1, 3, h, w) RGB in 0…1, on the network's device. allowed: (h, w) bool, where keypoints may lie."""

    @torch.inference_mode()
    def _extract(self, image: Image, mask: np.ndarray | None) -> Features:
        pixels = torch.from_numpy(image.pixels).to(self.device).permute(2, 0, 1)[None].float() / 255
        allowed = torch.ones(pixels.shape[2:], dtype=torch.bool, device=self.device)
        if mask is not None:
            allowed &= torch.from_numpy(mask).to(self.device)
        keypoints, scores, descriptors = (part.float().cpu() for part in self._detect(pixels, allowed))
        return Features(keypoints, scores, descriptors, image.size, self.kind)


def obtain_tensors(
    record_name: str, given: str | Path | None, part: str | None = None
) -> tuple[Mapping[str, Tensor], Path]:
    """The tensors in the file `given`, else in the published one, which is fetched where it is not here; its path.

    Raises WeightsError where they cannot be had.
    """
    path = Path(given) if given else obtain_weights(weights_record(record_name))
    return read_tensors(path, part=part)[0], path


def lower_right(size: tuple[int, int], stride: int, least: int) -> tuple[int, int, int, int]:
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
