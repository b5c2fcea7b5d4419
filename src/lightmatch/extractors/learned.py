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

    def __init__(self, config: LearnedExtractorConfig) -> None:
        """Raises WeightsError where the weights cannot be had or are of another network."""
        super().__init__(config)
        self.device = torch.device(pick_device(config.device))
        path = Path(config.weights) if config.weights else obtain_weights(weights_record(self.record_name))
        self.network: Any = self._build(read_tensors(path)[0], path).to(self.device).eval()

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
