"""DeDoDe, by kornia's networks.

Sources: Edstedt et al.: DeDoDe: Detect, Don't Describe — Describe, Don't Detect, 2024; the detector is that of
Edstedt et al.: DeDoDe v2, 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, normalize, pad

from lightmatch.extractors.base import ExtractorConfig, register
from lightmatch.extractors.learned import (
    Detections,
    LearnedExtractor,
    LearnedExtractorConfig,
    lower_right,
    read_weights,
)
from lightmatch.types import FeatureKind
from lightmatch.weights import load_strictly, obtain_weights, weights_record

_LEAST = 28  # px; it halves the photo four times
_STRIDE = 14  # the authors'
_MEAN = (0.485, 0.456, 0.406)  # of ImageNet's colours
_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class DedodeConfig(LearnedExtractorConfig):
    """Settings of `Dedode`; `weights` is the descriptor's file."""

    detector_weights: str | Path | None = None  # a file; without it the published one

    def __post_init__(self) -> None:
        super().__post_init__()
        # A score is a pixel's share of what it was found in: those of tiles cannot be compared.
        self.check("tile_size", self.tile_size is None, "none for DeDoDe, whose scores are shares of the whole image")


@register("dedode_b", DedodeConfig)
class Dedode(LearnedExtractor):
    """Detector L of version 2 and descriptor B, upright. It has no threshold: it always gives `max_keypoints`."""

    kind = FeatureKind("dedode_b", 256)
    record_name = "dedode-descriptor-b"
    detector_record_name = "dedode-detector-l-v2"
    config: DedodeConfig

    def __init__(self, config: DedodeConfig | None = None) -> None:
        """Raises WeightsError where the weights are not on this machine, or are of another network."""
        super().__init__(config or DedodeConfig())

    @classmethod
    def fetch_weights(cls, config: ExtractorConfig) -> None:
        """As in the base class, of both parts."""
        super().fetch_weights(config)
        assert isinstance(config, DedodeConfig)
        if config.detector_weights is None:
            obtain_weights(weights_record(cls.detector_record_name))

    def _build(self, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
        from kornia.feature import DeDoDe

        network = DeDoDe("L", "B", torch.float32)
        load_strictly(network.descriptor, tensors, path)
        load_strictly(network.detector, *read_weights(self.detector_record_name, self.config.detector_weights))
        return network

    def _maps(self, pixels: Tensor) -> tuple[Tensor, ...]:
        height, width = pixels.shape[2:]
        colours = (pixels - pixels.new_tensor(_MEAN)[:, None, None]) / pixels.new_tensor(_DEVIATION)[:, None, None]
        # The mean colour at the lower right up to multiples of the stride.
        padded = pad(colours, lower_right((height, width), _STRIDE, _LEAST))
        return tuple(part(padded)[..., :height, :width] for part in (self.network.detector, self.network.descriptor))

    def _detect(self, maps: tuple[Tensor, ...], allowed: Tensor) -> Detections:
        from kornia.feature.dedode.utils import sample_keypoints

        height, width = allowed.shape
        heat = maps[0][:, 0].masked_fill(~allowed, -torch.inf).flatten(1).softmax(1).view(1, height, width)
        # Places in -1…1 across whole pixels; where keypoints are dense, the authors' rule spreads them.
        places, scores = sample_keypoints(heat.nan_to_num(), self.config.max_keypoints)
        found = scores[0] > 0
        places, scores = places[:, found], scores[0, found]
        keypoints = ((places[0] + 1) / 2 * places.new_tensor((width, height)) - 0.5).round()
        return Detections(keypoints, scores, self._sample(maps, keypoints, allowed.shape))

    def _sample(self, maps: tuple[Tensor, ...], keypoints: Tensor, size: Sequence[int]) -> Tensor:
        places = (keypoints + 0.5) / keypoints.new_tensor(size[::-1]) * 2 - 1
        sampled = grid_sample(maps[1], places[None, None], mode="bilinear", align_corners=False)[0, :, 0].mT
        return normalize(sampled, dim=1)
